// Tests of reports on recordings of level sampled: estimates, what they say of themselves, and leaks that nobody watched.

import MempoolRecording
import TestSupport
import Testing

@testable import MempoolAnalysis

struct SamplingTests {
    private var fixture: AnalysisFixture

    init() {
        fixture = AnalysisFixture()
        fixture.builder.header.level = RecorderLevel.sampled.rawValue
        fixture.builder.header.sampleInterval = 128
    }

    @Test func `A leak that was seen stands for as many as the interval`() throws {
        var fixture = fixture
        for _ in 0..<3 { fixture.builder.addSlot(stack: fixture.reading) }
        let report = try fixture.report()
        let finding = try #require(report.findings.first)
        #expect(finding.count == 3 && finding.bytes == 3 * 4096)
        #expect(finding.estimatedCount == 384 && finding.estimatedBytes == 384 * 4096)
        #expect(
            finding.happened == "About 384 buffers (sampled 1 in 128: 3 seen) were got here and never put.")
        #expect(report.verdictReason == "about 384 buffers leaked.")
        #expect(report.recorder?.sampleInterval == 128)
        #expect(report.notes.contains { $0.contains("one get in 128") })
    }

    @Test func `Bad puts are counted as they are`() throws {
        var fixture = fixture
        fixture.addFinding(.doublePut) { $0.flags = FindingRecord.unsampledFlag }
        let finding = try #require(try fixture.report().findings.first)
        #expect(finding.estimatedCount == nil)
        #expect(finding.isUnsampled == true)
        #expect(finding.happened.hasSuffix("Its get was not among those that were watched."))
    }

    @Test func `Healthy says how much was watched`() throws {
        var fixture = fixture
        fixture.countPairs(100)
        #expect(try fixture.report().verdict == .healthy)
        #expect(
            try fixture.report().verdictReason
                == "Nothing found. One get in 128 was watched, so a rare leak may have been missed.")
        var holding = fixture
        holding.builder.header.heldLimit = AnalysisFixture.second
        #expect(
            try holding.report().verdictReason
                == "Nothing found. One get in 128 was watched, so a rare leak or a long hold may have been missed.")
        var running = fixture
        running.becomeSnapshot()
        #expect(
            try running.report().verdictReason
                == "Nothing found so far. One get in 128 was watched, so a rare leak may have been missed. "
                + "The program was running when the snapshot was taken.")
    }

    @Test func `Without gets nothing was observed, at this level too`() throws {
        var fixture = fixture
        let exact = try fixture.report()
        #expect(exact.verdict == .inconclusive && exact.recordedNoGet == true)
        #expect(exact.verdictReason == "The program got no buffer, so nothing was observed.")
        // What was counted for the gets that were watched says nothing about the others.
        fixture.builder.header.flags = RecordingHeader.estimatedCountersFlag
        let estimated = try fixture.report()
        #expect(estimated.verdict == .inconclusive && estimated.recordedNoGet == true)
        #expect(estimated.verdictReason == "No get was watched, so nothing was observed.")
    }

    @Test func `Captures are those of the calls that were watched, and of all bad puts`() throws {
        var fixture = fixture
        fixture.countPairs(1280)
        fixture.builder.count(pool: 0, row: 1) { $0.doublePuts = 3 }
        #expect(try fixture.report().recorder?.captures == 23)
        fixture.builder.header.level = RecorderLevel.full.rawValue
        fixture.builder.header.sampleInterval = 1
        #expect(try fixture.report().recorder?.captures == 2563)
    }

    @Test func `At the other levels nothing is an estimate`() throws {
        var fixture = fixture
        fixture.builder.header.level = RecorderLevel.full.rawValue
        fixture.builder.header.sampleInterval = 1
        fixture.builder.addSlot(stack: fixture.reading)
        let report = try fixture.report()
        #expect(report.findings.first?.estimatedCount == nil)
        #expect(report.recorder?.sampleInterval == 1)
        #expect(report.notes.isEmpty)
    }

    @Test func `Leaks that only the counters know are findings without a place`() throws {
        var fixture = fixture
        fixture.builder.count(pool: 0, row: 0) {
            $0.gets = 100
            $0.puts = 95
        }
        let finding = try #require(try fixture.report().findings.first)
        #expect(finding.kind == .leak)
        #expect(finding.count == 5 && finding.bytes == 2560 && finding.estimatedCount == nil)
        #expect(finding.site == nil && finding.isUnsampled == true)
        #expect(finding.advice.contains("MEMPOOL_DEBUG=full"))
    }

    @Test(arguments: [(0, 1), (1, 0)]) func `Kept buffers of one pool are no leak of another`(
        leaking: Int, keeping: Int
    ) throws {
        var fixture = fixture
        fixture.builder.addPool(name: "second")
        fixture.builder.count(pool: leaking, row: 1) { $0.gets = 150 }
        fixture.builder.addSlot(stack: fixture.reading, pool: UInt16(leaking))
        fixture.builder.count(pool: keeping, row: 0) { $0.gets = 3 }
        fixture.builder.header.keptBuffers = 3
        let findings = try fixture.report().findings
        #expect(findings.map(\.pool) == [leaking == 0 ? "default" : "second"])
        #expect(findings.map(\.isUnsampled) == [nil])
        // One more than is kept has no place, but a pool.
        fixture.builder.count(pool: keeping, row: 2) { $0.gets = 2 }
        let more = try fixture.report().findings.filter { $0.isUnsampled == true }
        #expect(more.map(\.pool) == [keeping == 0 ? "default" : "second"])
        // The two largest may be the kept ones.
        #expect(more.map(\.count) == [2] && more.map(\.bytes) == [1024])
        // With two pools in question nobody knows of which it is.
        fixture.builder.addPool(name: "third")
        fixture.builder.count(pool: 2, row: 0) { $0.gets = 1 }
        let unknown = try fixture.report().findings.filter { $0.isUnsampled == true }
        #expect(unknown.map(\.pool) == [""] && unknown.map(\.count) == [3])
    }

    @Test func `What a destroyed pool left behind is told once`() throws {
        var fixture = fixture
        fixture.builder.count(pool: 0, row: 1) { $0.gets = 1 }
        fixture.builder.addSlot(stack: fixture.reading, flags: LedgerFlags.inFinding)
        fixture.addFinding(.poolDestroyed)
        #expect(try fixture.report().findings.map(\.kind) == [.poolDestroyed])
    }

    @Test func `What a destroyed pool left behind and nobody watched is told as that`() throws {
        var fixture = fixture
        fixture.builder.pools[0].state = PoolRecord.destroyed
        fixture.builder.count(pool: 0, row: 1) {
            $0.gets = 8
            $0.puts = 6
        }
        let finding = try #require(try fixture.report().findings.first)
        #expect(finding.kind == .poolDestroyed && finding.isUnsampled == true)
        #expect(finding.count == 2 && finding.bytes == 8192 && finding.estimatedCount == nil)
        #expect(
            finding.happened == "2 buffers were outstanding when pool default was destroyed. The memory is lost. "
                + "None of the gets was among those that were watched, so the place is not known.")
        #expect(finding.advice.contains("MEMPOOL_DEBUG=full"))
        // One of them may be the one that is kept.
        fixture.builder.header.keptBuffers = 1
        let others = try fixture.report().findings
        #expect(others.map(\.kind) == [.poolDestroyed] && others.map(\.count) == [1])
    }

    @Test func `Counters are not held against what was seen, kept, or only estimated`() throws {
        var fixture = fixture
        fixture.builder.count(pool: 0, row: 0) { $0.gets = 5 }
        var kept = fixture
        kept.builder.header.keptBuffers = 5
        #expect(try kept.report().verdict == .healthy)
        var estimated = fixture
        estimated.builder.header.flags |= RecordingHeader.estimatedCountersFlag
        #expect(try estimated.report().verdict == .healthy)
        #expect(try estimated.report().recorder?.isEstimate == true)
        var running = fixture
        running.becomeSnapshot()
        #expect(try running.report().verdict == .healthy)
        var seen = fixture
        seen.builder.addSlot(stack: seen.reading, bucket: 0)
        #expect(try seen.report().findings.map(\.estimatedCount) == [128])
    }
}

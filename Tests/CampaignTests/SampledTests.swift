// Level sampled in real programs: what is extrapolated from one get in many, against what the programs are known to do.

import Foundation
import MempoolAnalysis
import MempoolRecording
import Testing

@Suite struct SampledTests {
    private func record(_ arguments: [String], _ settings: String) throws -> Recording {
        let scratch = try Scratch()
        let path = scratch.file("recording")
        let end = try Program.run(
            ["zoo"] + arguments, environment: ["MEMPOOL_DEBUG": "sampled,quiet,recording=\(path),\(settings)"],
            in: scratch)
        #expect(end.status == 0, "\(end)")
        return try Recording(path: path)
    }

    private func outstanding(_ recording: Recording) -> [UInt64: Int] {
        var counts: [UInt64: Int] = [:]
        _ = recording.forEachLedgerRecord { _, record in
            if record.state == .outstanding { counts[record.request, default: 0] += 1 }
        }
        return counts
    }

    /// Six standard deviations of a count of independent samples, which is more than this sampling scatters.
    private func isClose(_ samples: Int, to leaks: Int, interval: Int) -> Bool {
        let expected = Double(leaks) / Double(interval)
        return abs(Double(samples) - expected) < 6 * expected.squareRoot()
    }

    @Test func `Leaks of two places are estimated without a bias`() throws {
        let few = 40_000
        let recording = try record(["sampled-leak", "\(few)"], "sample=16")
        let samples = outstanding(recording)
        #expect(isClose(samples[200] ?? 0, to: few, interval: 16), "\(samples)")
        #expect(isClose(samples[600] ?? 0, to: 3 * few, interval: 16), "\(samples)")
        #expect(samples.count == 2)
        #expect(recording.header.sampleInterval == 16)
    }

    @Test func `Threads with a single get are sampled as often as others`() throws {
        let recording = try record(["sampled-threads", "4000"], "sample=8")
        let samples = outstanding(recording)
        #expect(isClose(samples[200] ?? 0, to: 4_000, interval: 8), "\(samples)")
    }

    @Test func `After a clean exit the totals are the pools' own`() throws {
        let few = 2_000
        let recording = try record(["sampled-leak", "\(few)"], "sample=50")
        #expect(recording.header.flags & RecordingHeader.estimatedCountersFlag == 0)
        let rows = try #require(recording.pools.first).rows
        let small = try #require(rows.first { $0.capacity == 512 })
        let larger = try #require(rows.first { $0.capacity == 1024 })
        #expect(small.gets == UInt64(few * 2 + few / 2) && small.inUse == UInt64(few))
        #expect(small.puts == UInt64(few + few / 2))
        #expect(larger.gets == UInt64(3 * few) && larger.inUse == UInt64(3 * few) && larger.puts == 0)
        #expect(larger.allocations == UInt64(3 * few) && larger.highWater == UInt64(3 * few))
        // A mean of samples that are all alike.
        #expect(larger.requestedBytes / larger.gets == 600)
    }

    @Test(arguments: [1, 1_000_000])
    func `Bad puts are found one and all, and their gets if these were sampled`(interval: Int) throws {
        let recording = try record(["sampled-bad-puts", "100"], "sample=\(interval)")
        let kinds: [FindingKind] = [.doublePut, .wrongCapacity, .wrongPool, .foreignPut]
        for kind in kinds {
            let found = recording.findings.filter { $0.kind == kind.rawValue }
            #expect(found.reduce(0) { $0 + $1.count } == 100, "\(kind)")
            for finding in found {
                #expect(finding.putStack > 0)
                let isKnown = kind != .foreignPut && interval == 1
                #expect((finding.getStack > 0) == isKnown, "\(kind)")
                let isUnsampled = finding.flags & FindingRecord.unsampledFlag != 0
                #expect(isUnsampled == (kind != .foreignPut && interval > 1), "\(kind)")
                #expect(finding.flags & FindingRecord.historyLostFlag == 0)
            }
        }
        // Destroyed pools count as well.
        let gets = recording.pools.flatMap(\.rows).reduce(0) { $0 + $1.gets }
        #expect(gets == 300)
    }

    @Test func `A leak of which nothing was sampled is not silent`() throws {
        let scratch = try Scratch()
        let end = try Program.run(
            ["zoo", "fault", "leak", "sync"], environment: ["MEMPOOL_DEBUG": "sampled,sample=1000000"], in: scratch)
        #expect(end.status == 0)
        #expect(
            end.output.contains("mempool: 3 buffers are outstanding, and none of those that were sampled;"),
            "\(end.output)")
    }
}

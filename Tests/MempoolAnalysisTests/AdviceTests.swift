// Tests of advice: the bounds above which it is given, its places, and that it changes no verdict.

import MempoolRecording
import TestSupport
import Testing

@testable import MempoolAnalysis

struct AdviceTests {
    private var fixture = AnalysisFixture()

    /// The fixture with figures in one row of its pool.
    private func fixture(_ row: Int, _ change: (inout BucketCounters) -> Void) -> AnalysisFixture {
        var fixture = fixture
        fixture.builder.count(pool: 0, row: row, change)
        return fixture
    }

    @Test func `A pool that nobody used gets no advice`() throws {
        #expect(try fixture.report().advice.isEmpty)
    }

    @Test(arguments: [999, 1000] as [UInt64])
    func `Below the floor it says that there is too little to judge`(gets: UInt64) throws {
        let fixture = fixture(0) {
            $0.gets = gets
            $0.puts = gets
            $0.allocations = gets
            $0.highWater = 1
        }
        let report = try fixture.report()
        #expect(report.advice.map(\.kind) == [gets < 1000 ? .tooFewOperations : .lowHitRate])
        #expect(report.verdict == .healthy)
        if gets < 1000 {
            #expect(
                report.advice.first?.happened == "Too few operations to judge: 999 gets of 1,000 that are needed.")
        }
    }

    @Test(arguments: [(1099, false), (1100, true)] as [(UInt64, Bool)])
    func `Allocations beyond the high water count as misses from a tenth of the gets`(
        allocations: UInt64, isTooMany: Bool
    ) throws {
        let fixture = fixture(1) {
            $0.gets = 10_000
            $0.puts = 10_000
            $0.allocations = allocations
            $0.highWater = 100
        }
        let advice = try fixture.report().advice
        #expect(advice.map(\.kind) == (isTooMany ? [.lowHitRate] : []))
        if isTooMany {
            #expect(advice.first?.capacity == 4096)
            #expect(advice.first?.count == 1100 && advice.first?.operations == 10_000 && advice.first?.percent == 11)
            #expect(advice.first?.advice.contains("decay") == true)
            #expect(advice.first?.sites.isEmpty == true && advice.first?.siteTotal == 0)
        }
    }

    @Test func `The cause of misses decides what to do`() throws {
        func advice(_ change: (inout BucketCounters) -> Void) throws -> String? {
            try fixture(1) {
                $0.gets = 10_000
                $0.puts = 10_000
                $0.allocations = 5000
                change(&$0)
            }.report().advice.first { $0.kind == .lowHitRate }?.advice
        }
        #expect(try advice { $0.trimmed = 4000 }?.contains("idleLimit") == true)
        #expect(
            try advice {
                $0.wrongCapacityPuts = 4000
                $0.puts = 6000
            }?.contains("Put whole buffers") == true)
    }

    @Test func `Last owners of a bucket's buffers are its places, at most three`() throws {
        var fixture = fixture(1) {
            $0.gets = 10_000
            $0.puts = 10_000
            $0.allocations = 5000
        }
        let counts = [(fixture.reading, 2), (fixture.writing, 5), (fixture.touching, 3), (fixture.stopping, 1)]
        for (stack, count) in counts {
            for _ in 0..<count { fixture.builder.addSlot(state: .returned, stack: stack, bucket: 1) }
        }
        fixture.builder.addSlot(state: .returned, stack: fixture.stopping, bucket: 0)
        let advice = try #require(try fixture.report().advice.first)
        #expect(advice.sites.map(\.site) == [AnalysisFixture.write, AnalysisFixture.touch, AnalysisFixture.read])
        #expect(advice.sites.map(\.count) == [5, 3, 2])
        #expect(advice.siteTotal == 11)
    }

    @Test func `Discards are judged by their share of the puts and name the findings' places`() throws {
        var fixture = fixture(1) {
            $0.gets = 2000
            $0.puts = 1960
            $0.wrongCapacityPuts = 40
            $0.highWater = 1
            $0.allocations = 41
        }
        fixture.addFinding(.wrongCapacity) { $0.count = 40 }
        let report = try fixture.report()
        let advice = try #require(report.advice.first)
        #expect(advice.kind == .discardedOften)
        #expect(advice.count == 40 && advice.operations == 2000 && advice.percent == 2)
        #expect(advice.sites == [AdviceSite(site: AnalysisFixture.write, count: 40)])
        #expect(advice.siteTotal == 40)
        #expect(report.verdict == .findings)
        let few = self.fixture(1) {
            $0.gets = 2000
            $0.puts = 1981
            $0.wrongCapacityPuts = 19
        }
        #expect(try few.report().advice.isEmpty)
    }

    @Test func `Oversized gets name a bucket that would hold them`() throws {
        var fixture = fixture(1) {
            $0.gets = 9900
            $0.puts = 9900
        }
        fixture.builder.count(pool: 0, row: 3) {
            $0.gets = 100
            $0.puts = 100
        }
        fixture.builder.countRequests(pool: 0, size: 100_000, count: 95)
        fixture.builder.countRequests(pool: 0, size: 10_000_000, count: 5)
        fixture.builder.addSlot(state: .returned, request: 100_000, stack: fixture.touching, bucket: 3)
        let advice = try #require(try fixture.report().advice.first)
        #expect(advice.kind == .oversizedOften)
        #expect(advice.count == 100 && advice.operations == 10_000 && advice.percent == 1)
        // 98,304 to 106,495 bytes share a bin.
        #expect(advice.advice.contains("a bucket of 104 KiB"))
        #expect(advice.sites.map(\.site) == [AnalysisFixture.touch])
    }

    @Test func `A high water is told from a quarter of a gibibyte on`() throws {
        func kinds(_ highWater: UInt64) throws -> [Advice.Kind] {
            try fixture(2) {
                $0.gets = 10_000
                $0.puts = 10_000
                $0.highWater = highWater
                $0.allocations = highWater
            }.report().advice.map(\.kind)
        }
        #expect(try kinds(4095).isEmpty)
        #expect(try kinds(4096) == [.highWater])
    }

    @Test func `Counters that cannot be true do not bring advice down`() throws {
        var fixture = fixture
        fixture.builder.counters = fixture.builder.counters.map { row in
            var row = row
            row.gets = .max
            row.puts = .max
            row.allocations = .max
            row.highWater = .max
            row.trimmed = .max
            row.wrongCapacityPuts = .max
            row.doublePuts = .max
            row.capacity = .max
            return row
        }
        fixture.builder.histograms = fixture.builder.histograms.map { _ in .max }
        #expect(try fixture.report().advice.contains { $0.kind == .highWater })
    }
}

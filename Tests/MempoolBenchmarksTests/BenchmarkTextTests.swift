// Tests of the text and JSON forms of results, compared as they are shown.

import Foundation
import Testing

@testable import MempoolBenchmarks

struct BenchmarkTextTests {
    private static func measurement(_ name: String, _ nanoseconds: Double) -> BenchmarkMeasurement {
        BenchmarkMeasurement(
            contender: name,
            nanoseconds: nanoseconds,
            low: nanoseconds,
            high: nanoseconds,
            samples: 51,
            quietSamples: 40,
            isEstimate: false
        )
    }

    private static func row(
        _ group: BenchmarkGroup,
        _ label: String,
        size: Int? = nil,
        threads: Int = 1,
        _ times: [(String, Double)]
    ) -> BenchmarkRow {
        BenchmarkRow(
            group: group,
            workload: group.abstract,
            label: label,
            size: size,
            threads: threads,
            measurements: times.map { measurement($0.0, $0.1) }
        )
    }

    /// heaptrack failed with two threads.
    private static var recorderRows: [BenchmarkRow] {
        let full = [("full", 100.0), ("LeakSanitizer (gcc)", 125), ("heaptrack", 400), ("asleep", 5)]
        var rows = [
            row(.recorder, "1 thread", size: 512, full),
            row(.recorder, "2 threads", size: 512, threads: 2, full.filter { $0.0 != "heaptrack" }),
            row(.recorder, "1 thread", size: 512, [("sampled", 8), ("asleep", 5)]),
        ]
        rows[0].measurements[1].limit = 1
        rows[0].measurements[2].limit = 0.25
        rows[1].measurements[1].limit = 1
        rows[2].workload = "level sampled"
        rows[2].measurements[1].limit = 2
        return rows
    }

    private static var report: BenchmarkReport {
        var mixed = row(.mixed, "lognormal", [("mempool", 7), ("glibc", 31.04)])
        mixed.measurements[1].isEstimate = true
        return BenchmarkReport(
            configuration: "release",
            machine: BenchmarkReport.Machine(processor: "Example 1", processors: 2, kernel: "6.1"),
            noise: BenchmarkReport.Noise(
                isQuiet: true,
                quietShare: 0.939,
                samples: 600,
                calibrationNanoseconds: 9440
            ),
            rows: [
                row(.pair, "512 B", size: 512, [("mempool", 5), ("glibc", 12), ("jemalloc", 10)]),
                row(.pair, "4 KiB", size: 4096, [("mempool", 5), ("glibc", 30), ("jemalloc", 15)]),
                row(.pair, "16 MiB", size: 16_777_216, [("mempool", 6), ("glibc", 31), ("jemalloc", 7230)]),
                row(.flatness, "1 thread", [("512 B", 5), ("4 KiB", 5.5), ("16 MiB", 6)]),
                row(.flatness, "2 threads", threads: 2, [("512 B", 5), ("16 MiB", 4)]),
                mixed,
                row(.threads, "4 threads", size: 4096, threads: 4, [("4 threads", 4), ("2 threads", 5)]),
                row(.forms, "Lease", size: 4096, [("Lease", 6), ("get and put", 5)]),
            ] + recorderRows,
            memory: nil,
            recorder: RecorderCost(
                firstGetNanoseconds: 1_234_000, firstGetAsleepNanoseconds: 90_400, buffers: 1_000_000, size: 512,
                stacks: 1000, residentBytes: 95.4e6, recordingBytes: 65.3e6, redZoneBytes: 27e6, reportSeconds: 1.5,
                reportPeakBytes: 210e6
            ),
            missing: [
                MissingPeer(name: "mimalloc", package: "libmimalloc2.0"),
                MissingPeer(name: "tcmalloc", package: "libtcmalloc-minimal4"),
            ],
            failures: ["fifo 512 B: snmalloc: it ended unexpectedly"]
        )
    }

    @Test func `Results are shown as tables with ratios, a curve, and what to know about them`() {
        #expect(BenchmarkText.render(Self.report, unicode: true, color: false) == Self.golden)
    }

    @Test func `Without Unicode the results are ASCII`() {
        let text = BenchmarkText.render(Self.report, unicode: false, color: false)
        #expect(text.utf8.allSatisfy { $0 < 0x80 })
        #expect(text == Self.golden.replacing("│", with: "|"))
    }

    @Test func `Colour adds nothing but control sequences`() {
        let text = BenchmarkText.render(Self.report, unicode: true, color: true)
        #expect(text != Self.golden)
        #expect(text.replacing("\u{1B}[1m", with: "").replacing("\u{1B}[0m", with: "") == Self.golden)
    }

    @Test func `A debug build says that its figures mean nothing`() {
        var report = Self.report
        report.configuration = "debug"
        #expect(
            BenchmarkText.render(report, unicode: true, color: false)
                .hasSuffix("This is a debug build: these figures say nothing about speed.\n")
        )
    }

    @Test func `A contender that failed in one row leaves a dash there`() {
        var report = Self.report
        report.rows[1].measurements.remove(at: 2)
        let lines = BenchmarkText.render(report, unicode: true, color: false).split(separator: "\n")
        #expect(lines[3] == "  4 KiB       5.0   30.0         -   0.17")
    }

    @Test func `A package that two missing peers come from is named once`() {
        var report = Self.report
        report.missing = ["LeakSanitizer", "AddressSanitizer"].map { MissingPeer(name: $0, package: "gcc") }
        #expect(
            BenchmarkText.render(report, unicode: true, color: false)
                .contains("\nnot installed: LeakSanitizer, AddressSanitizer; on Debian: apt-get install gcc\n")
        )
    }

    @Test func `Ratios are to the fastest peer, and for threads of throughput`() throws {
        let rows = Self.report.rows
        #expect(rows[0].ratio == 0.5)
        #expect(rows[0].fastestPeer?.contender == "jemalloc")
        #expect(rows[6].ratio == 1.25)
        #expect(rows[3].ratio == 1.2 && rows[3].fastestPeer == nil)
        #expect(Self.report.flatness.map(\.threads) == [1, 2] && Self.report.flatness.map(\.ratio) == [1.2, 1.25])
        #expect(Self.row(.pair, "x", [("mempool", 5)]).ratio == nil)
    }

    @Test func `JSON has every row, its ratio and the report back again`() throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        let text = String(decoding: try encoder.encode(Self.report.document), as: UTF8.self)
        let object = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
        #expect(object["schemaVersion"] as? Int == 1)
        let rows = try #require(object["rows"] as? [[String: Any]])
        #expect(rows.count == 11)
        #expect(rows[0]["ratios"] == nil)
        #expect(
            rows[8]["ratios"] as? [String: Double] == [
                "LeakSanitizer (gcc)": 0.8, "heaptrack": 0.25, "asleep": 20,
            ])
        #expect(((rows[8]["measurements"] as? [[String: Any]])?[1])?["limit"] as? Double == 1)
        #expect((object["recorder"] as? [String: Any])?["residentBytes"] as? Double == 95.4e6)
        #expect(rows[0]["ratio"] as? Double == 0.5)
        #expect(rows[0]["fastestPeer"] as? String == "jemalloc")
        #expect((object["flatness"] as? [[String: Any]])?.count == 2)
        #expect(try JSONDecoder().decode(BenchmarkReport.self, from: Data(text.utf8)) == Self.report)
    }

    @Test(arguments: [
        (0.0, "0.0"), (9.95, "10.0"), (99.94, "99.9"), (99.95, "100"), (999.6, "1,000"), (2_410_000.4, "2,410,000"),
    ])
    func `Times have one decimal place up to a hundred`(value: Double, text: String) {
        #expect(BenchmarkText.number(value) == text)
    }

    @Test(arguments: [(1, "1 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (16_777_216, "16 MiB")])
    func `Sizes are shown in the largest unit that fits`(count: Int, text: String) {
        #expect(BenchmarkText.bytes(count) == text)
    }

    @Test func `One processor is one, and ratios are explained where there are some`() {
        var report = Self.report
        report.machine.processors = 1
        report.rows = report.rows.filter { $0.group == .forms }
        let text = BenchmarkText.render(report, unicode: true, color: false)
        #expect(text.contains("machine: Example 1, 1 processor, Linux 6.1\n"))
        #expect(!text.contains("ratio:") && text.contains("  ratio\n"))
    }

    @Test func `Contenders of a curve have different marks`() {
        let marks = SizeCurve.marks(["mempool", "malloc", "mimalloc", "mm", "glibc"])
        #expect(marks["mempool"] == "M")
        #expect(marks["malloc"] == "m")
        #expect(Set(marks.values).count == 5)
    }

    private static let golden = """
        pair: get, touch the first byte, put, 1 thread, ns
                  mempool  glibc  jemalloc  ratio
          512 B       5.0   12.0      10.0   0.50
          4 KiB       5.0   30.0      15.0   0.33
          16 MiB      6.0   31.0     7,230   0.19
          7,230 │                  j
                │
                │
            639 │
                │
                │
           56.5 │
                │         g        g
                │gj       j
            5.0 │M        M        M
                 512 B    4 KiB    16 MiB
                 M mempool   g glibc   j jemalloc

        flatness: the pool alone: get, touch the first byte, put, all sizes in turns, ns
                     512 B  4 KiB  16 MiB  slowest / fastest
          1 thread     5.0    5.5     6.0               1.20
          2 threads    5.0      -     4.0               1.25

        mixed: pairs of mixed sizes, 1 thread, ns
                     mempool  glibc  ratio
          lognormal      7.0  ~31.0   0.23

        threads: total throughput of many threads, 4 KiB, ns
                     per pair  million/s  2 threads  throughput ratio
          4 threads       4.0        250        5.0              1.25

        forms: withBuffer, Lease and a pool of one's own, 4 KiB, ns
                 measured  get and put  ratio
          Lease       6.0          5.0   1.20

        recorder: what the recorder costs, beside LeakSanitizer, AddressSanitizer and heaptrack, 512 B, ns
                               1 thread  ratio  2 threads  ratio  at most
          full                      100               100
          LeakSanitizer (gcc)       125   0.80        125   0.80     1.00
          heaptrack                 400   0.25          -      -     0.25
          asleep                    5.0  20.00        5.0  20.00

        recorder: level sampled, 512 B, ns
                   1 thread  ratio  at most
          sampled       8.0
          asleep        5.0   1.60     2.00

        recorder: beside the time of each get and put
                                  measured  at most
          first get of a process   1.23 ms  3.00 ms  asleep 0.09 ms
          1,000,000 outstanding      95 MB   120 MB  95 bytes each
            in the recording         65 MB        -
            in red zones             27 MB        -  none with canary=0
          report on them            1.50 s   2.00 s  from 1,000 stacks
            its memory              210 MB   300 MB  at its peak

        machine: Example 1, 2 processors, Linux 6.1
        noise:   quiet: 93 % of 600 samples undisturbed
                 ~ too few quiet samples: the lower quartile of all, rather too high than too low
        ratio:   the time of mempool by that of the fastest other; below 1 mempool is faster
        not installed: mimalloc, tcmalloc; on Debian: apt-get install libmimalloc2.0 libtcmalloc-minimal4
        not measured: fifo 512 B: snmalloc: it ended unexpectedly

        """
}

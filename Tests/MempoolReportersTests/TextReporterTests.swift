// Tests of TextReporter: whole reports compared as they are shown.

import Foundation
import MempoolAnalysis
import MempoolRecording
import TestSupport
import Testing

@testable import MempoolReporters

struct TextReporterTests {
    /// The text a rendering must equal, from the folder beside this file.
    private func golden(_ name: String) throws -> String {
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Golden")
        return try String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8)
    }

    @Test func `A signal after an end in order is told`() throws {
        var report = SampleReports.healthy()
        report.process?.ending.signal = 11
        let text = TextReporter.render(report, style: TextStyle(width: 200))
        #expect(text.contains(" had ended in order and was then killed by signal 11, after "))
    }

    @Test func `A process whose command line found no room is known by its number`() {
        var report = SampleReports.healthy()
        report.process?.commandLine = ""
        report.process?.executable = ""
        let lines = TextReporter.render(report, style: TextStyle(width: 200)).split(separator: "\n")
        #expect(lines.dropFirst().first == "  Process 4711 exited with status 0, after 1 min 23 s.")
    }

    @Test func `Exact figures stand in sentences, for one buffer and for several`() {
        var report = SampleReports.healthy()
        var leak = SampleReports.leak()
        func asked(_ count: Int, _ bytes: Int) -> Bool {
            leak.count = count
            leak.requestedBytes = bytes
            report.findings = [leak]
            let text = TextReporter.render(report, style: TextStyle(width: 1000))
            return text.contains(count == 1 ? " Asked for 1,000 bytes.\n" : " Asked for 1,025 bytes in all.\n")
        }
        #expect(asked(1, 1000) && asked(2, 1025))
    }

    @Test func `A healthy report is shown in full`() throws {
        #expect(TextReporter.render(SampleReports.healthy(), style: TextStyle()) == (try golden("healthy.txt")))
    }

    @Test func `Findings are shown in full`() throws {
        #expect(TextReporter.render(SampleReports.findings(), style: TextStyle()) == (try golden("findings.txt")))
    }

    @Test func `A wide terminal is used`() throws {
        let style = TextStyle(width: 120)
        #expect(TextReporter.render(SampleReports.findings(), style: style) == (try golden("findings-120.txt")))
    }

    @Test func `Without Unicode a report is ASCII`() throws {
        let text = TextReporter.render(SampleReports.findings(), style: TextStyle(unicode: false))
        #expect(text == (try golden("findings-ascii.txt")))
        #expect(text.utf8.allSatisfy { $0 < 0x80 })
    }

    /// Reports of recordings, by the name of their rendering.
    static let recorded: [String: @Sendable () throws -> Report] = [
        "bytes": RecordedReport.bytes, "holding": RecordedReport.holding, "live": RecordedReport.live,
        "sampled": RecordedReport.sampled, "advice": RecordedReport.advice, "several": RecordedReport.several,
    ]

    @Test(arguments: recorded.keys.sorted(), [80, 120])
    func `Reports of recordings are shown in full`(name: String, width: Int) throws {
        let make = try #require(Self.recorded[name])
        let text = TextReporter.render(try make(), style: TextStyle(width: width))
        #expect(text == (try golden(width == 80 ? "\(name).txt" : "\(name)-\(width).txt")))
        #expect(text.split(separator: "\n").allSatisfy { $0.count <= width })
    }

    @Test func `No mutation of a recording brings the renderings down`() throws {
        var sample = RecordedReport()
        for kind in FindingKind.allCases { sample.addFinding(kind) }
        let scope = sample.builder.addScope("upload", outstanding: 2, lateReturns: 1, slowestReturn: 1)
        let note = sample.builder.addNote("request", in: scope)
        sample.builder.addSlot(stack: sample.get, context: note)
        sample.builder.addSlot(stack: sample.get, context: scope, flags: LedgerFlags.kept)
        sample.builder.header.heldLimit = 1
        let directory = try TemporaryDirectory()
        var generator = SeededGenerator(seed: 4)
        for round in 0..<(runsLongTests ? 10_000 : 60) {
            // Every second one as of a program that runs.
            sample.builder.header.flags = round.isMultiple(of: 2) ? 1 : RecordingHeader.snapshotFlag
            sample.builder.header.sampleInterval = UInt64(round % 3)
            var bytes = sample.builder.bytes()
            for section in [RecordingSection.findings, .contexts, .counters, .ledger] {
                let entry = bytes.withUnsafeBytes { $0.loadUnaligned(as: RecordingHeader.self) }[section]
                let start = Int(entry.offset)
                let end = min(start + Int(entry.capacity) * section.recordBytes, bytes.count)
                for _ in 0..<8 {
                    bytes[Int.random(in: start..<end, using: &generator)] = .random(in: 0...255, using: &generator)
                }
            }
            guard let recording = try? Recording(path: directory.write(bytes)) else { continue }
            let report = Analyzer.report(of: recording, options: AnalysisOptions(), symbolizer: TableSymbolizer())
            #expect(!TextReporter.render(report, style: TextStyle(maximumFindings: nil)).isEmpty)
            #expect(JSONReporter.render(report) != "{}\n")
        }
    }

    @Test(arguments: [(4, []), (5, ["       … 3 frames of the system"]), (13, ["       … 11 frames of the system"])])
    func `Many frames that the system has in between are counted, but for the first and the last`(
        count: Int, expected: [Substring]
    ) {
        var report = SampleReports.healthy()
        var leak = SampleReports.leak()
        let sort = (0..<count).map { Frame(function: "sort\($0)", module: "libc.so.6", isSystem: true) }
        leak.stacks.get = [SampleReports.read] + sort + [SampleReports.read]
        report.findings = [leak]
        let lines = TextReporter.render(report, style: TextStyle()).split(separator: "\n")
        #expect(lines.filter { $0.contains("…") } == expected)
        #expect(lines.count { $0.contains("  sort") } == min(count, 4) - (count > 4 ? 2 : 0))
        #expect(lines.contains { $0.contains("  sort0 ") } && lines.contains { $0.contains("  sort\(count - 1) ") })
    }

    @Test func `Frames that are only counted are called the system's only if they are`() {
        var report = SampleReports.healthy()
        var leak = SampleReports.leak()
        func lines(_ stack: [Frame]) -> [Substring] {
            leak.stacks.get = stack
            report.findings = [leak]
            return TextReporter.render(report, style: TextStyle()).split(separator: "\n").filter { $0.contains("…") }
        }
        let (read, start) = (SampleReports.read, SampleReports.start)
        #expect(lines([read, SampleReports.thunk, start, start]) == ["       … 2 frames of the system"])
        let stripped = Frame(function: "App.run()", module: "app")
        #expect(lines([read, stripped, start, start]) == ["       … 3 frames without lines"])
        #expect(lines([read]) == [])
    }

    @Test func `A function of the user's is shown where its line is not known, and the system's behind it are not`() {
        var report = SampleReports.healthy()
        var leak = SampleReports.leak()
        let (read, start) = (SampleReports.read, SampleReports.start)
        let broker = Frame(function: "runBroker(rounds:)", file: "/app/broker.swift", module: "app")
        leak.stacks.get = [read, start, broker, start, start]
        report.findings = [leak]
        let lines = TextReporter.render(report, style: TextStyle()).split(separator: "\n")
        #expect(lines.contains { $0.hasPrefix("       runBroker(rounds:)  ") && $0.hasSuffix("/app/broker.swift") })
        #expect(lines.filter { $0.contains("…") } == ["       … 2 frames of the system"])
    }

    @Test func `One frame with a name is one`() {
        var report = SampleReports.healthy()
        report.recorder?.frames = 1
        #expect(
            TextReporter.render(report, style: TextStyle()).contains(
                "  Not named: nothing; the 1 frame has a name.\n"))
    }

    @Test func `A report of what could not be observed is short`() {
        var report = Report.inconclusive(because: "No recording appeared.")
        report.notes = ["Build the program with the pool."]
        #expect(
            TextReporter.render(report, style: TextStyle(unicode: false)) == """
                INCONCLUSIVE: No recording appeared.

                Notes
                  - Build the program with the pool.

                INCONCLUSIVE: No recording appeared.

                """
        )
    }

    @Test func `Comparisons of stacks are told, and why capture was slow`() {
        var report = SampleReports.healthy()
        let style = TextStyle(width: 1000)
        #expect(!TextReporter.render(report, style: style).contains("Capture was slow"))
        report.recorder?.captureChecks = 1200
        report.recorder?.captures = 1000
        report.recorder?.slowCaptures = 500
        var text = TextReporter.render(report, style: style)
        #expect(
            text.contains(
                "  Stacks: 1,200 comparisons of a stack found by frame pointers with the unwinder's, none differed.\n"))
        #expect(!text.contains("Capture was slow"))
        report.recorder?.captureMismatches = 2
        report.recorder?.slowCaptures = 501
        text = TextReporter.render(report, style: style)
        #expect(text.contains("with the unwinder's, 2 differed.\n"))
        #expect(text.contains("  Capture was slow: 501 stacks pass through code without frame pointers"))
    }

    @Test func `Times of a program whose end nobody saw are counted from what was recorded last`() {
        var report = SampleReports.findings()
        let style = TextStyle(width: 1000)
        #expect(TextReporter.render(report, style: style).contains(" before the end"))
        report.process?.ending = ProcessEnding(kind: .died)
        var text = TextReporter.render(report, style: style)
        #expect(text.contains(" did not end in order, recorded for "))
        #expect(text.contains(" before the recording's end") && !text.contains(" before the end"))
        report.process?.ending = ProcessEnding(kind: .died, signal: 9)
        text = TextReporter.render(report, style: style)
        #expect(text.contains(" was killed by signal 9, after ") && text.contains(" before the end"))
    }

    @Test func `How much was checked is told in words`() {
        var report = SampleReports.healthy()
        let style = TextStyle(width: 1000)
        func lines() -> [Substring] { TextReporter.render(report, style: style).split(separator: "\n") }
        #expect(lines().contains("  Poison: the first and last 512 B of what was asked for of each buffer."))
        #expect(lines().contains("  Canary: 256 B behind the request, and 32 B before and behind each buffer."))
        report.recorder?.poison = CheckedBytes(limit: .max)
        report.recorder?.canary = CheckedBytes(limit: 0)
        report.recorder?.guardedGets = 90
        report.recorder?.unguardedGets = 1200
        report.recorder?.unzonedBuffers = 610_000
        report.recorder?.heldLimitSeconds = 2.5
        report.recorder?.failedNotes = 3
        report.recorder?.dropped.contexts = 4
        report.recorder?.sampleInterval = 128
        report.recorder?.isEstimate = true
        #expect(lines().contains("  Poison: whole buffers."))
        #expect(lines().contains("  Canary: off."))
        #expect(lines().contains("  Guard pages: around 90 gets; 1,200 more found no room."))
        #expect(
            lines().contains(
                "  Red zones: 610,000 buffers without, as the others' had used up their memory: a write before or behind one of "
                    + "these is not noticed at its put."))
        #expect(
            lines().contains("  Held too long: longer than 2.5 s, of the buffers whose gets were watched."))
        report.recorder?.sampleInterval = 1
        #expect(lines().contains("  Held too long: longer than 2.5 s."))
        report.recorder?.sampleInterval = 128
        #expect(lines().contains("  Notes: 3 failed and are missing."))
        #expect(lines().contains("  Dropped, because the recording was full: 4 scopes and notes."))
        #expect(
            lines().contains(
                "  Sampled: one get in 128 was watched, so counts of leaks are estimates. So are the figures of the pools."
            )
        )
    }

    @Test func `Pools that cannot be judged share a line`() {
        var report = SampleReports.healthy()
        report.advice = (1...7).map { number in
            Advice(
                kind: .tooFewOperations, pool: "#\(number)", count: 1, operations: 1000, happened: "", advice: "")
        }
        #expect(
            TextReporter.render(report, style: TextStyle(width: 1000)).contains(
                "  - Too few operations to judge, fewer than 1,000 gets: pool #1, pool #2, pool #3, pool #4, pool #5, and 2 more.\n"
            )
        )
    }

    @Test func `Places of what is kept are cut, and unknown ones are named so`() {
        var report = SampleReports.healthy()
        report.pools[0].kept.count = 7
        report.pools[0].kept.bytes = 7 * 512
        report.pools[0].kept.sites = (0..<7).map { _ in KeptSite(site: nil, count: 1, bytes: 512) }
        report.recorder?.sampleInterval = 10
        let text = TextReporter.render(report, style: TextStyle())
        #expect(text.contains("  kept on purpose: 7 buffers, 3.5 KiB (1 in 10 is seen)\n"))
        #expect(text.contains("    1 buffer, 512 B, got at an unknown place\n    and at 2 more places\n"))
    }

    @Test func `Of many notes some are shown and all are counted`() throws {
        var report = SampleReports.findings()
        report.findings[1].notes = ["a", "b", "c", "d"]
        report.findings[1].noteCount = 40
        #expect(TextReporter.render(report, style: TextStyle()).contains("   notes: a; b; c; and 37 more\n"))
    }

    @Test(arguments: [(Finding.Kind.leak, "LEAK"), (.poolDestroyed, "POOL DESTROYED")])
    func `What only the counters know has neither place nor time`(kind: Finding.Kind, title: String) {
        var report = SampleReports.healthy()
        var leak = Finding(kind: kind, pool: "default", count: 5, bytes: 2560, stacks: FindingStacks())
        leak.isUnsampled = true
        leak.happened = "5 buffers were got and never put."
        leak.advice = "Run with MEMPOOL_DEBUG=full: it names the place."
        report.findings = [leak]
        let text = TextReporter.render(report, style: TextStyle())
        #expect(
            text.contains(
                """
                1. \(title) · 5 buffers · 2.5 KiB · pool default
                   5 buffers were got and never put.
                   What to do: Run with MEMPOOL_DEBUG=full: it names the place.

                """
            )
        )
    }

    @Test func `The verdict is the first line and the last`() {
        for report in [SampleReports.healthy(), SampleReports.findings()] {
            let lines = TextReporter.render(report, style: TextStyle(width: 200)).split(separator: "\n")
            #expect(lines.first == lines.last)
            #expect(lines.first?.contains(report.verdict.rawValue.uppercased()) == true)
        }
    }

    @Test func `Colour comes only when asked for and changes no letter`() {
        let report = SampleReports.findings()
        let plain = TextReporter.render(report, style: TextStyle())
        let coloured = TextReporter.render(report, style: TextStyle(color: true))
        #expect(!plain.contains("\u{1B}"))
        #expect(coloured.contains("\u{1B}[1;31m"))
        #expect(coloured.replacing(/\u{1B}\[[0-9;]*m/, with: "") == plain)
    }

    @Test func `Findings beyond the limit are counted, with the way to see them`() {
        var report = SampleReports.findings()
        report.findings = (1...12).map { _ in SampleReports.leak() }
        func numbers(_ limit: Int?) -> [Bool] {
            let text = TextReporter.render(report, style: TextStyle(unicode: false, maximumFindings: limit))
            return (1...13).map { text.contains("\n\($0). LEAK") } + [text.contains("not shown: use --max-findings 12")]
        }
        #expect(numbers(10) == [Bool](repeating: true, count: 10) + [false, false, false, true])
        #expect(numbers(12) == [Bool](repeating: true, count: 12) + [false, false])
        #expect(numbers(nil) == [Bool](repeating: true, count: 12) + [false, false])
        #expect(numbers(0) == [Bool](repeating: false, count: 13) + [true])
    }

    @Test func `What the program says cannot command the terminal`() {
        var report = SampleReports.findings()
        report.process?.commandLine = "app \u{1B}[2J\u{7}\u{202E}evil\nsecond line"
        report.findings[0].site = Frame(function: "bad\u{1B}]0;title\u{7}()", file: "/a\r\nb.swift", line: 1)
        let text = TextReporter.render(report, style: TextStyle())
        #expect(!text.unicodeScalars.contains { $0.value < 0x20 && $0 != "\n" || $0.value == 0x202E })
        #expect(text.contains("app ?[2J??evil?second line"))
    }

    @Test func `No line of figures is wider than the terminal`() {
        for width in [80, 100, 120] {
            let text = TextReporter.render(SampleReports.healthy(), style: TextStyle(width: width))
            #expect(text.split(separator: "\n").allSatisfy { $0.count <= width })
        }
    }

    @Test func `A recording that is not kept is not named`() {
        var report = SampleReports.healthy()
        report.recorder?.recording = ""
        #expect(!TextReporter.render(report, style: TextStyle()).contains("Recording:"))
    }

    @Test func `Many sizes are put together by powers of two`() {
        var report = SampleReports.healthy()
        report.pools[0].requestSizes = (0..<40).map { RequestSizeBin(from: 512 + $0 * 64, to: 575 + $0 * 64, count: 1) }
        let text = TextReporter.render(report, style: TextStyle(unicode: false))
        #expect(text.contains("  512 - 1,023  "))
        #expect(text.contains("1,024 - 2,047  "))
        #expect(text.contains("2,048 - 4,095  "))
    }
}

struct UnitsTests {
    @Test(arguments: [
        (0, "0 B"), (1023, "1,023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (1_048_575, "1 MiB"),
        (4096 * 1000, "3.9 MiB"),
        (Int.max, "8 EiB"), (-2048, "-2 KiB"),
    ])
    func `Bytes are shown in binary units`(count: Int, text: String) { #expect(Units.bytes(count) == text) }

    @Test(arguments: [
        (0, "0 ms"), (0.0004, "0 ms"), (0.25, "250 ms"), (0.9999, "1 s"), (3.25, "3.3 s"), (59.4, "59 s"),
        (59.7, "1 min 0 s"),
        (200, "3 min 20 s"), (7500, "2 h 5 min"), (-1, "?"), (.infinity, "?"),
    ])
    func `Durations are shown in their largest units`(seconds: Double, text: String) {
        #expect(Units.duration(seconds) == text)
    }

    @Test(arguments: [
        (99_999, "99999"), (100_000, "100k"), (999_999, "1M"), (12_345_678, "12.3M"), (-250_000, "-250k"),
        (Int.max, "9.2E"),
    ])
    func `Numbers have a short form`(number: Int, text: String) { #expect(Units.compact(number) == text) }
}

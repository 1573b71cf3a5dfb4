// From a recording to a report: reads the counters, groups what is outstanding, names the stacks, decides the verdict.
// The findings are built in FindingBuilder.swift, the pools in PoolReport+Recording.swift.

internal import Foundation
package import MempoolRecording

/// Computes reports.
package enum Analyzer {
    /// Reads a recording and says what is in it.
    ///
    /// The recording may belong to a process that still runs.
    /// - Throws: `RecordingError` if nothing of the file can be used. Damage that leaves something makes the report partial.
    package static func report(recordingAt path: String, options: AnalysisOptions) throws(RecordingError) -> Report {
        let recording = try Recording(path: path)
        let symbolizer: any Symbolizer = options.namesFrames ? RuntimeSymbolizer() : OffsetSymbolizer()
        return report(of: recording, options: options, symbolizer: symbolizer)
    }

    /// The report of an open recording.
    package static func report(
        of recording: Recording, options: AnalysisOptions, symbolizer: any Symbolizer
    ) -> Report {
        let ending = ProcessState.ending(of: recording, options: options)
        var groups = RecordedGroups(recording: recording, ending: ending)
        groups.collect()
        let names = symbolizer.name(groups.words, in: recording.modules)
        let findings = FindingBuilder(recording: recording, groups: groups, names: names, ending: ending).findings()

        var recorder = recorderReport(of: recording, scan: groups.scan)
        recorder.damage += groups.damage
        recorder.partial = !recorder.damage.isEmpty
        addNaming(to: &recorder, names: names, groups: groups, modules: recording.modules)

        let (verdict, reason) = verdict(findings: findings, recorder: recorder, ending: ending)
        var report = Report(verdict: verdict, verdictReason: reason)
        report.process = ProcessReport(
            processID: Int(recording.header.processID), commandLine: recording.commandLine,
            executable: recording.executable, ending: ending,
            durationSeconds: seconds(from: recording.header.startMonotonic, to: groups.endTime),
            startedAt: timestamp(recording.header.startRealtime)
        )
        report.findings = findings
        // A pool that was never made has an entry if one with a higher number was.
        report.pools = recording.pools.enumerated().filter { !$1.isUnused }.map { PoolReport(recorded: $1, number: $0) }
        report.recorder = recorder
        report.notes = notes(recording: recording, recorder: recorder, ending: ending, groups: groups)
        report.sourceRoot = options.sourceRoot
        return report
    }

    // MARK: - Verdict

    private static func verdict(
        findings: [Finding], recorder: RecorderReport, ending: ProcessEnding
    ) -> (Report.Verdict, String) {
        let running =
            ending.kind == .running ? " The program is still running: buffers in use now count as leaks so far." : ""
        guard findings.isEmpty else {
            let partial = recorder.partial ? " The report is partial: not all of the recording could be read." : ""
            return (.findings, Sentences.summary(of: findings) + "." + partial + running)
        }
        if recorder.level == RecorderLevel.off.name {
            return (.inconclusive, "The recorder was off, so nothing was observed.")
        }
        if recorder.dropped.ledger > 0 {
            return (
                .inconclusive,
                "Nothing found, but \(Sentences.plural(recorder.dropped.ledger, "get")) did not fit into the recording. "
                    + "Raise max-ledger and run again."
            )
        }
        if recorder.partial {
            return (.inconclusive, "Nothing found, but parts of the recording could not be read.")
        }
        if ending.kind == .running { return (.healthy, "Nothing found so far. The program is still running.") }
        return (.healthy, "Every buffer that was got was put, once and whole.")
    }

    private static func notes(
        recording: Recording, recorder: RecorderReport, ending: ProcessEnding, groups: RecordedGroups
    ) -> [String] {
        var notes: [String] = []
        switch ending.kind {
        case .running: notes.append("The program is still running; the report shows the moment it was read.")
        case .died:
            notes.append("The program died without a clean exit; what it held then is listed as leaked.")
            if recorder.inProgress > 0 {
                notes.append(
                    "\(Sentences.plural(recorder.inProgress, "get or put", "gets or puts")) "
                        + "had begun and not ended when the program died; their buffers are not among the findings."
                )
            }
        case .exited: break
        }
        if recorder.level == RecorderLevel.sampled.name {
            notes.append(
                "The recorder sampled: only some gets carry a stack, so there may be more leaks than are listed.")
        }
        if recorder.unwinder == "frame-pointers" {
            notes.append(
                "libunwind could not be loaded, so frames of code without frame pointers are missing. Install libunwind8."
            )
        }
        let pools = recording.pools.count
        if groups.unknownPools > 0 {
            notes.append(
                "\(Sentences.plural(groups.unknownPools, "outstanding buffer")) belong to pools beyond the \(pools) with counters."
            )
        }
        return notes
    }

    // MARK: - Recorder

    private static func recorderReport(of recording: Recording, scan: LedgerScan) -> RecorderReport {
        let header = recording.header
        var report = RecorderReport(
            recording: recording.file.path,
            level: RecorderLevel(rawValue: header.level)?.name ?? "unknown",
            unwinder: unwinderName(header.unwinder),
            frameLimit: Int(header.frameLimit),
            fileBytes: recording.file.allocatedBytes,
            heapBytes: Int(clamping: header.recorderHeapBytes)
        )
        report.dropped.ledger = Int(clamping: header.dropped.ledger)
        report.dropped.stacks = Int(clamping: header.dropped.stacks)
        report.dropped.findings = Int(clamping: header.dropped.findings)
        report.dropped.strings = Int(clamping: header.dropped.strings)
        report.dropped.modules = Int(clamping: header.dropped.modules)
        report.dropped.pools = Int(clamping: header.dropped.pools)
        report.captureChecks = Int(clamping: header.captureChecks)
        report.captureMismatches = Int(clamping: header.captureMismatches)
        report.slowCaptures = Int(clamping: header.slowCaptures)
        for row in recording.pools.flatMap(\.rows) {
            for count in [row.gets, row.puts, row.wrongCapacityPuts, row.doublePuts] {
                report.captures = Counter.sum(report.captures, Int(clamping: count))
            }
        }
        report.inProgress = scan.inProgress
        report.damage = recording.damage
        if report.level == "unknown" { report.damage.append("The level \(header.level) of the recorder is unknown.") }
        if report.unwinder == "unknown" { report.damage.append("The unwinder \(header.unwinder) is unknown.") }
        return report
    }

    private static func unwinderName(_ value: UInt32) -> String {
        switch UnwinderKind(rawValue: value) {
        case .some(.none): "none"
        case .libunwind: "libunwind"
        case .framePointers: "frame-pointers"
        case nil: "unknown"
        }
    }

    /// Counts how many frames of the findings' stacks have a name, and for whose fault the others have none.
    private static func addNaming(
        to report: inout RecorderReport, names: NamedAddresses, groups: RecordedGroups, modules: [Recording.Module]
    ) {
        let table = ModuleTable(modules)
        var framesByPath: [String: Int] = [:]
        for word in groups.words {
            report.frames += 1
            guard let only = names.frames[word]?.first, only.isUnnamed else { continue }
            report.unnamedFrames += 1
            framesByPath[table.module(of: word)?.path ?? "", default: 0] += 1
        }
        report.unnamedModules = names.unnamedModules.map { module in
            var module = module
            module.frames = framesByPath[module.path] ?? 0
            return module
        }
    }

    // MARK: - Time

    static func seconds(from start: UInt64, to end: UInt64) -> Double {
        guard end > start else { return 0 }
        // Milliseconds are what the coarse clock is good for.
        return (Double(end - start) / 1_000_000).rounded() / 1000
    }

    private static func timestamp(_ nanoseconds: UInt64) -> String {
        // The last second of the year 9999: ISO 8601 has four digits for the year.
        let seconds = min(nanoseconds / 1_000_000_000, 253_402_300_799)
        return Date(timeIntervalSince1970: Double(seconds)).formatted(.iso8601)
    }
}

extension Frame {
    /// Whether the function is only `module+0xoffset` or an address.
    var isUnnamed: Bool {
        file == nil && (function.hasPrefix("0x") || (!module.isEmpty && function.hasPrefix(module + "+0x")))
    }
}

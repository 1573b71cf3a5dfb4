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
        return report(of: recording, options: options, symbolizer: ElfSymbolizer())
    }

    /// The report of an open recording.
    package static func report(
        of recording: Recording, options: AnalysisOptions, symbolizer: any Symbolizer
    ) -> Report {
        report(of: recording, options: options, symbolizer: symbolizer, limits: RecordedGroups.Limits())
    }

    static func report(
        of recording: Recording, options: AnalysisOptions, symbolizer: any Symbolizer, limits: RecordedGroups.Limits
    ) -> Report {
        let ending = ProcessState.ending(of: recording, options: options)
        // A pool that was never made has an entry if one with a higher number was.
        var pools = recording.pools.enumerated().filter { !$1.isUnused }.map { number, pool in
            (number: number, report: PoolReport(recorded: pool, number: number))
        }
        let adviser = AdviceBuilder(pools: pools)
        var groups = RecordedGroups(
            recording: recording, ending: ending,
            observedEndTime: options.observedEndTimes[Int(recording.header.processID)], advisedRows: adviser.rows,
            limits: limits)
        groups.collect()
        let names = symbolizer.name(groups.words, in: recording.modules)
        let stacks = NamedStacks(words: groups.stacks, names: names, modules: recording.modules)
        var findings = FindingBuilder(recording: recording, groups: groups, stacks: stacks, ending: ending).findings()
        let outlives = options.observationHasEnded && ending.kind == .running && !ending.isSnapshot
        // Whoever has them in use may put them yet; what outlived its scope will not be put by it.
        if outlives { findings.removeAll { $0.kind == .leak && $0.scopeEnded != true } }
        for index in pools.indices {
            pools[index].report.kept = KeptReport(of: pools[index].number, groups: groups, stacks: stacks)
        }

        var recorder = recorderReport(of: recording, scan: groups.scan)
        recorder.damage += groups.damage
        recorder.partial = !recorder.damage.isEmpty
        addNaming(to: &recorder, names: names, groups: groups)

        let (verdict, reason) = verdict(
            findings: findings, recorder: recorder, ending: ending, pools: pools.map(\.report),
            outlivingProcess: outlives ? Int(recording.header.processID) : nil)
        var report = Report(verdict: verdict, verdictReason: reason)
        if verdict == .healthy, isWithoutGets(pools.map(\.report), groups.scan) {
            report.recordedNoGet = true
            // Estimated counters count what was watched alone.
            report.declareInconclusive(
                because: (recorder.isEstimate ? "No get was watched" : "The program got no buffer")
                    + ", so nothing was observed." + sentence(stillRunning(ending)))
        }
        report.process = ProcessReport(
            processID: Int(recording.header.processID), commandLine: recording.commandLine,
            executable: recording.executable, ending: ending,
            durationSeconds: seconds(from: recording.header.startMonotonic, to: groups.endTime),
            startedAt: timestamp(recording.header.startRealtime)
        )
        report.findings = findings
        report.pools = pools.map(\.report)
        report.advice = adviser.advice(groups: groups, stacks: stacks, findings: findings)
        report.lateReturns = groups.scopes.lateReturns()
        report.recorder = recorder
        report.notes = notes(recording: recording, recorder: recorder, ending: ending, groups: groups)
        if names.refusedNames > 0 {
            report.notes.append(
                "\(Sentences.plural(names.refusedNames, "name of a function is", "names of functions are")) shown in the "
                    + "linker's form: the readable one would take too long or too much memory."
            )
        }
        report.notes += names.unreadDebugFiles.sorted { $0.key < $1.key }.map(Sentences.unreadDebugFile)
        report.sourceRoot = options.sourceRoot
        return report
    }

    // MARK: - Verdict

    /// Of what was found; that there was nothing to find is told apart by `isWithoutGets`.
    ///
    /// - Parameter outlivingProcess: The number of the process, if it still runs and nobody will see its end.
    private static func verdict(
        findings: [Finding], recorder: RecorderReport, ending: ProcessEnding, pools: [PoolReport],
        outlivingProcess: Int?
    ) -> (Report.Verdict, String) {
        let running = stillRunning(ending)
        let soFar = ending.kind == .running ? " so far." : "."
        guard findings.isEmpty else {
            let partial = recorder.partial ? " The report is partial: not all of the recording could be read." : ""
            return (
                .findings,
                Sentences.summary(of: findings) + "." + partial
                    + (running.isEmpty
                        ? ""
                        : running
                            + (outlivingProcess == nil
                                ? ": buffers in use now count as leaks so far." : "; buffers in use now are left out."))
            )
        }
        if let outlivingProcess { return (.inconclusive, Sentences.outlived(by: outlivingProcess)) }
        if recorder.level == RecorderLevel.off.name {
            return (.inconclusive, "The recorder was off, so nothing was observed.")
        }
        if recorder.dropped.ledger > 0 {
            return (
                .inconclusive,
                "Nothing found, but \(Sentences.plural(recorder.dropped.ledger, "get")) did not fit into the recording. "
                    // Stacks run short long after the ledger, unless it is the disk that is full.
                    + (recorder.dropped.stacks > 0
                        ? "Record to a larger disk and run again." : "Raise max-ledger and run again.")
            )
        }
        if recorder.dropped.findings > 0 {
            return (
                .inconclusive,
                "\(Sentences.plural(recorder.dropped.findings, "finding")) found no room in the recording. "
                    + "Record to a larger disk and run again."
            )
        }
        if recorder.partial {
            return (.inconclusive, "Nothing found, but parts of the recording could not be read.")
        }
        if recorder.sampleInterval > 1 {
            return (
                .healthy,
                "Nothing found\(soFar) One get in \(Sentences.grouped(recorder.sampleInterval)) was watched, so a rare leak "
                    + (recorder.heldLimitSeconds == nil ? "" : "or a long hold ") + "may have been missed."
                    + sentence(running)
            )
        }
        if !running.isEmpty { return (.healthy, "Nothing found so far." + running + ".") }
        let kept = pools.map(\.kept.count).reduce(0, Counter.sum)
        if ending.kind == .died {
            let purpose = kept > 0 ? " but for \(Sentences.grouped(kept)) that it keeps on purpose" : ""
            let begun =
                recorder.inProgress > 0
                ? "; \(Sentences.plural(recorder.inProgress, "get or put", "gets or puts")) had begun and not ended"
                : ""
            return (.healthy, "Nothing was outstanding when the program died\(purpose)\(begun).")
        }
        let purpose = kept > 0 ? ", but for \(Sentences.grouped(kept)) that the program keeps on purpose" : ""
        return (.healthy, "Every buffer that was got was put, once and whole\(purpose).")
    }

    private static func isWithoutGets(_ pools: [PoolReport], _ scan: LedgerScan) -> Bool {
        scan.outstanding == 0 && scan.returned == 0 && !pools.contains { $0.stats.gets > 0 || $0.stats.oversized > 0 }
    }

    /// That the program runs, to be added to a sentence; empty if it does not.
    private static func stillRunning(_ ending: ProcessEnding) -> String {
        guard ending.kind == .running else { return "" }
        return ending.isSnapshot
            ? " The program was running when the snapshot was taken" : " The program is still running"
    }

    private static func sentence(_ text: String) -> String { text.isEmpty ? "" : text + "." }

    private static func notes(
        recording: Recording, recorder: RecorderReport, ending: ProcessEnding, groups: RecordedGroups
    ) -> [String] {
        var notes: [String] = []
        switch ending.kind {
        case .running where ending.isSnapshot:
            notes.append("The recording is a snapshot that the program took of itself; it may have gone on since.")
        case .running: notes.append("The program is still running; the report shows the moment it was read.")
        case .died:
            notes.append(Sentences.death(ending))
            if recorder.inProgress > 0 {
                notes.append(
                    "\(Sentences.plural(recorder.inProgress, "get or put", "gets or puts")) "
                        + "had begun and not ended when the program died; their buffers are not among the findings."
                )
            }
        case .exited: break
        }
        if recorder.sampleInterval > 1 {
            let interval = Sentences.grouped(recorder.sampleInterval)
            notes.append(
                "The recorder watched one get in \(interval): each leak that was seen stands for about \(interval), and a rare "
                    + "one may be missing. Level full sees all."
            )
        }
        if recorder.lostPuts > 0 {
            let count = recorder.lostPuts
            notes.append(
                Sentences.plural(count, "put of a signal handler was", "puts of signal handlers were")
                    + " lost, as no more than 32 can wait for the call that they interrupt: up to "
                    + Sentences.plural(count, "outstanding buffer was", "outstanding buffers were")
                    + " put by the program."
            )
        }
        notes += groups.notes
        notes += groups.scopes.lateReturns().map(Sentences.lateReturn)
        if recorder.unwinder == "frame-pointers" {
            notes.append(
                "libunwind could not be loaded, so frames of code without frame pointers are missing. Install libunwind8."
            )
        }
        let pools = recording.pools.count
        if groups.unknownPools > 0 {
            notes.append(
                "\(Sentences.plural(groups.unknownPools, "outstanding buffer belongs", "outstanding buffers belong")) to pools "
                    + "beyond the \(pools) with counters."
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
        report.dropped.contexts = Int(clamping: header.dropped.contexts)
        report.sampleInterval = max(1, Int(clamping: header.sampleInterval))
        report.isEstimate =
            report.sampleInterval > 1 && header.flags & RecordingHeader.estimatedCountersFlag != 0
        report.poison = CheckedBytes(limit: header.poisonLimit)
        report.canary = CheckedBytes(limit: header.canaryLimit)
        report.guardedGets = Int(clamping: header.guardedGets)
        report.unguardedGets = Int(clamping: header.unguardedGets)
        report.unzonedBuffers = Int(clamping: header.unzonedBuffers)
        report.lostPuts = Int(clamping: header.lostPuts)
        if header.heldLimit > 0 { report.heldLimitSeconds = seconds(from: 0, to: header.heldLimit) }
        report.failedNotes = Int(clamping: header.failedNotes)
        report.captureChecks = Int(clamping: header.captureChecks)
        report.captureMismatches = Int(clamping: header.captureMismatches)
        report.slowCaptures = Int(clamping: header.slowCaptures)
        var calls = 0
        for row in recording.pools.flatMap(\.rows) {
            for count in [row.gets, row.puts] { calls = Counter.sum(calls, Int(clamping: count)) }
            for count in [row.wrongCapacityPuts, row.doublePuts] {
                report.captures = Counter.sum(report.captures, Int(clamping: count))
            }
        }
        // Of gets and their puts only those that are watched are captured, of bad puts all.
        report.captures = Counter.sum(report.captures, calls / report.sampleInterval)
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
        to report: inout RecorderReport, names: NamedAddresses, groups: RecordedGroups
    ) {
        report.frames = groups.words.count + groups.unaskedWords
        report.unnamedFrames =
            groups.words.count { names.frames[$0]?.first?.isUnnamed ?? true } + groups.unaskedWords
        report.unnamedModules = names.unnamedModules
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

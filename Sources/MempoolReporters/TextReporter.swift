// The report for people: verdict first and last, findings worst first, then figures.
// The findings are in TextReporter+Findings.swift, tables and charts in TextReporter+Pools.swift.

package import MempoolAnalysis

/// Renders a report as text.
///
/// The order is that of somebody who has ten seconds: how bad is it, where is it, what to do; whoever has more time reads on.
package enum TextReporter {
    /// The report as lines of text with a line feed at the end. The same report and style give the same text.
    package static func render(_ report: Report, style: TextStyle) -> String {
        var canvas = TextCanvas(style: style, root: report.sourceRoot)
        addVerdict(report, to: &canvas)
        addProcess(report, to: &canvas)
        addFindings(report, to: &canvas)
        for pool in report.pools { addPool(pool, sampleInterval: report.recorder?.sampleInterval ?? 1, to: &canvas) }
        addAdvice(report, to: &canvas)
        addRecorder(report, to: &canvas)
        addNotes(report, to: &canvas)
        canvas.gap()
        addVerdict(report, to: &canvas)
        return canvas.text
    }

    // MARK: - Verdict and process

    private static func addVerdict(_ report: Report, to canvas: inout TextCanvas) {
        let emphasis: TextCanvas.Emphasis =
            switch report.verdict {
            case .healthy: .good
            case .findings: .bad
            case .inconclusive: .doubtful
            }
        let sign =
            switch report.verdict {
            case .healthy: canvas.glyph("✔ ", "")
            case .findings: canvas.glyph("✘ ", "")
            case .inconclusive: canvas.glyph("? ", "")
            }
        var text = report.verdict.rawValue.uppercased() + ": " + canvas.clean(report.verdictReason)
        if let worst = report.findings.first, let site = worst.site {
            let place = canvas.place(site, column: false) ?? canvas.clean(site.function)
            text += " Worst: \(title(worst.kind)) at \(place)."
        }
        canvas.paragraph(sign + text, indent: "  ", first: "", emphasis)
    }

    private static func addProcess(_ report: Report, to canvas: inout TextCanvas) {
        guard let process = report.process else { return }
        let ending: String
        switch process.ending.kind {
        case .exited:
            ending =
                process.ending.signal.map { "had ended in order and was then killed by signal \($0)" }
                ?? "exited with status \(process.ending.status ?? 0)"
        case .running:
            ending = process.ending.isSnapshot ? "was running when it took this snapshot" : "is still running"
        case .died:
            if let signal = process.ending.signal {
                ending = "was killed by signal \(signal)"
            } else if let status = process.ending.status {
                ending = "left with status \(status) without a clean exit"
            } else {
                ending = process.ending.isReplaced ? "was replaced by another program" : "did not end in order"
            }
        }
        let time = process.ending.kind == .running || process.ending.isUnseen ? "recorded for" : "after"
        let command = canvas.clean(process.commandLine.isEmpty ? process.executable : process.commandLine)
        // A command line may be as long as it likes.
        let shown = command.count > 120 ? command.prefix(117) + "..." : command[...]
        // A disk so full that not even the command line fitted.
        let name = shown.isEmpty ? "Process \(process.processID)" : "\(shown) (process \(process.processID))"
        canvas.paragraph(
            "\(name) \(ending), \(time) \(Units.duration(process.durationSeconds)).",
            indent: "  "
        )
    }

    // MARK: - Recorder and notes

    private static func addRecorder(_ report: Report, to canvas: inout TextCanvas) {
        guard let recorder = report.recorder else { return }
        canvas.gap()
        canvas.line(canvas.paint("Recorder", .strong))
        canvas.paragraph(
            "Cost: \(Units.bytes(recorder.fileBytes)) of recording and \(Units.bytes(recorder.heapBytes)) of memory, at level "
                + "\(recorder.level), stacks by \(recorder.unwinder), at most \(recorder.frameLimit) frames each.",
            indent: "  "
        )
        addCoverage(recorder, to: &canvas)
        let dropped = recorder.dropped
        let parts: [(Int, String)] = [
            (dropped.ledger, "gets"), (dropped.stacks, "stacks"), (dropped.findings, "findings"),
            (dropped.strings, "texts"), (dropped.modules, "modules"), (dropped.pools, "pools"),
            (dropped.contexts, "scopes and notes"),
        ]
        let lost = parts.filter { $0.0 > 0 }.map { "\(Sentences.grouped($0.0)) \($0.1)" }
        canvas.paragraph(
            lost.isEmpty
                ? "Dropped: nothing."
                : "Dropped, because the recording was full: " + lost.joined(separator: ", ") + ".",
            indent: "  ", lost.isEmpty ? nil : .doubtful
        )
        addCapture(recorder, to: &canvas)
        if recorder.unnamedFrames > 0 {
            canvas.paragraph(
                "Not named: \(Sentences.grouped(recorder.unnamedFrames)) of \(Sentences.plural(recorder.frames, "frame")).",
                indent: "  "
            )
        } else if recorder.frames > 0 {
            canvas.paragraph(
                "Not named: nothing; \(recorder.frames == 1 ? "the 1 frame has a name" : "all \(Sentences.grouped(recorder.frames)) frames have names").",
                indent: "  ")
        }
        for module in recorder.unnamedModules {
            canvas.paragraph(canvas.clean(module.explanation), indent: "    ", first: "  - ", .doubtful)
        }
        for sentence in recorder.damage {
            canvas.paragraph("Damaged: " + canvas.clean(sentence), indent: "    ", first: "  - ", .doubtful)
        }
        if !recorder.recording.isEmpty {
            canvas.line("  Recording: \(canvas.clean(recorder.recording))")
        }
    }

    /// How much was looked at.
    private static func addCoverage(_ recorder: RecorderReport, to canvas: inout TextCanvas) {
        if recorder.sampleInterval > 1 {
            canvas.paragraph(
                "Sampled: one get in \(Sentences.grouped(recorder.sampleInterval)) was watched, so counts of leaks are estimates. "
                    + (recorder.isEstimate
                        ? "So are the figures of the pools." : "So are high water and sizes; gets and puts are exact."),
                indent: "  "
            )
        }
        let half = Units.bytes(max(1, recorder.poison.bytes / 2))
        let poison =
            recorder.poison.isWhole
            ? "whole buffers"
            : recorder.poison.bytes == 0 ? "off" : "the first and last \(half) of what was asked for of each buffer"
        canvas.paragraph("Poison: \(poison).", indent: "  ")
        let behind = recorder.canary.isWhole ? "all" : Units.bytes(recorder.canary.bytes)
        let canary =
            recorder.canary.bytes == 0 ? "off" : "\(behind) behind the request, and 32 B before and behind each buffer"
        canvas.paragraph("Canary: \(canary).", indent: "  ")
        if recorder.unzonedBuffers > 0 {
            canvas.paragraph(
                "Red zones: \(Sentences.plural(recorder.unzonedBuffers, "buffer")) without, as the others' had used up their "
                    + "memory: a write before or behind one of these is not noticed at its put.",
                indent: "  ", .doubtful
            )
        }
        if recorder.guardedGets > 0 || recorder.unguardedGets > 0 {
            canvas.paragraph(
                "Guard pages: around \(Sentences.plural(recorder.guardedGets, "get"))"
                    + (recorder.unguardedGets > 0
                        ? "; \(Sentences.grouped(recorder.unguardedGets)) more found no room." : "."),
                indent: "  ", recorder.unguardedGets > 0 ? .doubtful : nil
            )
        }
        if let limit = recorder.heldLimitSeconds {
            let watched = recorder.sampleInterval > 1 ? ", of the buffers whose gets were watched" : ""
            canvas.paragraph("Held too long: longer than \(Units.duration(limit))\(watched).", indent: "  ")
        }
        if recorder.failedNotes > 0 {
            canvas.paragraph(
                "Notes: \(Sentences.grouped(recorder.failedNotes)) failed and are missing.", indent: "  ", .doubtful)
        }
    }

    /// How stacks were found, where there is something to say of it.
    private static func addCapture(_ recorder: RecorderReport, to canvas: inout TextCanvas) {
        if recorder.captureChecks > 0 {
            let differ = recorder.captureMismatches
            canvas.paragraph(
                "Stacks: \(Sentences.plural(recorder.captureChecks, "comparison")) of a stack found by frame pointers with the "
                    + "unwinder's, " + (differ == 0 ? "none differed." : "\(Sentences.grouped(differ)) differed."),
                indent: "  ", differ == 0 ? nil : .doubtful
            )
        }
        if recorder.slowCaptures > recorder.captures / 2, recorder.slowCaptures > 0 {
            canvas.paragraph(
                "Capture was slow: \(Sentences.grouped(recorder.slowCaptures)) stacks pass through code without frame pointers, "
                    + "or lie on a coroutine's or a signal's stack, so each had to be unwound. Stacks are right, gets and puts take "
                    + "longer. Libraries of the system are such code, as qsort() is. What SwiftPM builds is not, unless it is told to; in other "
                    + "builds give swiftc -Xcc -fno-omit-frame-pointer, and the C compiler -fno-omit-frame-pointer.",
                indent: "  ", .doubtful
            )
        }
    }

    private static func addNotes(_ report: Report, to canvas: inout TextCanvas) {
        guard !report.notes.isEmpty else { return }
        canvas.gap()
        canvas.line(canvas.paint("Notes", .strong))
        for note in report.notes { canvas.paragraph(canvas.clean(note), indent: "    ", first: "  - ") }
    }

    /// The words for a kind of finding.
    static func title(_ kind: Finding.Kind) -> String {
        switch kind {
        case .leak: "leak"
        case .doublePut: "double put"
        case .wrongPool: "wrong pool"
        case .foreignPut: "foreign put"
        case .wrongCapacity: "wrong capacity"
        case .useAfterPut: "use after put"
        case .overrun: "overrun"
        case .poolDestroyed: "pool destroyed"
        case .heldTooLong: "held too long"
        }
    }
}

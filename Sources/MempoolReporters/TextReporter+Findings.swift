// Findings as text: what happened, how much, where, the stacks, what to do.

internal import MempoolAnalysis

extension TextReporter {
    /// Adds the findings, as many as the style allows, and says how many more there are.
    static func addFindings(_ report: Report, to canvas: inout TextCanvas) {
        let shown = report.findings.prefix(canvas.style.maximumFindings ?? report.findings.count)
        let end = end(of: report.process)
        for (index, finding) in shown.enumerated() {
            canvas.gap()
            addFinding(finding, number: index + 1, end: end, to: &canvas)
        }
        let more = report.findings.count - shown.count
        guard more > 0 else { return }
        canvas.gap()
        canvas.paragraph(
            "\(Sentences.plural(more, "more finding")) not shown: use --max-findings \(report.findings.count) or --format json.",
            indent: "", .doubtful
        )
    }

    private static func addFinding(_ finding: Finding, number: Int, end: String, to canvas: inout TextCanvas) {
        canvas.paragraph(
            heading(finding, canvas), indent: "   ", first: "\(number). \(headline(finding))\(canvas.dot)",
            firstEmphasis: .bad
        )
        // What is known from counters alone has neither place nor time.
        let isCounted = finding.kind == .leak || finding.kind == .poolDestroyed
        let isTimed = !isCounted || finding.isUnsampled != true
        if let site = finding.site {
            let function = canvas.clean(site.function)
            if let place = canvas.place(site) {
                canvas.line("   " + canvas.paint(place, .place) + "  " + canvas.paint(function, .strong))
            } else {
                canvas.line("   " + canvas.paint(function, .strong))
            }
        } else if finding.wrongStack != nil {
            canvas.paragraph("The place has no name; why is told under Recorder.", indent: "   ")
        } else if isTimed {
            canvas.paragraph("No stack was captured.", indent: "   ")
        }
        canvas.paragraph(canvas.clean(finding.happened), indent: "   ")
        if let contents = Sentences.contents(finding) { canvas.paragraph(canvas.clean(contents), indent: "   ") }
        if isTimed { canvas.paragraph(facts(finding, end: end), indent: "   ") }
        if let notes = notes(finding) { canvas.paragraph(canvas.clean(notes), indent: "   ") }
        // The site is marked where it is wrong; the same line may be right in the other stacks.
        for (index, (title, stack, event)) in stacks(finding).enumerated() {
            canvas.line("   " + title + who(event, finding, end: end))
            addStack(stack, site: index == 0 ? finding.site : nil, to: &canvas)
        }
        canvas.paragraph(canvas.clean(finding.advice), indent: "               ", first: "   What to do: ")
    }

    /// The kind in capitals; what is read first.
    private static func headline(_ finding: Finding) -> String {
        // The same kind, but who looks for it looks at the other end of the buffer.
        if finding.kind == .overrun, let offset = finding.offset, offset < 0 { return "UNDERRUN" }
        return title(finding.kind).uppercased()
    }

    /// How many, how much, in which pool and scope.
    private static func heading(_ finding: Finding, _ canvas: TextCanvas) -> String {
        let isAboutBuffers =
            switch finding.kind {
            case .leak, .heldTooLong, .poolDestroyed: true
            case .doublePut, .useAfterPut, .overrun, .wrongPool, .foreignPut, .wrongCapacity: false
            }
        let count = finding.estimatedCount ?? finding.count
        let about = finding.estimatedCount == nil ? "" : "about "
        var parts = [about + Sentences.plural(count, isAboutBuffers ? "buffer" : "time")]
        let bytes = finding.estimatedBytes ?? finding.bytes
        if isAboutBuffers || bytes > 0 { parts.append(about + Units.bytes(bytes)) }
        if !finding.pool.isEmpty { parts.append("pool \(canvas.clean(finding.pool))") }
        if let scope = finding.scope { parts.append("scope \(canvas.clean(scope))") }
        if finding.isUnscoped == true { parts.append("unscoped") }
        return parts.joined(separator: canvas.dot)
    }

    /// What more there is to say in numbers.
    private static func facts(_ finding: Finding, end: String) -> String {
        let oldest = Units.duration(finding.oldestAgeSeconds)
        let newest = Units.duration(finding.newestAgeSeconds)
        let verb: String
        switch finding.kind {
        case .leak: verb = "Got"
        case .heldTooLong: verb = finding.isStillHeld == true ? "Got" : "Put"
        case .overrun, .useAfterPut:
            verb = finding.caughtBy == .poison || finding.caughtBy == .canary ? "Noticed" : "Happened"
        case .doublePut, .wrongPool, .foreignPut, .wrongCapacity, .poolDestroyed: verb = "Happened"
        }
        var first =
            finding.count == 1 || oldest == newest
            ? "\(verb) \(oldest) \(end)" : "\(verb) between \(oldest) and \(newest) \(end)"
        // With a thread at each stack the list would only repeat them.
        let isTold = finding.count == 1 && finding.events?.all.contains { $0.thread != nil } == true
        if !finding.threads.isEmpty, !isTold {
            let more = finding.threadCount - finding.threads.count
            first +=
                " by \(finding.threadCount == 1 ? "thread" : "threads") "
                + finding.threads.map(String.init).joined(separator: ", ")
                + (more > 0 ? " and \(Sentences.grouped(more)) more" : "")
        }
        // One case whose step is told at its stack needs no line of its own.
        let isTimed =
            finding.count == 1 && finding.events?.all.contains { $0.ageSeconds == finding.oldestAgeSeconds } == true
        var facts = isTimed ? [] : [first + "."]
        if let requested = finding.requestedBytes, requested != finding.bytes {
            let who = finding.estimatedCount == nil ? "Asked for" : "Those seen asked for"
            // Exact as in all sentences, so that it can be compared with what the program asks for.
            let inAll = finding.count == 1 ? "" : " in all"
            facts.append("\(who) \(Sentences.plural(requested, "byte"))\(inAll).")
        }
        if let seconds = finding.secondsBetweenPuts {
            facts.append("The second put came \(Units.duration(seconds)) after the first.")
        }
        if finding.count > 1, let events = finding.events, !events.all.isEmpty {
            facts.append("Threads and times below are those of the first.")
        }
        return facts.joined(separator: " ")
    }

    /// What a finding's times are counted from, behind the number.
    private static func end(of process: ProcessReport?) -> String {
        if process?.ending.kind == .running { return "ago" }
        // A program that was killed may have been idle before.
        return process?.ending.isUnseen == true ? "before the recording's end" : "before the end"
    }

    /// `note: request 4711`, or several.
    private static func notes(_ finding: Finding) -> String? {
        guard let first = finding.notes.first else { return nil }
        guard finding.noteCount > 1 else { return "note: \(first)" }
        let shown = finding.notes.prefix(3)
        let more = finding.noteCount - shown.count
        return "notes: " + shown.joined(separator: "; ") + (more > 0 ? "; and \(Sentences.grouped(more)) more" : "")
    }

    /// ` thread 4711, 12 s before the end`: who did what a stack shows.
    private static func who(_ event: FindingEvent?, _ finding: Finding, end: String) -> String {
        guard let event else { return "" }
        var parts: [String] = []
        if let thread = event.thread { parts.append("thread \(thread)") }
        if let age = event.ageSeconds { parts.append("\(Units.duration(age)) \(end)") }
        return parts.isEmpty ? "" : " " + parts.joined(separator: ", ")
    }

    /// Without the runtime's part of giving up the last reference.
    private static func destroyer(_ stacks: FindingStacks) -> [Frame]? {
        guard let stack = stacks.destroy, let first = stack.firstIndex(where: \.isUserFunction) else {
            return stacks.destroy
        }
        return Array(stack[first...])
    }

    /// The stacks with their titles, the wrong one first.
    private static func stacks(_ finding: Finding) -> [(String, [Frame], FindingEvent?)] {
        let stacks = finding.stacks
        let events = finding.events
        let got = ("got by", stacks.get, events?.get)
        let put = ("put by", stacks.put, events?.put)
        let reissue: (String, [Frame]?, FindingEvent?) = ("handed out again in between to", stacks.reissue, nil)
        let titled: [(String, [Frame]?, FindingEvent?)]
        switch finding.kind {
        case .leak: titled = [got]
        case .doublePut:
            titled = [
                ("second put by, the wrong one,", stacks.secondPut, events?.secondPut),
                ("first put by", stacks.put, events?.put), got, reissue,
            ]
        case .useAfterPut, .overrun:
            let verb =
                switch finding.access {
                case .read: "read by"
                case .write: "written by"
                case nil: "touched by"
                }
            titled = [(verb, stacks.access, events?.access), put, got, reissue]
        case .poolDestroyed: titled = [got, ("pool destroyed by", destroyer(stacks), events?.destroy)]
        case .heldTooLong: titled = [got, put]
        case .wrongPool, .foreignPut, .wrongCapacity: titled = [put, got]
        }
        return titled.compactMap { title, stack, event in
            guard let stack else { return nil }
            // "second put by, the wrong one" without a thread behind it needs no second comma.
            return (title.hasSuffix(",") && event == nil ? String(title.dropLast()) : title, stack, event)
        }
    }

    /// Frames with their places in a column of their own.
    ///
    /// Frames below the last function of the user are only counted, and so are most of many that the system has in
    /// between, as `qsort` does. Thunks are left out: nobody wrote them. JSON has all.
    private static func addStack(_ stack: [Frame], site: Frame?, to canvas: inout TextCanvas) {
        let lastUser = stack.lastIndex { $0.isUserFunction } ?? stack.count - 1
        let shown = stack.prefix(lastUser + 1).filter { !$0.isCompilerGenerated }
        let names = shown.map { frame in
            (frame.async ? "async " : "") + canvas.clean(frame.function) + (frame.inlined ? " [inlined]" : "")
        }
        // Half of the line for names; longer ones have their place on a line of its own.
        let most = canvas.style.width / 2
        let column = names.map(\.count).filter { $0 <= most }.max() ?? 0
        var isSiteMarked = false
        let counted = runsOfSystem(in: shown)
        for (index, (frame, name)) in zip(shown, names).enumerated() {
            if let run = counted.first(where: { $0.contains(index) }) {
                if index == run.lowerBound { addCount(run.count, "of the system", to: &canvas) }
                continue
            }
            let isSite = !isSiteMarked && frame == site
            if isSite { isSiteMarked = true }
            let mark = isSite ? canvas.glyph("➜ ", "> ") : "  "
            let emphasis: TextCanvas.Emphasis? = isSite ? .strong : frame.isUserFunction ? nil : .faint
            func painted(_ text: String) -> String { emphasis.map { canvas.paint(text, $0) } ?? text }
            let place =
                canvas.place(frame) ?? (frame.function.hasPrefix(frame.module) ? "" : canvas.clean(frame.module))
            let placePainted = frame.isUserFunction ? canvas.paint(place, .place) : canvas.paint(place, .faint)
            if name.count > most {
                canvas.line("     " + mark + painted(name))
                if !place.isEmpty { canvas.line("           " + placePainted) }
            } else {
                let space = place.isEmpty ? "" : String(repeating: " ", count: column - name.count + 2)
                canvas.line("     " + mark + painted(name) + space + placePainted)
            }
        }
        let hidden = stack[(lastUser + 1)...].filter { !$0.isCompilerGenerated }
        if !hidden.isEmpty {
            // The program's own are among them where it was built without debug information.
            let whose = hidden.allSatisfy(\.isSystem) ? "of the system" : "without lines"
            addCount(hidden.count, whose, to: &canvas)
        }
    }

    /// Frames of the system that follow each other and are all shown; of more, only the first and the last one are.
    private static let systemRunLimit = 4

    /// The frames that are counted instead of shown.
    private static func runsOfSystem(in frames: [Frame]) -> [Range<Int>] {
        var runs: [Range<Int>] = []
        var start = 0
        for index in 0...frames.count where index == frames.count || !frames[index].isSystem {
            if index - start > systemRunLimit { runs.append(start + 1..<index - 1) }
            start = index + 1
        }
        return runs
    }

    private static func addCount(_ count: Int, _ whose: String, to canvas: inout TextCanvas) {
        canvas.line(
            "       "
                + canvas.paint(canvas.glyph("… ", "... ") + "\(Sentences.plural(count, "frame")) \(whose)", .faint))
    }
}

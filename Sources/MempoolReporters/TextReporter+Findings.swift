// Findings as text: what happened, how much, where, the stacks, what to do.

internal import MempoolAnalysis

extension TextReporter {
    /// Adds the findings, as many as the style allows, and says how many more there are.
    static func addFindings(_ report: Report, to canvas: inout TextCanvas) {
        let shown = report.findings.prefix(canvas.style.maximumFindings ?? report.findings.count)
        for (index, finding) in shown.enumerated() {
            canvas.gap()
            addFinding(finding, number: index + 1, to: &canvas)
        }
        let more = report.findings.count - shown.count
        guard more > 0 else { return }
        canvas.gap()
        canvas.paragraph(
            "\(Sentences.plural(more, "more finding")) not shown: use --max-findings \(report.findings.count) or --format json.",
            indent: "", .doubtful
        )
    }

    private static func addFinding(_ finding: Finding, number: Int, to canvas: inout TextCanvas) {
        let amount =
            finding.kind == .leak
            ? Sentences.plural(finding.count, "buffer") : Sentences.plural(finding.count, "time")
        let size = finding.kind == .leak || finding.bytes > 0 ? canvas.dot + Units.bytes(finding.bytes) : ""
        let pool = finding.pool.isEmpty ? "" : canvas.dot + "pool \(canvas.clean(finding.pool))"
        canvas.line(
            canvas.paint("\(number). \(title(finding.kind).uppercased())", .bad) + canvas.dot + amount + size + pool
        )
        if let site = finding.site {
            let function = canvas.clean(site.function)
            if let place = canvas.place(site) {
                canvas.line("   " + canvas.paint(place, .place) + "  " + canvas.paint(function, .strong))
            } else {
                canvas.line("   " + canvas.paint(function, .strong))
            }
        } else {
            let isWithoutStack = stacks(finding).isEmpty
            canvas.paragraph(
                isWithoutStack ? "No stack was captured." : "The place has no name; why is told under Recorder.",
                indent: "   "
            )
        }
        canvas.paragraph(canvas.clean(finding.happened), indent: "   ")
        for fact in facts(finding) { canvas.paragraph(fact, indent: "   ") }
        // The site is marked where it is wrong; the same line may be right in the other stacks.
        for (index, (title, stack)) in stacks(finding).enumerated() {
            canvas.line("   " + title)
            addStack(stack, site: index == 0 ? finding.site : nil, to: &canvas)
        }
        canvas.paragraph(canvas.clean(finding.advice), indent: "               ", first: "   What to do: ")
    }

    /// What more there is to say in numbers.
    private static func facts(_ finding: Finding) -> [String] {
        var facts: [String] = []
        let oldest = Units.duration(finding.oldestAgeSeconds)
        let newest = Units.duration(finding.newestAgeSeconds)
        let verb = finding.kind == .leak ? "Got" : "Happened"
        facts.append(
            finding.count == 1 || oldest == newest
                ? "\(verb) \(oldest) before the end" : "\(verb) between \(oldest) and \(newest) before the end"
        )
        if !finding.threads.isEmpty {
            let more = finding.threadCount - finding.threads.count
            facts[0] +=
                " by \(finding.threadCount == 1 ? "thread" : "threads") "
                + finding.threads.map(String.init).joined(separator: ", ")
                + (more > 0 ? " and \(Sentences.grouped(more)) more" : "")
        }
        facts[0] += "."
        if let requested = finding.requestedBytes, requested != finding.bytes {
            facts.append("Asked for \(Units.bytes(requested)) in all.")
        }
        if let seconds = finding.secondsBetweenPuts {
            facts.append("The second put came \(Units.duration(seconds)) after the first.")
        }
        return [facts.joined(separator: " ")]
    }

    /// The stacks with their titles, the wrong one first.
    private static func stacks(_ finding: Finding) -> [(String, [Frame])] {
        let stacks = finding.stacks
        let titled: [(String, [Frame]?)] =
            switch finding.kind {
            case .leak: [("got by", stacks.get)]
            case .doublePut:
                [
                    ("second put by, the wrong one", stacks.secondPut), ("first put by", stacks.put),
                    ("got by", stacks.get),
                    ("handed out again in between to", stacks.reissue),
                ]
            case .poolDestroyed, .heldTooLong: [("got by", stacks.get), ("put by", stacks.put)]
            case .wrongPool, .foreignPut, .wrongCapacity, .useAfterPut, .overrun:
                [("put by", stacks.put), ("got by", stacks.get)]
            }
        return titled.compactMap { title, stack in stack.map { (title, $0) } }
    }

    /// Frames with their places in a column of their own.
    ///
    /// The system's frames below the last one of the user are only counted, and thunks are left out: nobody wrote them. JSON has all.
    private static func addStack(_ stack: [Frame], site: Frame?, to canvas: inout TextCanvas) {
        let lastUser = stack.lastIndex { $0.isUserCode } ?? stack.count - 1
        let shown = stack.prefix(lastUser + 1).filter { !$0.isCompilerGenerated }
        let names = shown.map { frame in
            (frame.async ? "async " : "") + canvas.clean(frame.function) + (frame.inlined ? " [inlined]" : "")
        }
        // Half of the line for names; longer ones have their place on a line of its own.
        let most = canvas.style.width / 2
        let column = names.map(\.count).filter { $0 <= most }.max() ?? 0
        var isSiteMarked = false
        for (frame, name) in zip(shown, names) {
            let isSite = !isSiteMarked && frame == site
            if isSite { isSiteMarked = true }
            let mark = isSite ? canvas.glyph("➜ ", "> ") : "  "
            let emphasis: TextCanvas.Emphasis? = isSite ? .strong : frame.isUserCode ? nil : .faint
            func painted(_ text: String) -> String { emphasis.map { canvas.paint(text, $0) } ?? text }
            let place =
                canvas.place(frame) ?? (frame.function.hasPrefix(frame.module) ? "" : canvas.clean(frame.module))
            let placePainted = frame.isUserCode ? canvas.paint(place, .place) : canvas.paint(place, .faint)
            if name.count > most {
                canvas.line("     " + mark + painted(name))
                if !place.isEmpty { canvas.line("           " + placePainted) }
            } else {
                let space = place.isEmpty ? "" : String(repeating: " ", count: column - name.count + 2)
                canvas.line("     " + mark + painted(name) + space + placePainted)
            }
        }
        let hidden = stack.count - 1 - lastUser
        if hidden > 0 {
            canvas.line(
                "       "
                    + canvas.paint(
                        canvas.glyph("… ", "... ") + Sentences.plural(hidden, "frame") + " of the system", .faint)
            )
        }
    }
}

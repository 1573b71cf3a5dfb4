// Advice as text: what could be better about the use of a pool, who causes it, what to do.

internal import MempoolAnalysis

extension TextReporter {
    static func addAdvice(_ report: Report, to canvas: inout TextCanvas) {
        guard !report.advice.isEmpty else { return }
        canvas.gap()
        canvas.line(canvas.paint("Advice", .strong) + " (no mistakes: they change neither verdict nor exit status)")
        for advice in report.advice where advice.kind != .tooFewOperations {
            var place = "Pool \(canvas.clean(advice.pool))"
            if let capacity = advice.capacity { place += ", bucket \(Units.bytes(capacity))" }
            canvas.paragraph("\(place): \(canvas.clean(advice.happened))", indent: "    ", first: "  - ")
            addSites(advice, to: &canvas)
            canvas.paragraph(canvas.clean(advice.advice), indent: "                ", first: "    What to do: ")
        }
        addUnjudged(report.advice.filter { $0.kind == .tooFewOperations }, to: &canvas)
    }

    /// More pools than these are only counted.
    private static let poolLimit = 5

    /// One line for all pools that cannot be judged: there is nothing to do about them.
    private static func addUnjudged(_ advice: [Advice], to canvas: inout TextCanvas) {
        guard !advice.isEmpty else { return }
        let pools = advice.prefix(poolLimit).map { "pool \(canvas.clean($0.pool))" }.joined(separator: ", ")
        let more = advice.count - poolLimit
        canvas.paragraph(
            "Too few operations to judge, fewer than \(Sentences.grouped(Advice.operationFloor)) gets: \(pools)"
                + (more > 0 ? ", and \(Sentences.grouped(more)) more." : "."),
            indent: "    ", first: "  - "
        )
    }

    private static func addSites(_ advice: Advice, to canvas: inout TextCanvas) {
        guard !advice.sites.isEmpty else {
            canvas.line("    By whom is not known.")
            return
        }
        let total = Sentences.grouped(advice.siteTotal)
        for (index, site) in advice.sites.enumerated() {
            let count = Sentences.grouped(site.count)
            let what: String
            if advice.kind == .discardedOften {
                what = "\(count) of \(total) put by"
            } else {
                what = index == 0 ? "\(count) of \(total) buffers last got by" : "\(count) by"
            }
            canvas.paragraph("\(what) \(place(site.site, canvas))", indent: "      ", first: "    ")
        }
    }
}

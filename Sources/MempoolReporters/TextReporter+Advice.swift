// Advice as text: what could be better about the use of a pool, who causes it, what to do.

internal import MempoolAnalysis

extension TextReporter {
    static func addAdvice(_ report: Report, to canvas: inout TextCanvas) {
        guard !report.advice.isEmpty else { return }
        canvas.gap()
        canvas.line(canvas.paint("Advice", .strong) + " (no mistakes: they change neither verdict nor exit status)")
        for advice in report.advice {
            var place = "Pool \(canvas.clean(advice.pool))"
            if let capacity = advice.capacity { place += ", bucket \(Units.bytes(capacity))" }
            // Judging needs no cause and no cure.
            if advice.kind == .tooFewOperations {
                canvas.paragraph("\(place): \(lowered(advice.happened))", indent: "    ", first: "  - ")
                continue
            }
            canvas.paragraph("\(place): \(canvas.clean(advice.happened))", indent: "    ", first: "  - ")
            addSites(advice, to: &canvas)
            canvas.paragraph(canvas.clean(advice.advice), indent: "                ", first: "    What to do: ")
        }
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

    /// For a sentence behind a colon.
    private static func lowered(_ sentence: String) -> String { sentence.prefix(1).lowercased() + sentence.dropFirst() }
}

// A pool's figures as text: the six counters, the bucket table, the sizes that were asked for as a bar chart.

internal import MempoolAnalysis

extension TextReporter {
    /// More bars than these are put together, one for each power of two.
    private static let barLimit = 16

    static func addPool(_ pool: PoolReport, sampleInterval: Int, to canvas: inout TextCanvas) {
        canvas.gap()
        canvas.line(canvas.paint("Pool \(canvas.clean(pool.name))", .strong) + (pool.destroyed ? " (destroyed)" : ""))
        let stats = pool.stats
        let figures: [(String, Int)] = [
            ("allocations", stats.allocations), ("gets", stats.gets), ("puts", stats.puts), ("in use", stats.inUse),
            ("oversized", stats.oversized), ("discarded", stats.discarded),
        ]
        canvas.paragraph(
            figures.map { "\($0.0) \(Sentences.grouped($0.1))" }.joined(separator: canvas.dot), indent: "  "
        )
        let reasons: [(String, Int)] = [
            ("wrong capacity", pool.discards.wrongCapacity), ("double put", pool.discards.doublePut),
            ("foreign", pool.discards.foreign), ("wrong pool", pool.discards.wrongPool),
            ("oversized, their normal end", pool.discards.oversized),
        ]
        let discards = reasons.filter { $0.1 > 0 }.map { "\($0.0) \(Sentences.grouped($0.1))" }
        if !discards.isEmpty {
            canvas.paragraph(
                "discarded by reason: " + discards.joined(separator: canvas.dot), indent: "    ", first: "  ")
        }
        addKept(pool.kept, sampleInterval: sampleInterval, to: &canvas)
        addBuckets(pool, to: &canvas)
        addRequestSizes(pool, to: &canvas)
    }

    /// More places of kept buffers than these are only counted.
    private static let keptLimit = 5

    private static func addKept(_ kept: KeptReport, sampleInterval: Int, to canvas: inout TextCanvas) {
        guard kept.count > 0 else { return }
        let seen = sampleInterval > 1 ? " (1 in \(Sentences.grouped(sampleInterval)) is seen)" : ""
        canvas.line("  kept on purpose: \(Sentences.plural(kept.count, "buffer")), \(Units.bytes(kept.bytes))\(seen)")
        for site in kept.sites.prefix(keptLimit) {
            canvas.paragraph(
                "\(Sentences.plural(site.count, "buffer")), \(Units.bytes(site.bytes)), got at \(place(site.site, canvas))",
                indent: "      ", first: "    "
            )
        }
        let more = kept.sites.count - keptLimit
        if more > 0 { canvas.line("    and at \(Sentences.plural(more, "more place"))") }
    }

    /// `file:line function`, as far as it is known.
    static func place(_ frame: Frame?, _ canvas: TextCanvas) -> String {
        guard let frame else { return "an unknown place" }
        return [canvas.place(frame, column: false), canvas.clean(frame.function)].compactMap { $0 }
            .joined(separator: " ")
    }

    // MARK: - Bucket table

    private static let header: [(String, String)] = [
        ("", "bucket"), ("", "gets"), ("", "puts"), ("in", "use"), ("high", "water"), ("", "alloc"), ("", "hit %"),
        ("wrong", "cap"), ("double", "put"), ("", "trimmed"), ("", "waste %"),
    ]

    private static func addBuckets(_ pool: PoolReport, to canvas: inout TextCanvas) {
        var used = pool.buckets.filter(\.isUsed)
        let unused = pool.buckets.count - used.count
        if pool.oversized.isUsed { used.append(pool.oversized) }
        guard !used.isEmpty else {
            canvas.line("  No buffer was got.")
            return
        }
        // Full numbers if they fit, closer together if not, short forms as the last resort.
        var rows = used.map { row($0) { Sentences.grouped($0) } }
        var gap = 2
        if TextCanvas.tableWidth(header: header, rows: rows, indent: "  ", gap: gap) > canvas.style.width { gap = 1 }
        if TextCanvas.tableWidth(header: header, rows: rows, indent: "  ", gap: gap) > canvas.style.width {
            rows = used.map { row($0, Units.compact) }
        }
        canvas.gap()
        canvas.table(header: header, rows: rows, indent: "  ", gap: gap)
        if unused > 0 {
            canvas.line("  " + canvas.paint("\(Sentences.plural(unused, "bucket")) without use not shown", .faint))
        }
    }

    private static func row(_ bucket: BucketReport, _ number: (Int) -> String) -> [String] {
        [
            bucket.capacity > 0 ? Units.bytes(bucket.capacity) : "oversized", number(bucket.gets), number(bucket.puts),
            number(bucket.inUse), number(bucket.highWater), number(bucket.allocations),
            Units.percent(bucket.hitPercent),
            number(bucket.wrongCapacity), number(bucket.doublePut), number(bucket.trimmed),
            Units.percent(bucket.wastePercent),
        ]
    }

    // MARK: - Request sizes

    private static func addRequestSizes(_ pool: PoolReport, to canvas: inout TextCanvas) {
        let bins = merged(pool.requestSizes)
        guard let most = bins.map(\.count).max(), most > 0 else { return }
        let total = bins.map { Double($0.count) }.reduce(0, +)
        canvas.gap()
        canvas.line("  " + canvas.paint("Requests by size, bytes", .strong))
        let from = bins.map { Sentences.grouped($0.from) }
        let to = bins.map { Sentences.grouped($0.to) }
        let counts = bins.map { Sentences.grouped($0.count) }
        let fromWidth = from.map(\.count).max() ?? 0
        let toWidth = to.map(\.count).max() ?? 0
        let countWidth = counts.map(\.count).max() ?? 0
        // Indent, "from - to", two gaps, count, and seven for the share.
        let barWidth = max(8, canvas.style.width - (2 + fromWidth + 3 + toWidth + 2 + 2 + countWidth + 9))
        for (index, bin) in bins.enumerated() {
            let range =
                bin.from == bin.to
                ? TextCanvas.padded(to[index], fromWidth + 3 + toWidth, right: true)
                : TextCanvas.padded(from[index], fromWidth, right: true) + canvas.glyph(" – ", " - ")
                    + TextCanvas.padded(to[index], toWidth, right: true)
            let bar = bar(Double(bin.count) / Double(most), width: barWidth, canvas)
            let share = Units.percent(Double(bin.count) / total * 100)
            canvas.line(
                "  \(range)  \(canvas.paint(TextCanvas.padded(bar, barWidth, right: false), .place))  "
                    + TextCanvas.padded(counts[index], countWidth, right: true) + "  "
                    + TextCanvas.padded(share, 5, right: true) + " %"
            )
        }
    }

    /// A bar of at least one mark, so that rare sizes show.
    private static func bar(_ share: Double, width: Int, _ canvas: TextCanvas) -> String {
        guard canvas.style.unicode else {
            return String(repeating: "#", count: max(1, Int((share * Double(width)).rounded())))
        }
        let eighths = max(1, Int((share * Double(width) * 8).rounded()))
        let parts = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"]
        return String(repeating: "█", count: eighths / 8) + parts[eighths % 8]
    }

    /// Few bins as they are; many by powers of two.
    private static func merged(_ bins: [RequestSizeBin]) -> [RequestSizeBin] {
        guard bins.count > barLimit else { return bins }
        var result: [RequestSizeBin] = []
        for bin in bins {
            let exponent = bin.from > 0 ? Int.bitWidth - 1 - bin.from.leadingZeroBitCount : 0
            let lower = bin.from > 0 ? 1 << exponent : 0
            let upper = bin.from > 0 && exponent < 62 ? (2 << exponent) - 1 : bin.to
            if let last = result.last, last.from == lower {
                let (sum, overflow) = last.count.addingReportingOverflow(bin.count)
                result[result.count - 1].count = overflow ? .max : sum
            } else {
                result.append(RequestSizeBin(from: lower, to: upper, count: bin.count))
            }
        }
        return result
    }
}

extension BucketReport {
    /// Whether anything happened here.
    fileprivate var isUsed: Bool {
        gets > 0 || puts > 0 || inUse != 0 || allocations > 0 || wrongCapacity > 0 || doublePut > 0 || trimmed > 0
    }
}

// The results as text: one table per section, with ratios, then the size curves and what to know about the figures.

/// Renders results for people.
package enum BenchmarkText {
    /// - Parameters:
    ///   - unicode: Whether characters beyond ASCII may be used.
    ///   - color: Whether control sequences may be used.
    package static func render(_ report: BenchmarkReport, unicode: Bool, color: Bool) -> String {
        var lines: [String] = []
        for section in sections(report.rows) {
            if !lines.isEmpty { lines.append("") }
            lines.append(bold(heading(section), color))
            lines += section[0].isCostTable ? costs(section) : section[0].group.isList ? list(section) : matrix(section)
            if section[0].group == .pair {
                lines += SizeCurve.draw(section, unicode: unicode).map { "  " + $0 }
            }
        }
        if let recorder = report.recorder {
            if !lines.isEmpty { lines.append("") }
            lines.append(bold("recorder: beside the time of each get and put", color))
            lines += text(recorder)
        }
        if let memory = report.memory {
            if !lines.isEmpty { lines.append("") }
            lines.append(bold("memory: \(BenchmarkGroup.memory.abstract)", color))
            lines += text(memory, unicode: unicode)
        }
        lines.append("")
        lines += footer(report)
        return lines.joined(separator: "\n") + "\n"
    }

    /// Rows that share a table: same group, same threads unless these are what sets the rows apart.
    private static func sections(_ rows: [BenchmarkRow]) -> [[BenchmarkRow]] {
        var result: [[BenchmarkRow]] = []
        for row in rows {
            if let last = result.last?.last, last.group == row.group,
                [.flatness, .forms, .zeroing, .threads].contains(row.group)
                    || (row.group == .recorder
                        ? last.workload == row.workload
                        : last.threads == row.threads && last.workload == row.workload)
            {
                result[result.count - 1].append(row)
            } else {
                result.append([row])
            }
        }
        return result
    }

    private static func heading(_ section: [BenchmarkRow]) -> String {
        let row = section[0]
        var text = "\(row.group.rawValue): \(row.workload)"
        if row.group.isList || row.group == .flatness {
            if let size = row.size { text += ", \(bytes(size))" }
        } else {
            text += row.threads == 1 ? ", 1 thread" : ", \(row.threads) threads"
        }
        return text + ", ns"
    }

    // MARK: - Tables

    /// A column for each contender.
    private static func matrix(_ section: [BenchmarkRow]) -> [String] {
        // A contender that failed in one row keeps its column.
        var names: [String] = []
        for row in section {
            for name in row.measurements.map(\.contender) where !names.contains(name) { names.append(name) }
        }
        let table =
            [[""] + names + [section[0].group == .flatness ? "slowest / fastest" : "ratio"]]
            + section.map { row in
                [row.label]
                    + names.map { name in row.measurements.first { $0.contender == name }.map(time) ?? "-" }
                    + [row.ratio.map(ratio) ?? "-"]
            }
        return aligned(table)
    }

    /// A line for each contender, its time and the subject's ratio to it for each row, and what that should be at most.
    private static func costs(_ section: [BenchmarkRow]) -> [String] {
        var names: [String] = []
        var limits: [String: Double] = [:]
        for measurement in section.flatMap(\.measurements) {
            if !names.contains(measurement.contender) { names.append(measurement.contender) }
            limits[measurement.contender] = measurement.limit
        }
        let head = [""] + section.flatMap { [$0.label, "ratio"] } + ["at most"]
        return aligned(
            [head]
                + names.map { name in
                    let cells = section.flatMap { row -> [String] in
                        guard let measurement = row.measurements.first(where: { $0.contender == name }) else {
                            return ["-", "-"]
                        }
                        let isSubject = name == row.measurements[0].contender
                        return [time(measurement), isSubject ? "" : row.ratio(to: measurement).map(ratio) ?? "-"]
                    }
                    return [name] + cells + [limits[name].map(ratio) ?? ""]
                }
        )
    }

    /// A line for each row: subject, peer, ratio.
    private static func list(_ section: [BenchmarkRow]) -> [String] {
        let isThreads = section[0].group == .threads
        let peer = section[0].measurements.dropFirst().first?.contender ?? "peer"
        let head: [String] =
            isThreads
            ? ["", "per pair", "million/s", peer, "throughput ratio"] : ["", "measured", peer, "ratio"]
        let table =
            [head]
            + section.map { row -> [String] in
                let subject = row.measurements[0]
                let peer = row.fastestPeer.map(time) ?? "-"
                let ratio = row.ratio.map(ratio) ?? "-"
                return isThreads
                    ? [row.label, time(subject), decimal(1000 / subject.nanoseconds, places: 0), peer, ratio]
                    : [row.label, time(subject), peer, ratio]
            }
        return aligned(table)
    }

    /// Columns two blanks apart, the first one to the left, the others to the right.
    static func aligned(_ table: [[String]]) -> [String] {
        let columns = table.map(\.count).max() ?? 0
        let widths = (0..<columns).map { column in
            table.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0
        }
        return table.map { row in
            var line = "  "
            for (column, cell) in row.enumerated() {
                let padding = String(repeating: " ", count: widths[column] - cell.count)
                line += column == 0 ? cell + padding : "  " + padding + cell
            }
            while line.last == " " { line.removeLast() }
            return line
        }
    }

    private static func text(_ cost: RecorderCost) -> [String] {
        func milliseconds(_ nanoseconds: Double) -> String { decimal(nanoseconds / 1e6, places: 2) + " ms" }
        func megabytes(_ bytes: Double) -> String { decimal(bytes / 1e6, places: 0) + " MB" }
        func each(_ bytes: Double) -> String { decimal(bytes / Double(max(1, cost.buffers)), places: 0) }
        typealias Limits = RecorderCost.Limits
        let table: [[String]] = [
            ["", "measured", "at most", ""],
            [
                "first get of a process", milliseconds(cost.firstGetNanoseconds),
                milliseconds(Limits.firstGetNanoseconds), "asleep \(milliseconds(cost.firstGetAsleepNanoseconds))",
            ],
            [
                "\(grouped(cost.buffers)) outstanding", megabytes(cost.residentBytes),
                megabytes(Limits.residentBytesPerBuffer * Double(cost.buffers)),
                "\(each(cost.residentBytes)) bytes each",
            ],
            ["  in the recording", megabytes(cost.recordingBytes), "-", ""],
            ["  in red zones", megabytes(cost.redZoneBytes), "-", "none with canary=0"],
            [
                "report on them", decimal(cost.reportSeconds, places: 2) + " s",
                decimal(Limits.reportSeconds, places: 2) + " s",
                "from \(grouped(cost.stacks)) stacks",
            ],
            ["  its memory", megabytes(cost.reportPeakBytes), megabytes(Limits.reportPeakBytes), "at its peak"],
        ]
        let notes = table.map { $0[3] }
        return zip(aligned(table.map { Array($0.dropLast()) }), notes).map { $1.isEmpty ? $0 : "\($0)  \($1)" }
    }

    private static func text(_ memory: MemoryCurve, unicode: Bool) -> [String] {
        func mebibytes(_ bytes: Int) -> String { decimal(Double(bytes) / 1_048_576, places: 1) + " MiB" }
        let width = 40
        let scale = Double(width) / Double(max(1, memory.peakBytes))
        var rows = [("idle", memory.idleBytes), ("burst", memory.peakBytes)]
        rows += memory.points.map { ("after \(decimal($0.seconds, places: 1)) s", $0.residentBytes) }
        rows += [("trim()", memory.trimmedBytes), ("1,000 threads", memory.threadsBytes)]
        let labels = rows.map(\.0.count).max() ?? 0
        let amounts = rows.map { mebibytes($0.1).count }.max() ?? 0
        let lines = rows.map { label, bytes in
            let amount = mebibytes(bytes)
            let bar = String(repeating: unicode ? "█" : "#", count: Int((Double(bytes) * scale).rounded()))
            return "  " + label + String(repeating: " ", count: labels - label.count + 2 + amounts - amount.count)
                + amount
                + (bar.isEmpty ? "" : "  " + bar)
        }
        return lines + [
            "  a burst of \(mebibytes(memory.burstBytes)), decay after \(decimal(memory.decaySeconds, places: 0)) s; "
                + "left over idle: \(ratio(memory.remaining))",
            "  \(grouped(memory.idleBuffers)) idle buffers of 1 KiB take \(decimal(memory.idleOverhead * 100, places: 2)) % "
                + "beyond their own bytes",
        ]
    }

    private static func footer(_ report: BenchmarkReport) -> [String] {
        let noise = report.noise
        let share = Int((noise.quietShare * 100).rounded(.down))
        let processors = report.machine.processors
        var lines = [
            "machine: \(report.machine.processor), \(processors) processor\(processors == 1 ? "" : "s"), "
                + "Linux \(report.machine.kernel)",
            "noise:   \(noise.isQuiet ? "quiet" : "noisy"): \(share) % of \(noise.samples) samples undisturbed",
        ]
        if report.rows.contains(where: { $0.measurements.contains(where: \.isEstimate) }) {
            lines.append("         ~ too few quiet samples: the lower quartile of all, rather too high than too low")
        }
        if report.rows.contains(where: { !$0.isCostTable && !$0.group.isList && $0.fastestPeer != nil }) {
            lines.append("ratio:   the time of mempool by that of the fastest other; below 1 mempool is faster")
        }
        lines += report.peers.map { "peer:    \($0.name) is \($0.path ?? "")" }
        if !report.missing.isEmpty {
            let names = report.missing.map(\.name).joined(separator: ", ")
            var packages: [String] = []
            for peer in report.missing where !packages.contains(peer.package) { packages.append(peer.package) }
            lines.append("not installed: \(names); on Debian: apt-get install \(packages.joined(separator: " "))")
        }
        lines += report.failures.map { "not measured: \($0)" }
        if report.configuration == "debug" {
            lines.append("This is a debug build: these figures say nothing about speed.")
        }
        return lines
    }

    // MARK: - Numbers

    /// `7.1`, `120`, `2,410`, `~7.1`: three digits, which is more than the machine repeats.
    static func time(_ measurement: BenchmarkMeasurement) -> String {
        (measurement.isEstimate ? "~" : "") + number(measurement.nanoseconds)
    }

    static func number(_ value: Double) -> String {
        value < 99.95 ? decimal(value, places: 1) : grouped(Int(min(value, 1e15).rounded()))
    }

    static func ratio(_ value: Double) -> String { value < 99.5 ? decimal(value, places: 2) : number(value) }

    static func decimal(_ value: Double, places: Int) -> String {
        guard value.isFinite, value.magnitude < 1e15 else { return "?" }
        let scale = (0..<places).reduce(1) { factor, _ in factor * 10 }
        let scaled = Int((value.magnitude * Double(scale)).rounded())
        let sign = value < 0 && scaled > 0 ? "-" : ""
        guard places > 0 else { return sign + "\(scaled)" }
        let fraction = String(scaled % scale)
        return sign + "\(scaled / scale)." + String(repeating: "0", count: places - fraction.count) + fraction
    }

    /// `2,410,000`.
    private static func grouped(_ value: Int) -> String {
        var digits = String(value)
        var result = ""
        while digits.count > 3 {
            result = "," + digits.suffix(3) + result
            digits.removeLast(3)
        }
        return digits + result
    }

    /// `512 B`, `64 KiB`, `1.5 MiB`.
    static func bytes(_ count: Int) -> String {
        for (unit, name) in [(1 << 20, "MiB"), (1 << 10, "KiB")] where count >= unit {
            return (count % unit == 0 ? "\(count / unit)" : decimal(Double(count) / Double(unit), places: 1)) + " "
                + name
        }
        return "\(count) B"
    }

    private static func bold(_ text: String, _ color: Bool) -> String { color ? "\u{1B}[1m\(text)\u{1B}[0m" : text }
}

extension BenchmarkGroup {
    /// Whether each row compares a subject of its own with one peer, instead of all with the same ones.
    var isList: Bool {
        switch self {
        case .threads, .forms, .zeroing, .memory, .recorder: true
        case .pair, .flatness, .mixed, .fifo, .handoff, .pages, .swift: false
        }
    }
}

extension BenchmarkRow {
    /// Whether its contenders are shown one below the other: they are many, and each has a limit of its own.
    fileprivate var isCostTable: Bool { group == .recorder }
}

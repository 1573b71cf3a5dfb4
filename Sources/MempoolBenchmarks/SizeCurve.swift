// The times over the sizes, drawn with characters.

internal import Glibc

/// Draws the times of all contenders over the sizes, on a logarithmic scale.
enum SizeCurve {
    /// Lines between the fastest and the slowest time.
    private static let height = 10
    private static let columnWidth = 9

    /// - Parameter section: Rows of one table, by size. With fewer than three sizes there is no curve to see.
    static func draw(_ section: [BenchmarkRow], unicode: Bool) -> [String] {
        let times = section.flatMap { $0.measurements.map(\.nanoseconds) }.filter { $0 > 0 }
        guard section.count >= 3, let fastest = times.min(), let slowest = times.max(), slowest > fastest else {
            return []
        }
        let span = log2(slowest / fastest)
        /// 0 at the top.
        func level(_ nanoseconds: Double) -> Int {
            height - 1 - Int((log2(max(nanoseconds, fastest) / fastest) / span * Double(height - 1)).rounded())
        }
        var names: [String] = []
        for row in section {
            for name in row.measurements.map(\.contender) where !names.contains(name) { names.append(name) }
        }
        let marks = Self.marks(names)
        var cells = [[String]](repeating: [String](repeating: "", count: section.count), count: height)
        for (column, row) in section.enumerated() {
            for name in names {
                guard let time = row.measurements.first(where: { $0.contender == name })?.nanoseconds, time > 0 else {
                    continue
                }
                cells[level(time)][column] += marks[name] ?? "?"
            }
        }
        let axis = unicode ? "│" : "|"
        let labels = (0..<height).map { line -> String in
            let exponent = span * Double(height - 1 - line) / Double(height - 1)
            return line % 3 == 0 ? BenchmarkText.number(fastest * exp2(exponent)) : ""
        }
        let labelWidth = labels.map(\.count).max() ?? 0
        var lines = zip(labels, cells).map { label, row in
            let text = row.map { pad($0, to: columnWidth) }.joined()
            return trimmed(String(repeating: " ", count: labelWidth - label.count) + label + " \(axis)" + text)
        }
        let indent = String(repeating: " ", count: labelWidth + 2)
        lines.append(trimmed(indent + section.map { pad($0.label, to: columnWidth) }.joined()))
        lines.append(indent + names.map { "\(marks[$0] ?? "?") \($0)" }.joined(separator: "   "))
        return lines
    }

    /// A letter for each name: its first that is free, the subject's in capitals.
    static func marks(_ names: [String]) -> [String: String] {
        var marks: [String: String] = [:]
        for (index, name) in names.enumerated() {
            let letters = name.filter(\.isLetter).map { index == 0 ? $0.uppercased() : $0.lowercased() }
            let free = (letters + (1...9).map(String.init)).first { !marks.values.contains($0) }
            marks[name] = free ?? "?"
        }
        return marks
    }

    private static func pad(_ text: String, to width: Int) -> String {
        let text = text.prefix(width - 1)
        return text + String(repeating: " ", count: width - text.count)
    }

    private static func trimmed(_ line: String) -> String {
        var line = line
        while line.last == " " { line.removeLast() }
        return line
    }
}

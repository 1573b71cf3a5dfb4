// Lines of text with colour, wrapping and tables, so that the reporters speak of content only.

internal import MempoolAnalysis

/// Collects the lines of a text report.
struct TextCanvas {
    /// Meanings, not colours.
    enum Emphasis: String {
        case bad = "1;31"
        case good = "1;32"
        case doubtful = "1;33"
        case strong = "1"
        case place = "36"
        case faint = "2"
    }

    let style: TextStyle
    /// Paths below it are shown relative to it, without a slash at the end.
    let root: String?
    private(set) var lines: [String] = []

    init(style: TextStyle, root: String?) {
        self.style = style
        self.root = root.map { $0.hasSuffix("/") ? String($0.dropLast()) : $0 }
    }

    var text: String { lines.joined(separator: "\n") + "\n" }

    /// A character beyond ASCII, or its replacement.
    func glyph(_ unicode: String, _ ascii: String) -> String { style.unicode ? unicode : ascii }

    /// The sign between facts of one line.
    var dot: String { glyph(" · ", ", ") }

    func paint(_ text: String, _ emphasis: Emphasis) -> String {
        style.color && !text.isEmpty ? "\u{1B}[\(emphasis.rawValue)m\(text)\u{1B}[0m" : text
    }

    mutating func line(_ text: String = "") { lines.append(text) }

    /// An empty line, but never two.
    mutating func gap() { if lines.last?.isEmpty == false { lines.append("") } }

    /// Adds a sentence, wrapped at spaces. Words longer than a line stay whole, so that paths can be copied.
    ///
    /// `first` stands before the first line in place of the indent; `firstEmphasis` is its colour.
    mutating func paragraph(
        _ text: String, indent: String, first: String? = nil, firstEmphasis: Emphasis? = nil,
        _ emphasis: Emphasis? = nil
    ) {
        var line = ""
        var prefix = first.map { first in firstEmphasis.map { paint(first, $0) } ?? first } ?? indent
        var prefixWidth = (first ?? indent).count
        for word in text.split(separator: " ") {
            if !line.isEmpty, prefixWidth + line.count + 1 + word.count > style.width {
                lines.append(prefix + (emphasis.map { paint(line, $0) } ?? line))
                prefix = indent
                prefixWidth = indent.count
                line = ""
            }
            line += line.isEmpty ? String(word) : " " + word
        }
        if !line.isEmpty { lines.append(prefix + (emphasis.map { paint(line, $0) } ?? line)) }
    }

    /// Text of the recorded program without what could command a terminal.
    func clean(_ text: String) -> String { PlainText.clean(text) }

    /// A path, relative to the root where it lies below it.
    func path(_ path: String) -> String {
        let path = clean(path)
        guard let root, !root.isEmpty, path.hasPrefix(root + "/") else { return path }
        return String(path.dropFirst(root.count + 1))
    }

    /// `file:line:column`, or nothing.
    func place(_ frame: Frame, column: Bool = true) -> String? {
        guard let file = frame.file else { return nil }
        var text = path(file)
        if let line = frame.line, line > 0 {
            text += ":\(line)"
            if column, let number = frame.column, number > 0 { text += ":\(number)" }
        }
        return text
    }

    static func padded(_ text: String, _ width: Int, right: Bool) -> String {
        let space = String(repeating: " ", count: max(0, width - text.count))
        return right ? space + text : text + space
    }

    /// Adds a table: the first column to the left, the others to the right. Each header has two lines.
    mutating func table(header: [(String, String)], rows: [[String]], indent: String, gap: Int) {
        let widths = header.indices.map { column in
            max(header[column].0.count, header[column].1.count, rows.map { $0[column].count }.max() ?? 0)
        }
        func join(_ cells: [String]) -> String {
            var line = indent
            for (column, cell) in cells.enumerated() {
                line +=
                    (column == 0 ? "" : String(repeating: " ", count: gap))
                    + Self.padded(cell, widths[column], right: column > 0)
            }
            while line.last == " " { line.removeLast() }
            return line
        }
        lines.append(paint(join(header.map(\.0)), .faint))
        lines.append(paint(join(header.map(\.1)), .faint))
        for row in rows { lines.append(join(row)) }
    }

    /// Width of the table that `table` would make.
    static func tableWidth(header: [(String, String)], rows: [[String]], indent: String, gap: Int) -> Int {
        header.indices.reduce(indent.count - gap) { sum, column in
            sum + gap + max(header[column].0.count, header[column].1.count, rows.map { $0[column].count }.max() ?? 0)
        }
    }
}

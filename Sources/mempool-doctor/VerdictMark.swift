// `VerdictMark`: the sign and colour of a verdict.
// Lines about one of several workloads or processes begin with it.

import MempoolAnalysis
import MempoolReporters

/// How a verdict looks in a line of text, in the signs and colours of a report.
struct VerdictMark {
    /// Of the same width for every verdict.
    let sign: String
    /// What goes before the verdict's word: nothing where the word alone has to do.
    let prefix: String
    private let color: Int?

    init(_ verdict: Report.Verdict, style: TextStyle) {
        let (unicode, ascii, color) =
            switch verdict {
            case .healthy: ("✔", "ok", 32)
            case .findings: ("✘", "!!", 31)
            case .inconclusive: ("?", "??", 33)
            }
        sign = style.unicode ? unicode : ascii
        prefix = style.unicode ? unicode + " " : ""
        self.color = style.color ? color : nil
    }

    /// The text in the verdict's colour, if there are colours.
    func painted(_ text: String) -> String {
        color.map { "\u{1B}[1;\($0)m\(text)\u{1B}[0m" } ?? text
    }
}

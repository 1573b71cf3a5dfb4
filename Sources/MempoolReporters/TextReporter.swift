// The report for people.

package import MempoolAnalysis

/// Renders a report as text.
package enum TextReporter {
    package static func render(_ report: Report, style: TextStyle) -> String {
        "mempool: \(report.verdict.rawValue): \(report.verdictReason)\n"
    }
}

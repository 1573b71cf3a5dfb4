// Reports for programs: JSON with sorted keys, the same bytes for the same report.

internal import Foundation

/// Renders reports, and whatever else the commands give out, as JSON.
package enum JSONReporter {
    /// Pretty-printed JSON with sorted keys and a line feed at the end.
    package static func render(_ report: some Encodable) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        // Numbers that JSON cannot say would be the one cause of a failure; say so instead of losing the report.
        encoder.nonConformingFloatEncodingStrategy = .convertToString(
            positiveInfinity: "Infinity", negativeInfinity: "-Infinity", nan: "NaN"
        )
        guard let data = try? encoder.encode(report) else { return "{}\n" }
        return String(decoding: data, as: UTF8.self) + "\n"
    }
}

// Reports for programs: JSON with sorted keys, the same bytes for the same report.

internal import Foundation
package import MempoolAnalysis

/// Renders reports, and whatever else the commands give out, as JSON.
package enum JSONReporter {
    /// Pretty-printed JSON with sorted keys and a line feed at the end.
    package static func render(_ value: some Encodable) -> String { text(value, encoder(), margin: "") + "\n" }

    /// Gives out what `render` returns, piece by piece.
    ///
    /// The encoder holds what it writes as objects, which take some times the memory of the text. So the lists that may be long
    /// are encoded element by element.
    package static func write<Failure: Error>(
        _ value: some JSONListHolder, to output: (String) throws(Failure) -> Void
    ) throws(Failure) {
        try write(value, encoder(), margin: "", to: output)
        try output("\n")
    }

    private static func write<Failure: Error>(
        _ value: any Encodable, _ encoder: JSONEncoder, margin: String, to output: (String) throws(Failure) -> Void
    ) throws(Failure) {
        guard let holder = value as? any JSONListHolder else { return try output(text(value, encoder, margin: margin)) }
        let frame = text(holder.withoutList, encoder, margin: margin)
        let place = type(of: holder).listPlace
        let inner = margin + String(repeating: "  ", count: place.depth)
        // No text in JSON has a line feed, so lines of other depths or in texts do not begin like this.
        guard let start = frame.firstRange(of: "\n\(inner)\"\(place.key)\" : [")?.upperBound else {
            return try output(frame)
        }
        try output(String(frame[..<start]))
        var isEmpty = true
        try holder.forEachElement { (element: any Encodable) throws(Failure) in
            try output((isEmpty ? "\n" : ",\n") + inner + "  ")
            try write(element, encoder, margin: inner + "  ", to: output)
            isEmpty = false
        }
        let rest = frame[start...]
        try output(isEmpty ? String(rest) : "\n\(inner)\(rest.drop { $0 != "]" })")
    }

    private static func encoder() -> JSONEncoder {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        // Numbers that JSON cannot say would be the one cause of a failure; say so instead of losing the report.
        encoder.nonConformingFloatEncodingStrategy = .convertToString(
            positiveInfinity: "Infinity", negativeInfinity: "-Infinity", nan: "NaN"
        )
        return encoder
    }

    /// - Parameter margin: what each line begins with, but the first and empty ones.
    private static func text(_ value: any Encodable, _ encoder: JSONEncoder, margin: String) -> String {
        guard let data = try? encoder.encode(value) else { return "{}" }
        guard !margin.isEmpty else { return String(decoding: data, as: UTF8.self) }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(data.count * 2)
        var beginsLine = false
        for byte in data {
            if beginsLine, byte != UInt8(ascii: "\n") { bytes += margin.utf8 }
            bytes.append(byte)
            beginsLine = byte == UInt8(ascii: "\n")
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

/// A value with a list that may be too long to be encoded at once.
package protocol JSONListHolder: Encodable {
    /// The value with that list left empty.
    var withoutList: Self { get }

    /// The key of the list, and in how many objects within each other it is, at least 1.
    static var listPlace: (key: String, depth: Int) { get }

    /// Calls `body` with each element of the list, which may hold a list, too.
    func forEachElement<Failure: Error>(_ body: (any Encodable) throws(Failure) -> Void) throws(Failure)
}

extension Report: JSONListHolder {
    package var withoutList: Report {
        var report = self
        report.findings = []
        return report
    }

    package static var listPlace: (key: String, depth: Int) { ("findings", 1) }

    package func forEachElement<Failure: Error>(
        _ body: (any Encodable) throws(Failure) -> Void
    ) throws(Failure) {
        for finding in findings { try body(finding) }
    }
}

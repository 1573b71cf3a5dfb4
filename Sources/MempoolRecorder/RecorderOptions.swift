// `RecorderOptions`: what MEMPOOL_DEBUG asks for.

package import MempoolRecording

/// The recorder's settings, from the comma-separated list in `MEMPOOL_DEBUG`.
///
/// A key that is unknown, or a value that is not valid, becomes one sentence in `complaints`; that key keeps its default
/// and the recorder runs.
package struct RecorderOptions: Sendable, Equatable {
    package var level: RecorderLevel
    /// Where to write; `%p` is replaced by the process identifier. Nil: a file in the user's own directory.
    package var recording: String?
    /// The exit status that replaces 0 when there are findings.
    package var exitCode: Int32?
    /// Frames kept of a stack at most.
    package var frameLimit = 64
    /// Slots the ledger has room for at most.
    package var ledgerLimit = RecordingLimits.ledgerRecords
    /// Whether to print nothing at exit.
    package var isQuiet = false
    package var complaints: [String] = []

    /// Every key, in the order of the manual page.
    package static let keys = ["level", "recording", "exitcode", "frames", "max-ledger", "quiet"]
    /// The levels that can be chosen.
    package static let levels: [RecorderLevel] = [.off, .full]

    /// Reads the text of the variable; an empty one gives the defaults.
    package init(parsing text: String, defaultLevel: RecorderLevel) {
        level = defaultLevel
        for item in text.split(separator: ",") {
            let parts = item.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            apply(key: parts[0], value: parts.count > 1 ? parts[1] : nil)
        }
    }

    private mutating func apply(key: String, value: String?) {
        if value == nil, let level = Self.levels.first(where: { $0.name == key }) {
            self.level = level
            return
        }
        switch key {
        case "level":
            guard let chosen = Self.levels.first(where: { $0.name == value }) else {
                return complain(key, value, "one of " + Self.levels.map(\.name).joined(separator: ", "))
            }
            level = chosen
        case "recording":
            guard let value, !value.isEmpty else { return complain(key, value, "a file path") }
            recording = value
        case "exitcode":
            guard let number = value.flatMap(Int32.init), (1...255).contains(number) else {
                return complain(key, value, "a number from 1 to 255")
            }
            exitCode = number
        case "frames":
            guard let number = value.flatMap(Int.init), (1...RecordingLimits.frames).contains(number) else {
                return complain(key, value, "a number from 1 to \(RecordingLimits.frames)")
            }
            frameLimit = number
        case "max-ledger":
            guard let number = value.flatMap(Int.init), (1...RecordingLimits.ledgerRecords).contains(number) else {
                return complain(key, value, "a number from 1 to \(RecordingLimits.ledgerRecords)")
            }
            ledgerLimit = number
        case "quiet":
            guard value == nil || value == "1" || value == "0" else { return complain(key, value, "nothing, 0 or 1") }
            isQuiet = value != "0"
        default:
            complaints.append(
                "MEMPOOL_DEBUG: unknown key '\(key)'; valid are \(Self.keys.joined(separator: ", ")),"
                    + " and the levels \(Self.levels.map(\.name).joined(separator: ", ")) alone"
            )
        }
    }

    private mutating func complain(_ key: String, _ value: String?, _ valid: String) {
        complaints.append("MEMPOOL_DEBUG: \(key)=\(value ?? "") is not valid, the default is used; give \(valid)")
    }
}

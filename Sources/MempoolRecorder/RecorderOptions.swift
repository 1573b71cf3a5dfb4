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
    /// Frames kept of a stack at most, beside the pool's own.
    package var frameLimit = 64
    /// Slots the ledger has room for at most.
    package var ledgerLimit = RecordingLimits.ledgerRecords
    /// Level sampled: one get in so many carries a stack, on average.
    package var sampleInterval = 128
    /// Bytes of a buffer that are poisoned at its put and checked before its next get; nil: the level's own, see `poisonLimit`.
    package var poison: Int?
    /// Bytes behind the request that are filled at the get and checked at the put; nil: the level's own, see `canaryLimit`.
    package var canary: Int?
    /// Level paranoid: the share of gets that lie between guard pages, 0...1.
    package var guardShare = 1.0
    /// Level paranoid: bytes of put buffers that stay out of reach before their memory is used again.
    package var quarantineBytes = 64 << 20
    /// Seconds a buffer may be held; nil for any time.
    package var heldSeconds: Double?
    /// Kinds of findings that stop the process at once, with their stacks on standard error.
    package var abortKinds: Set<FindingKind> = []
    /// Whether to print nothing at exit.
    package var isQuiet = false
    package var complaints: [String] = []

    /// Every key, in the order of the manual page.
    package static let keys = [
        "level", "recording", "exitcode", "frames", "sample", "poison", "canary", "guard", "quarantine", "held",
        "abort",
        "max-ledger", "quiet",
    ]
    /// The levels that can be chosen.
    package static let levels = RecorderLevel.allCases

    /// Bytes of a buffer that are poisoned: what `poison=` says, whole at level paranoid, else 1 KiB, so that the cost
    /// does not grow with the bucket. None below level full: who has a buffer without being watched writes to it rightly.
    package var poisonLimit: Int { level < .full ? 0 : poison ?? (level == .paranoid ? .max : 1 << 10) }
    /// Bytes behind the request that are checked: what `canary=` says, whole at level paranoid, else 256. None below level full.
    package var canaryLimit: Int { level < .full ? 0 : canary ?? (level == .paranoid ? .max : 256) }

    /// Reads the text of the variable; an empty one gives the defaults.
    package init(parsing text: String, defaultLevel: RecorderLevel) {
        self.init(level: defaultLevel)
        let defaults = self
        for item in Self.entries(of: text) {
            let parts = item.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            apply(key: parts[0], value: parts.count > 1 ? parts[1] : nil, defaults)
        }
    }

    /// The entries of the list, without the blanks that a reader likes behind a comma.
    package static func entries(of text: String) -> [Substring] {
        text.split(separator: ",").compactMap { item in
            guard let first = item.firstIndex(where: { $0 != " " }), let last = item.lastIndex(where: { $0 != " " })
            else { return nil }
            return item[first...last]
        }
    }

    /// Whether something is asked for that only a recorder can do, but no level: then nothing comes of it where the default level
    /// is off.
    package static func lacksLevel(_ text: String) -> Bool {
        // `quiet` is right for every program, and so for those that record nothing.
        let asksForRecorder = entries(of: text).contains { $0 != "quiet" && !$0.hasPrefix("quiet=") }
        let chosen = Self(parsing: text, defaultLevel: .full).level
        return asksForRecorder && chosen != Self(parsing: text, defaultLevel: .off).level
    }

    private init(level: RecorderLevel) { self.level = level }

    private mutating func apply(key: String, value: String?, _ defaults: Self) {
        /// What was said of the key before does not count either.
        func complain<Value>(_ field: WritableKeyPath<Self, Value>, _ valid: String) {
            self[keyPath: field] = defaults[keyPath: field]
            complaints.append("MEMPOOL_DEBUG: \(key)=\(value ?? "") is not valid, the default is used; give \(valid)")
        }
        if value == nil, let level = Self.levels.first(where: { $0.name == key }) {
            self.level = level
            return
        }
        switch key {
        case "level":
            guard let chosen = Self.levels.first(where: { $0.name == value }) else {
                return complain(\.level, "one of " + Self.levels.map(\.name).joined(separator: ", "))
            }
            level = chosen
        case "recording":
            guard let value, !value.isEmpty else { return complain(\.recording, "a file path") }
            recording = value
        case "exitcode":
            guard let number = value.flatMap(Int32.init), (1...255).contains(number) else {
                return complain(\.exitCode, "a number from 1 to 255")
            }
            exitCode = number
        case "frames":
            guard let number = value.flatMap(Int.init), (1...RecordingLimits.chosenFrames).contains(number) else {
                return complain(\.frameLimit, "a number from 1 to \(RecordingLimits.chosenFrames)")
            }
            frameLimit = number
        case "sample":
            guard let number = value.flatMap(Int.init), (1...1_000_000).contains(number) else {
                return complain(\.sampleInterval, "a number from 1 to 1000000")
            }
            sampleInterval = number
        case "poison":
            guard let bytes = Self.bytes(value) else { return complain(\.poison, Self.bytesHint) }
            poison = bytes
        case "canary":
            guard let bytes = Self.bytes(value) else { return complain(\.canary, Self.bytesHint) }
            canary = bytes
        case "quarantine":
            guard let bytes = Self.bytes(value) else { return complain(\.quarantineBytes, Self.bytesHint) }
            quarantineBytes = bytes
        case "guard":
            guard let share = value.flatMap(Double.init), (0...1).contains(share) else {
                return complain(\.guardShare, "a share from 0 to 1")
            }
            guardShare = share
        case "held":
            guard let seconds = value.flatMap(Double.init), seconds > 0, seconds <= 1e9 else {
                return complain(\.heldSeconds, "a number of seconds above 0")
            }
            heldSeconds = seconds
        case "abort":
            let kinds = (value ?? "").split(separator: "+", omittingEmptySubsequences: false).map(String.init)
            guard let chosen = Self.abortKinds(kinds) else {
                return complain(
                    \.abortKinds,
                    "one or more of " + FindingKind.allCases.map(\.name).joined(separator: ", ")
                        + " joined by '+', or all")
            }
            abortKinds = chosen
        case "max-ledger":
            guard let number = value.flatMap(Int.init), (1...RecordingLimits.mostLedgerRecords).contains(number) else {
                return complain(\.ledgerLimit, "a number from 1 to \(RecordingLimits.mostLedgerRecords)")
            }
            ledgerLimit = number
        case "quiet":
            guard value == nil || value == "1" || value == "0" else { return complain(\.isQuiet, "nothing, 0 or 1") }
            isQuiet = value != "0"
        default:
            complaints.append(
                "MEMPOOL_DEBUG: unknown key '\(key)'; valid are \(Self.keys.joined(separator: ", ")),"
                    + " and the levels \(Self.levels.map(\.name).joined(separator: ", ")) alone"
            )
        }
    }

    private static let bytesHint = "a number of bytes, with k, m or g for KiB, MiB or GiB, or all"

    /// A size in bytes: `512`, `64k`, `1M`; `all` is without limit.
    private static func bytes(_ value: String?) -> Int? {
        guard let value else { return nil }
        if value == "all" { return .max }
        let shifts: [Character: Int] = ["k": 10, "K": 10, "m": 20, "M": 20, "g": 30, "G": 30]
        let shift = value.last.flatMap { shifts[$0] }
        let digits = shift == nil ? Substring(value) : value.dropLast()
        guard let number = Int(digits), number >= 0, digits.first != "+" else { return nil }
        let size = number.multipliedReportingOverflow(by: 1 << (shift ?? 0))
        return size.overflow ? nil : size.partialValue
    }

    private static func abortKinds(_ names: [String]) -> Set<FindingKind>? {
        if names == ["all"] { return Set(FindingKind.allCases) }
        let kinds = names.map { name in FindingKind.allCases.first { $0.name == name } }
        return kinds.contains(nil) ? nil : Set(kinds.compactMap { $0 })
    }
}

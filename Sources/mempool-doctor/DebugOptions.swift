// MEMPOOL_DEBUG: what the user set, and what an observed program gets.

import Glibc

/// The value of MEMPOOL_DEBUG, a comma-separated list of `key=value` and bare words.
struct DebugOptions {
    static let variableName = "MEMPOOL_DEBUG"
    /// Said when the user named a recording.
    static let replacedRecordingNote =
        "recording= in MEMPOOL_DEBUG is replaced by the doctor's own; --keep FILE keeps a recording"
    /// Bare words that are short for `level=`.
    private static let levels: Set<Substring> = ["off", "sampled", "full", "paranoid"]

    /// The user's own entries, in order.
    let entries: [Substring]

    init(_ value: String) {
        entries = value.split(separator: ",", omittingEmptySubsequences: true)
    }

    /// Reads the variable and removes it from this process, whose own recorder must never write: the doctor contains
    /// the pool, and a path meant for the observed program would be taken by the doctor itself.
    static func takeFromEnvironment() -> DebugOptions {
        let value = Terminal.variable(variableName) ?? ""
        unsetenv(variableName)
        return DebugOptions(value)
    }

    /// The level the user named, if any; the last one counts.
    var level: Substring? {
        entries.compactMap { entry in
            Self.levels.contains(entry) ? entry : Self.value(of: "level", in: entry)
        }.last
    }

    /// Whether the user named a recording, which the doctor replaces by its own.
    var namesRecording: Bool {
        entries.contains { Self.value(of: "recording", in: $0) != nil }
    }

    /// The value for an observed program: the user's keys, level full unless one was named, and the doctor's recording.
    ///
    /// - Parameter keepsExitCode: whether `exitcode=` stays. It does for a user's program, whose status is passed on; a
    ///   workload's status is the doctor's own affair.
    func value(recordingTo path: String, keepsExitCode: Bool) -> String {
        var result = entries.filter { entry in
            entry != "quiet" && Self.value(of: "recording", in: entry) == nil
                && (keepsExitCode || Self.value(of: "exitcode", in: entry) == nil)
        }
        if level == nil { result.append("level=full") }
        result.append("recording=\(path)")
        result.append("quiet")
        return result.joined(separator: ",")
    }

    private static func value(of key: String, in entry: Substring) -> Substring? {
        entry.hasPrefix(key + "=") ? entry.dropFirst(key.count + 1) : nil
    }
}

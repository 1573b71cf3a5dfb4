// MEMPOOL_DEBUG: what the user set, and what an observed program gets.

import Glibc
import MempoolRecorder

/// The value of MEMPOOL_DEBUG, a comma-separated list of `key=value` and bare words.
struct DebugOptions {
    /// The one variable of the recorder.
    static let variableName = "MEMPOOL_DEBUG"
    /// Said when the user named a recording.
    static let replacedRecordingNote =
        "recording= in MEMPOOL_DEBUG is replaced by the doctor's own; --keep FILE keeps a recording"

    /// The user's own entries, in order.
    let entries: [Substring]
    /// Whether the user chose a level that the recorder knows.
    let namesLevel: Bool
    /// Whether the recorder is off, whatever the program's default level.
    let isOff: Bool
    /// Whether the user named a recording, which the doctor replaces by its own.
    let namesRecording: Bool

    /// Reads the variable's value; the recorder itself complains about what it does not know.
    init(_ value: String) {
        entries = RecorderOptions.entries(of: value)
        let options = RecorderOptions(parsing: value, defaultLevel: .full)
        namesLevel = options.level == RecorderOptions(parsing: value, defaultLevel: .off).level
        isOff = options.level == .off
        namesRecording = options.recording != nil
    }

    /// What the doctor was started with, read and removed from its environment at the first use: the doctor contains the
    /// pool, and its own recorder must never write, least of all to a path that is meant for the observed program.
    static let inherited: DebugOptions = {
        let value = Terminal.variable(variableName) ?? ""
        unsetenv(variableName)
        return DebugOptions(value)
    }()

    /// The value for an observed program: the user's keys, level full unless one was named, and the doctor's recording.
    ///
    /// - Parameter keepsExitCode: whether `exitcode=` stays. It does for a user's program, whose status is passed on; a
    ///   workload's status is the doctor's own affair.
    func value(recordingTo path: String, keepsExitCode: Bool) -> String {
        let replaced = keepsExitCode ? ["recording", "quiet"] : ["recording", "quiet", "exitcode"]
        var result = entries.filter { entry in
            !replaced.contains { entry == $0 || entry.hasPrefix($0 + "=") }
        }
        if !namesLevel { result.append("level=full") }
        result.append("recording=\(path)")
        result.append("quiet")
        return result.joined(separator: ",")
    }

    /// The same with one key set, whatever the user gave it.
    func setting(_ key: String, to value: String) -> DebugOptions {
        DebugOptions((entries.filter { !$0.hasPrefix(key + "=") } + ["\(key)=\(value)"]).joined(separator: ","))
    }

    /// Whether a path cannot be a value of the list: a comma ends it, and `%p` is replaced.
    static func isUnspeakable(_ path: String) -> Bool {
        path.contains(",") || path.contains("%")
    }
}

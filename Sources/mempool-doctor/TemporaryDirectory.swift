// A private directory that disappears with its owner.

import FoundationEssentials
import Glibc

/// A new directory of mode 0700 under `$TMPDIR` or /tmp, removed with everything in it at the end of its life.
struct TemporaryDirectory: ~Copyable {
    /// Absolute.
    let path: String

    /// Throws `DoctorFailure` (inconclusive) if none can be made.
    init() throws(DoctorFailure) {
        let parent = Self.parent
        // mkdtemp replaces the six X in place.
        var template = Array("\(parent)/mempool-doctor-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else {
            throw DoctorFailure(
                "cannot make a temporary directory in \(parent): \(SystemError.last); set TMPDIR to a writable one",
                status: DoctorStatus.inconclusive
            )
        }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit {
        // A leftover in the temporary directory is a smaller evil than losing the report to an error here.
        try? FileManager.default.removeItem(atPath: path)
    }

    /// `$TMPDIR` if it is absolute and can be written in MEMPOOL_DEBUG.
    private static var parent: String {
        guard let chosen = Terminal.variable("TMPDIR"), chosen.hasPrefix("/"), !DebugOptions.isUnspeakable(chosen)
        else { return "/tmp" }
        return chosen
    }
}

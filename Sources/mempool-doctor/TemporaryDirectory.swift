// A private directory that disappears with its owner.

import FoundationEssentials
import Glibc

/// A new directory of mode 0700, removed with everything in it at the end of its life. Until then a signal that asks the doctor
/// to stop is held back.
struct TemporaryDirectory: ~Copyable {
    let path: String
    /// Fields go after the end of `deinit`, so the signals come when the directory is gone.
    private let signals = HeldSignals()

    /// Throws `DoctorFailure` (inconclusive) if none can be made.
    ///
    /// - Parameter parent: Where to make it; nil for `$TMPDIR` or /tmp, which makes the path absolute.
    init(in parent: String? = nil) throws(DoctorFailure) {
        let parent = parent ?? Self.parent
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

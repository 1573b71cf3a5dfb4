// Writing to descriptors, and the lines the doctor writes to stderr.

import Glibc
import MempoolReporters

/// Lines on stderr. Results never go there, so that stdout alone is what a script reads. Texts may hold paths, whose control
/// characters are not for the terminal.
enum Message {
    /// What ended the doctor, or kept it from observing.
    static func failure(_ text: String) {
        write("mempool-doctor: \(text)")
    }

    /// Something the user should know that changes no result.
    static func note(_ text: String) {
        write("mempool-doctor: note: \(text)")
    }

    /// What is wrong with the arguments: lines of the parser, which quote them.
    static func usage(_ text: String) {
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) { write(String(line)) }
    }

    private static func write(_ line: String) {
        // Nobody is left to tell when stderr itself is closed.
        try? Descriptor.write(PlainText.clean(line) + "\n", to: STDERR_FILENO)
    }
}

/// An error number of the system.
struct SystemError: Error, CustomStringConvertible {
    /// The value of `errno`.
    var number: Int32

    /// The error of the call that has just failed.
    static var last: SystemError { SystemError(number: errno) }

    /// The system's own words, like "No such file or directory".
    var description: String {
        guard let text = strerror(number) else { return "error \(number)" }
        return String(cString: text)
    }
}

/// Whole writes to a file descriptor.
enum Descriptor {
    /// Writes all of `text`, and continues after interruptions and short writes.
    static func write(_ text: String, to descriptor: Int32) throws(SystemError) {
        var text = text
        let failure: SystemError? = text.withUTF8 { bytes in
            var rest = UnsafeRawBufferPointer(bytes)
            while !rest.isEmpty {
                let written = Glibc.write(descriptor, rest.baseAddress, rest.count)
                if written >= 0 {
                    rest = UnsafeRawBufferPointer(rebasing: rest[written...])
                } else if errno != EINTR {
                    return SystemError.last
                }
            }
            return nil
        }
        if let failure { throw failure }
    }
}

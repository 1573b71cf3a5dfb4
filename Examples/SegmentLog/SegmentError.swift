// What can go wrong with a segment, as one typed error.
// Every description is one sentence that names the file and, where there is one, the position.

internal import Glibc

/// A failure of the environment or of stored data; the caller can handle it.
///
/// Mistakes of the caller (a negative size, say) trap instead.
package struct SegmentError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The kind of failure.
    package enum Code: String, Sendable, CaseIterable {
        /// A length prefix that no record can have, or that contradicts the lengths of key and value.
        case corruptLength
        /// A record that carries another offset than the one its place in the log calls for.
        case unexpectedOffset
        /// The bytes of a record are not those that were written.
        case checksumMismatch
        /// The file ends inside a record.
        case truncated
        /// Damage in the middle of a log: complete records follow it, so cutting it off would lose them.
        case damagedMiddle
        /// An entry of an index that leads to no record.
        case corruptIndex
        /// No room on the disk, in the quota, or under the file size limit of the process (where `SIGXFSZ` is ignored;
        /// else that signal ends the process before anybody can report the error).
        case diskFull
        /// Any other failed system call.
        case inputOutput
        /// A record or batch above the limits of ``RecordLayout``, or a file above those of a segment.
        case tooLarge
        /// The segment has reached its maximum size; start the next one.
        case segmentFull
        /// No record with that offset.
        case noSuchOffset
    }

    package let code: Code
    /// The file concerned.
    package let path: String
    /// Bytes from the start of the file to the trouble, where that has a meaning.
    package let position: Int?
    /// One sentence: what happened, where, with the numbers.
    package let description: String

    package init(_ code: Code, path: String, position: Int? = nil, _ message: String) {
        self.code = code
        self.path = path
        self.position = position
        let place = position.map { "\(path), byte \($0)" } ?? path
        self.description = "\(place): \(message)."
    }

    /// Translates a failed system call.
    ///
    /// - Parameters:
    ///   - operation: What was tried, as in "cannot *write 40 bytes*".
    ///   - number: The value of `errno` after the call.
    init(operation: String, path: String, position: Int? = nil, errno number: Int32) {
        let isFull = number == ENOSPC || number == EDQUOT || number == EFBIG
        self.init(
            isFull ? .diskFull : .inputOutput,
            path: path,
            position: position,
            "cannot \(operation): \(String(cString: strerror(number)))"
        )
    }
}

// Why a recording could not be read: a code for programs, the path, and one sentence for people.
// Damage that still leaves something to report is not an error; see `Recording.damage`.

/// A recording that cannot be read at all.
package struct RecordingError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What is wrong with the file.
    package enum Code: String, Sendable, CaseIterable {
        /// The file cannot be opened or read, or is not a regular file.
        case unreadable
        /// The file has no bytes.
        case empty
        /// The first bytes are not those of a recording.
        case notARecording
        /// The writer was stopped before the header was complete.
        case incomplete
        /// Written in another version of the format.
        case otherVersion
        /// The file ends inside the header.
        case truncatedHeader
        /// The header contradicts itself, so no section can be trusted.
        case damaged
    }

    package let code: Code
    package let path: String
    /// One sentence with the values that matter and what to do.
    package let description: String

    package init(_ code: Code, path: String, _ description: String) {
        self.code = code
        self.path = path
        self.description = description
    }
}

// Read-only access to the bytes of a recording by copying, so that a file cut short by somebody else is a short read.
// A mapping would be a SIGBUS there.

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// An open recording file. Thread-safe: it has no position, and the descriptor never changes.
package final class RecordingFile: Sendable {
    package let path: String
    /// Bytes the file claims, at opening.
    package let sizeBytes: Int
    /// Bytes the file system has allocated for it, at opening.
    package let allocatedBytes: Int
    /// Number of the file on its device, to recognise it among a process's mappings.
    package let inode: UInt64
    private let descriptor: Int32

    /// Opens a regular file for reading.
    ///
    /// - Throws: `RecordingError` with code `unreadable` if it cannot be opened or is no regular file.
    package init(path: String) throws(RecordingError) {
        // O_NONBLOCK: opening a named pipe must not wait for a writer.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)
        guard descriptor >= 0 else {
            let reason = String(cString: strerror(errno))
            throw RecordingError(
                .unreadable, path: path,
                "Cannot read the recording \(path): \(reason). Check the path and its permissions."
            )
        }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            let reason = String(cString: strerror(errno))
            close(descriptor)
            throw RecordingError(.unreadable, path: path, "Cannot read the recording \(path): \(reason).")
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            close(descriptor)
            let kind = status.st_mode & S_IFMT == S_IFDIR ? "a directory" : "not a regular file"
            throw RecordingError(
                .unreadable, path: path,
                "Cannot read the recording \(path): it is \(kind). Name a file ending in .\(RecordingLayout.fileExtension)."
            )
        }
        self.path = path
        self.descriptor = descriptor
        sizeBytes = Int(status.st_size)
        allocatedBytes = Int(status.st_blocks) * 512
        inode = UInt64(status.st_ino)
    }

    deinit { close(descriptor) }

    /// Fills a buffer from an offset. Returns the bytes read, fewer at the end of the file or after an error.
    package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) -> Int {
        guard let base = buffer.baseAddress, offset >= 0 else { return 0 }
        var done = 0
        while done < buffer.count {
            let (position, overflow) = offset.addingReportingOverflow(done)
            guard !overflow else { break }
            let count = pread(descriptor, base + done, buffer.count - done, off_t(position))
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { break }
            done += count
        }
        return done
    }

    /// Copies up to `count` records from an offset. The result is shorter if the file ends before.
    package func records<Record: BitwiseCopyable>(of type: Record.Type, count: Int, at offset: Int) -> [Record] {
        guard count > 0 else { return [] }
        return [Record](unsafeUninitializedCapacity: count) { buffer, initialized in
            let bytes = read(into: UnsafeMutableRawBufferPointer(buffer), at: offset)
            initialized = bytes / MemoryLayout<Record>.stride
        }
    }
}

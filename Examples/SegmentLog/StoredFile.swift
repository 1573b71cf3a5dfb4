// One open file, read and written at positions.
// Interrupted and partial system calls are completed here and nowhere else.

internal import Glibc
internal import Mempool

/// A file of a segment. For one thread at a time.
final class StoredFile {
    let path: String
    private let descriptor: Int32

    /// Opens the file for reading and writing, and creates it if there is none.
    init(path: String) throws(SegmentError) {
        self.path = path
        self.descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        if descriptor < 0 { throw SegmentError(operation: "open the file", path: path, errno: errno) }
    }

    deinit {
        // A class whose initialiser throws after the last stored property is deinitialised too.
        if descriptor >= 0 { close(descriptor) }
    }

    /// Bytes in the file.
    func size() throws(SegmentError) -> Int {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            throw SegmentError(operation: "ask for the size", path: path, errno: errno)
        }
        return Int(status.st_size)
    }

    /// Reads from a position until the buffer is full or the file ends.
    ///
    /// - Returns: Bytes read.
    func read(into buffer: Buffer, at position: Int) throws(SegmentError) -> Int {
        let outcome = buffer.withUnsafeMutableBytes { bytes -> Outcome in
            transfer(bytes.count) { done in
                pread(descriptor, bytes.baseAddress?.advanced(by: done), bytes.count - done, off_t(position + done))
            }
        }
        if let number = outcome.errno {
            throw SegmentError(
                operation: "read \(buffer.count) bytes",
                path: path,
                position: position,
                errno: number
            )
        }
        return outcome.bytes
    }

    /// Reads exactly as many bytes as the buffer holds.
    func readAll(into buffer: Buffer, at position: Int) throws(SegmentError) {
        let bytes = try read(into: buffer, at: position)
        if bytes < buffer.count {
            throw SegmentError(
                .truncated,
                path: path,
                position: position,
                "the file ends \(bytes) bytes further on; \(buffer.count) were expected"
            )
        }
    }

    /// Writes the whole buffer at a position. After an error any part of it may be in the file.
    func write(_ buffer: Buffer, at position: Int) throws(SegmentError) {
        let outcome = buffer.withUnsafeMutableBytes { bytes -> Outcome in
            transfer(bytes.count) { done in
                pwrite(descriptor, bytes.baseAddress?.advanced(by: done), bytes.count - done, off_t(position + done))
            }
        }
        // A write of nothing is no progress; without an error code the only explanation left is a full disk.
        let number = outcome.errno ?? (outcome.bytes < buffer.count ? ENOSPC : nil)
        if let number {
            throw SegmentError(
                operation: "write \(buffer.count) bytes",
                path: path,
                position: position,
                errno: number
            )
        }
    }

    /// Cuts the file.
    func truncate(to size: Int) throws(SegmentError) {
        var result: Int32
        repeat { result = ftruncate(descriptor, off_t(size)) } while result != 0 && errno == EINTR
        if result != 0 { throw SegmentError(operation: "cut the file to \(size) bytes", path: path, errno: errno) }
    }

    /// Waits until everything written is on the disk.
    func synchronize() throws(SegmentError) {
        if fdatasync(descriptor) != 0 { throw SegmentError(operation: "flush the file", path: path, errno: errno) }
    }

    // MARK: - Complete transfers

    private struct Outcome {
        var bytes = 0
        var errno: Int32?
    }

    /// Repeats a system call until `count` bytes are done, it reports the end, or it fails for good.
    private func transfer(_ count: Int, _ call: (_ done: Int) -> Int) -> Outcome {
        var outcome = Outcome()
        while outcome.bytes < count {
            let result = call(outcome.bytes)
            if result > 0 {
                outcome.bytes += result
            } else if result == 0 {
                break
            } else if errno != EINTR {
                outcome.errno = errno
                break
            }
        }
        return outcome
    }
}

// The input of `segment`: a regular file, cut into records in bounded memory, through pool buffers.

internal import Glibc
internal import Mempool

/// How an input is cut into records.
enum InputShape: Equatable, Sendable {
    /// One record per line, without its line feed. A line above ``InputFile/maximumLineBytes`` becomes several.
    case lines
    /// One record per so many bytes; the last may be shorter.
    case blocks(bytes: Int)
}

/// A regular file that is read from its start, as often as needed. For one thread.
final class InputFile {
    let path: String
    private let descriptor: Int32

    /// Where a longer line is cut: the capacity of a bucket.
    static let maximumLineBytes = 1 << 20
    /// Bytes at the start that are searched for a NUL byte.
    static let inspectedBytes = 64 << 10
    /// The block size for binary files when none is asked for.
    static let defaultBlockBytes = 4_096

    init(path: String) throws(WorkloadError) {
        self.path = path
        self.descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw WorkloadError("cannot open the input \(path): \(reason(errno))") }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            throw WorkloadError("cannot examine the input \(path): \(reason(errno))")
        }
        switch status.st_mode & S_IFMT {
        case S_IFREG: break
        case S_IFDIR: throw WorkloadError("the input \(path) is a directory; name a file in it")
        default:
            throw WorkloadError("the input \(path) is no regular file, and only those can be read twice; copy it first")
        }
    }

    deinit {
        if descriptor >= 0 { close(descriptor) }
    }

    /// Decides how the input is cut into records.
    ///
    /// - Throws: When there is nothing to cut.
    func shape(recordBytes: Int?, pool: BufferPool) throws(WorkloadError) -> InputShape {
        try pool.withBuffer(Self.inspectedBytes) { buffer throws(WorkloadError) in
            let count = try read(into: buffer, at: 0)
            guard count > 0 else { throw WorkloadError("the input \(path) is empty; there is nothing to write") }
            if let recordBytes { return .blocks(bytes: recordBytes) }
            let hasNUL = buffer.prefix(count).withUnsafeMutableBytes { $0.contains(0) }
            return hasNUL ? .blocks(bytes: Self.defaultBlockBytes) : .lines
        }
    }

    /// Calls a body with every record, in order, until it returns false.
    ///
    /// - Parameter body: Must not keep the bytes. Receives whether they are the rest of a line that was cut.
    func forEachRecord(
        _ shape: InputShape,
        pool: BufferPool,
        _ body: (_ bytes: UnsafeRawBufferPointer, _ isContinuation: Bool) throws(WorkloadError) -> Bool
    ) throws(WorkloadError) {
        switch shape {
        case .lines:
            try forEachLine(pool: pool, body)
        case .blocks(let bytes):
            try forEachBlock(bytes, pool: pool, body)
        }
    }

    /// A number that changes with the content, in all likelihood: to tell a changed input from a wrong log.
    func version() -> [Int] {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { return [] }
        return [Int(status.st_size), status.st_mtim.tv_sec, status.st_mtim.tv_nsec]
    }

    // MARK: - Cutting

    private func forEachBlock(
        _ blockBytes: Int,
        pool: BufferPool,
        _ body: (UnsafeRawBufferPointer, Bool) throws(WorkloadError) -> Bool
    ) throws(WorkloadError) {
        // As many whole blocks as make a reasonable read, so that small blocks do not mean small reads.
        let windowBytes = blockBytes * max(1, (64 << 10) / blockBytes)
        try pool.withBuffer(windowBytes) { window throws(WorkloadError) in
            var position = 0
            while true {
                let count = try read(into: window, at: position)
                guard count > 0 else { return }
                position += count
                let goesOn = try window.prefix(count).withBytes { bytes throws(WorkloadError) in
                    var start = 0
                    while start < count {
                        let end = min(start + blockBytes, count)
                        guard try body(UnsafeRawBufferPointer(rebasing: bytes[start..<end]), false) else {
                            return false
                        }
                        start = end
                    }
                    return true
                }
                guard goesOn else { return }
            }
        }
    }

    private func forEachLine(
        pool: BufferPool,
        _ body: (UnsafeRawBufferPointer, Bool) throws(WorkloadError) -> Bool
    ) throws(WorkloadError) {
        try pool.withBuffer(Self.maximumLineBytes) { window throws(WorkloadError) in
            // The window holds `filled` bytes of the file that are not yet given to the body.
            var filled = 0
            var position = 0
            var isContinuation = false
            while true {
                let count = try read(into: window.dropFirst(filled), at: position)
                position += count
                filled += count
                let isEnd = count == 0
                let outcome = try window.prefix(filled).withBytes {
                    bytes throws(WorkloadError) -> (used: Int, goesOn: Bool) in
                    var start = 0
                    while let lineFeed = bytes[start...].position(ofByte: 0x0A) {
                        let line = UnsafeRawBufferPointer(rebasing: bytes[start..<lineFeed])
                        // The line feed after a piece of exactly the maximum size ends that line and is not an empty one.
                        let isEmptyRest = isContinuation && line.isEmpty
                        if !isEmptyRest, try !body(line, isContinuation) { return (start, false) }
                        isContinuation = false
                        start = lineFeed + 1
                    }
                    if start < filled, isEnd || (start == 0 && filled == Self.maximumLineBytes) {
                        let rest = UnsafeRawBufferPointer(rebasing: bytes[start..<filled])
                        guard try body(rest, isContinuation) else { return (start, false) }
                        isContinuation = true
                        start = filled
                    }
                    if let base = bytes.baseAddress { memmove(base, base + start, filled - start) }
                    return (start, true)
                }
                guard outcome.goesOn, !isEnd else { return }
                filled -= outcome.used
            }
        }
    }

    /// Reads until the buffer is full or the file ends.
    private func read(into buffer: Buffer, at position: Int) throws(WorkloadError) -> Int {
        try buffer.withBytes { bytes throws(WorkloadError) in
            var done = 0
            while done < bytes.count {
                let count = pread(
                    descriptor,
                    bytes.baseAddress?.advanced(by: done),
                    bytes.count - done,
                    off_t(position + done)
                )
                if count == 0 { break }
                if count < 0 {
                    if errno == EINTR { continue }
                    throw WorkloadError("cannot read the input \(path) at byte \(position + done): \(reason(errno))")
                }
                done += count
            }
            return done
        }
    }
}

/// What an error number means, in words.
func reason(_ number: Int32) -> String { String(cString: strerror(number)) }

extension Buffer {
    /// ``Mempool/Buffer/withUnsafeMutableBytes(_:)`` with the type of the error kept.
    func withBytes<R, E: Error>(_ body: (UnsafeMutableRawBufferPointer) throws(E) -> R) throws(E) -> R {
        let result = withUnsafeMutableBytes { bytes -> Result<R, E> in
            do throws(E) {
                return .success(try body(bytes))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }
}

extension Slice<UnsafeMutableRawBufferPointer> {
    /// The first position of a byte; `memchr` instead of a loop, which is slow in unoptimised code.
    fileprivate func position(ofByte byte: UInt8) -> Int? {
        guard let base = base.baseAddress, !isEmpty else { return nil }
        return memchr(base + startIndex, Int32(byte), count).map { UnsafeRawPointer($0) - UnsafeRawPointer(base) }
    }
}

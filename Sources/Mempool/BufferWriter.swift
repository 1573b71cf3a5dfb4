// `BufferWriter`: fills a buffer from front to back, and says so when something does not fit.

/// Appends to a buffer of fixed size, for records that are put together piece by piece.
///
/// ```swift
/// let buffer = getBuffer(4096)
/// defer { putBuffer(buffer) }
/// var writer = BufferWriter(buffer)
/// for record in records {
///     try writer.append(UInt32(record.count))       // big-endian unless told otherwise
///     try writer.append(contentsOf: record)
/// }
/// send(writer.written)
/// ```
///
/// Nothing grows and nothing is moved: an append that does not fit throws ``BufferFullError`` and leaves the buffer and the
/// ``position`` as they were, so that the caller can send what is there, ``rewind(to:)`` 0, and go on. The limit is the buffer's
/// ``Buffer/count``, not its capacity, which belongs to the pool.
///
/// The writer is a small value that owns nothing: it neither gets nor puts. Copies of it write to the same memory from
/// positions of their own. For one thread at a time. An integer at a fixed place is better stored with
/// ``Buffer/storeBigEndian(_:at:)``.
public struct BufferWriter: Sendable {
    /// The order of an integer's bytes.
    @frozen
    public enum ByteOrder: Sendable {
        /// Most significant byte first.
        case bigEndian
        /// Least significant byte first.
        case littleEndian
    }

    /// The buffer that is filled.
    public let buffer: Buffer
    // Invariant: `0...buffer.count`.
    @usableFromInline var writtenBytes: Int

    /// Makes a writer that begins at the front of a buffer.
    ///
    /// - Parameter buffer: Must not be put before the last append.
    @inlinable
    public init(_ buffer: Buffer) {
        self.buffer = buffer
        writtenBytes = 0
    }

    /// Bytes written so far, and where the next append begins; `0...buffer.count`.
    @inlinable public var position: Int { writtenBytes }

    /// Bytes that can still be written.
    @inlinable public var remaining: Int { buffer.count - writtenBytes }

    /// What has been written: the buffer's first ``position`` bytes. May be put in place of the buffer if that is whole.
    @inlinable public var written: Buffer { buffer.prefix(writtenBytes) }

    // MARK: - Appending

    /// Appends an integer.
    ///
    /// - Parameters:
    ///   - number: The integer; its type decides how many bytes are written, so name it: `UInt32(length)`.
    ///   - order: The order of its bytes, big-endian unless given.
    /// - Throws: ``BufferFullError`` if it does not fit wholly; nothing is written then.
    @inlinable
    public mutating func append<Number: FixedWidthInteger & BitwiseCopyable>(
        _ number: Number, _ order: ByteOrder = .bigEndian
    ) throws(BufferFullError) {
        let place = try reserve(MemoryLayout<Number>.size)
        switch order {
        case .bigEndian: place.storeBigEndian(number, at: 0)
        case .littleEndian: place.storeLittleEndian(number, at: 0)
        }
    }

    /// Appends all bytes of a collection: an array, a string's UTF-8, `Data`, raw memory, a slice of any of these.
    ///
    /// - Throws: ``BufferFullError`` if they do not all fit; nothing is written then.
    /// - Complexity: O(`bytes.count`).
    @inlinable
    public mutating func append(contentsOf bytes: some Collection<UInt8>) throws(BufferFullError) {
        writtenBytes += try buffer.copyAll(of: bytes, at: writtenBytes)
    }

    /// Appends the bytes of another buffer.
    ///
    /// - Throws: ``BufferFullError`` if they do not all fit; nothing is written then.
    /// - Complexity: O(`other.count`).
    @inlinable
    public mutating func append(contentsOf other: Buffer) throws(BufferFullError) {
        try buffer.copyBytes(from: other, at: writtenBytes)
        writtenBytes += other.count
    }

    /// Appends bytes that the caller fills in: now, from an encoder or a system call, or later, as a length that is not
    /// known yet.
    ///
    /// - Parameter count: Bytes. Traps if negative.
    /// - Returns: A slice of ``buffer`` of exactly those bytes, holding whatever was there before. Not to be put.
    /// - Throws: ``BufferFullError`` if they do not fit.
    @inlinable
    public mutating func reserve(_ count: Int) throws(BufferFullError) -> Buffer {
        precondition(count >= 0, "BufferWriter count out of range")
        guard count <= remaining else { throw BufferFullError(neededBytes: count, availableBytes: remaining) }
        defer { writtenBytes += count }
        return buffer.slice(writtenBytes..<writtenBytes + count)
    }

    /// Goes back, so that the next append overwrites what was written from `position` on; for a record that turned out not to
    /// fit, or to use the buffer again.
    ///
    /// - Parameter position: Bytes, `0...self.position`. Traps outside of it.
    @inlinable
    public mutating func rewind(to position: Int) {
        precondition(position >= 0 && position <= writtenBytes, "BufferWriter position out of range")
        writtenBytes = position
    }
}

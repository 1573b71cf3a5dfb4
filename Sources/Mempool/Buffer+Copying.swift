// Copying bytes into a buffer, and `BufferFullError`, which says that they do not fit.

/// Bytes that do not fit into a buffer. Nothing was written.
public struct BufferFullError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The bytes that were to be written.
    public var neededBytes: Int
    /// The bytes there was room for: from where they should have begun to the buffer's ``Buffer/count``.
    public var availableBytes: Int

    /// Makes an error.
    ///
    /// - Parameters:
    ///   - neededBytes: The bytes that were to be written.
    ///   - availableBytes: The bytes there was room for.
    public init(neededBytes: Int, availableBytes: Int) {
        self.neededBytes = neededBytes
        self.availableBytes = availableBytes
    }

    /// One sentence with both numbers.
    public var description: String {
        "\(neededBytes) bytes do not fit into the \(availableBytes) bytes that the buffer has left"
    }
}

extension Buffer {
    /// Copies all bytes of a collection: an array, a string's UTF-8, `Data`, raw memory, a slice of any of these.
    ///
    /// - Parameters:
    ///   - source: The bytes. They may overlap the buffer.
    ///   - index: Where the first one goes, bytes from the start. Traps outside of `0...count`.
    /// - Throws: ``BufferFullError`` if they would reach beyond ``count``; nothing is written then. What the bucket holds
    ///   beyond ``count`` is not used.
    /// - Complexity: O(`source.count`); one `memmove` where the collection's bytes are contiguous.
    @inlinable
    public func copyBytes(from source: some Collection<UInt8>, at index: Int = 0) throws(BufferFullError) {
        try copyAll(of: source, at: index)
    }

    /// Copies all bytes of another buffer.
    ///
    /// - Parameters:
    ///   - source: Its ``count`` bytes are copied. It may share memory with this buffer.
    ///   - index: Where the first one goes, bytes from the start. Traps outside of `0...count`.
    /// - Throws: ``BufferFullError`` if they would reach beyond ``count``; nothing is written then.
    /// - Complexity: O(`source.count`), one `memmove`.
    @inlinable
    public func copyBytes(from source: Buffer, at index: Int = 0) throws(BufferFullError) {
        source.checkOwner(0, source.byteCount, isRead: true)
        try copyMemory(UnsafeRawBufferPointer(start: source.base, count: source.byteCount), at: index)
    }

    // MARK: - Room

    /// Copies and returns the number of bytes.
    @inlinable @discardableResult
    func copyAll(of source: some Collection<UInt8>, at index: Int) throws(BufferFullError) -> Int {
        // A contiguous collection is one piece of memory. The closure cannot throw a typed error, so it returns it.
        let outcome = source.withContiguousStorageIfAvailable { bytes -> Result<Int, BufferFullError> in
            do throws(BufferFullError) {
                try copyMemory(UnsafeRawBufferPointer(bytes), at: index)
                return .success(bytes.count)
            } catch {
                return .failure(error)
            }
        }
        if let outcome { return try outcome.get() }
        let count = source.count
        // A collection with more elements than it says is cut off.
        let room = try room(for: count, at: index)
        var written = 0
        for byte in source {
            guard written < count else { break }
            room[written] = byte
            written += 1
        }
        return written
    }

    @inlinable
    func copyMemory(_ source: UnsafeRawBufferPointer, at index: Int) throws(BufferFullError) {
        try room(for: source.count, at: index).copyMemory(from: source)
    }

    /// The `count` bytes from `index` on.
    @inlinable
    func room(for count: Int, at index: Int) throws(BufferFullError) -> UnsafeMutableRawBufferPointer {
        precondition(index >= 0 && index <= byteCount, "Buffer index out of range")
        guard count <= byteCount - index else {
            throw BufferFullError(neededBytes: count, availableBytes: byteCount - index)
        }
        guard let base else { return UnsafeMutableRawBufferPointer(start: nil, count: 0) }
        checkOwner(index, count, isRead: false)
        return UnsafeMutableRawBufferPointer(start: base + index, count: count)
    }
}

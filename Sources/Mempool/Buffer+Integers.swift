// Read access to a buffer's bytes, and integers in big- and little-endian byte order at any position.

extension Buffer {
    /// Calls the body with the ``count`` bytes of the buffer, for reading. The pointer must not outlive the put, which is checked as by
    /// ``withUnsafeMutableBytes(_:)``.
    @inlinable
    public func withUnsafeBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
        #if DEBUG
        checkOwner(0, byteCount, isRead: true)
        #endif
        return try body(UnsafeRawBufferPointer(start: base, count: byteCount))
    }

    /// The integer stored at `index` in big-endian order, the byte order of networks and most file formats.
    ///
    /// - Parameters:
    ///   - index: Bytes from the start; needs no alignment. Traps unless the whole integer lies within ``count``.
    ///   - type: The type of the integer, if it does not follow from the context.
    @inlinable
    public func loadBigEndian<Number: FixedWidthInteger & BitwiseCopyable>(
        at index: Int, as type: Number.Type = Number.self
    ) -> Number {
        Number(bigEndian: load(at: index))
    }

    /// The integer stored at `index` in little-endian order.
    ///
    /// - Parameters:
    ///   - index: Bytes from the start; needs no alignment. Traps unless the whole integer lies within ``count``.
    ///   - type: The type of the integer, if it does not follow from the context.
    @inlinable
    public func loadLittleEndian<Number: FixedWidthInteger & BitwiseCopyable>(
        at index: Int, as type: Number.Type = Number.self
    ) -> Number {
        Number(littleEndian: load(at: index))
    }

    /// Stores an integer at `index` in big-endian order.
    ///
    /// - Parameters:
    ///   - number: The integer; its type decides how many bytes are written, so name it: `UInt32(length)`.
    ///   - index: Bytes from the start; needs no alignment. Traps unless the whole integer lies within ``count``.
    @inlinable
    public func storeBigEndian<Number: FixedWidthInteger & BitwiseCopyable>(_ number: Number, at index: Int) {
        store(number.bigEndian, at: index)
    }

    /// Stores an integer at `index` in little-endian order.
    ///
    /// - Parameters:
    ///   - number: The integer; its type decides how many bytes are written, so name it: `UInt32(length)`.
    ///   - index: Bytes from the start; needs no alignment. Traps unless the whole integer lies within ``count``.
    @inlinable
    public func storeLittleEndian<Number: FixedWidthInteger & BitwiseCopyable>(_ number: Number, at index: Int) {
        store(number.littleEndian, at: index)
    }

    // MARK: - The one check for all of them

    @inlinable @inline(__always)
    func load<Number: FixedWidthInteger & BitwiseCopyable>(at index: Int) -> Number {
        precondition(holds(Number.self, at: index), "Buffer integer out of range")
        checkOwner(index, MemoryLayout<Number>.size, isRead: true)
        return base.unsafelyUnwrapped.loadUnaligned(fromByteOffset: index, as: Number.self)
    }

    @inlinable @inline(__always)
    func store<Number: FixedWidthInteger & BitwiseCopyable>(_ number: Number, at index: Int) {
        precondition(holds(Number.self, at: index), "Buffer integer out of range")
        checkOwner(index, MemoryLayout<Number>.size, isRead: false)
        base.unsafelyUnwrapped.storeBytes(of: number, toByteOffset: index, as: Number.self)
    }

    /// Whether a value of a type lies inside; the subtraction cannot overflow, as an index below 0 is ruled out first.
    @inlinable @inline(__always)
    func holds<Number>(_ type: Number.Type, at index: Int) -> Bool {
        index >= 0 && byteCount - index >= MemoryLayout<Number>.size
    }
}

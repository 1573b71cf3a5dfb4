// Big-endian numbers in bytes that are read in place, the byte order of everything this library stores.
// Positions need no alignment. Whole buffers have such methods of their own.

extension UnsafeRawBufferPointer {
    /// Reads a number; traps when it does not lie wholly inside.
    func loadBigEndian<Number: FixedWidthInteger & BitwiseCopyable>(
        at position: Int,
        as type: Number.Type = Number.self
    ) -> Number {
        precondition(position >= 0 && position <= count - MemoryLayout<Number>.size, "a field lies outside its buffer")
        return Number(bigEndian: loadUnaligned(fromByteOffset: position, as: type))
    }
}

// Big-endian numbers in raw memory, the byte order of everything this library stores.
// Positions need no alignment.

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

extension UnsafeMutableRawBufferPointer {
    /// Writes a number; traps when it does not fit wholly inside.
    func storeBigEndian<Number: FixedWidthInteger & BitwiseCopyable>(_ number: Number, at position: Int) {
        precondition(position >= 0 && position <= count - MemoryLayout<Number>.size, "a field lies outside its buffer")
        storeBytes(of: number.bigEndian, toByteOffset: position, as: Number.self)
    }
}

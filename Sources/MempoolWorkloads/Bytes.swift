// Making and comparing bytes in bulk: loops over single bytes are slow in unoptimised code, where workloads often run.

internal import Glibc

extension UnsafeRawBufferPointer {
    /// Whether both hold the same bytes.
    func isEqual(to other: UnsafeRawBufferPointer) -> Bool {
        guard count == other.count else { return false }
        guard let base = baseAddress, let otherBase = other.baseAddress else { return isEmpty }
        return memcmp(base, otherBase, count) == 0
    }

    /// Whether this holds the bytes of an array.
    func isEqual(to bytes: [UInt8]) -> Bool { bytes.withUnsafeBytes { isEqual(to: $0) } }
}

extension SeededGenerator {
    /// Random bytes.
    mutating func bytes(_ count: Int) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: count) { buffer, initializedCount in
            let raw = UnsafeMutableRawBufferPointer(buffer)
            var position = 0
            while position < count {
                withUnsafeBytes(of: next().littleEndian) { word in
                    let piece = UnsafeRawBufferPointer(rebasing: word.prefix(count - position))
                    UnsafeMutableRawBufferPointer(rebasing: raw[position...]).copyMemory(from: piece)
                }
                position += MemoryLayout<UInt64>.size
            }
            initializedCount = count
        }
    }
}

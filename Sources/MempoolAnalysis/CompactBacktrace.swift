// Writes the two byte formats through which the toolchain's Runtime module accepts addresses and images it did not capture itself:
// Compact Backtrace Format and Compact ImageMap Format, version 0, described in the documentation of the Swift compiler.

internal import MempoolRecording

/// Encoders for the formats of the Runtime module.
enum CompactBacktrace {
    /// An image as the Runtime module wants it.
    struct Image {
        /// Address of the ELF header in memory.
        var base: UInt64
        var endOfText: UInt64
        var buildID: [UInt8]
        var path: String
    }

    /// Version 0 in the upper bits, 64-bit words in the lower two.
    private static let information: UInt8 = 0x02

    /// Encodes words of the stack table as frames: return addresses and async resume points.
    static func backtrace(_ words: [UInt64]) -> [UInt8] {
        var bytes = [information]
        for word in words {
            let isAsync = word & StackWord.asyncBit != 0
            // Operation, "absolute", eight bytes of address.
            bytes.append((isAsync ? 0x30 : 0x20) | 0x08 | 7)
            append(word & ~StackWord.asyncBit, byteCount: 8, to: &bytes)
        }
        bytes.append(0)
        return bytes
    }

    /// Encodes images. They need not be sorted.
    static func imageMap(_ images: [Image]) -> [UInt8] {
        var bytes = [information]
        let platform = Array("Linux".utf8)
        appendCount(platform.count, to: &bytes)
        bytes += platform
        appendCount(images.count, to: &bytes)
        for image in images.sorted(by: { $0.base < $1.base }) {
            // Absolute base; eight bytes of base, eight of the offset to the end of text.
            bytes.append(7 << 3 | 7)
            append(image.base, byteCount: 8, to: &bytes)
            append(image.endOfText &- image.base, byteCount: 8, to: &bytes)
            appendCount(image.buildID.count, to: &bytes)
            bytes += image.buildID
            var path = Array(image.path.utf8)[...]
            while !path.isEmpty {
                let piece = path.prefix(63)
                bytes.append(UInt8(piece.count))
                bytes += piece
                path = path.dropFirst(63)
            }
            bytes.append(0)
        }
        return bytes
    }

    /// Big-endian.
    private static func append(_ value: UInt64, byteCount: Int, to bytes: inout [UInt8]) {
        for index in (0..<byteCount).reversed() { bytes.append(UInt8(truncatingIfNeeded: value >> UInt64(8 * index))) }
    }

    /// Groups of seven bits, the most significant first; the top bit says that another group follows.
    private static func appendCount(_ count: Int, to bytes: inout [UInt8]) {
        var groups = [UInt8(count & 0x7F)]
        var rest = count >> 7
        while rest > 0 {
            groups.append(UInt8(rest & 0x7F) | 0x80)
            rest >>= 7
        }
        bytes += groups.reversed()
    }
}

// The batch pattern: one buffer for many records, of exactly their total size, and one write.

import Glibc
import Mempool

/// Writes all lines with a single system call.
///
/// - Returns: Bytes written, or -1.
func writeBatch(_ lines: [String], to descriptor: Int32) -> Int {
    let totalBytes = lines.reduce(0) { $0 + $1.utf8.count + 1 }
    let buffer = getBuffer(totalBytes)
    defer { putBuffer(buffer) }

    return buffer.withUnsafeMutableBytes { bytes in
        var position = 0
        for line in lines {
            bytes[position...].copyBytes(from: line.utf8)
            position += line.utf8.count
            bytes[position] = UInt8(ascii: "\n")
            position += 1
        }
        return write(descriptor, bytes.baseAddress, totalBytes)
    }
}

let written = writeBatch(["first record", "second record", "third record"], to: STDOUT_FILENO)
print("wrote 3 records, \(written) bytes, with one write")

let stats = getStats()
print("gets \(stats.gets), puts \(stats.puts), in use \(stats.inUse)")

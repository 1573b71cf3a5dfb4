// The batch pattern: one buffer for many records, of exactly their total size, and one write.

import Glibc
import Mempool

/// Writes all lines with a single system call.
///
/// - Returns: Bytes written, or -1.
/// - Throws: If the lines do not fit into the buffer; a writer never makes a larger one behind your back.
func writeBatch(_ lines: [String], to descriptor: Int32) throws(BufferFullError) -> Int {
    let totalBytes = lines.reduce(0) { $0 + $1.utf8.count + 1 }
    let buffer = getBuffer(totalBytes)
    defer { putBuffer(buffer) }

    var writer = BufferWriter(buffer)
    for line in lines {
        try writer.append(contentsOf: line.utf8)
        try writer.append(UInt8(ascii: "\n"))
    }
    return writer.written.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
}

let written = try writeBatch(["first record", "second record", "third record"], to: STDOUT_FILENO)
print("wrote 3 records, \(written) bytes, with one write")

let stats = getStats()
print("gets \(stats.gets), puts \(stats.puts), in use \(stats.inUse)")

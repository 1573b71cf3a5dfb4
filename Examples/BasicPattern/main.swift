// The basic pattern: get a buffer, use it, put it, all in one function.
// `defer` right after the get makes the put certain, whatever happens in between.

import Mempool

func processMessage(_ message: [UInt8]) -> Int {
    let buffer = getBuffer(message.count)
    defer { putBuffer(buffer) }

    return buffer.withUnsafeMutableBytes { bytes in
        bytes.copyBytes(from: message)
        return bytes.count { $0 == UInt8(ascii: "o") }
    }
}

/// The same with the safe form, which cannot forget the put.
func processMessageSafely(_ message: [UInt8]) -> Int {
    BufferPool.shared.withBuffer(message.count) { buffer in
        buffer.withUnsafeMutableBytes { bytes in
            bytes.copyBytes(from: message)
            return bytes.count { $0 == UInt8(ascii: "o") }
        }
    }
}

let message = Array("hello, pool of buffers".utf8)
print("plain: \(processMessage(message)) times the letter o in \(message.count) bytes")
print("safe: \(processMessageSafely(message)) times the letter o in \(message.count) bytes")

let stats = getStats()
print("gets \(stats.gets), puts \(stats.puts), in use \(stats.inUse)")

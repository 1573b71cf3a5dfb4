// A double put: an error handler puts a buffer that `defer` puts again.
// In between the buffer has got a new owner; the pool refuses the second put, so that owner keeps it.

import Mempool

func store(_ text: String) -> Buffer? {
    let buffer = getBuffer(text.utf8.count)
    defer { putBuffer(buffer) }  // The bug is here for a text that is too long: the buffer was put already.
    guard text.utf8.count <= 10 else {
        putBuffer(buffer)
        return apology()
    }
    return nil
}

/// - Returns: A buffer that the caller must put.
func apology() -> Buffer {
    let buffer = getBuffer(5)
    buffer.withUnsafeMutableBytes { $0.copyBytes(from: "sorry".utf8) }
    return buffer
}

for text in ["short", "rather too long"] {
    guard let answer = store(text) else {
        print("\(text): stored")
        continue
    }
    print("\(text): \(answer.withUnsafeMutableBytes { String(decoding: $0, as: UTF8.self) })")
    putBuffer(answer)
}
let stats = getStats()
print("in use \(stats.inUse), discarded \(stats.discarded)")

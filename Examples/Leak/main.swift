// A leak: one path through a function forgets the put.
// Run it and see the recorder name `countWords`; `mempool-doctor exec` names the line.

import Mempool

func countWords(_ text: String) -> Int? {
    let buffer = getBuffer(text.utf8.count)
    let words = buffer.withUnsafeMutableBytes { bytes in
        bytes.copyBytes(from: text.utf8)
        return bytes.split(separator: UInt8(ascii: " ")).count
    }
    // The bug: an early return without a put. `defer { putBuffer(buffer) }` after the get would have prevented it.
    guard words > 1 else { return nil }
    putBuffer(buffer)
    return words
}

for text in ["two words", "one", "and three words"] {
    print("\(text): \(countWords(text).map(String.init) ?? "too short")")
}
print("in use \(getStats().inUse)")

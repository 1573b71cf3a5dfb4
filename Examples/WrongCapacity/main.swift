// A wrong-capacity put: what is put is not the buffer that was got but a slice of it.
// A slice that begins later has less capacity, so the pool cannot use the buffer again and discards it.

import Mempool

func bodyBytes(of message: String) -> Int {
    var buffer = getBuffer(message.utf8.count)
    buffer.withUnsafeMutableBytes { $0.copyBytes(from: message.utf8) }
    buffer = buffer.dropFirst(4)
    let count = buffer.count
    putBuffer(buffer)  // The bug: `buffer` lost its first four bytes. Put the buffer that was got, or a `prefix` of it.
    return count
}

for message in ["PUT a", "PUT bcd"] { print("\(message): a body of \(bodyBytes(of: message)) bytes") }
let stats = getStats()
print("in use \(stats.inUse), discarded \(stats.discarded)")

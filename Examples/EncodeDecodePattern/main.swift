// The encode and decode pattern: a function fills a buffer and returns it, and its caller puts it.
// Such a function says so in its documentation; the caller writes `defer` right after the call.

import Mempool

struct Reading {
    var sensor: UInt32
    var value: Int64
}

/// Encodes a reading, big-endian.
///
/// - Returns: A buffer that the caller must put.
func encode(_ reading: Reading) -> Buffer {
    let buffer = getBuffer(12)
    buffer.storeBigEndian(reading.sensor, at: 0)
    buffer.storeBigEndian(reading.value, at: 4)
    return buffer
}

func decode(_ buffer: Buffer) -> Reading {
    Reading(sensor: buffer.loadBigEndian(at: 0), value: buffer.loadBigEndian(at: 4))
}

func roundTrip(_ reading: Reading) -> Reading {
    let encoded = encode(reading)
    defer { putBuffer(encoded) }
    print("encoded into \(encoded.count) bytes of a buffer of \(encoded.capacity)")
    return decode(encoded)
}

let reading = roundTrip(Reading(sensor: 7, value: -40))
print("decoded sensor \(reading.sensor), value \(reading.value)")

let stats = getStats()
print("gets \(stats.gets), puts \(stats.puts), in use \(stats.inUse)")

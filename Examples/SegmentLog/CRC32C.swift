// CRC-32C (Castagnoli), the checksum of Kafka, iSCSI and ext4.
// Eight table look-ups per eight bytes ("slicing by 8", Kounavis and Berry, 2005): no instruction set needed.

/// A running CRC-32C.
///
/// ```swift
/// var checksum = CRC32C()
/// checksum.update(bytes)
/// print(checksum.value)
/// ```
///
/// It recognises torn and rotten data. It does not resist an attacker: anybody can compute it.
package struct CRC32C: Sendable {
    private var state: UInt32 = .max

    package init() {}

    /// The checksum of everything given to ``update(_:)`` so far.
    package var value: UInt32 { ~state }

    /// Extends the checksum.
    ///
    /// - Complexity: O(`bytes.count`).
    package mutating func update(_ bytes: UnsafeRawBufferPointer) {
        var crc = state
        Self.tables.withUnsafeBufferPointer { tables in
            var index = 0
            while bytes.count - index >= 8 {
                let word = UInt64(
                    littleEndian: bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self)
                )
                let low = UInt32(truncatingIfNeeded: word) ^ crc
                let high = UInt32(truncatingIfNeeded: word >> 32)
                crc = tables[7 * 256 + Int(low & 0xFF)]
                crc ^= tables[6 * 256 + Int((low >> 8) & 0xFF)]
                crc ^= tables[5 * 256 + Int((low >> 16) & 0xFF)]
                crc ^= tables[4 * 256 + Int(low >> 24)]
                crc ^= tables[3 * 256 + Int(high & 0xFF)]
                crc ^= tables[2 * 256 + Int((high >> 8) & 0xFF)]
                crc ^= tables[1 * 256 + Int((high >> 16) & 0xFF)]
                crc ^= tables[Int(high >> 24)]
                index += 8
            }
            while index < bytes.count {
                crc = tables[Int(UInt8(truncatingIfNeeded: crc) ^ bytes[index])] ^ (crc >> 8)
                index += 1
            }
        }
        state = crc
    }

    /// Eight tables of 256 entries: table `t` advances a byte by `t` further bytes of zeros.
    private static let tables: [UInt32] = {
        let reflectedPolynomial: UInt32 = 0x82F6_3B78
        var tables = [UInt32](repeating: 0, count: 8 * 256)
        for byte in 0..<256 {
            var crc = UInt32(byte)
            for _ in 0..<8 { crc = crc & 1 == 1 ? (crc >> 1) ^ reflectedPolynomial : crc >> 1 }
            tables[byte] = crc
        }
        for index in 256..<tables.count {
            let previous = tables[index - 256]
            tables[index] = tables[Int(previous & 0xFF)] ^ (previous >> 8)
        }
        return tables
    }()
}

// How a record looks on disk: layout, header, encoding into pool buffers, decoding from them.
// All numbers are big-endian.

package import Mempool

/// The layout and the limits of an encoded record.
///
/// | bytes | field |
/// | --- | --- |
/// | 0–3 | length: bytes that follow this field |
/// | 4–7 | CRC-32C of all bytes that follow this field |
/// | 8–15 | offset |
/// | 16–23 | timestamp, milliseconds |
/// | 24–27 | length of the key |
/// | 28–31 | length of the value |
/// | 32– | key, value |
///
/// The length is not under the checksum, but the two other lengths are and must add up to it. So a damaged length is
/// recognised before anybody allocates by it.
package enum RecordLayout {
    /// Bytes in front of the key.
    package static let headerBytes = 32
    /// Bytes of the length field, which does not count itself.
    package static let lengthBytes = 4
    /// Bytes in front of what the checksum covers.
    package static let checksummedFrom = 8
    /// The largest record, encoded: the capacity of the pool's largest bucket, so that no record is ever oversized.
    package static let maximumEncodedBytes = 16 << 20
    /// The largest batch, encoded; one buffer holds it, so the same bound applies.
    package static let maximumBatchBytes = maximumEncodedBytes

    /// Bytes of a record on disk.
    package static func encodedBytes(keyBytes: Int, valueBytes: Int) -> Int {
        headerBytes + keyBytes + valueBytes
    }
}

/// Why some bytes are no record.
package enum RecordDefect: Error, Equatable, Sendable {
    /// Fewer bytes than a header, or than the length says.
    case truncated(needsBytes: Int, availableBytes: Int)
    /// No record can be that long.
    case impossibleLength(UInt32)
    /// The lengths of key and value do not add up to the length.
    case contradictingLengths(length: UInt32, keyBytes: UInt32, valueBytes: UInt32)
    case unexpectedOffset(found: UInt64, expected: UInt64)
    /// The header is sound; `encodedBytes` is what the record takes.
    case checksumMismatch(encodedBytes: Int, stored: UInt32, computed: UInt32)

    /// The error that says so.
    func error(path: String, position: Int) -> SegmentError {
        switch self {
        case .truncated(let needed, let available):
            SegmentError(
                .truncated,
                path: path,
                position: position,
                "the file ends inside a record that needs \(needed) bytes; \(available) are there"
            )
        case .impossibleLength(let length):
            SegmentError(
                .corruptLength,
                path: path,
                position: position,
                "the length prefix \(length) is corrupt; a record has "
                    + "\(RecordLayout.headerBytes - RecordLayout.lengthBytes) to "
                    + "\(RecordLayout.maximumEncodedBytes - RecordLayout.lengthBytes) bytes after it"
            )
        case .contradictingLengths(let length, let keyBytes, let valueBytes):
            SegmentError(
                .corruptLength,
                path: path,
                position: position,
                "the length prefix \(length) is corrupt; it contradicts a key of \(keyBytes) and a value of "
                    + "\(valueBytes) bytes"
            )
        case .unexpectedOffset(let found, let expected):
            SegmentError(
                .unexpectedOffset,
                path: path,
                position: position,
                "the record has offset \(found) where \(expected) belongs"
            )
        case .checksumMismatch(_, let stored, let computed):
            SegmentError(
                .checksumMismatch,
                path: path,
                position: position,
                "the record's checksum is \(hexadecimal(computed)) and should be \(hexadecimal(stored))"
            )
        }
    }

    private func hexadecimal(_ value: UInt32) -> String { "0x" + String(value, radix: 16) }
}

/// The fixed part of an encoded record.
package struct RecordHeader: Equatable, Sendable {
    package var length: UInt32
    package var checksum: UInt32
    package var offset: UInt64
    package var timestamp: Int64
    package var keyBytes: UInt32
    package var valueBytes: UInt32

    /// Reads the fields without judging them.
    ///
    /// - Parameter bytes: At least ``RecordLayout/headerBytes``.
    package init(_ bytes: UnsafeRawBufferPointer) {
        length = bytes.loadBigEndian(at: 0)
        checksum = bytes.loadBigEndian(at: 4)
        offset = bytes.loadBigEndian(at: 8)
        timestamp = bytes.loadBigEndian(at: 16)
        keyBytes = bytes.loadBigEndian(at: 24)
        valueBytes = bytes.loadBigEndian(at: 28)
    }

    /// Bytes of the whole record, its length field included.
    package var encodedBytes: Int { RecordLayout.lengthBytes + Int(length) }

    func checksumMismatch(computed: UInt32) -> RecordDefect {
        .checksumMismatch(encodedBytes: encodedBytes, stored: checksum, computed: computed)
    }

    /// Judges the header; only one without a defect may decide how much is allocated or skipped.
    ///
    /// - Parameters:
    ///   - availableBytes: From the start of the record to the end of the file.
    ///   - expectedOffset: The offset that belongs here, or nil where any will do.
    package func defect(availableBytes: Int, expectedOffset: UInt64?) -> RecordDefect? {
        guard encodedBytes >= RecordLayout.headerBytes, encodedBytes <= RecordLayout.maximumEncodedBytes else {
            return .impossibleLength(length)
        }
        let sum = RecordLayout.encodedBytes(keyBytes: Int(keyBytes), valueBytes: Int(valueBytes))
        guard sum == encodedBytes else {
            return .contradictingLengths(length: length, keyBytes: keyBytes, valueBytes: valueBytes)
        }
        if let expectedOffset, offset != expectedOffset {
            return .unexpectedOffset(found: offset, expected: expectedOffset)
        }
        guard encodedBytes <= availableBytes else {
            return .truncated(needsBytes: encodedBytes, availableBytes: availableBytes)
        }
        return nil
    }
}

extension NewRecord {
    /// Bytes of this record on disk.
    package var encodedBytes: Int {
        RecordLayout.encodedBytes(keyBytes: key.count, valueBytes: value.count)
    }

    /// Writes the record to the front of a buffer, which must have room for ``encodedBytes``.
    package func encode(offset: UInt64, into buffer: Buffer) {
        let encoded = buffer.prefix(encodedBytes)
        encoded.storeBigEndian(UInt32(encodedBytes - RecordLayout.lengthBytes), at: 0)
        encoded.storeBigEndian(offset, at: 8)
        encoded.storeBigEndian(timestamp, at: 16)
        encoded.storeBigEndian(UInt32(key.count), at: 24)
        encoded.storeBigEndian(UInt32(value.count), at: 28)
        let payload = encoded.dropFirst(RecordLayout.headerBytes)
        payload.withUnsafeMutableBytes { $0.copyBytes(from: key) }
        payload.dropFirst(key.count).withUnsafeMutableBytes { $0.copyBytes(from: value) }
        var checksum = CRC32C()
        encoded.dropFirst(RecordLayout.checksummedFrom).withUnsafeBytes { checksum.update($0) }
        encoded.storeBigEndian(checksum.value, at: 4)
    }

    /// Encodes the record into a buffer of its own.
    ///
    /// - Returns: A buffer that the caller must put back into `pool`.
    /// - Precondition: ``encodedBytes`` is at most ``RecordLayout/maximumEncodedBytes``.
    package func encoded(offset: UInt64, pool: BufferPool = .shared) -> Buffer {
        precondition(encodedBytes <= RecordLayout.maximumEncodedBytes, "a record of \(encodedBytes) bytes is too large")
        let buffer = pool.get(encodedBytes)
        encode(offset: offset, into: buffer)
        return buffer
    }
}

/// Decodes the record at the front of some bytes and checks it in full.
///
/// - Parameters:
///   - bytes: May go on after the record.
///   - expectedOffset: The offset that belongs here, or nil where any will do.
package func decodeRecord(
    _ bytes: UnsafeRawBufferPointer,
    expectedOffset: UInt64? = nil
) -> Result<RecordView, RecordDefect> {
    guard bytes.count >= RecordLayout.headerBytes else {
        return .failure(.truncated(needsBytes: RecordLayout.headerBytes, availableBytes: bytes.count))
    }
    let header = RecordHeader(bytes)
    if let defect = header.defect(availableBytes: bytes.count, expectedOffset: expectedOffset) {
        return .failure(defect)
    }
    var checksum = CRC32C()
    checksum.update(UnsafeRawBufferPointer(rebasing: bytes[RecordLayout.checksummedFrom..<header.encodedBytes]))
    guard checksum.value == header.checksum else {
        return .failure(header.checksumMismatch(computed: checksum.value))
    }
    return .success(RecordView(header: header, encoded: bytes))
}

// Tests of the checksum and of the layout of a record.

import Mempool
import Testing

@testable import SegmentLog

@Suite struct RecordEncodingTests {
    @Test("The checksum agrees with the published value for the digits 1 to 9") func publishedChecksum() {
        var checksum = CRC32C()
        Array("123456789".utf8).withUnsafeBytes { checksum.update($0) }
        #expect(checksum.value == 0xE306_9283)
        #expect(CRC32C().value == 0)
    }

    @Test("The checksum does not depend on how the bytes are divided")
    func checksumInPieces() {
        let bytes = (0..<100).map { UInt8($0) }
        var whole = CRC32C()
        bytes.withUnsafeBytes { whole.update($0) }
        for split in 0...100 {
            var pieces = CRC32C()
            bytes[..<split].withUnsafeBytes { pieces.update($0) }
            bytes[split...].withUnsafeBytes { pieces.update($0) }
            #expect(pieces.value == whole.value)
        }
    }

    @Test("A record is laid out as documented, big-endian") func layout() throws {
        let pool = BufferPool()
        let record = NewRecord(timestamp: 0x0102_0304_0506_0708, key: [0xAA], value: [0xBB, 0xCC])
        let buffer = record.encoded(offset: 0x1112_1314_1516_1718, pool: pool)
        defer { pool.put(buffer) }
        let bytes = buffer.withUnsafeMutableBytes { Array($0) }
        #expect(bytes.count == 35)
        #expect(bytes[0..<4] == [0, 0, 0, 31])
        #expect(bytes[8..<16] == [0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18])
        #expect(bytes[16..<24] == [1, 2, 3, 4, 5, 6, 7, 8])
        #expect(bytes[24..<32] == [0, 0, 0, 1, 0, 0, 0, 2])
        #expect(bytes[32...] == [0xAA, 0xBB, 0xCC])
        var checksum = CRC32C()
        bytes[8...].withUnsafeBytes { checksum.update($0) }
        #expect(bytes.withUnsafeBytes { $0.loadBigEndian(at: 4, as: UInt32.self) } == checksum.value)
    }

    @Test("Key and value may be empty") func emptyRecord() throws {
        let pool = BufferPool()
        let record = NewRecord(timestamp: .min, key: [], value: [])
        let buffer = record.encoded(offset: .max, pool: pool)
        #expect(buffer.count == RecordLayout.headerBytes)
        let decoded = buffer.withUnsafeMutableBytes { decodeRecord(UnsafeRawBufferPointer($0)).map { Record($0) } }
        #expect(try decoded.get() == record.at(offset: .max))
        pool.put(buffer)
        #expect(pool.stats().inUse == 0)
    }

    @Test("No single flipped bit is accepted") func flippedBits() throws {
        let pool = BufferPool()
        let buffer = NewRecord.numbered(3).encoded(offset: 3, pool: pool)
        defer { pool.put(buffer) }
        for bit in 0..<(buffer.count * 8) {
            buffer[bit / 8] ^= 1 << UInt8(bit % 8)
            let isAccepted = buffer.withUnsafeMutableBytes { bytes in
                (try? decodeRecord(UnsafeRawBufferPointer(bytes), expectedOffset: 3).get()) != nil
            }
            #expect(!isAccepted, "bit \(bit)")
            buffer[bit / 8] ^= 1 << UInt8(bit % 8)
        }
    }

    @Test("A record that ends early is called truncated, at every length") func everyLength() throws {
        let pool = BufferPool()
        let buffer = NewRecord.numbered(3).encoded(offset: 3, pool: pool)
        defer { pool.put(buffer) }
        for count in 0..<buffer.count {
            let needed = count < RecordLayout.headerBytes ? RecordLayout.headerBytes : buffer.count
            let outcome = buffer.prefix(count).withUnsafeMutableBytes { bytes in
                decodeRecord(UnsafeRawBufferPointer(bytes)).map { _ in true }
            }
            #expect(outcome == .failure(.truncated(needsBytes: needed, availableBytes: count)))
        }
    }
}

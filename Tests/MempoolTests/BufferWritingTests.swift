// Writing into buffers: integers in both byte orders, copies that fit or say so, and the writer.

import Mempool
import Testing

@Suite("Integers in buffers")
struct BufferIntegerTests {
    let pool = BufferPool()

    @Test("big-endian integers have their most significant byte first, at any position")
    func bigEndian() {
        pool.withBuffer(20) { buffer in
            buffer.storeBigEndian(UInt32(0x0102_0304), at: 1)
            #expect((1...4).map { buffer[$0] } == [1, 2, 3, 4])
            #expect(buffer.loadBigEndian(at: 1, as: UInt32.self) == 0x0102_0304)
            buffer.storeBigEndian(Int64(-2), at: 11)
            #expect((11...18).map { buffer[$0] } == [255, 255, 255, 255, 255, 255, 255, 254])
            let loaded: Int64 = buffer.loadBigEndian(at: 11)
            #expect(loaded == -2)
        }
    }

    @Test("little-endian integers have their least significant byte first, at any position")
    func littleEndian() {
        pool.withBuffer(20) { buffer in
            buffer.storeLittleEndian(UInt16(0x0102), at: 3)
            #expect(buffer[3] == 2 && buffer[4] == 1)
            #expect(buffer.loadLittleEndian(at: 3, as: UInt16.self) == 0x0102)
            buffer.storeLittleEndian(UInt64.max - 1, at: 5)
            #expect(buffer.loadLittleEndian(at: 5, as: UInt64.self) == UInt64.max - 1)
            #expect(buffer.loadBigEndian(at: 5, as: UInt64.self) == 0xFEFF_FFFF_FFFF_FFFF)
        }
    }

    @Test("every width fits exactly at the end, and slices count from their own start")
    func ends() {
        func check<Number: FixedWidthInteger & BitwiseCopyable & Sendable>(_ number: Number) {
            pool.withBuffer(16) { buffer in
                let size = MemoryLayout<Number>.size
                buffer.storeBigEndian(number, at: 16 - size)
                #expect(buffer.loadBigEndian(at: 16 - size) == number)
                #expect(buffer.dropFirst(16 - size).loadBigEndian(at: 0) == number)
                buffer.storeLittleEndian(number, at: 0)
                #expect(buffer.prefix(size).loadLittleEndian(at: 0) == number)
            }
        }
        check(UInt8(200))
        check(Int8(-100))
        check(UInt16(0xABCD))
        check(Int32.min)
        check(UInt64(0x0123_4567_89AB_CDEF))
        check(UInt128(1) << 127 | 5)
    }

    @Test("an integer that does not lie wholly within the count traps, though the capacity would hold it")
    func traps() async {
        await #expect(processExitsWith: .failure) { _ = getBuffer(10).loadBigEndian(at: 7, as: UInt32.self) }
        await #expect(processExitsWith: .failure) { _ = getBuffer(10).loadLittleEndian(at: -1, as: UInt8.self) }
        await #expect(processExitsWith: .failure) { getBuffer(10).storeBigEndian(UInt8(1), at: 10) }
        await #expect(processExitsWith: .failure) { getBuffer(10).storeLittleEndian(UInt64(1), at: .max) }
        await #expect(processExitsWith: .failure) { getBuffer(10).storeBigEndian(UInt16(1), at: .min) }
        await #expect(processExitsWith: .failure) { getBuffer(0).storeBigEndian(UInt8(1), at: 0) }
    }
}

@Suite("Copying into buffers")
struct BufferCopyingTests {
    let pool = BufferPool()

    @Test("all kinds of collections are copied, up to the last byte of the count")
    func collections() throws {
        let buffer = pool.get(6)
        defer { pool.put(buffer) }
        func contents() -> [UInt8] { buffer.withUnsafeBytes { Array($0) } }
        try buffer.copyBytes(from: [1, 2, 3, 4, 5, 6])
        #expect(contents() == [1, 2, 3, 4, 5, 6])
        try buffer.copyBytes(from: "ab".utf8, at: 4)
        #expect(contents() == [1, 2, 3, 4, 97, 98])
        // Neither is contiguous.
        try buffer.copyBytes(from: [UInt16(7), 8].lazy.map { UInt8($0) }, at: 1)
        try buffer.copyBytes(from: Set([UInt8(9)]), at: 5)
        #expect(contents() == [1, 7, 8, 4, 97, 9])
        try buffer.copyBytes(from: [0, 5, 5, 0][1...2], at: 0)
        try withUnsafeBytes(of: UInt16(0x0606)) { try buffer.copyBytes(from: $0, at: 4) }
        #expect(contents() == [5, 5, 8, 4, 6, 6])
        try buffer.copyBytes(from: [], at: 6)
        try buffer.copyBytes(from: EmptyCollection(), at: 0)
        #expect(contents() == [5, 5, 8, 4, 6, 6])
    }

    @Test("another buffer is copied, even when both share memory")
    func buffers() throws {
        let buffer = pool.get(6)
        defer { pool.put(buffer) }
        try buffer.copyBytes(from: [1, 2, 3, 4, 5, 6])
        try buffer.copyBytes(from: buffer.prefix(4), at: 2)
        #expect(buffer.withUnsafeBytes { Array($0) } == [1, 2, 1, 2, 3, 4])
        try pool.get(0).copyBytes(from: pool.get(0))
    }

    @Test("what does not fit is an error with both numbers, and nothing is written")
    func doesNotFit() {
        let buffer = pool.get(4)
        defer { pool.put(buffer) }
        for index in 0..<4 { buffer[index] = 0 }
        let expected = BufferFullError(neededBytes: 3, availableBytes: 2)
        #expect(throws: expected) { try buffer.copyBytes(from: [1, 1, 1], at: 2) }
        #expect(throws: expected) { try buffer.copyBytes(from: [1, 1, 1].lazy.map { $0 }, at: 2) }
        #expect(throws: expected) { try buffer.copyBytes(from: buffer.prefix(3), at: 2) }
        #expect(throws: BufferFullError.self) { try pool.get(0).copyBytes(from: [1]) }
        #expect(buffer.withUnsafeBytes { $0.allSatisfy { $0 == 0 } })
        #expect(expected.description == "3 bytes do not fit into the 2 bytes that the buffer has left")
    }

    @Test("a position outside the buffer traps")
    func traps() async {
        await #expect(processExitsWith: .failure) { try getBuffer(10).copyBytes(from: [], at: 11) }
        await #expect(processExitsWith: .failure) { try getBuffer(10).copyBytes(from: [1], at: -1) }
    }
}

@Suite("Appending to buffers")
struct BufferWriterTests {
    let pool = BufferPool()

    @Test("appends follow one another, and what is written is a prefix that may be put")
    func appends() throws {
        let buffer = pool.get(100)
        let other = pool.get(2)
        try other.copyBytes(from: [8, 9])
        var writer = BufferWriter(buffer)
        #expect(writer.position == 0 && writer.remaining == 100 && writer.written.isEmpty)
        try writer.append(UInt16(0x0102))
        try writer.append(UInt16(0x0102), .littleEndian)
        try writer.append(UInt8(7))
        try writer.append(contentsOf: "hi".utf8)
        try writer.append(contentsOf: [1, 2, 3].lazy.map { $0 + 1 })
        try writer.append(contentsOf: other)
        #expect(writer.position == 12 && writer.remaining == 88)
        #expect(writer.written.withUnsafeBytes { Array($0) } == [1, 2, 2, 1, 7, 104, 105, 2, 3, 4, 8, 9])
        pool.put(writer.written)
        pool.put(other)
        #expect(pool.stats().puts == 2 && pool.stats().discarded == 0)
    }

    @Test("an append that does not fit changes nothing, and one that fits exactly is the last")
    func full() throws {
        let buffer = pool.get(5)
        defer { pool.put(buffer) }
        for index in 0..<5 { buffer[index] = 0 }
        var writer = BufferWriter(buffer)
        try writer.append(UInt8(1))
        #expect(throws: BufferFullError(neededBytes: 8, availableBytes: 4)) { try writer.append(UInt64(2)) }
        #expect(throws: BufferFullError(neededBytes: 5, availableBytes: 4)) {
            try writer.append(contentsOf: [1, 2, 3, 4, 5])
        }
        #expect(throws: BufferFullError(neededBytes: 5, availableBytes: 4)) { try writer.append(contentsOf: buffer) }
        #expect(throws: BufferFullError(neededBytes: 5, availableBytes: 4)) { try writer.reserve(5) }
        #expect(throws: BufferFullError(neededBytes: .max, availableBytes: 4)) { try writer.reserve(.max) }
        #expect(writer.position == 1 && buffer.withUnsafeBytes { Array($0) } == [1, 0, 0, 0, 0])
        try writer.append(UInt32(0x0203_0405))
        #expect(writer.remaining == 0 && buffer.withUnsafeBytes { Array($0) } == [1, 2, 3, 4, 5])
        #expect(throws: BufferFullError.self) { try writer.append(UInt8(1)) }
        try writer.append(contentsOf: [])
        #expect(writer.position == 5)
    }

    @Test("reserved bytes can be filled in later")
    func reserve() throws {
        let buffer = pool.get(100)
        defer { pool.put(buffer) }
        var writer = BufferWriter(buffer)
        let length = try writer.reserve(4)
        #expect(length.count == 4)
        try writer.append(contentsOf: "hello".utf8)
        length.storeBigEndian(UInt32(writer.position - 4), at: 0)
        #expect(writer.written.withUnsafeBytes { Array($0) } == [0, 0, 0, 5] + Array("hello".utf8))
        #expect(try writer.reserve(0).isEmpty)
    }

    @Test("a batch of records that overflows is cut at the last whole record and goes on")
    func batches() throws {
        let buffer = pool.get(16)
        defer { pool.put(buffer) }
        var writer = BufferWriter(buffer)
        var batches: [[UInt8]] = []
        func append(_ record: [UInt8]) throws(BufferFullError) {
            let start = writer.position
            do throws(BufferFullError) {
                try writer.append(UInt8(record.count))
                try writer.append(contentsOf: record)
            } catch {
                writer.rewind(to: start)
                throw error
            }
        }
        for size in [5, 6, 7, 8] {
            let record = [UInt8](repeating: UInt8(size), count: size)
            do {
                try append(record)
            } catch {
                batches.append(writer.written.withUnsafeBytes { Array($0) })
                writer.rewind(to: 0)
                try append(record)
            }
        }
        batches.append(writer.written.withUnsafeBytes { Array($0) })
        #expect(batches.map(\.count) == [13, 8, 9])
        #expect(batches[1] == [7, 7, 7, 7, 7, 7, 7, 7])
    }

    @Test("a copy of a writer goes on by itself")
    func copies() throws {
        let buffer = pool.get(10)
        defer { pool.put(buffer) }
        var writer = BufferWriter(buffer)
        try writer.append(UInt8(1))
        let mark = writer
        try writer.append(UInt8(2))
        #expect(mark.position == 1 && writer.position == 2)
    }

    @Test("an empty buffer has no room")
    func empty() throws {
        var writer = BufferWriter(pool.get(0))
        #expect(throws: BufferFullError(neededBytes: 1, availableBytes: 0)) { try writer.append(UInt8(1)) }
        try writer.append(contentsOf: [])
        #expect(writer.written.isEmpty)
    }

    @Test("going forward or before the front traps, and so does a negative reservation")
    func traps() async {
        await #expect(processExitsWith: .failure) {
            var writer = BufferWriter(getBuffer(10))
            writer.rewind(to: 1)
        }
        await #expect(processExitsWith: .failure) {
            var writer = BufferWriter(getBuffer(10))
            writer.rewind(to: -1)
        }
        await #expect(processExitsWith: .failure) {
            var writer = BufferWriter(getBuffer(10))
            _ = try writer.reserve(-1)
        }
    }

    /// Says that it has two elements, and has as many as told.
    private struct Miscounted: Collection {
        let actual: Int
        var startIndex: Int { 0 }
        var endIndex: Int { 2 }
        func index(after index: Int) -> Int { index + 1 }
        subscript(index: Int) -> UInt8 { 7 }
        func makeIterator() -> AnyIterator<UInt8> {
            var left = actual
            return AnyIterator {
                left -= 1
                return left >= 0 ? 7 : nil
            }
        }
    }

    @Test func `A collection that miscounts its elements writes no more than it said`() throws {
        let buffer = getBuffer(4)
        defer { putBuffer(buffer) }
        try buffer.copyBytes(from: [0, 0, 0, 0])
        try buffer.copyBytes(from: Miscounted(actual: 9), at: 1)
        #expect((0..<4).map { buffer[$0] } == [0, 7, 7, 0])
        var writer = BufferWriter(buffer)
        try writer.append(contentsOf: Miscounted(actual: 9))
        #expect(writer.position == 2)
        try writer.append(contentsOf: Miscounted(actual: 1))
        #expect(writer.position == 3)
    }
}

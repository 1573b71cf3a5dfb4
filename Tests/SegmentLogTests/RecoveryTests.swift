// Tests of damaged files: torn tails, corrupt fields, indexes that are missing or wrong.
// In all of them no earlier complete record is lost and no buffer leaks (the fixture checks that).

import Glibc
import Mempool
import Testing

@testable import SegmentLog

@Suite struct RecoveryTests {
    /// A log of some records, and where each of them starts; the last element is the end.
    private func fill(_ fixture: Fixture, count: Int) throws -> [Int] {
        let segment = try fixture.open()
        var starts = [0]
        for number in 0..<count {
            try segment.append(.numbered(number))
            starts.append(segment.logBytes)
        }
        return starts
    }

    private func expectRecords(_ segment: Segment, _ count: Int) throws {
        #expect(segment.recordCount == count)
        for number in 0..<count {
            #expect(try segment.read(offset: UInt64(number)) == NewRecord.numbered(number).at(offset: UInt64(number)))
        }
    }

    @Test("A log cut at any byte of its last record keeps all earlier ones and says what was cut")
    func tornAtEveryByte() throws {
        try withFixture { fixture in
            fixture.options.indexIntervalBytes = 100
            let starts = try fill(fixture, count: 6)
            let whole = try fixture.bytes(".log")
            for end in (starts[5] + 1)..<starts[6] {
                try fixture.write(Array(whole[..<end]), ".log")
                let segment = try fixture.open()
                #expect(segment.recovery.cutBytes == end - starts[5])
                #expect(segment.recovery.cutReason?.code == .truncated)
                #expect(segment.recovery.cutReason?.position == starts[5])
                try expectRecords(segment, 5)
                #expect(try fixture.bytes(".log") == Array(whole[..<starts[5]]))
                #expect(try segment.append(.numbered(5)) == 5)
                #expect(try fixture.bytes(".log") == whole)
            }
        }
    }

    @Test("A log cut exactly between two records is complete, and index entries past its end go")
    func cutBetweenRecords() throws {
        try withFixture { fixture in
            fixture.options.indexIntervalBytes = 1
            let starts = try fill(fixture, count: 6)
            try fixture.write(Array(try fixture.bytes(".log")[..<starts[3]]), ".log")
            let segment = try fixture.open()
            #expect(segment.recovery.cutBytes == 0)
            #expect(segment.recovery.cutReason == nil)
            #expect(segment.recovery.indexEntriesCut == 6)
            #expect(segment.recovery.indexEntriesAdded == 0)
            try expectRecords(segment, 3)
            #expect(try fixture.bytes(".index").count == 2 * 8)
            #expect(try fixture.bytes(".timeindex").count == 2 * 12)
        }
    }

    @Test("A torn batch keeps those of its records that are complete") func tornBatch() throws {
        try withFixture { fixture in
            try fixture.open().appendBatch((0..<10).map { .numbered($0) })
            let whole = try fixture.bytes(".log")
            try fixture.write(Array(whole.dropLast()), ".log")
            try expectRecords(try fixture.open(), 9)
        }
    }

    @Test("Every damaged byte of the last record is noticed, and costs only that record")
    func everyByteOfTheLastRecord() throws {
        try withFixture { fixture in
            let starts = try fill(fixture, count: 4)
            let whole = try fixture.bytes(".log")
            for position in starts[3]..<starts[4] {
                var damaged = whole
                damaged[position] ^= 0xFF
                try fixture.write(damaged, ".log")
                let segment = try fixture.open()
                #expect(segment.recovery.cutBytes == starts[4] - starts[3])
                try expectRecords(segment, 3)
            }
        }
    }

    @Test("Every damaged byte in the middle is refused, and nothing is cut") func everyByteInTheMiddle() throws {
        try withFixture { fixture in
            let starts = try fill(fixture, count: 4)
            let whole = try fixture.bytes(".log")
            for position in starts[1]..<starts[2] {
                var damaged = whole
                damaged[position] ^= 0xFF
                try fixture.write(damaged, ".log")
                let error = #expect(throws: SegmentError.self) { try fixture.open() }
                #expect(error?.code == .damagedMiddle)
                #expect(error?.position == starts[1])
                #expect(try fixture.bytes(".log") == damaged)
            }
        }
    }

    @Test("On request damage in the middle is cut off with what follows") func cutAtFirstDamage() throws {
        try withFixture { fixture in
            let starts = try fill(fixture, count: 4)
            var damaged = try fixture.bytes(".log")
            damaged[starts[1] + 40] ^= 1
            try fixture.write(damaged, ".log")
            fixture.options.recovery = .cutAtFirstDamage
            let segment = try fixture.open()
            #expect(segment.recovery.cutReason?.code == .checksumMismatch)
            #expect(segment.recovery.cutBytes == starts[4] - starts[1])
            try expectRecords(segment, 1)
        }
    }

    @Test(
        "A corrupt length at any of its places is named and allocates nothing beyond the scan window",
        arguments: [0, 24, 28],
        [0, 1, 27, 29, 0x7FFF_FFFF, 0xFFFF_FFFF] as [UInt32]
    )
    func corruptLength(field: Int, value: UInt32) throws {
        try withFixture { fixture in
            let starts = try fill(fixture, count: 4)
            var damaged = try fixture.bytes(".log")
            damaged.withUnsafeMutableBytes { $0.storeBigEndian(value, at: starts[3] + field) }
            try fixture.write(damaged, ".log")
            let segment = try fixture.open()
            #expect(segment.recovery.cutReason?.code == .corruptLength)
            #expect(segment.recovery.cutReason?.position == starts[3])
            try expectRecords(segment, 3)
            #expect(fixture.pool.stats().oversized == 0)
        }
    }

    @Test("Errors are one sentence with file, byte and numbers") func sentences() throws {
        try withFixture { fixture in
            let starts = try fill(fixture, count: 2)
            let whole = try fixture.bytes(".log")
            let start = starts[1]
            func reason(_ damage: (inout [UInt8]) -> Void) throws -> String? {
                var bytes = whole
                damage(&bytes)
                try fixture.write(bytes, ".log")
                return try fixture.open().recovery.cutReason?.description
            }
            let place = "\(fixture.path(".log")), byte \(start): "
            #expect(
                try reason { $0[start] = 0xFF } == place
                    + "the length prefix 4278190133 is corrupt; a record has 28 to 16777212 bytes after it."
            )
            #expect(
                try reason { $0[start + 3] += 1 } == place
                    + "the length prefix 54 is corrupt; it contradicts a key of 5 and a value of 20 bytes."
            )
            #expect(
                try reason { $0.removeLast() } == place
                    + "the file ends inside a record that needs 57 bytes; 56 are there."
            )
            let checksum = try reason { $0[start + 32] ^= 1 } ?? ""
            #expect(checksum.hasPrefix(place + "the record's checksum is 0x"))
            #expect(
                try reason { $0[start + 15] = 9 } == place + "the record has offset 9 where 1 belongs."
            )
        }
    }

    @Test("A log full of zeros or noise loses nothing, for it holds no record", arguments: [1, 31, 32, 100_000])
    func noRecords(count: Int) throws {
        for value in [0, 0xFF] as [UInt8] {
            try withFixture { fixture in
                try fixture.write([UInt8](repeating: value, count: count), ".log")
                let segment = try fixture.open()
                #expect(segment.recovery.cutBytes == count)
                #expect(try segment.append(.numbered(0)) == 0)
                try expectRecords(segment, 1)
            }
        }
    }

    @Test("A tail of zeros, as some file systems leave after a crash, is cut") func zeroTail() throws {
        try withFixture { fixture in
            let starts = try fill(fixture, count: 3)
            try fixture.write(try fixture.bytes(".log") + [UInt8](repeating: 0, count: 4096), ".log")
            let segment = try fixture.open()
            #expect(segment.recovery.cutBytes == 4096)
            #expect(segment.logBytes == starts[3])
            try expectRecords(segment, 3)
        }
    }

    @Test("A torn record whose value holds a whole record is still a torn record") func logInALog() throws {
        try withFixture { fixture in
            _ = try fill(fixture, count: 2)
            let inner = NewRecord.numbered(9).encoded(offset: 9, pool: fixture.pool)
            let innerBytes = inner.withUnsafeMutableBytes { Array($0) }
            fixture.pool.put(inner)
            try fixture.open().append(NewRecord(timestamp: 1, key: [], value: innerBytes + [1, 2, 3]))
            try fixture.write(Array(try fixture.bytes(".log").dropLast()), ".log")
            let segment = try fixture.open()
            #expect(segment.recovery.cutReason?.code == .truncated)
            try expectRecords(segment, 2)
        }
    }

    @Test("A log under the name of another offset is refused and kept") func renamedLog() throws {
        try withFixture { fixture in
            _ = try fill(fixture, count: 3)
            let whole = try fixture.bytes(".log")
            for base in [7, 1000] as [UInt64] {
                try writeFile(fixture.path(".log", baseOffset: base), whole)
                let error = #expect(throws: SegmentError.self) { try fixture.open(baseOffset: base) }
                #expect(error?.code == .damagedMiddle)
                #expect(try readFile(fixture.path(".log", baseOffset: base)) == whole)
            }
        }
    }

    @Test(
        "Missing indexes are rebuilt as they were", arguments: [[".index"], [".timeindex"], [".index", ".timeindex"]])
    func missingIndex(suffixes: [String]) throws {
        try withFixture { fixture in
            fixture.options.indexIntervalBytes = 100
            _ = try fill(fixture, count: 50)
            let before = try [".index", ".timeindex"].map { try fixture.bytes($0) }
            for suffix in suffixes { unlink(fixture.path(suffix)) }
            let segment = try fixture.open()
            #expect(segment.recovery.indexEntriesAdded == suffixes.count * segment.indexEntryCount)
            #expect(segment.indexEntryCount > 0)
            #expect(try [".index", ".timeindex"].map { try fixture.bytes($0) } == before)
            try expectRecords(segment, 50)
        }
    }

    @Test("Any damaged byte of an index is repaired on opening", arguments: [".index", ".timeindex"])
    func corruptIndex(suffix: String) throws {
        try withFixture { fixture in
            fixture.options.indexIntervalBytes = 100
            _ = try fill(fixture, count: 12)
            let right = try fixture.bytes(suffix)
            for position in right.indices {
                var damaged = right
                damaged[position] ^= 0x55
                try fixture.write(damaged, suffix)
                let segment = try fixture.open()
                #expect(!segment.recovery.isClean)
                #expect(try fixture.bytes(suffix) == right)
            }
            for count in right.indices {
                try fixture.write(Array(right[..<count]), suffix)
                #expect(try !fixture.open().recovery.isClean)
                #expect(try fixture.bytes(suffix) == right)
            }
            try fixture.write(right + [1, 2, 3], suffix)
            #expect(try fixture.open().recovery.indexEntriesCut == 1)
            #expect(try fixture.bytes(suffix) == right)
        }
    }

    @Test("Another index interval makes the indexes anew") func otherInterval() throws {
        try withFixture { fixture in
            fixture.options.indexIntervalBytes = 100
            _ = try fill(fixture, count: 50)
            fixture.options.indexIntervalBytes = 1
            let segment = try fixture.open()
            #expect(segment.indexEntryCount == 49)
            try expectRecords(segment, 50)
        }
    }

    @Test("Damage that appears while the segment is open is an error, never wrong data") func laterDamage() throws {
        try withFixture { fixture in
            let starts = try fill(fixture, count: 3)
            let segment = try fixture.open()
            let whole = try fixture.bytes(".log")
            let codes: [Int: SegmentError.Code] = [
                0: .corruptLength, 4: .checksumMismatch, 8: .unexpectedOffset, 16: .checksumMismatch,
                24: .corruptLength, 28: .corruptLength, 32: .checksumMismatch, 40: .checksumMismatch,
            ]
            for (field, code) in codes {
                var damaged = whole
                damaged[starts[1] + field] ^= 0xFF
                try fixture.write(damaged, ".log")
                #expect(try segment.read(offset: 0) == NewRecord.numbered(0).at(offset: 0))
                let error = #expect(throws: SegmentError.self) { try segment.read(offset: 1) }
                #expect(error?.code == code)
                #expect(error?.position == starts[1])
            }
            try fixture.write(Array(whole[..<(starts[2] + 10)]), ".log")
            let error = #expect(throws: SegmentError.self) { try segment.read(offset: 2) }
            #expect(error?.code == .truncated)
        }
    }

    @Test("An index that is damaged while the segment is open leads to an error") func laterIndexDamage() throws {
        try withFixture { fixture in
            fixture.options.indexIntervalBytes = 1
            _ = try fill(fixture, count: 5)
            let segment = try fixture.open()
            try fixture.write([], ".index")
            let missing = #expect(throws: SegmentError.self) { try segment.read(offset: 3) }
            #expect(missing?.code == .truncated)
            #expect(missing?.path == fixture.path(".index"))
            try fixture.write([UInt8](repeating: 0xFF, count: 4 * 8), ".index")
            #expect(try segment.read(offset: 0).offset == 0)
            // Every entry claims offset 0: inside a record, then behind the end of the log.
            for (position, code) in [(5, .corruptLength), (0xFFFF, .corruptIndex)] as [(UInt32, SegmentError.Code)] {
                var entries = [UInt8](repeating: 0, count: 4 * 8)
                entries.withUnsafeMutableBytes { bytes in
                    for number in 0..<4 { bytes.storeBigEndian(position, at: number * 8 + 4) }
                }
                try fixture.write(entries, ".index")
                let error = #expect(throws: SegmentError.self) { try segment.read(offset: 3) }
                #expect(error?.code == code)
            }
        }
    }
}

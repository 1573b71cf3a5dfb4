// Tests of a healthy segment: appending, reading, the indexes, searching by time, limits.

import Glibc
import Mempool
import Testing

@testable import SegmentLog

@Suite struct SegmentTests {
    @Test("Records appended one by one are read back by offset") func singleAppends() throws {
        try withFixture { fixture in
            let segment = try fixture.open(baseOffset: 7)
            for number in 0..<10 {
                #expect(try segment.append(.numbered(number)) == UInt64(7 + number))
            }
            for number in 0..<10 {
                #expect(
                    try segment.read(offset: UInt64(7 + number))
                        == NewRecord.numbered(number).at(offset: UInt64(7 + number))
                )
            }
            #expect(segment.recordCount == 10)
            #expect(segment.nextOffset == 17)
        }
    }

    @Test("A batch gets consecutive offsets and is one with single appends") func batches() throws {
        try withFixture { fixture in
            let segment = try fixture.open()
            try segment.append(.numbered(0))
            #expect(try segment.appendBatch((1..<5).map { .numbered($0) }) == 1..<5)
            #expect(try segment.appendBatch([]) == 5..<5)
            #expect(try segment.appendBatch([.numbered(5)]) == 5..<6)
            for number in 0..<6 { #expect(try segment.read(offset: UInt64(number)).key == Array("key \(number)".utf8)) }
        }
    }

    @Test("Single appends and one batch leave the same files", arguments: [1, 64, 100, 4096])
    func sameFiles(indexIntervalBytes: Int) throws {
        let records = (0..<200).map { NewRecord.numbered($0, valueBytes: $0) }
        var files: [[[UInt8]]] = []
        for isBatch in [false, true] {
            try withFixture { fixture in
                fixture.options.indexIntervalBytes = indexIntervalBytes
                let segment = try fixture.open()
                if isBatch {
                    try segment.appendBatch(records)
                } else {
                    for record in records { try segment.append(record) }
                }
                files.append(try [".log", ".index", ".timeindex"].map { try fixture.bytes($0) })
            }
        }
        #expect(files[0] == files[1])
        #expect(!files[0][1].isEmpty)
        #expect(files[0][1].count / 8 == files[0][2].count / 12)
    }

    @Test("An offset outside the segment is an error that says which offsets there are")
    func offsetOutside() throws {
        try withFixture { fixture in
            let segment = try fixture.open(baseOffset: 7)
            #expect(throws: SegmentError.self) { try segment.read(offset: 7) }
            try segment.append(.numbered(0))
            for offset in [0, 6, 8, UInt64.max] {
                let error = #expect(throws: SegmentError.self) { try segment.read(offset: offset) }
                #expect(error?.code == .noSuchOffset)
                #expect(
                    error?.description
                        == "\(segment.logPath): there is no offset \(offset); the segment holds 1 records from 7 on."
                )
            }
        }
    }

    @Test("A record may fill the limit but not exceed it, and one too large allocates nothing")
    func recordLimit() throws {
        try withFixture { fixture in
            let segment = try fixture.open()
            let largest = RecordLayout.maximumEncodedBytes - RecordLayout.headerBytes
            try segment.append(NewRecord(timestamp: 1, key: [], value: [UInt8](repeating: 7, count: largest)))
            let getsBefore = fixture.pool.stats().gets
            let error = #expect(throws: SegmentError.self) {
                try segment.append(NewRecord(timestamp: 1, key: [1], value: [UInt8](repeating: 7, count: largest)))
            }
            #expect(error?.code == .tooLarge)
            #expect(fixture.pool.stats().gets == getsBefore)
            #expect(try segment.withRecord(at: 0) { $0.value.count } == largest)
            #expect(fixture.pool.stats().oversized == 0)
            #expect(segment.recordCount == 1)
        }
    }

    @Test("A full segment refuses the record that does not fit and takes one that does") func fullSegment() throws {
        try withFixture { fixture in
            fixture.options.maximumSegmentBytes = 100
            let segment = try fixture.open()
            try segment.append(NewRecord(timestamp: 1, key: [], value: [1, 2, 3]))
            let tooMuch = NewRecord(timestamp: 1, key: [], value: [UInt8](repeating: 0, count: 34))
            let error = #expect(throws: SegmentError.self) { try segment.append(tooMuch) }
            #expect(error?.code == .segmentFull)
            #expect(error?.position == 35)
            try segment.append(NewRecord(timestamp: 1, key: [], value: [UInt8](repeating: 0, count: 33)))
            #expect(segment.logBytes == 100)
        }
    }

    @Test("Reopening a healthy segment changes nothing and finds everything") func reopening() throws {
        try withFixture { fixture in
            fixture.options.indexIntervalBytes = 100
            do {
                let segment = try fixture.open()
                #expect(segment.recovery == RecoveryReport())
                try segment.appendBatch((0..<100).map { .numbered($0) })
                try segment.flush()
            }
            let files = try [".log", ".index", ".timeindex"].map { try fixture.bytes($0) }
            let segment = try fixture.open()
            #expect(segment.recovery.isClean)
            #expect(segment.recovery.recordCount == 100)
            #expect(segment.recovery.logBytes == files[0].count)
            #expect(try [".log", ".index", ".timeindex"].map { try fixture.bytes($0) } == files)
            #expect(try segment.append(.numbered(100)) == 100)
            for number in 0...100 {
                #expect(
                    try segment.read(offset: UInt64(number)) == NewRecord.numbered(number).at(offset: UInt64(number)))
            }
        }
    }

    @Test("The lent view shows the record in place") func view() throws {
        try withFixture { fixture in
            let segment = try fixture.open()
            try segment.append(NewRecord(timestamp: 5, key: [1, 2], value: [3]))
            let seen = try segment.withRecord(at: 0) { ($0.header.timestamp, Array($0.key), Array($0.value)) }
            #expect(seen.0 == 5)
            #expect(seen.1 == [1, 2])
            #expect(seen.2 == [3])
        }
    }

    @Test("A directory that does not exist is an error naming the file") func missingDirectory() throws {
        let error = #expect(throws: SegmentError.self) { try Segment(directory: "/nonexistent", baseOffset: 0) }
        #expect(error?.code == .inputOutput)
        #expect(
            error?.description
                == "/nonexistent/00000000000000000000.log: cannot open the file: No such file or directory."
        )
    }

    @Test("Random records come back as they were, in any mix of appends, batches and reopenings", arguments: 1...8)
    func randomRoundTrip(seed: UInt64) throws {
        try withFixture { fixture in
            var generator = SeededGenerator(seed: seed)
            fixture.options.indexIntervalBytes = [1, 300, 4096, 100_000].randomElement(using: &generator) ?? 1
            var expected: [NewRecord] = []
            while expected.count < 200 {
                let segment = try fixture.open()
                #expect(segment.recovery.isClean)
                for _ in 0..<10 {
                    if Bool.random(using: &generator) {
                        let record = NewRecord.random(using: &generator)
                        #expect(try segment.append(record) == UInt64(expected.count))
                        expected.append(record)
                    } else {
                        let batch = (0..<Int.random(in: 0...12, using: &generator)).map { _ in
                            NewRecord.random(using: &generator)
                        }
                        try segment.appendBatch(batch)
                        expected += batch
                    }
                }
            }
            let segment = try fixture.open()
            for offset in expected.indices.shuffled(using: &generator) {
                #expect(try segment.read(offset: UInt64(offset)) == expected[offset].at(offset: UInt64(offset)))
            }
            for timestamp in Int64(-1)...2_001 where timestamp % 13 == 0 || timestamp > 1_990 || timestamp < 10 {
                let right = expected.firstIndex { $0.timestamp >= timestamp }.map { UInt64($0) }
                #expect(try segment.findOffset(byTimestamp: timestamp) == right)
            }
        }
    }
}

@Suite struct TimeSearchTests {
    @Test("An empty segment has no offset for any time") func empty() throws {
        try withFixture { fixture in
            let segment = try fixture.open()
            #expect(try segment.findOffset(byTimestamp: .min) == nil)
        }
    }

    @Test("The first record at or after the time is found at every edge", arguments: [1, 100, 4096])
    func edges(indexIntervalBytes: Int) throws {
        try withFixture { fixture in
            fixture.options.indexIntervalBytes = indexIntervalBytes
            let segment = try fixture.open(baseOffset: 7)
            // Times 1000, 1010, 1020, …
            try segment.appendBatch((0..<100).map { .numbered($0) })
            #expect(try segment.findOffset(byTimestamp: .min) == 7)
            #expect(try segment.findOffset(byTimestamp: 1_000) == 7)
            for number in 1..<100 {
                let time = 1_000 + Int64(number) * 10
                for wanted in [time - 9, time - 1, time] {
                    #expect(try segment.findOffset(byTimestamp: wanted) == UInt64(7 + number))
                }
            }
            #expect(try segment.findOffset(byTimestamp: 1_991) == nil)
            #expect(try segment.findOffset(byTimestamp: .max) == nil)
        }
    }

    @Test("Of many records with one time the first is found") func equalTimes() throws {
        try withFixture { fixture in
            fixture.options.indexIntervalBytes = 64
            let segment = try fixture.open()
            for time in [5, 5, 5, 6, 6, 6, 6, 6, 7] as [Int64] {
                try segment.append(NewRecord(timestamp: time, key: [], value: [0]))
            }
            #expect(try segment.findOffset(byTimestamp: 5) == 0)
            #expect(try segment.findOffset(byTimestamp: 6) == 3)
            #expect(try segment.findOffset(byTimestamp: 7) == 8)
        }
    }

    @Test("Times may be negative, extreme and out of order") func disorder() throws {
        try withFixture { fixture in
            fixture.options.indexIntervalBytes = 1
            let segment = try fixture.open()
            for time in [.min, 50, -3, 20, 60, 10, .max, 0] as [Int64] {
                try segment.append(NewRecord(timestamp: time, key: [], value: []))
            }
            #expect(try segment.findOffset(byTimestamp: .min) == 0)
            #expect(try segment.findOffset(byTimestamp: -3) == 1)
            #expect(try segment.findOffset(byTimestamp: 51) == 4)
            #expect(try segment.findOffset(byTimestamp: 61) == 6)
            #expect(try segment.findOffset(byTimestamp: .max) == 6)
        }
    }
}

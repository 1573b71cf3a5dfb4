// Tests of Recording: what a sound file gives, and what each kind of damage gives.

import Foundation
import Synchronization
import TestSupport
import Testing

@testable import MempoolRecording

struct RecordingTests {
    private let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    private func open(_ bytes: [UInt8]) throws -> Recording { try Recording(path: directory.write(bytes)) }

    private func error(_ bytes: [UInt8]) throws -> RecordingError? {
        let path = try directory.write(bytes)
        return #expect(throws: RecordingError.self) { try Recording(path: path) }
    }

    @Test func `A sound recording is read as it was written`() throws {
        let recording = try open(RecordingBuilder.sample().bytes())
        #expect(recording.damage == [])
        #expect(recording.commandLine == "app --serve")
        #expect(recording.executable == "/nowhere/app")
        #expect(recording.header.processID == 4711)
        #expect(recording.isCleanExit)
        #expect(
            recording.modules == [
                Recording.Module(
                    base: 0x1000_0000, start: 0x1000_1000, end: 0x1000_9000, path: "/bin/app", buildID: [1, 2, 3]
                )
            ]
        )
        #expect(recording.pools.map(\.name) == ["default"])
        #expect(recording.pools.first?.rows.map(\.capacity) == [512, 4096, 65536, 0])
        #expect(recording.pools.first?.histogram.count == SizeHistogram.binCount)
        #expect(recording.findings.map(\.count) == [2])
        #expect(recording.stack(1) == [0x1000_1100, 0x1000_1200, 0x1000_1300 | StackWord.asyncBit])
        #expect(recording.ledgerCount == 4)
        var states: [LedgerState] = []
        let scan = recording.forEachLedgerRecord { _, record in states.append(record.state) }
        #expect(states == [.outstanding, .returned])
        #expect((scan.outstanding, scan.returned, scan.empty, scan.inProgress) == (1, 1, 1, 1))
        #expect(scan.missing == 0)
    }

    @Test func `A recording without a single record is sound`() throws {
        let recording = try open(RecordingBuilder().bytes())
        #expect(recording.damage == [])
        #expect(recording.ledgerCount == 0)
        #expect(recording.pools.isEmpty)
        #expect(recording.forEachLedgerRecord { _, _ in Issue.record("There is no record.") } == LedgerScan())
    }

    @Test func `The ledger of a process that died is read record by record`() throws {
        var builder = RecordingBuilder.sample()
        builder.header.flags = 0
        let scan = try open(builder.bytes()).forEachLedgerRecord { _, _ in }
        #expect((scan.outstanding, scan.returned, scan.empty, scan.inProgress) == (1, 1, 1, 1))
    }

    // MARK: - Files that cannot be used

    @Test func `A missing file is unreadable and names the reason`() throws {
        let path = directory.path + "/missing.mempool"
        let error = #expect(throws: RecordingError.self) { try Recording(path: path) }
        #expect(error?.code == .unreadable)
        #expect(
            error?.description
                == "Cannot read the recording \(path): No such file or directory. Check the path and its permissions."
        )
    }

    @Test func `A directory is not a recording`() throws {
        let error = #expect(throws: RecordingError.self) { try Recording(path: directory.path) }
        #expect(error?.code == .unreadable)
        #expect(error?.description.contains("it is a directory") == true)
    }

    @Test func `A named pipe is refused at once`() throws {
        let path = directory.path + "/pipe"
        #expect(mkfifo(path, 0o600) == 0)
        #expect(throws: RecordingError.self) { try Recording(path: path) }
    }

    @Test func `An empty file is told as empty`() throws {
        #expect(try error([])?.code == .empty)
    }

    @Test(arguments: [1, 7, 8, 4095, 4096, 10000])
    func `Other bytes are not a recording`(count: Int) throws {
        #expect(try error([UInt8](repeating: 0x41, count: count))?.code == .notARecording)
    }

    @Test func `A header without its magic was never completed`() throws {
        var builder = RecordingBuilder.sample()
        builder.header.magic = 0
        #expect(try error(builder.bytes())?.code == .incomplete)
    }

    @Test func `A transfer in text mode is recognised`() throws {
        var bytes = RecordingBuilder.sample().bytes()
        bytes.insert(0x0D, at: 7)
        let error = try error(bytes)
        #expect(error?.code == .notARecording)
        #expect(error?.description.contains("text mode") == true)
    }

    @Test func `Another version names both versions and the cure`() throws {
        var builder = RecordingBuilder.sample()
        builder.header.version = 9
        let error = try error(builder.bytes())
        #expect(error?.code == .otherVersion)
        #expect(error?.description.contains("format 9") == true)
        #expect(error?.description.contains("format \(RecordingLayout.version)") == true)
        #expect(error?.description.contains("Use the mempool-doctor of the mempool package") == true)
    }

    @Test(arguments: [8, 11, 12, 100, 4095])
    func `A file that ends in its header is told so`(count: Int) throws {
        #expect(try error(Array(RecordingBuilder.sample().bytes().prefix(count)))?.code == .truncatedHeader)
    }

    @Test func `A section table that contradicts itself is damaged`() throws {
        let changes: [(inout RecordingHeader) -> Void] = [
            { $0[.ledger].recordBytes = 63 },
            { $0[.strings].offset = 0 },
            { $0[.stacks].offset = 4097 },
            { $0[.pools].offset = $0[.modules].offset },
            { $0[.ledger].capacity = .max },
            { $0[.ledger].offset = UInt64.max - 4095 },
            { $0.headerBytes = 1 },
        ]
        for change in changes {
            var bytes = RecordingBuilder.sample().bytes()
            bytes.withUnsafeMutableBytes { raw in
                var header = raw.loadUnaligned(as: RecordingHeader.self)
                change(&header)
                raw.storeBytes(of: header, as: RecordingHeader.self)
            }
            #expect(try error(bytes)?.code == .damaged)
        }
    }

    @Test func `What threads counted by themselves is added to the pool's counters`() throws {
        var builder = RecordingBuilder.sample()
        builder.count(pool: 0, row: 1) {
            $0.gets = 1
            $0.wrongCapacityPuts = 1
            $0.requestedBytes = 4000
        }
        builder.addShard(pool: 0, row: 1, gets: 100, puts: 90, size: 100)
        builder.addShard(pool: 7, row: 1, gets: 1, puts: 1, size: 1)
        let recording = try open(builder.bytes())
        let row = recording.pools[0].rows[1]
        #expect(row.gets == 111 && row.puts == 98 && row.inUse == 12)
        #expect(row.requestedBytes == 54_000 && row.handedOutBytes == 111 * 4096)
        #expect(recording.pools[0].histogram[SizeHistogram.bin(of: 100)] == 100)
        #expect(recording.pools[0].rows[0].gets == 0)
        #expect(recording.damage == ["Counters belong to pool 7, which is not there; they are not shown."])
    }

    // MARK: - Files that can be used in part

    @Test(arguments: RecordingSection.allCases)
    func `A file cut at or inside a section gives what lies before`(section: RecordingSection) throws {
        let bytes = RecordingBuilder.sample().bytes()
        let entry = bytes.withUnsafeBytes { $0.loadUnaligned(as: RecordingHeader.self) }[section]
        for cut in [Int(entry.offset), Int(entry.offset) + 1] {
            let recording = try open(Array(bytes.prefix(cut)))
            #expect(recording.isPartial)
            #expect(recording.damage.contains { $0.contains("section \(section)") })
            let scan = recording.forEachLedgerRecord { _, _ in }
            #expect(scan.outstanding == 0)
        }
    }

    @Test func `Counts beyond the capacity are clamped and told`() throws {
        for section in RecordingSection.allCases {
            var bytes = RecordingBuilder.sample().bytes()
            bytes.withUnsafeMutableBytes { raw in
                var header = raw.loadUnaligned(as: RecordingHeader.self)
                header[section].published = .max
                raw.storeBytes(of: header, as: RecordingHeader.self)
            }
            let recording = try open(bytes)
            #expect(recording.damage.contains { $0.contains("Section \(section) claims \(UInt64.max) records") })
        }
    }

    @Test func `References that lead nowhere become empty and are told`() throws {
        var builder = RecordingBuilder.sample()
        builder.header.commandLine = StringReference(offset: .max, length: .max)
        builder.modules[0].path = StringReference(offset: 0, length: 1_000_000)
        builder.pools[0].name = StringReference(offset: 5, length: 1_000_000)
        builder.pools[0].bucketCount = 4000
        builder.findings[0].kind = 77
        let recording = try open(builder.bytes())
        #expect(recording.commandLine == "")
        #expect(recording.modules.map(\.path) == [""])
        #expect(recording.pools.map(\.name) == [""])
        #expect(recording.pools.first?.rows.count == RecordingLimits.bucketRowsPerPool)
        #expect(recording.findings.isEmpty)
        #expect(recording.damage.count == 5)
    }

    @Test func `Texts longer than a recorder writes them are not copied`() throws {
        var builder = RecordingBuilder.sample()
        let long = builder.addString(String(repeating: "x", count: 13_000_000))
        let limit = UInt32(RecordingLimits.contextTextBytes)
        builder.contexts[1].name.length = limit + 1
        for _ in 0..<10_000 {
            let scope = Int(builder.addScope(""))
            builder.contexts[scope].name = long
            builder.contexts[scope].note = long
        }
        let longest = Int(builder.addScope(""))
        builder.contexts[longest].name = StringReference(offset: long.offset, length: limit)
        builder.modules[0].path = StringReference(offset: long.offset, length: UInt32(RecordingLimits.pathBytes) + 1)
        builder.pools[0].name = StringReference(offset: long.offset, length: UInt32(RecordingLimits.nameBytes) + 1)
        let recording = try open(builder.bytes())
        #expect(recording.contexts.count == 10_004)
        let texts = recording.contexts.flatMap { [$0.name, $0.note] }
        #expect(texts.map(\.utf8.count).reduce(0, +) == Int(limit) + "request 1".utf8.count)
        #expect(recording.contexts.last?.name.utf8.count == Int(limit))
        #expect(recording.modules.map(\.path) == [""])
        #expect(recording.pools.map(\.name) == [""])
        #expect(
            recording.damage == [
                "The text of a module's path is longer than 4096 bytes; it is not shown.",
                "The text of a pool's name is longer than 262144 bytes; it is not shown.",
                "The text of a scope's name is longer than 200 bytes; it is not shown.",
                "The text of a note is longer than 200 bytes; it is not shown.",
            ])
    }

    @Test func `A finding that is being written is left out without a word`() throws {
        var builder = RecordingBuilder.sample()
        builder.findings[0].kind = 0
        let recording = try open(builder.bytes())
        #expect(recording.findings.isEmpty)
        #expect(recording.damage == [])
    }

    @Test func `A stack whose head lies is no stack`() throws {
        var builder = RecordingBuilder()
        let long = builder.addStack([UInt64](repeating: 0x1000, count: RecordingLimits.frames + 1))
        let last = builder.addStack([1, 2, 3])
        let recording = try open(builder.bytes())
        #expect(recording.stack(0) == nil)
        #expect(recording.stack(long) == nil)
        // The last word is no head: the frames it announces lie beyond the section.
        #expect(recording.stack(last + 3) == nil)
        #expect(recording.stack(last) == [1, 2, 3])
        #expect(recording.stack(.max) == nil)
    }

    // MARK: - Any bytes

    @Test func `No mutation of a recording brings the reader down`() throws {
        let original = RecordingBuilder.sample().bytes()
        let rounds = runsLongTests ? 50_000 : 400
        var generator = SeededGenerator(seed: 20_240)
        var opened = 0
        for _ in 0..<rounds {
            var bytes = original
            for _ in 0..<Int.random(in: 1...8, using: &generator) {
                // Half of the mutations hit the header, where they matter most.
                let end = Bool.random(using: &generator) ? 512 : bytes.count
                let position = Int.random(in: 12..<end, using: &generator)
                bytes[position] = Bool.random(using: &generator) ? 0xFF : UInt8.random(in: 0...255, using: &generator)
            }
            if Int.random(in: 0..<4, using: &generator) == 0 {
                bytes.removeLast(Int.random(in: 0..<bytes.count, using: &generator))
            }
            guard let recording = try? open(bytes) else { continue }
            opened += 1
            _ = recording.forEachLedgerRecord { _, record in _ = recording.stack(record.getStack) }
            for finding in recording.findings { _ = recording.ledgerRecord(slot: Int(finding.slot)) }
        }
        // If all were refused, nothing behind the header would have been tried.
        #expect(opened > rounds / 10)
    }
}

struct LiveRecordingTests {
    @Test func `A record counts only if it was published before and after it was copied`() {
        func settled(_ before: UInt64, _ state: LedgerState, _ after: UInt64) -> Bool {
            var record = LedgerRecord()
            record.sequence = 5 << 2 | state.rawValue
            return Recording.isSettled(record, between: before, and: after)
        }
        let published = UInt64(5 << 2) | LedgerState.outstanding.rawValue
        let next = UInt64(6 << 2) | LedgerState.outstanding.rawValue
        let mark = UInt64(5 << 2) | LedgerState.inProgress.rawValue
        #expect(settled(published, .outstanding, published))
        #expect(!settled(published, .outstanding, next))
        #expect(!settled(mark, .outstanding, published))
        #expect(!settled(next, .outstanding, next))
        #expect(!settled(mark, .inProgress, mark))
    }

    // A record is one cache line, so hardware seldom tears it; this test is for what the one above does not think of.
    @Test(arguments: [1, 4])
    func `No torn record is read while the file is being written`(writers: Int) throws {
        let directory = try TemporaryDirectory()
        var builder = RecordingBuilder()
        builder.header.flags = 0
        for _ in 0..<64 { builder.addSlot(state: .returned, generation: 0) }
        let path = try directory.write(builder.bytes())
        let offset = builder.bytes().withUnsafeBytes { $0.loadUnaligned(as: RecordingHeader.self) }[.ledger].offset
        // Writers follow the protocol of LedgerRecord in mapped memory; all fields of a published record are equal.
        let stop = Stop()
        let threads = (0..<writers).map { writer in
            Thread {
                defer { stop.finish() }
                let descriptor = open(path, O_RDWR)
                let page = mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, off_t(offset))
                defer {
                    munmap(page, 4096)
                    close(descriptor)
                }
                guard let page, page != MAP_FAILED else { return }
                var generation: UInt64 = 1
                while !stop.isSet {
                    for slot in stride(from: writer, to: 64, by: writers) {
                        let words = (page + slot * MemoryLayout<LedgerRecord>.stride).assumingMemoryBound(
                            to: UInt64.self)
                        words[0] = generation << 2 | LedgerState.inProgress.rawValue
                        atomicMemoryFence(ordering: .sequentiallyConsistent)
                        for field in 1...4 { words[field] = generation }
                        atomicMemoryFence(ordering: .sequentiallyConsistent)
                        words[0] = generation << 2 | LedgerState.outstanding.rawValue
                    }
                    generation += 1
                }
            }
        }
        for thread in threads { thread.start() }
        let recording = try Recording(path: path)
        var torn = 0
        var seen = 0
        var isWritten = false
        let deadline = Date(timeIntervalSinceNow: 30)
        while !isWritten, Date() < deadline {
            _ = recording.forEachLedgerRecord { _, record in isWritten = isWritten || record.generation > 0 }
        }
        for _ in 0..<(runsLongTests ? 200_000 : 2000) {
            let scan = recording.forEachLedgerRecord { _, record in
                // Before a slot's first generation its fields are those of the builder.
                guard record.generation > 0 else { return }
                seen += 1
                let values = [record.request, record.address, record.getTime, record.putTime]
                if values.contains(where: { $0 != record.generation }) { torn += 1 }
            }
            #expect(scan.outstanding + scan.returned + scan.inProgress + scan.empty == 64)
        }
        stop.set()
        stop.wait(for: writers)
        #expect(torn == 0)
        #expect(seen > 0, "no record of a writer was read")
    }
}

/// Ends the writers of a test and waits for them.
private final class Stop: @unchecked Sendable {
    // All state is guarded by the condition.
    private let condition = NSCondition()
    private var stopped = false
    private var finished = 0

    var isSet: Bool { condition.withLock { stopped } }
    func set() { condition.withLock { stopped = true } }
    func finish() {
        condition.withLock {
            finished += 1
            condition.broadcast()
        }
    }
    func wait(for count: Int) {
        condition.lock()
        while finished < count { condition.wait() }
        condition.unlock()
    }
}

// Findings about a buffer's bytes and its life, each made on purpose in a process of its own, and read from its recording.

import CMempoolPlatform
import Foundation
import Mempool
import MempoolRecorder
import MempoolRecording
import Testing

private func debug(_ settings: String) { setenv("MEMPOOL_DEBUG", settings, 1) }

/// Where a buffer is, for use behind the pool's back.
private func address(_ buffer: Buffer) -> UnsafeMutableRawPointer {
    guard let base = buffer.withUnsafeMutableBytes({ $0.baseAddress }) else { fatalError("an empty buffer") }
    return base
}

private func write(_ byte: UInt8, _ base: UnsafeMutableRawPointer, _ offset: Int) {
    base.storeBytes(of: byte, toByteOffset: offset, as: UInt8.self)
}

/// Gets and puts a buffer and returns where it was.
private func putAndKeepPointer(_ size: Int, _ pool: BufferPool = .shared) -> UnsafeMutableRawPointer {
    let buffer = pool.get(size)
    defer { pool.put(buffer) }
    return address(buffer)
}

@Suite("Bytes that nobody may write")
struct BytesTests {
    /// What a recording has found.
    private func findings(_ scratch: ScratchDirectory) throws -> [FindingRecord] {
        try Recording(path: scratch.recording).findings
    }

    /// The only finding, which must be of a kind.
    private func only(_ scratch: ScratchDirectory, _ kind: FindingKind) throws -> FindingRecord {
        let findings = try findings(scratch)
        #expect(findings.map(\.kind) == [kind.rawValue])
        return try #require(findings.first)
    }

    private func bytes(_ finding: FindingRecord) -> [UInt8] {
        withUnsafeBytes(of: finding.found) { Array($0.prefix(Int(finding.foundCount))) }
    }

    // MARK: - Use after put, by poison

    @Test("a write after the put is found when the buffer is handed out again, with its place and its bytes")
    func writeBeforeReuse() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            debug("full,quiet,recording=\(path)")
            let base = putAndKeepPointer(300)
            write(1, base, 17)
            write(2, base, 20)
            let next = getBuffer(200)
            write(3, base, 0)
            putBuffer(next)
            exit(0)
        }
        let finding = try only(scratch, .useAfterPut)
        #expect(finding.offset == 17 && finding.badBytes == 4 && finding.expected == 0xDB)
        #expect(bytes(finding) == [1, 0xDB, 0xDB, 2])
        #expect(finding.request == 300 && finding.count == 1)
        #expect(finding.getStack > 0 && finding.putStack > 0 && finding.accessStack == 0)
    }

    @Test(
        "a write after the put is found at the exit, at a trim, by the decay and when the pool goes", arguments: 0..<4)
    func writeBeforeTheMemoryGoes(how: Int) async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String, how = how as Int] in
            debug("full,quiet,recording=\(path)")
            var pool: BufferPool? = try? BufferPool(configuration: PoolConfiguration(decay: .after(seconds: 1.5)))
            guard let own = pool else { exit(1) }
            // More than a thread keeps, so that the decay finds it on the shelf; the first one put lies there longest.
            let buffers = (0..<16).map { _ in own.get(1 << 20) }
            let base = address(buffers[0])
            for buffer in buffers { own.put(buffer) }
            write(1, base, 5)
            switch how {
            case 0: exit(0)
            case 1:
                own.trim()
                guard putAndKeepPointer(1 << 20, own) != base else { exit(0) }
            case 2:
                let deadline = ContinuousClock.now + .seconds(20)
                while own.bucketStats()[6].idle > 4, ContinuousClock.now < deadline { usleep(10_000) }
            default: pool = nil
            }
            _ = consume own
            pool = nil
            exit(0)
        }
        let finding = try only(scratch, .useAfterPut)
        #expect(finding.offset == 5 && finding.badBytes == 1 && finding.count == 1)
    }

    @Test("writes to thousands of idle buffers are all told at the exit")
    func writesToManyIdleBuffers() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            debug("full,quiet,recording=\(path)")
            let buffers = (0..<3000).map { _ in getBuffer(300) }
            let bases = buffers.map { address($0) }
            for buffer in buffers { putBuffer(buffer) }
            for base in bases { write(1, base, 17) }
            exit(0)
        }
        let finding = try only(scratch, .useAfterPut)
        #expect(finding.count == 3000 && finding.bytes == 3000 * 512)
    }

    @Test(
        "of a large request the first and the last 512 bytes are poisoned, and all of it if asked for",
        arguments: [false, true])
    func bounded(isWhole: Bool) async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String, isWhole = isWhole as Bool] in
            debug("full,quiet,recording=\(path)\(isWhole ? ",poison=all" : "")")
            // A loop is one place; its last round only looks at what the one before did.
            for offset in [511, 512, 50_000, 99_487, 99_488, 99_999, nil] {
                let base = putAndKeepPointer(100_000)
                if let offset { write(1, base, offset) }
            }
            exit(0)
        }
        // The pool's own frames differ between the first get and the others.
        let findings = try findings(scratch)
        #expect(findings.allSatisfy { $0.kind == FindingKind.useAfterPut.rawValue })
        #expect(findings.map(\.count).reduce(0, +) == (isWhole ? 6 : 3))
    }

    @Test("in a pool that zeroes at the put, idle buffers are zero and a write to them is found")
    func zeroing() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            debug("full,quiet,recording=\(path)")
            guard let pool = try? BufferPool(configuration: PoolConfiguration(zeroing: .onPut)) else { exit(1) }
            let base = putAndKeepPointer(600, pool)
            guard (0..<600).allSatisfy({ base.load(fromByteOffset: $0, as: UInt8.self) == 0 }) else { exit(2) }
            write(7, base, 3)
            pool.put(pool.get(600))
            exit(0)
        }
        let finding = try only(scratch, .useAfterPut)
        #expect(finding.offset == 3 && finding.expected == 0 && bytes(finding) == [7])
    }

    @Test("poison=0 checks nothing")
    func poisonOff() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            debug("full,quiet,poison=0,canary=0,recording=\(path)")
            let base = putAndKeepPointer(300)
            write(1, base, 17)
            let buffer = getBuffer(300)
            write(1, base, 300)
            putBuffer(buffer)
            exit(0)
        }
        #expect(try findings(scratch).isEmpty)
    }

    // MARK: - Use after put, at the access

    @Test(
        "a buffer's own functions tell a use after the put, reading or writing, once each",
        arguments: ["read", "write", "load", "store", "copy", "source", "append", "prefix"])
    func access(form: String) async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String, form = form as String] in
            debug("full,quiet,recording=\(path)")
            let buffer = getBuffer(5000)
            let other = getBuffer(100)
            putBuffer(buffer)
            switch form {
            case "read": _ = buffer[4]
            case "write": buffer[4] = 1
            case "load": _ = buffer.loadBigEndian(at: 4) as UInt32
            case "store": buffer.storeBigEndian(UInt32(1), at: 4)
            case "copy": try? buffer.copyBytes(from: [1, 2, 3], at: 4)
            case "source": try? other.copyBytes(from: buffer.dropFirst(4).prefix(3))
            case "append":
                var writer = BufferWriter(buffer.dropFirst(4))
                try? writer.append(UInt16(1))
            default: buffer.slice(2..<8)[2] = 1
            }
            putBuffer(other)
            exit(0)
        }
        let finding = try only(scratch, .useAfterPut)
        let isRead = ["read", "load", "source"].contains(form)
        #expect(finding.accessStack > 0 && finding.putStack > 0 && finding.getStack > 0)
        #expect(finding.flags & FindingRecord.readFlag == (isRead ? FindingRecord.readFlag : 0))
        #expect(finding.offset == 4 && finding.count == 1 && finding.reissues == 0)
        #expect(finding.badBytes == ["load": 4, "store": 4, "copy": 3, "source": 3, "append": 2][form, default: 1])
    }

    @Test("a use of a buffer that somebody else has by now is told with the new owner")
    func reissued() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            debug("full,quiet,recording=\(path)")
            let buffer = getBuffer(5000)
            putBuffer(buffer)
            let next = getBuffer(5000)
            buffer[1] = 1
            putBuffer(next)
            exit(0)
        }
        let finding = try only(scratch, .useAfterPut)
        #expect(finding.reissues == 1 && finding.reissueStack > 0 && finding.reissueStack != finding.getStack)
    }

    @Test("where a buffer was used after the put is told also when its slot's next buffer lies between guard pages")
    func reissuedElsewhere() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            debug("paranoid,quiet,guard=0.5,recording=\(path)")
            func isGuarded(_ buffer: Buffer) -> Bool { cmempool_region_at(UInt(bitPattern: address(buffer))) != nil }
            for _ in 0..<1000 {
                let first = getBuffer(100)
                let wasGuarded = isGuarded(first)
                putBuffer(first)
                // In the same slot.
                let next = getBuffer(100)
                if !wasGuarded, isGuarded(next) {
                    first.dropFirst(10)[3] = 1
                    exit(0)
                }
                putBuffer(next)
            }
            exit(98)
        }
        let finding = try only(scratch, .useAfterPut)
        #expect(finding.offset == 13 && finding.badBytes == 1 && finding.reissues == 1)
        #expect(finding.request == 100 && finding.bytes == 512)
    }

    @Test(
        "where a buffer was used after the put is told also when its slot has other memory",
        arguments: [5000, 20 << 20])
    func reissuedInOtherMemory(size: Int) async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String, size = size as Int] in
            debug("full,quiet,recording=\(path)")
            var pool: BufferPool? = BufferPool()
            guard let stale = pool?.get(size) else { exit(98) }
            let base = address(stale)
            pool?.put(stale)
            pool = nil
            // What is mapped next comes to lie elsewhere, and the touch has something to touch.
            let fixedNoReplace: CInt = 0x100000
            let page = UnsafeMutableRawPointer(bitPattern: UInt(bitPattern: base) & ~4095)
            let flags = MAP_PRIVATE | MAP_ANONYMOUS | fixedNoReplace
            guard mmap(page, 4096, PROT_READ | PROT_WRITE, flags, -1, 0) == page else { exit(97) }
            let other = BufferPool()
            let next = other.get(size)
            guard address(next) != base else { exit(96) }
            stale[3] = 1
            other.put(next)
            exit(0)
        }
        let finding = try only(scratch, .useAfterPut)
        #expect(finding.offset == 3 && finding.reissues == 1)
        #expect(finding.request == UInt64(size))
    }

    // MARK: - Overrun and underrun

    @Test(
        "a write behind the request or before the buffer is found at the put, with its place",
        arguments: [
            (100, 100), (511, 511), (512, 512), (512, 543), (513, 600), (4000, 4000), (4096, 4096), (4096, 4100),
            (1 << 20, 1 << 20), (16 << 20, 16 << 20), (512, -1), (100, -32), (4096, -1), (16 << 20, -5),
            ((16 << 20) + 1, (16 << 20) + 1), (20 << 20, 20 << 20), (20 << 20, -1), (3000, 3255),
        ])
    func overrun(size: Int, offset: Int) async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) {
            [path = path as String, size = size as Int, offset = offset as Int] in
            debug("full,quiet,recording=\(path)")
            // With neighbours on both sides, of which the next get in this line is one.
            let before = getBuffer(size)
            let buffer = getBuffer(size)
            let after = getBuffer(size)
            write(0x5A, address(buffer), offset)
            putBuffer(before)
            putBuffer(after)
            putBuffer(buffer)
            exit(0)
        }
        let finding = try only(scratch, .overrun)
        #expect(finding.offset == offset && finding.badBytes == 1 && bytes(finding) == [0x5A])
        #expect(finding.expected == 0xCA && finding.request == UInt64(size))
        #expect(finding.getStack > 0 && finding.putStack > 0)
    }

    @Test(
        "a write that runs through the whole red zone is the overrun of the buffer before it, whoever is put first",
        arguments: [false, true])
    func throughTheZone(isNeighbourFirst: Bool) async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String, first = isNeighbourFirst as Bool] in
            debug("full,quiet,recording=\(path)")
            let buffers = [getBuffer(512), getBuffer(512)].sorted { address($0) < address($1) }
            for offset in 512..<576 { write(9, address(buffers[0]), offset) }
            if first { putBuffer(buffers[1]) }
            putBuffer(buffers[0])
            if !first { putBuffer(buffers[1]) }
            exit(0)
        }
        let finding = try only(scratch, .overrun)
        #expect(finding.offset == 512)
    }

    @Test("a slice that is put is checked as well")
    func slice() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            debug("full,quiet,recording=\(path)")
            let buffer = getBuffer(1000)
            write(1, address(buffer), 1001)
            putBuffer(buffer.dropFirst(8))
            exit(0)
        }
        let findings = try findings(scratch)
        #expect(Set(findings.map(\.kind)) == [FindingKind.overrun.rawValue, FindingKind.wrongCapacity.rawValue])
        #expect(findings.first { $0.kind == FindingKind.overrun.rawValue }?.offset == 1001)
    }

    @Test("canary=all checks all that lies behind the request, the default 256 bytes of it", arguments: [false, true])
    func canaryLimit(isWhole: Bool) async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String, isWhole = isWhole as Bool] in
            debug("full,quiet,recording=\(path)\(isWhole ? ",canary=all" : "")")
            let buffer = getBuffer(3000)
            write(1, address(buffer), 3256)
            putBuffer(buffer)
            exit(0)
        }
        #expect(try findings(scratch).count == (isWhole ? 1 : 0))
    }

    @Test(
        "whoever writes exactly what was asked for hears nothing, at any size, again and again",
        arguments: ["full", "full,poison=all,canary=all"])
    func correct(settings: String) async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String, settings = settings as String] in
            debug("\(settings),quiet,recording=\(path)")
            let layout = try? BufferPool(
                configuration: PoolConfiguration(layout: BucketLayout(capacities: [100, 777, 5000]), zeroing: .onPut))
            for pool in [BufferPool.shared, layout ?? .shared] {
                for size in [1, 63, 99, 100, 101, 511, 512, 513, 777, 4095, 4096, 5000, 65_537, 1 << 20, 17 << 20] {
                    for round in 0..<4 {
                        let buffers = (0..<5).map { _ in pool.get(size) }
                        for buffer in buffers {
                            _ = buffer.withUnsafeMutableBytes { bytes in
                                bytes.baseAddress.map { memset($0, CInt(round), bytes.count) }
                            }
                        }
                        for buffer in buffers { pool.put(round == 1 ? buffer.prefix(size / 2) : buffer) }
                    }
                }
                pool.trim()
            }
            exit(0)
        }
        #expect(try findings(scratch).isEmpty)
    }

    // MARK: - Lives

    @Test("a pool that is destroyed with buffers outstanding is a finding per get, and no leak besides")
    func destroyed() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            debug("full,quiet,recording=\(path)")
            do {
                let pool = BufferPool()
                for _ in 0..<3 { pool.get(1000)[0] = 1 }
                pool.get(20 << 20)[0] = 1
            }
            exit(0)
        }
        let findings = try findings(scratch)
        #expect(findings.map(\.kind) == [7, 7])
        #expect(Set(findings.map(\.count)) == [1, 3])
        #expect(findings.allSatisfy { $0.getStack > 0 && $0.putStack > 0 })
        let triple = try #require(findings.first { $0.count == 3 })
        #expect(triple.bytes == 3072)
    }

    @Test("a buffer that comes back later than held= is a finding, one that comes back in time is not")
    func held() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            // Long beside what a busy machine may keep a thread waiting between a get and its put.
            debug("full,quiet,held=1,recording=\(path)")
            let buffer = getBuffer(1000)
            usleep(1_300_000)
            putBuffer(buffer)
            for _ in 0..<100 { putBuffer(getBuffer(1000)) }
            exit(0)
        }
        let finding = try only(scratch, .heldTooLong)
        #expect(finding.count == 1 && finding.duration >= 1_200_000_000 && finding.putStack > 0)
    }

    @Test("abort= stops the process at the finding, with its stacks on standard error and in the recording")
    func abort() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        let result = await #expect(processExitsWith: .signal(SIGABRT), observing: [\.standardErrorContent]) {
            [path = path as String] in
            debug("full,abort=overrun+double-put,recording=\(path)")
            putBuffer(Buffer(wrapping: .allocate(byteCount: 1, alignment: 1)))
            let buffer = getBuffer(100)
            putBuffer(buffer)
            putBuffer(buffer)
            exit(0)
        }
        let text = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
        #expect(text.contains("mempool: stopped by abort= in MEMPOOL_DEBUG: double-put in process "))
        #expect(text.contains("mempool:   put by ") && text.contains("mempool:   got by "))
        #expect(text.contains("mempool-doctor report \(path)"))
        #expect(try findings(scratch).map(\.kind) == [FindingKind.foreignPut.rawValue, FindingKind.doublePut.rawValue])
    }

    @Test("abort= names functions, unless a lock is held that the loader may wait for: then it says where they lie")
    func abortUnderLock() async throws {
        for isTrimmed in [true, false] {
            let scratch = ScratchDirectory()
            let path = scratch.recording
            let result = await #expect(processExitsWith: .signal(SIGABRT), observing: [\.standardErrorContent]) {
                [path = path as String, isTrimmed = isTrimmed as Bool] in
                debug("full,abort=use-after-put,recording=\(path)")
                write(1, putAndKeepPointer(300), 17)
                // Looks at the bytes before their memory goes, with the lock of the bucket; or else at the end.
                if isTrimmed { BufferPool.shared.trim() }
                exit(0)
            }
            let text = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
            #expect(text.contains("mempool: stopped by abort= in MEMPOOL_DEBUG: use-after-put in process "))
            #expect(text.contains("mempool:   put by +0x") == isTrimmed, "\(text)")
            #expect(text.contains("putAndKeepPointer") == !isTrimmed, "\(text)")
            #expect(try findings(scratch).map(\.kind) == [FindingKind.useAfterPut.rawValue])
        }
    }
}

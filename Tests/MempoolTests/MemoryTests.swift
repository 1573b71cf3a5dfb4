// Memory that goes back to the system: trim, decay, discards, thread ends, forks, and a system that has none.

import CMempoolPlatform
import Foundation
import Synchronization
import Testing

@testable import Mempool

/// Bytes of this process that are in memory now, by the kernel's exact count of a mapping's pages.
private func residentBytes(of buffers: [Buffer]) -> Int {
    let pageBytes = UInt(SystemMemory.pageBytes)
    var pages: Set<UInt> = []
    for buffer in buffers {
        buffer.withUnsafeMutableBytes { bytes in
            let first = UInt(bitPattern: bytes.baseAddress) / pageBytes
            pages.formUnion(first...(first + UInt(buffer.capacity - 1) / pageBytes))
        }
    }
    return pages.count {
        var isResident: UInt8 = 0
        let page = UnsafeMutableRawPointer(bitPattern: $0 * pageBytes)
        return mincore(page, Int(pageBytes), &isResident) == 0 && isResident & 1 == 1
    } * Int(pageBytes)
}

private func touch(_ buffers: [Buffer]) {
    for buffer in buffers {
        for offset in stride(from: 0, to: buffer.count, by: 4096) { buffer[offset] = 1 }
    }
}

@Suite("Memory")
struct MemoryTests {
    @Test("trim gives back what is idle and nothing that is outstanding", arguments: [512, 4096, 65536, 1 << 20])
    func trim(size: Int) throws {
        let pool = try BufferPool(configuration: PoolConfiguration(decay: .never))
        let buffers = (0..<(8 << 20) / size).map { _ in pool.get(size) }
        touch(buffers)
        let kept = buffers[0]
        kept[0] = 42
        buffers.dropFirst().forEach(pool.put)
        #expect(residentBytes(of: Array(buffers.dropFirst())) > 6 << 20)
        #expect(pool.trim() == (8 << 20) - size)
        // A page that the outstanding buffer shares with others stays.
        #expect(residentBytes(of: Array(buffers.dropFirst())) <= 4096 * max(0, 4096 / size - 1))
        #expect(kept[0] == 42)
        pool.put(kept)
        let again = buffers.map { _ in pool.get(size) }
        #expect(pool.stats().allocations == UInt64(2 * buffers.count - 1))
        again.forEach(pool.put)
    }

    @Test("idle memory decays by itself while what is in use stays")
    func decay() throws {
        let pool = try BufferPool(configuration: PoolConfiguration(decay: .after(seconds: 0.1)))
        let buffers = (0..<64).map { _ in pool.get(1 << 20) }
        touch(buffers)
        buffers.dropFirst(1).forEach(pool.put)
        // Polling, with a limit far beyond the configured time: the thread may be kept waiting.
        let deadline = ContinuousClock.now + .seconds(20)
        var left = Int.max
        // What the thread itself keeps, up to 4 MiB of the bucket, is not the shelf's.
        while left > 4 << 20, ContinuousClock.now < deadline {
            usleep(20_000)
            left = residentBytes(of: Array(buffers.dropFirst()))
        }
        #expect(left <= 4 << 20)
        #expect(residentBytes(of: [buffers[0]]) == 1 << 20)
        pool.put(buffers[0])
    }

    @Test("a discarded buffer's memory goes back")
    func discard() {
        let pool = BufferPool()
        let buffer = pool.get(1 << 20)
        touch([buffer])
        pool.put(buffer.dropFirst(1))
        #expect(residentBytes(of: [buffer]) == 0)
    }

    @Test func `What is trimmed goes back also where buffers and pages do not line up`() throws {
        let layout = try BucketLayout(capacities: [1500])
        let pool = try BufferPool(configuration: PoolConfiguration(layout: layout, idleLimit: .bytes(0)))
        let buffers = (0..<2000).map { _ in pool.get(1500) }
        touch(buffers)
        #expect(residentBytes(of: buffers) > 2 << 20)
        buffers.forEach(pool.put)
        // A recorder that looks at the bytes before a buffer has the system show it a page of zeros.
        #expect(residentBytes(of: buffers) < 256 << 10)
    }

    @Test func `trim counts what this thread keeps, also after a limit was lowered`() async {
        await #expect(processExitsWith: .exitCode(0)) {
            setenv("MEMPOOL_DEBUG", "off", 1)
            let pool = BufferPool()
            let buffers = (0..<40).map { _ in pool.get(4096) }
            buffers.forEach(pool.put)
            BufferPool.totalIdleLimit = .bytes(0)
            guard pool.trim() == 40 * 4096 else { exit(2) }
            exit(pool.stats().trimmed == 0 && pool.bucketStats()[2].idle == 0 ? 0 : 3)
        }
    }

    @Test func `A negative limit of all pools traps`() async {
        await #expect(processExitsWith: .failure) { BufferPool.totalIdleLimit = .bytes(-1) }
    }

    @Test("threads that end leave nothing behind, however many they are")
    func shortLivedThreads() {
        let pool = BufferPool()
        for _ in 0..<100 {
            onThreads(2) { _ in
                let buffers = (0..<20).map { pool.get($0 * 1000 + 1) }
                buffers.forEach(pool.put)
            }
        }
        let stats = pool.stats()
        #expect(stats.inUse == 0)
        // Two threads hold at most 40 at a time; one may find what it needs in the other's magazines and allocate its own.
        #expect(stats.allocations <= 200)
    }

    @Test("pools together keep no more than the total limit")
    func totalLimit() async {
        await #expect(processExitsWith: .exitCode(0)) {
            setenv("MEMPOOL_DEBUG", "off", 1)
            BufferPool.totalIdleLimit = .bytes(4 << 20)
            let pools = (0..<4).map { _ in BufferPool() }
            for pool in pools {
                let buffers = (0..<8).map { _ in pool.get(1 << 20) }
                buffers.forEach(pool.put)
            }
            let idle = pools.reduce(0) { $0 + $1.bucketStats()[6].idle }
            exit(idle <= 4 && BufferPool.totalIdleLimit == .bytes(4 << 20) ? 0 : 1)
        }
    }

    @Test("a forked child goes on using the pools, also with threads in the middle of gets and puts")
    func fork() async {
        await #expect(processExitsWith: .exitCode(0)) {
            setenv("MEMPOOL_DEBUG", "off", 1)
            let pool = BufferPool()
            let held = pool.get(100)
            held[0] = 5
            let isDone = Atomic<Bool>(false)
            var threads: [Thread] = []
            for index in 0..<3 {
                let thread = Thread {
                    var random = SplitMix64(state: UInt64(index))
                    while !isDone.load(ordering: .relaxed) {
                        let buffers = (0..<40).map { _ in pool.get(Int.random(in: 1...70_000, using: &random)) }
                        buffers.forEach(pool.put)
                    }
                }
                thread.start()
                threads.append(thread)
            }
            for _ in 0..<30 {
                let child = forkProcess()
                if child == 0 {
                    alarm(20)
                    var seen: Set<UnsafeMutableRawPointer?> = []
                    let buffers = (0..<2000).map { pool.get($0 * 20 + 1) }
                    for buffer in buffers {
                        guard seen.insert(buffer.withUnsafeMutableBytes { $0.baseAddress }).inserted else { _exit(2) }
                        buffer[0] = 1
                    }
                    guard held[0] == 5, pool.stats().discarded == 0 else { _exit(3) }
                    buffers.forEach(pool.put)
                    pool.put(held)
                    _exit(pool.stats().discarded == 0 ? 0 : 4)
                }
                var status: CInt = 0
                waitpid(child, &status, 0)
                guard status == 0 else { exit(status >> 8 == 0 ? 9 : status >> 8) }
            }
            isDone.store(true, ordering: .relaxed)
            exit(0)
        }
    }

    /// Gets and puts along all paths of the pools: on a thread of its own, in a pool of each kind, with slices, addresses, threads
    /// without caches, a trim, a handler's put. Every buffer is whole, and the counters agree, whatever the system refuses. Returns how
    /// many gets and pools it refused.
    private static func usePools() -> Int {
        let sizes = [100, 1000, 5000, 20_000, 70_000, 1 << 20, (16 << 20) + 1]
        let refused = Atomic<Int>(0)
        onThreads(1) { _ in
            var pools = [BufferPool()]
            do {
                pools.append(try BufferPool(configuration: PoolConfiguration(zeroing: .onPut)))
            } catch {
                guard "\(error)".hasSuffix("Cannot allocate memory") else { exit(10) }
                refused.add(1, ordering: .relaxed)
            }
            for pool in pools {
                var held: [Buffer] = []
                for size in sizes {
                    for _ in 0..<(size > 1 << 20 ? 1 : 3) {
                        do throws(PoolAllocationError) {
                            held.append(try pool.tryGet(size))
                        } catch {
                            refused.add(1, ordering: .relaxed)
                            guard error.byteCount > 0, error.errorNumber == ENOMEM else { exit(11) }
                        }
                    }
                }
                for (number, buffer) in held.enumerated() {
                    buffer[0] = UInt8(number)
                    buffer[buffer.count - 1] = UInt8(number)
                }
                for (number, buffer) in held.enumerated() {
                    guard buffer[0] == UInt8(number), buffer[buffer.count - 1] == UInt8(number) else { exit(12) }
                    switch number % 4 {
                    case 0: pool.putRaw(buffer.base)
                    case 1: InterruptedCalls.around { pool.put(buffer) }
                    default: pool.put(buffer)
                    }
                }
                // Puts that waited for an interrupted call and found no room are the caller's still.
                for buffer in held where SlotTable.isOutstanding(buffer.ticket) { pool.put(buffer) }
                pool.trim()
                let stats = pool.stats()
                guard stats.inUse == 0, stats.gets == stats.puts, stats.oversized == stats.discards.oversized,
                    stats.discards.total == stats.discards.oversized
                else { exit(13) }
            }
        }
        return refused.load(ordering: .relaxed)
    }

    /// As it is at level off and at level full; what the recorder itself then lacks is its own tests' matter.
    @Test(arguments: ["off", "full,quiet"])
    func `Memory that the system refuses, at any call, is an error and damages nothing`(level: String) async {
        await #expect(processExitsWith: .exitCode(0)) { [level = level as String] in
            setenv("MEMPOOL_DEBUG", level, 1)
            // What is reserved once, whose absence ends the process.
            getBuffer(100).withUnsafeMutableBytes { _ in }
            var refusals = 0
            var failing = 0
            repeat {
                // One call, then all from there on.
                for count in [1, .max - failing] {
                    SystemMemory.refuse(failing..<failing + count)
                    refusals += MemoryTests.usePools()
                    let calls = SystemMemory.refusableCalls
                    SystemMemory.refuse(0..<0)
                    guard MemoryTests.usePools() == 0 else { exit(2) }
                    if calls <= failing { failing = -1; break }
                }
                failing += 1
            } while failing > 0
            exit(refusals > 100 ? 0 : 3)
        }
    }

    @Test func `A pool that zeroes can be made once the system has address space again`() async {
        await #expect(processExitsWith: .exitCode(0)) {
            setenv("MEMPOOL_DEBUG", "off", 1)
            let configuration = PoolConfiguration(zeroing: .onPut)
            for _ in 0..<2 {
                SystemMemory.refuse(0..<1)
                do {
                    _ = try BufferPool(configuration: configuration)
                    exit(2)
                } catch {
                    guard "\(error)" == "zeroing: no address space for it: Cannot allocate memory" else { exit(3) }
                }
            }
            let pool = try BufferPool(configuration: configuration)
            pool.put(pool.get(100))
            exit(pool.stats().puts == 1 ? 0 : 4)
        }
    }

    @Test(arguments: 0..<3)
    func `A process whose first pool finds no address space ends with a message`(failing: Int) async throws {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            [failing = failing as Int] in
            setenv("MEMPOOL_DEBUG", "off", 1)
            SystemMemory.refuse(failing..<failing + 1)
            _ = getBuffer(100)
        }
        let text = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
        #expect(text.contains("bytes of address space for the slot table: Cannot allocate memory"))
    }

    /// Its first call is for what the thread is told, the second for the thread.
    @Test(arguments: 0..<2)
    func `A thread that gives idle memory back is tried again when the system refused it`(failing: Int) async {
        await #expect(processExitsWith: .exitCode(0)) { [failing = failing as Int] in
            setenv("MEMPOOL_DEBUG", "off", 1)
            let pool = BufferPool()
            func shelve() {
                let buffers = (0..<40).map { _ in pool.get(1 << 20) }
                buffers.forEach(pool.put)
            }
            // So that everything but the thread is there already.
            IdleDecayThread.holdAfterFork()
            shelve()
            IdleDecayThread.forgetAfterFork()
            guard IdleDecayThread.startCount.load(ordering: .relaxed) == 0 else { exit(2) }
            SystemMemory.refuse(failing..<failing + 1)
            shelve()
            guard SystemMemory.refusableCalls > failing + 1 else { exit(3) }
            // Tried twice: the second one runs.
            exit(IdleDecayThread.startCount.load(ordering: .relaxed) == 2 ? 0 : 4)
        }
    }

    @Test("the plain get traps with a message when the system has no memory")
    func plainGetTraps() async throws {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            putBuffer(getBuffer(100))
            SystemMemory.refuse(0..<1)
            _ = getBuffer(20_000_000)
        }
        let text = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
        #expect(text.contains("mempool: a get of 20000000 bytes failed: the system refused 2000"))
    }
}

/// fork(2), which Swift does not import because most programs must not use it.
@_silgen_name("fork") private func forkProcess() -> pid_t

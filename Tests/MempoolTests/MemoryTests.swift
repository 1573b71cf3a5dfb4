// Memory that goes back to the system: trim, decay, discards, thread ends, forks, and a system that has none.

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

    @Test("memory that the system refuses, at any call, is an error and damages nothing")
    func refusedMemory() async {
        await #expect(processExitsWith: .exitCode(0)) {
            setenv("MEMPOOL_DEBUG", "off", 1)
            var refused = 0
            for failing in 0..<60 {
                let pool = BufferPool()
                var held: [Buffer] = []
                SystemMemory.callsUntilFailure.store(failing, ordering: .relaxed)
                for size in [100, 1000, 5000, 20_000, 70_000, 1 << 20, 20_000_000] {
                    for _ in 0..<5 {
                        do {
                            held.append(try pool.tryGet(size))
                        } catch {
                            refused += 1
                            let error = error as? PoolAllocationError
                            guard let error, error.byteCount > 0, error.errorNumber == ENOMEM else { exit(2) }
                        }
                    }
                }
                SystemMemory.callsUntilFailure.store(-1, ordering: .relaxed)
                // Whatever failed, the rest works and the counters agree.
                for buffer in held { buffer[buffer.count - 1] = 1 }
                let afterwards = [100, 1000, 5000, 20_000, 70_000, 1 << 20].map { pool.get($0) }
                (held + afterwards).forEach(pool.put)
                let stats = pool.stats()
                guard stats.inUse == 0, stats.gets == stats.puts, stats.oversized == stats.discards.oversized,
                    stats.discards.doublePut == 0
                else { exit(3) }
            }
            exit(refused >= 15 ? 0 : 4)
        }
    }

    @Test("the plain get traps with a message when the system has no memory")
    func plainGetTraps() async throws {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            SystemMemory.callsUntilFailure.store(0, ordering: .relaxed)
            _ = getBuffer(20_000_000)
        }
        let text = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
        #expect(text.contains("mempool: a get of 20000000 bytes failed: the system refused 2000"))
    }
}

/// fork(2), which Swift does not import because most programs must not use it.
@_silgen_name("fork") private func forkProcess() -> pid_t

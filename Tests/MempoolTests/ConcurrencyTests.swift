// Many threads and tasks on one pool: nothing is handed out twice, nothing is lost.

import Foundation
import Mempool
import Synchronization
import Testing

/// Runs `body` on `count` new threads at once and joins them, so that they have really ended.
func onThreads(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) {
    final class Start: Sendable {
        let index: Int
        let body: @Sendable (Int) -> Void
        init(_ index: Int, _ body: @escaping @Sendable (Int) -> Void) {
            self.index = index
            self.body = body
        }
    }
    var threads: [pthread_t] = []
    for index in 0..<count {
        var thread = pthread_t()
        let start = Unmanaged.passRetained(Start(index, body)).toOpaque()
        let failure = pthread_create(
            &thread, nil,
            { @Sendable argument in
                if let argument {
                    let start = Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
                    start.body(start.index)
                }
                return nil
            }, start
        )
        precondition(failure == 0, "cannot create a thread")
        threads.append(thread)
    }
    for thread in threads { pthread_join(thread, nil) }
}

/// A small seeded generator, so that a failing run can be repeated.
struct SplitMix64: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

private let isLong = ProcessInfo.processInfo.environment["MEMPOOL_LONG_TESTS"] == "1"

@Suite("Concurrency")
struct ConcurrencyTests {
    @Test("threads that get and put at random keep the balance", arguments: [1, 2, 4, 8, 16, 64])
    func randomGetsAndPuts(threads: Int) {
        let pool = BufferPool()
        // The same work in all, however many share it.
        let operations = (isLong ? 8_000_000 : 80_000) / max(threads, 4)
        let corruptions = Atomic<Int>(0)
        onThreads(threads) { index in
            var random = SplitMix64(state: UInt64(index))
            var held: [Buffer] = []
            for _ in 0..<operations {
                if held.count < 32, Bool.random(using: &random) {
                    let buffer = pool.get(Int.random(in: 1...70_000, using: &random))
                    // Whoever else had this buffer would overwrite the mark.
                    buffer[0] = UInt8(index)
                    held.append(buffer)
                } else if let buffer = held.popLast() {
                    if buffer[0] != UInt8(index) { corruptions.add(1, ordering: .relaxed) }
                    pool.put(buffer)
                }
            }
            held.forEach(pool.put)
        }
        let stats = pool.stats()
        #expect(corruptions.load(ordering: .relaxed) == 0)
        #expect(stats.inUse == 0 && stats.discarded == 0)
        #expect(stats.gets == stats.puts)
    }

    @Test("eight threads of gets and puts at full speed keep the balance")
    func fullSpeed() {
        let pool = BufferPool()
        let operations = isLong ? 1_000_000 : 20_000
        onThreads(8) { _ in
            for round in 0..<operations { pool.put(pool.get(round & 4095 | 1)) }
        }
        let stats = pool.stats()
        #expect(stats.gets == UInt64(8 * operations))
        #expect(stats.gets == stats.puts && stats.inUse == 0 && stats.discarded == 0)
    }

    @Test("buffers got on one thread and put on another come back")
    func handOver() {
        let pool = BufferPool()
        let queue = Guarded<[Buffer]>([])
        let operations = 20_000
        onThreads(2) { index in
            var left = operations
            while left > 0 {
                if index == 0 {
                    let buffer = pool.get(1000)
                    buffer[999] = 7
                    queue.withLock { $0.append(buffer) }
                    left -= 1
                } else if let buffer = queue.withLock({ $0.popLast() }) {
                    #expect(buffer[999] == 7)
                    pool.put(buffer)
                    left -= 1
                }
            }
        }
        let stats = pool.stats()
        #expect(stats.gets == UInt64(operations) && stats.puts == UInt64(operations) && stats.inUse == 0)
    }

    @Test("a thread that ends leaves its idle buffers to the others")
    func threadExit() {
        let pool = BufferPool()
        for _ in 0..<50 {
            onThreads(1) { _ in pool.put(pool.get(100)) }
        }
        #expect(pool.stats().allocations == 1)
    }

    /// Only what takes the slow path is exact: the fast path compares the generation without a locked instruction.
    @Test("of two threads that put the same buffer, one wins and the other is counted")
    func racingDoublePuts() {
        let pool = BufferPool()
        guard PoolHook.installed != nil else { return }
        let rounds = 2000
        let shared = Guarded<Buffer?>(nil)
        let arrived = Atomic<Int>(0)
        onThreads(2) { index in
            for round in 0..<rounds {
                if index == 0 { shared.withLock { $0 = pool.get(100) } }
                arrived.add(1, ordering: .acquiringAndReleasing)
                while arrived.load(ordering: .acquiring) < 4 * round + 2 { sched_yield() }
                let buffer = shared.withLock { $0 }
                if let buffer { pool.put(buffer) }
                arrived.add(1, ordering: .acquiringAndReleasing)
                while arrived.load(ordering: .acquiring) < 4 * round + 4 { sched_yield() }
            }
        }
        let stats = pool.stats()
        #expect(stats.gets == UInt64(rounds))
        #expect(stats.puts == UInt64(rounds))
        #expect(stats.discards.doublePut == UInt64(rounds))
    }

    /// Exact as above; without a recorder both may be taken if they begin within nanoseconds of each other.
    @Test("of two threads that put a buffer of a pool that zeroes, the loser overwrites nothing of the next owner's")
    func racingZeroingPuts() throws {
        let pool = try BufferPool(configuration: PoolConfiguration(zeroing: .onPut))
        guard PoolHook.installed?.watchesEveryBuffer == true else { return }
        let size = 4 << 20
        let rounds = 200
        let shared = Guarded<Buffer?>(nil)
        let arrived = Atomic<Int>(0)
        let overwritten = Atomic<Int>(0)
        onThreads(2) { index in
            for round in 0..<rounds {
                if index == 0 { shared.withLock { $0 = pool.get(size) } }
                arrived.add(1, ordering: .acquiringAndReleasing)
                while arrived.load(ordering: .acquiring) < 6 * round + 2 { sched_yield() }
                // A little later each time, so that one is in the middle of it when the other one ends.
                if index == 1 { usleep(UInt32(round)) }
                if let buffer = shared.withLock({ $0 }) { pool.put(buffer) }
                // Where the other thread would come last, if it still went over what it put.
                let next = pool.get(size)
                next[size - 1] = 0xAA
                arrived.add(1, ordering: .acquiringAndReleasing)
                while arrived.load(ordering: .acquiring) < 6 * round + 4 { sched_yield() }
                if next[size - 1] != 0xAA { overwritten.add(1, ordering: .relaxed) }
                pool.put(next)
                arrived.add(1, ordering: .acquiringAndReleasing)
                while arrived.load(ordering: .acquiring) < 6 * round + 6 { sched_yield() }
            }
        }
        #expect(overwritten.load(ordering: .relaxed) == 0)
        #expect(pool.stats().discards.doublePut == UInt64(rounds))
    }

    @Test("tasks that hop between threads with buffers in hand keep the balance")
    func tasks() async {
        let pool = BufferPool()
        await withTaskGroup(of: Void.self) { group in
            for index in 0..<200 {
                group.addTask {
                    for round in 0..<20 {
                        let buffer = pool.get(100 * (index % 50 + 1) + round)
                        buffer[0] = UInt8(round)
                        await Task.yield()
                        #expect(buffer[0] == UInt8(round))
                        pool.put(buffer)
                    }
                }
            }
        }
        let stats = pool.stats()
        #expect(stats.gets == 4000 && stats.puts == 4000 && stats.inUse == 0)
    }

    @Test("threads that come and go with buffers of others in hand lose none", arguments: [2, 8, 16])
    func threadChurn(threads: Int) {
        let pool = BufferPool()
        let inFlight = Guarded<[Buffer]>([])
        let corruptions = Atomic<Int>(0)
        let generations = isLong ? 500 : 20
        for generation in 0..<generations {
            onThreads(threads) { index in
                var random = SplitMix64(state: UInt64(generation * threads + index))
                for _ in 0..<50 {
                    // Puts what threads of earlier generations got, which have ended since.
                    let old = inFlight.withLock { all -> Buffer? in
                        guard !all.isEmpty else { return nil }
                        return all.remove(at: Int.random(in: 0..<all.count, using: &random))
                    }
                    if let old {
                        if old[0] != UInt8(truncatingIfNeeded: old.count) { corruptions.add(1, ordering: .relaxed) }
                        pool.put(old)
                    }
                    let buffer = pool.get(Int.random(in: 1...20_000, using: &random))
                    buffer[0] = UInt8(truncatingIfNeeded: buffer.count)
                    inFlight.withLock { $0.append(buffer) }
                }
            }
        }
        for buffer in inFlight.withLock({ $0 }) { pool.put(buffer) }
        let stats = pool.stats()
        #expect(corruptions.load(ordering: .relaxed) == 0)
        #expect(stats.gets == UInt64(generations * threads * 50))
        #expect(stats.gets == stats.puts && stats.inUse == 0 && stats.discarded == 0)
    }

    @Test("threads that put by address, each its own, find their buffers while the pool grows", arguments: [1, 4, 16])
    func rawPuts(threads: Int) {
        let pool = BufferPool()
        let operations = (isLong ? 400_000 : 8000) / threads
        onThreads(threads) { index in
            var random = SplitMix64(state: UInt64(index))
            var held: [UnsafeMutableRawBufferPointer] = []
            for _ in 0..<operations {
                if held.count < 20, Bool.random(using: &random) {
                    let isOversized = Int.random(in: 0..<200, using: &random) == 0
                    held.append(pool.getRaw(isOversized ? 17 << 20 : Int.random(in: 1...70_000, using: &random)))
                } else if !held.isEmpty {
                    pool.putRaw(held.remove(at: Int.random(in: 0..<held.count, using: &random)).baseAddress)
                }
            }
            for memory in held { pool.putRaw(memory.baseAddress) }
        }
        let stats = pool.stats()
        #expect(stats.gets == stats.puts && stats.inUse == 0)
        #expect(stats.discards.oversized == stats.oversized && stats.discarded == stats.oversized)
    }

    @Test("tasks that lend themselves buffers, and pass leases on, keep the balance")
    func asynchronousLending() async {
        let pool = BufferPool()
        @Sendable func finish(_ lease: consuming Lease, _ mark: UInt8) async {
            await Task.yield()
            #expect(lease.buffer[0] == mark)
            lease.put()
        }
        await withTaskGroup(of: Void.self) { group in
            for index in 0..<100 {
                group.addTask {
                    for round in 0..<10 {
                        let mark = UInt8(truncatingIfNeeded: index &* round)
                        await pool.withBuffer(100 * index + 1) { buffer in
                            buffer[0] = mark
                            await Task.yield()
                            #expect(buffer[0] == mark)
                        }
                        let lease = pool.lease(100 * index + 1)
                        lease.buffer[0] = mark
                        await finish(lease, mark)
                    }
                }
            }
        }
        let stats = pool.stats()
        #expect(stats.gets == 2000 && stats.puts == 2000 && stats.inUse == 0 && stats.discarded == 0)
    }

    @Test("pools come and go while threads live on")
    func poolChurn() {
        onThreads(4) { index in
            for round in 0..<200 {
                let pool = BufferPool()
                let buffers = (0..<10).map { pool.get(($0 + round) * 100 + 1) }
                buffers.forEach(pool.put)
                #expect(pool.stats().inUse == 0 && pool.stats().gets == 10, "thread \(index) round \(round)")
            }
        }
    }

    @Test("buffers outstanding when their pool ends stay valid, and no other pool takes them")
    func poolEndsFirst() {
        var pool: BufferPool? = BufferPool()
        guard let buffer = pool?.get(5000) else { return }
        pool = nil
        buffer[4999] = 3
        #expect(buffer[4999] == 3)
        let others = (0..<20).map { _ in BufferPool() }
        for other in others {
            other.put(buffer)
            #expect(other.stats().discards.wrongPool == 1)
        }
    }
}

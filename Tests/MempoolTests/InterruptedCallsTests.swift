// What a signal handler gets and puts while its own thread is inside of the pool.

import CMempoolPlatform
import Glibc
import Testing

@testable import Mempool

/// Ends a pool while this thread is inside of the pool, as a handler's call that waits allows another thread to. Returns its number.
@inline(never) private func endPoolInHandler() -> Int {
    let pool = BufferPool()
    // By address, as the inlined put of a buffer need not wait without a recorder.
    let addresses = [pool.getRaw(100).baseAddress, pool.getRaw(200).baseAddress]
    guard cmempool_enter() else { exit(2) }
    addresses.forEach(pool.putRaw)
    return pool.index
}

@Suite struct InterruptedCallsTests {
    /// Runs `handler` as a handler that interrupts this thread inside of the pool would.
    private func interrupted(_ handler: () throws -> Void) rethrows {
        #expect(cmempool_enter())
        defer { InterruptedCalls.leave() }
        try handler()
    }

    @Test func `A get has memory of its own, which its put gives back`() {
        let pool = BufferPool()
        let before = pool.stats()
        interrupted {
            for size in [1, 4_096, 100_000] {
                let buffer = pool.get(size)
                #expect(buffer.count == size && buffer.capacity >= size)
                buffer[0] = 1
                buffer[size - 1] = 2
                pool.put(buffer)
            }
            #expect(pool.get(0).isEmpty)
        }
        #expect(pool.stats() == before)
    }

    @Test func `A handler's buffer can be put later, and only once`() {
        let pool = BufferPool()
        var buffer = pool.get(0)
        interrupted { buffer = pool.get(100) }
        buffer[99] = 1
        pool.put(buffer.prefix(10))
        #expect(pool.stats().discarded == 0)
        pool.put(buffer)
        #expect(pool.stats().discards.foreign == 1)
    }

    @Test func `A put waits until the interrupted call ends`() {
        let pool = BufferPool()
        let buffers = (1...5).map { pool.get($0 * 300) }
        interrupted {
            for buffer in buffers { pool.put(buffer) }
            if PoolHook.installed != nil { #expect(pool.stats().inUse == 5) }
        }
        #expect(pool.stats().inUse == 0)
        #expect(pool.stats().discarded == 0)
    }

    @Test func `A wrong put that had to wait is still found`() {
        let pool = BufferPool()
        let buffer = pool.get(600)
        pool.put(buffer)
        interrupted { pool.put(buffer) }
        #expect(pool.stats().discards.doublePut == 1)
    }

    @Test func `So is the put of nothing but a buffer's end`() {
        let pool = BufferPool()
        let buffer = pool.get(512)
        interrupted { pool.put(buffer.dropFirst(512)) }
        #expect(pool.stats().discards.wrongCapacity == 1)
        #expect(pool.stats().inUse == 0)
    }

    @Test(arguments: [-1, .max]) func `A size that no buffer has traps in a handler too`(size: Int) async throws {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            [size = size as Int] in
            guard cmempool_enter() else { return }
            _ = BufferPool().get(size)
        }
        let text = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
        #expect(text.contains("mempool: a buffer of \(size) bytes was asked for; sizes are 0 to 140737488351232"))
    }

    @Test func `What is too much to wait is lost to the pool and counted, and no more`() {
        let limit = Int(CMEMPOOL_DEFERRED_PUTS)
        // As the manual pages and the reports have it.
        #expect(limit == 32)
        let pool = BufferPool()
        let large = (16 << 20) + 1
        // Oversized, as these take the slow path with and without a recorder.
        let buffers = (0..<(limit + 2)).map { _ in pool.get(large) }
        interrupted { for buffer in buffers { pool.put(buffer) } }
        #expect(pool.stats().discards.oversized == UInt64(limit))
        #expect(pool.stats().lostPuts == 2)
        for buffer in buffers.suffix(2) { pool.put(buffer) }
        #expect(pool.stats().discards.oversized == UInt64(limit + 2))
        #expect(pool.stats().lostPuts == 2)
    }

    @Test func `Lost puts count in the pool that they were made in`() {
        let (pool, other) = (BufferPool(), BufferPool())
        let limit = Int(CMEMPOOL_DEFERRED_PUTS)
        let buffers = (0..<limit).map { _ in pool.get((16 << 20) + 1) }
        let last = other.get((16 << 20) + 1)
        interrupted {
            buffers.forEach(pool.put)
            other.put(last)
        }
        #expect(pool.stats().lostPuts == 0 && other.stats().lostPuts == 1)
        other.put(last)
    }

    @Test(.timeLimit(.minutes(1))) func `The put of an address waits too, whatever lock the interrupted call holds`()
        async
    {
        await #expect(processExitsWith: .exitCode(0)) {
            alarm(20)
            let pool = BufferPool()
            let sizes = [100, 5_000, (16 << 20) + 1]
            let addresses = sizes.map { pool.getRaw($0).baseAddress }
            guard cmempool_enter() else { exit(2) }
            // As a handler does that came amid a get which holds these.
            pool.core.buckets[0].state.withLock { _ in
                pool.core.oversized.state.withLock { _ in
                    PoolRegistry.state.withLock { _ in addresses.forEach(pool.putRaw) }
                }
            }
            InterruptedCalls.leave()
            let stats = pool.stats()
            exit(stats.inUse == 0 && stats.puts == 2 && stats.discarded == 1 && stats.discards.oversized == 1 ? 0 : 3)
        }
    }

    @Test func `A put of an address that had to wait finds the mistakes that it would have found at once`() {
        let (pool, other) = (BufferPool(), BufferPool())
        let twice = pool.getRaw(600)
        let sliced = pool.getRaw(100)
        let others = other.getRaw(100)
        let foreign = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 64)
        defer { foreign.deallocate() }
        interrupted {
            for address in [twice.baseAddress, twice.baseAddress, sliced.baseAddress.map { $0 + 1 }, foreign, nil] {
                pool.putRaw(address)
            }
            pool.putRaw(others.baseAddress)
        }
        let discards = pool.stats().discards
        #expect(
            discards.doublePut == 1 && discards.wrongCapacity == 1 && discards.foreign == 1 && discards.wrongPool == 1)
        #expect(pool.stats().inUse == 0 && pool.stats().puts == 1)
        other.putRaw(others.baseAddress)
        #expect(other.stats().inUse == 0 && other.stats().discarded == 0)
    }

    @Test func `A get of plain memory has memory of its own, which the put of its address gives back`() {
        let pool = BufferPool()
        let before = pool.stats()
        interrupted {
            for size in [1, 4_096, 100_000] {
                let memory = pool.getRaw(size)
                #expect(memory.count == size)
                memory[size - 1] = 2
                pool.putRaw(memory.baseAddress)
            }
        }
        #expect(pool.stats() == before)
        var late = pool.getRaw(0)
        interrupted { late = pool.getRaw(100) }
        pool.putRaw(late.baseAddress)
        #expect(pool.stats() == before)
        pool.putRaw(late.baseAddress)
        #expect(pool.stats().discards.foreign == 1)
    }

    @Test func `Addresses that find no room to wait are lost and counted like other puts`() {
        let pool = BufferPool()
        let limit = Int(CMEMPOOL_DEFERRED_PUTS)
        let memory = (0..<(limit + 2)).map { _ in pool.getRaw(100) }
        interrupted { for bytes in memory { pool.putRaw(bytes.baseAddress) } }
        #expect(pool.stats().puts == UInt64(limit) && pool.stats().inUse == 2 && pool.stats().lostPuts == 2)
        for bytes in memory.suffix(2) { pool.putRaw(bytes.baseAddress) }
        #expect(pool.stats().inUse == 0 && pool.stats().discarded == 0)
    }

    @Test func `A pool that ends while a put of it waits goes on until that is made`() async {
        await #expect(processExitsWith: .exitCode(0)) {
            setenv("MEMPOOL_DEBUG", "off", 1)
            let index = endPoolInHandler()
            guard let core = PoolRegistry.pool(at: index), core.stats().inUse == 2 else { exit(4) }
            InterruptedCalls.leave()
            // Nothing is outstanding, so its number is free, and its memory is gone.
            guard PoolRegistry.pool(at: index) == nil, core.buckets[0].state.withLock({ $0.slabs.isEmpty }) else {
                exit(5)
            }
            let next = BufferPool()
            guard next.index == index else { exit(6) }
            let buffers = (0..<100).map { _ in next.get(100) }
            for buffer in buffers { buffer[99] = 1 }
            buffers.forEach(next.put)
            exit(next.stats().inUse == 0 && next.stats().discarded == 0 ? 0 : 7)
        }
    }

    @Test func `The end of a put that zeroes is inside of the pool where it takes a lock`() throws {
        let pool = try BufferPool(configuration: PoolConfiguration(zeroing: .onPut))
        let (waiting, zeroed) = (pool.get(100), pool.get(100))
        var put = cmempool_deferred_put(
            base: waiting.base, count: waiting.count, shape: waiting.shape, ticket: waiting.ticket,
            pool: UInt32(pool.index), is_by_address: 0)
        pool.core.retain()
        #expect(cmempool_defer_put(&put))
        // As the inlined put leaves it when a handler took the last place of the magazine.
        cmempool_store32(SlotTable.nextPuts + zeroed.slotNumber, zeroed.generation + 2)
        pool.keepZeroed(Ticket.next(zeroed.ticket), BufferShape.bucket(zeroed.shape))
        // Whoever leaves the pool makes the puts that wait. The stats, which would do so too, are not asked for here.
        #expect(SlotTable.isIdle(Ticket.next(waiting.ticket)))
    }

    @Test func `A pool that zeroes gives a handler zeros`() throws {
        for zeroing in [Zeroing.onGet, .onPut] {
            let pool = try BufferPool(configuration: PoolConfiguration(zeroing: zeroing))
            interrupted {
                let buffer = pool.get(500)
                #expect(buffer.withUnsafeMutableBytes { $0.allSatisfy { $0 == 0 } })
                buffer[0] = 1
                pool.put(buffer)
            }
            #expect(pool.stats().discarded == 0)
        }
    }
}

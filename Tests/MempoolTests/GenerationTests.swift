// The generations of slots: who writes which; at the end of their low half, where a put carries; and of a slot that was kept twice.

import CMempoolPlatform
import Glibc
import Synchronization
import Testing

@testable import Mempool

@Suite("Generations")
struct GenerationTests {
    @Test func `Gets write one generation and puts the other`() {
        let pool = BufferPool()
        var buffer = pool.get(100)
        let slot = buffer.slotNumber
        pool.put(buffer)
        for _ in 0..<3 {
            let (nextGet, nextPut) = (SlotTable.nextGets[slot], SlotTable.nextPuts[slot])
            #expect(nextGet == nextPut && UInt32(truncatingIfNeeded: SlotTable.generation(of: slot)) == nextPut - 1)
            buffer = pool.get(100)
            #expect(buffer.slotNumber == slot && buffer.generation == nextGet)
            #expect(SlotTable.nextGets[slot] == nextGet + 2 && SlotTable.nextPuts[slot] == nextPut)
            #expect(UInt32(truncatingIfNeeded: SlotTable.generation(of: slot)) == nextPut)
            #expect(SlotTable.isOutstanding(buffer.ticket) && !SlotTable.isIdle(buffer.ticket))
            pool.put(buffer)
            #expect(SlotTable.nextGets[slot] == nextGet + 2 && SlotTable.nextPuts[slot] == nextPut + 2)
            #expect(!SlotTable.isOutstanding(buffer.ticket) && SlotTable.isIdle(Ticket.next(buffer.ticket)))
        }
    }

    @Test func `An entry of a shelf tells the ticket that it was made of, for 256 gets`() {
        let nextGets = UnsafeMutablePointer<UInt32>.allocate(capacity: 1 << 24)
        defer { nextGets.deallocate() }
        for slot in [16, 12_345_678, 1 << 24 - 1] {
            for generation: UInt32 in [1, 255, 511, 513, 1_000_001, .max] {
                let ticket = Ticket.word(slot, generation)
                let entry = ShelfEntry.word(ticket)
                #expect(ShelfEntry.slot(entry) == slot)
                for behind: UInt32 in [0, 1, 255] {
                    nextGets[slot] = generation &+ 2 &* behind
                    #expect(ShelfEntry.ticket(entry, nextGets) == ticket)
                }
                nextGets[slot] = generation &+ 512
                #expect(ShelfEntry.ticket(entry, nextGets) != ticket)
            }
        }
    }

    @Test("a put at the end of the low half carries, and old tickets stay refused")
    func carry() throws {
        let pool = BufferPool()
        let first = pool.get(100)
        pool.put(first)
        // As if 2^31 pairs had passed.
        SlotTable.nextGets[first.slotNumber] = .max
        SlotTable.nextPuts[first.slotNumber] = .max
        let cache = try #require(cmempool_owned_cache(pool.index))
        cmempool_magazine_at(cache, 0).pointee.top[-1] = Ticket.word(first.slotNumber, .max)
        let last = pool.get(100)
        #expect(last.slotNumber == first.slotNumber && last.generation == .max)
        let before = SlotTable.generation(of: last.slotNumber)
        pool.put(last)
        #expect(SlotTable.generation(of: last.slotNumber) == before + 1)
        #expect(before & 0xFFFF_FFFF == 0xFFFF_FFFF)
        pool.put(last)
        #expect(pool.stats().discards.doublePut == 1)
        let next = pool.get(100)
        #expect(next.slotNumber == first.slotNumber && next.generation == 1)
        pool.put(last)
        #expect(pool.stats().discards.doublePut == 2 && pool.stats().inUse == 1)
        pool.put(next)
        #expect(pool.stats().inUse == 0)
    }

    @Test func `Whoever reads the counters of a bucket never sees half of a carry`() {
        let pool = BufferPool()
        let buffer = pool.get(100)
        let slot = buffer.slotNumber
        cmempool_store32(SlotTable.nextPuts + slot, .max)
        cmempool_store32(SlotTable.nextGets + slot, 1)
        let last = Buffer(
            base: buffer.base, count: buffer.count, shape: buffer.shape,
            ticket: UInt64(UInt32.max) << 32 | UInt64(buffer.slotNumber))
        let before = SlotTable.generation(of: buffer.slotNumber)
        let isReading = Atomic<Bool>(false)
        onThreads(2) { index in
            if index == 0 {
                // As the stats do. The put has to wait, so however long it takes, nothing changes meanwhile.
                pool.core.buckets[0].state.withLock { _ in
                    isReading.store(true, ordering: .releasing)
                    for _ in 0..<50 where cmempool_load32(SlotTable.nextPuts + slot) == .max { usleep(1000) }
                    #expect(cmempool_load32(SlotTable.nextPuts + slot) == .max)
                }
            } else {
                while !isReading.load(ordering: .acquiring) { sched_yield() }
                pool.put(last)
            }
        }
        #expect(SlotTable.generation(of: buffer.slotNumber) == before + 1)
        #expect(pool.stats().inUse == 0 && pool.stats().discarded == 0)
    }

    // MARK: - Slots that were kept twice

    /// What two puts at the same instant leave behind.
    private func keepTwice(_ buffer: Buffer, _ pool: BufferPool) throws {
        pool.put(buffer)
        let cache = try #require(cmempool_owned_cache(pool.index))
        cmempool_magazine_push(
            cmempool_magazine_at(cache, BufferShape.bucket(buffer.shape)), Ticket.next(buffer.ticket))
    }

    @Test func `Of a slot that was kept twice one copy is handed out`() throws {
        let pool = BufferPool()
        let buffer = pool.get(100)
        try keepTwice(buffer, pool)
        let gets = (0..<3).map { _ in pool.get(100) }
        #expect(Set(gets.map(\.slotNumber)).count == 3)
        #expect(gets.allSatisfy { SlotTable.generation(of: $0.slotNumber) & 1 == 1 })
        #expect(pool.stats().discards.doublePut == 1)
        gets.forEach(pool.put)
        let stats = pool.stats()
        #expect(stats.inUse == 0 && stats.gets == 4 && stats.puts == 4 && stats.discarded == 1)
    }

    @Test func `A copy is dropped when the other one was handed out and put meanwhile`() throws {
        let pool = BufferPool()
        let buffer = pool.get(100)
        try keepTwice(buffer, pool)
        let cache = try #require(cmempool_owned_cache(pool.index))
        let magazine = cmempool_magazine_at(cache, BufferShape.bucket(buffer.shape))
        // The upper copy is got and put, the lower one lies below it with a generation of before.
        let second = pool.get(100)
        #expect(second.slotNumber == buffer.slotNumber)
        pool.put(second)
        #expect(magazine.pointee.top - magazine.pointee.bottom == 2)
        let gets = (0..<3).map { _ in pool.get(100) }
        #expect(Set(gets.map(\.slotNumber)).count == 3)
        #expect(pool.stats().discards.doublePut == 1)
        gets.forEach(pool.put)
        #expect(pool.stats().inUse == 0 && pool.stats().discarded == 1)
    }

    @Test(arguments: [1, 255, 257])
    func `A copy on the shelf is dropped however many gets later, but for a multiple of 256`(
        gets: Int
    ) {
        let pool = BufferPool()
        let buffer = pool.get(100)
        pool.put(buffer)
        // As the second of two puts at the same instant leaves it when its thread ends.
        let isShelved = pool.core.buckets[0].shelve(Ticket.next(buffer.ticket), budget: pool.core.budget)
        #expect(isShelved)
        var owner = pool.get(100)
        for _ in 1..<gets {
            pool.put(owner)
            owner = pool.get(100)
        }
        let other = pool.get(100)
        #expect(owner.slotNumber == buffer.slotNumber && other.slotNumber != owner.slotNumber)
        #expect(pool.stats().discards.doublePut == 1)
        [owner, other].forEach(pool.put)
        #expect(pool.stats().inUse == 0)
    }

    @Test func `A copy on the shelf is dropped too, and its memory stays while the other one is outstanding`() throws {
        let pool = BufferPool()
        let buffer = pool.get(5000)
        try keepTwice(buffer, pool)
        // One copy in a magazine, one on the shelf.
        let owner = pool.get(5000)
        #expect(owner.slotNumber == buffer.slotNumber)
        owner[0] = 42
        pool.trim()
        #expect(owner[0] == 42)
        let others = (0..<20).map { _ in pool.get(5000) }
        #expect(!others.contains { $0.slotNumber == owner.slotNumber })
        #expect(pool.stats().discards.doublePut == 1)
        (others + [owner]).forEach(pool.put)
        #expect(pool.stats().inUse == 0 && pool.stats().discarded == 1)
    }

    @Test func `More copies than the stacks have room for are dropped`() {
        var stacks = SlotStacks()
        let hasRoom = stacks.reserve(32)
        let room = stacks.freeCount
        #expect(hasRoom && room >= 32)
        for slot in 0..<room + 5 { stacks.pushVacant(slot) }
        let counts = [stacks.vacantCount, stacks.freeCount]
        #expect(counts == [room, 0])

        let bucket = BucketCore(capacity: 262_144)
        let budget = IdleBudget(.unlimited)
        guard let (ticket, _) = try? bucket.take(nil, nil, budget: budget) else { return }
        let kept = (0..<10).count { _ in bucket.shelve(Ticket.next(ticket), budget: budget) }
        #expect(kept < 10)
        #expect(bucket.state.withLock { $0.stacks.freeCount } == 0)
    }
}

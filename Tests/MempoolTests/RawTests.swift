// Buffers as plain memory: the put of an address finds the buffer, or says what is wrong with it.

import Glibc
import Testing

@testable import Mempool

/// Several owners for each slot of three slabs, whose pool has ended when this returns.
@inline(never) private func useUpPool() {
    let pool = BufferPool()
    let all = (0..<600).map { _ in pool.get(512) }
    for _ in 0..<3 { all.map { _ in pool.get(512) }.forEach(pool.put) }
    all.forEach(pool.put)
}

@Suite("Gets and puts of plain memory")
struct RawTests {
    let pool = BufferPool()

    @Test("an address puts the buffer it is the start of", arguments: [1, 512, 513, 5000, 70_000, 16 << 20])
    func everyBucket(size: Int) {
        // The first and the last of a slab, and neighbours.
        let all = (0..<20).map { _ in pool.getRaw(size) }
        for memory in all {
            #expect(memory.count == size)
            memory[size - 1] = 1
        }
        for memory in all { pool.putRaw(memory.baseAddress) }
        let stats = pool.stats()
        #expect(stats.gets == 20 && stats.puts == 20 && stats.inUse == 0 && stats.discarded == 0)
        let again = pool.get(size)
        #expect(all.contains { $0.baseAddress == again.withUnsafeMutableBytes { $0.baseAddress } })
        pool.put(again)
    }

    @Test("an oversized buffer ends its life")
    func oversized() {
        let first = pool.getRaw(17 << 20)
        let second = pool.getRaw(18 << 20)
        pool.putRaw(first.baseAddress)
        second[(18 << 20) - 1] = 1
        pool.putRaw(second.baseAddress)
        #expect(pool.stats().discards.oversized == 2 && pool.stats().discarded == 2)
        pool.putRaw(second.baseAddress)
        // Its memory is gone. A foreign put, unless another test's pool has got the same addresses in the meantime.
        #expect(pool.stats().discarded == 3 && pool.stats().discards.oversized == 2)
    }

    @Test("each of many oversized buffers is found by its address, from its first byte to its last")
    func manyOversized() {
        let pool = BufferPool()
        let size = (16 << 20) + 1
        let capacity = (16 << 20) + 4096
        let all = (0..<500).map { _ in pool.getRaw(size) }
        // Neither the order of the gets nor that of the addresses.
        let order = all.indices.map { $0 * 211 % all.count }
        for (count, index) in order.enumerated() {
            guard let address = all[index].baseAddress else { return #expect(Bool(false)) }
            // Slices, too, belong to the buffer that they lie in; what lies behind the last byte does not.
            switch count % 4 {
            case 1: pool.putRaw(address + 1)
            case 2: pool.putRaw(address + 4096)
            case 3: pool.putRaw(address + capacity - 1)
            default: pool.putRaw(address)
            }
            #expect(pool.stats().discards.oversized == UInt64(count + 1))
        }
        #expect(Set(order).count == all.count)
        #expect(pool.stats().discarded == 500)
    }

    @Test("plain and raw forms mix")
    func mixed() {
        let buffer = pool.get(1000)
        pool.putRaw(buffer.withUnsafeMutableBytes { $0.baseAddress })
        pool.put(buffer)
        #expect(pool.stats().puts == 1 && pool.stats().discards.doublePut == 1)
    }

    @Test("no memory is no put")
    func empty() {
        #expect(pool.getRaw(0).baseAddress == nil)
        pool.putRaw(nil)
        #expect(pool.stats() == PoolStats())
    }

    @Test("a second put is refused as long as the memory has no new owner")
    func doublePut() {
        let memory = pool.getRaw(100)
        pool.putRaw(memory.baseAddress)
        pool.putRaw(memory.baseAddress)
        #expect(pool.stats().puts == 1 && pool.stats().discards.doublePut == 1)
        // The documented limit: an address says nothing about who put it.
        let next = pool.get(100)
        #expect(next.withUnsafeMutableBytes { $0.baseAddress } == memory.baseAddress)
        pool.putRaw(memory.baseAddress)
        #expect(pool.stats().puts == 2 && pool.stats().inUse == 0)
        pool.put(next)
        #expect(pool.stats().discards.doublePut == 2)
    }

    @Test("an address inside a buffer is the put of a slice")
    func insideABuffer() throws {
        for size in [600, 17 << 20] {
            let memory = pool.getRaw(size)
            pool.putRaw(try #require(memory.baseAddress) + size - 1)
            pool.putRaw(memory.baseAddress)
        }
        let stats = pool.stats()
        #expect(stats.discards.wrongCapacity == 1 && stats.discards.oversized == 1)
        #expect(stats.discards.doublePut >= 1 && stats.discarded == 4, "both puts of the whole came too late")
        #expect(stats.inUse == 0 && stats.puts == 0)
    }

    @Test("memory that no pool issued is a foreign put: below, above and between a pool's own")
    func foreign() throws {
        let own = pool.getRaw(512)
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 64, alignment: 64)
        defer { memory.deallocate() }
        memory[0] = 42
        pool.putRaw(memory.baseAddress)
        pool.putRaw(UnsafeMutableRawPointer(bitPattern: 1))
        pool.putRaw(UnsafeMutableRawPointer(bitPattern: UInt.max))
        #expect(pool.stats().discards.foreign == 3 && memory[0] == 42)
        // The neighbour in the slab, which has never been handed out.
        let neighbour = try #require(own.baseAddress) + 512
        pool.putRaw(neighbour)
        #expect(pool.stats().discards.foreign == 4 && pool.stats().discarded == 4)
        #expect(pool.stats().puts == 0 && pool.stats().inUse == 1)
        pool.putRaw(own.baseAddress)
        #expect(pool.stats().inUse == 0)
    }

    @Test("what a pool never handed out is a foreign put, also where the slot served a pool that is gone")
    func neighbourOfASuccessor() async {
        await #expect(processExitsWith: .exitCode(0)) {
            // Without red zones, so that the neighbour begins where the buffer ends.
            setenv("MEMPOOL_DEBUG", "off", 1)
            useUpPool()
            let pool = BufferPool()
            let own = pool.get(512)
            // Of a slot that the other pool had, so that this tests anything.
            guard own.generation > 2, let address = own.base else { exit(2) }
            for number in 1..<16 { pool.putRaw(address + number * 512) }
            guard pool.stats().discards.foreign == 15, pool.stats().discarded == 15 else { exit(3) }
            pool.put(own)
            pool.putRaw(address)
            // This one had an owner.
            guard pool.stats().discards.doublePut == 1, pool.stats().discards.foreign == 15 else { exit(4) }
            let all = (0..<16).map { _ in pool.get(512) }
            all.forEach(pool.put)
            for buffer in all { pool.putRaw(buffer.base) }
            exit(pool.stats().discards.doublePut == 17 && pool.stats().discards.foreign == 15 ? 0 : 5)
        }
    }

    @Test("another pool's memory is refused and stays that pool's")
    func wrongPool() {
        let other = BufferPool()
        let memory = [other.getRaw(100), other.getRaw(17 << 20)]
        for bytes in memory { pool.putRaw(bytes.baseAddress) }
        #expect(pool.stats().discards.wrongPool == 2 && pool.stats().discarded == 2)
        for bytes in memory { other.putRaw(bytes.baseAddress) }
        #expect(other.stats().puts == 1 && other.stats().discards.oversized == 1 && other.stats().discarded == 1)
    }

    @Test("a pool finds its buffers among thousands of slabs, and forgets none when it grows")
    func growth() {
        var all: [UnsafeMutableRawBufferPointer] = []
        for round in 0..<10 {
            all += (0..<500).map { pool.getRaw([512, 4096, 65_536][$0 % 3]) }
            if round % 2 == 0 { pool.putRaw(all.remove(at: all.count / 2).baseAddress) }
        }
        for memory in all { pool.putRaw(memory.baseAddress) }
        #expect(pool.stats().puts == 5000 && pool.stats().inUse == 0 && pool.stats().discarded == 0)
    }

    @Test("a pool with the number and the addresses of one that is gone finds its own")
    func successors() {
        for _ in 0..<20 {
            let short = BufferPool()
            let memory = (0..<10).map { short.getRaw($0 * 1000 + 1) }
            for bytes in memory { short.putRaw(bytes.baseAddress) }
            #expect(short.stats().puts == 10 && short.stats().discarded == 0)
        }
    }

    @Test("so does one with fewer buckets than its predecessor")
    func successorsWithOtherBuckets() throws {
        let megabyte = 1 << 20
        let narrow = PoolConfiguration(layout: try BucketLayout(capacities: [megabyte]))
        for _ in 0..<50 {
            do {
                let wide = BufferPool()
                wide.putRaw(wide.getRaw(megabyte).baseAddress)
            }
            let pool = try BufferPool(configuration: narrow)
            pool.putRaw(pool.getRaw(megabyte).baseAddress)
            #expect(pool.stats().puts == 1 && pool.stats().discarded == 0)
        }
    }
}

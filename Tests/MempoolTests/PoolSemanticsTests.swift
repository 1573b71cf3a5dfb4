// The counting rules of gets and puts, one test per row of the table in mempool(3).

import Mempool
import Testing

@Suite("What each event counts")
struct PoolSemanticsTests {
    let pool = BufferPool()

    /// The invariant that holds whenever no call is in flight.
    private func expectBalance(_ location: SourceLocation = #_sourceLocation) {
        let stats = pool.stats()
        #expect(
            Int64(stats.gets) == Int64(stats.puts) + stats.inUse + Int64(stats.discards.wrongCapacity),
            "\(stats)", sourceLocation: location
        )
        #expect(stats.discarded == stats.discards.total, sourceLocation: location)
    }

    @Test("a get that has to allocate counts an allocation, the next one does not")
    func firstAndSecondGet() {
        pool.put(pool.get(600))
        var stats = pool.stats()
        #expect(stats.allocations == 1 && stats.gets == 1 && stats.puts == 1 && stats.inUse == 0)
        let buffer = pool.get(700)
        stats = pool.stats()
        #expect(stats.allocations == 1 && stats.gets == 2 && stats.inUse == 1)
        pool.put(buffer)
        expectBalance()
    }

    @Test("a get of 0 bytes gives an empty buffer and counts nothing, nor does its put")
    func emptyBuffer() {
        let buffer = pool.get(0)
        #expect(buffer.isEmpty && buffer.count == 0 && buffer.capacity == 0)
        pool.put(buffer)
        pool.put(Buffer(wrapping: UnsafeMutableRawBufferPointer(start: nil, count: 0)))
        #expect(pool.stats() == PoolStats())
    }

    @Test("an oversized get counts as oversized and as an allocation, its put as a discard")
    func oversized() {
        let buffer = pool.get(16_777_217)
        #expect(buffer.count == 16_777_217 && buffer.capacity >= buffer.count)
        buffer[16_777_216] = 9
        var expected = PoolStats()
        expected.allocations = 1
        expected.oversized = 1
        #expect(pool.stats() == expected)
        pool.put(buffer)
        expected.discarded = 1
        expected.discards.oversized = 1
        #expect(pool.stats() == expected)
    }

    @Test("a second put is refused and counted, whether or not the buffer was handed out again")
    func doublePut() {
        let first = pool.get(100)
        pool.put(first)
        pool.put(first)
        #expect(pool.stats().discards.doublePut == 1)
        let second = pool.get(100)
        pool.put(first)
        #expect(pool.stats().discards.doublePut == 2)
        #expect(pool.stats().inUse == 1, "the new owner still has it")
        pool.put(second)
        #expect(pool.stats().puts == 2 && pool.stats().inUse == 0)
        expectBalance()
    }

    @Test("an oversized buffer put twice is a double put")
    func oversizedDoublePut() {
        let buffer = pool.get(20_000_000)
        pool.put(buffer)
        pool.put(buffer)
        #expect(pool.stats().discards.doublePut == 1)
        #expect(pool.stats().discards.oversized == 1)
    }

    @Test("a put of a slice is a wrong-capacity put: no longer in use, and not in the bucket either")
    func wrongCapacity() {
        let buffer = pool.get(1000)
        pool.put(buffer.dropFirst(16))
        let stats = pool.stats()
        #expect(stats.discards.wrongCapacity == 1 && stats.puts == 0 && stats.inUse == 0 && stats.discarded == 1)
        #expect(pool.bucketStats()[1].wrongCapacity == 1 && pool.bucketStats()[1].idle == 0)
        pool.put(buffer)
        #expect(pool.stats().discards.doublePut == 1, "the slice was its put")
        expectBalance()
        pool.put(pool.get(1000))
        #expect(pool.stats().allocations == 2, "the discarded buffer did not come back")
        expectBalance()
    }

    @Test("a slice of an oversized buffer ends its life, and the balance of the buckets stays")
    func oversizedSlice() {
        let buffer = pool.get(20_000_000)
        pool.put(buffer.slice(1..<2))
        #expect(pool.stats().discards.oversized == 1 && pool.stats().inUse == 0)
        pool.put(buffer)
        #expect(pool.stats().discards.doublePut == 1)
        expectBalance()
    }

    @Test("a prefix may be put in place of the whole buffer, even an empty one")
    func prefix() {
        pool.put(pool.get(1000).prefix(3))
        pool.put(pool.get(1000).prefix(0))
        pool.put(pool.get(1000).slice(0..<5))
        pool.put(pool.get(1000).dropFirst(0))
        let stats = pool.stats()
        #expect(stats.puts == 4 && stats.discarded == 0)
    }

    @Test("memory that no pool issued is a foreign put")
    func foreign() {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 512, alignment: 64)
        defer { memory.deallocate() }
        memory[0] = 42
        pool.put(Buffer(wrapping: memory))
        #expect(pool.stats().discards.foreign == 1 && pool.stats().puts == 0)
        #expect(memory[0] == 42)
    }

    @Test("a buffer of another pool is refused and stays that pool's")
    func wrongPool() {
        let other = BufferPool()
        let buffer = other.get(100)
        pool.put(buffer)
        #expect(pool.stats().discards.wrongPool == 1)
        #expect(other.stats().inUse == 1)
        other.put(buffer)
        #expect(other.stats().inUse == 0 && other.stats().discarded == 0)
        pool.put(buffer)
        #expect(pool.stats().discards.doublePut == 1, "it has been put already")
    }

    @Test("buffers that find the pool full count as puts and as trimmed")
    func trimmed() throws {
        let small = try BufferPool(configuration: PoolConfiguration(name: "small", idleLimit: .bytes(8 << 20)))
        let buffers = (0..<8).map { _ in small.get(4 << 20) }
        for buffer in buffers { small.put(buffer) }
        let stats = small.stats()
        #expect(stats.puts == 8 && stats.discarded == 0 && stats.inUse == 0)
        // One stays with the thread and one on the shelf.
        #expect(stats.trimmed == 6)
        #expect(small.bucketStats()[7].idle == 2)
        for buffer in (0..<8).map({ _ in small.get(4 << 20) }) { small.put(buffer) }
        #expect(small.stats().allocations == 14)
    }

    @Test("withBuffer puts what it lent, whatever the body makes of its copy")
    func withBuffer() throws {
        struct Failure: Error {}
        let sum = pool.withBuffer(10) { buffer -> Int in
            buffer[9] = 5
            buffer = buffer.dropFirst(9)
            return Int(buffer[0])
        }
        #expect(sum == 5)
        #expect(throws: Failure.self) { try pool.withBuffer(10) { _ throws(Failure) in throw Failure() } }
        #expect(pool.stats().puts == 2 && pool.stats().inUse == 0)
    }

    @Test("the default pool's functions and the shared pool count together")
    func freeFunctions() {
        let before = BufferPool.shared.stats()
        putBuffer(getBuffer(100))
        BufferPool.shared.put(getBuffer(100))
        putBuffer(BufferPool.shared.get(100))
        let after = getStats()
        // Other tests may use the default pool at the same time.
        #expect(after.gets >= before.gets + 3 && after.puts >= before.puts + 3)
    }
}

@Suite("Sizes that trap")
struct PoolTrapTests {
    @Test("a negative size traps")
    func negative() async {
        await #expect(processExitsWith: .failure) { _ = getBuffer(-1) }
    }

    @Test("an absurd size traps, with a message that names it")
    func absurd() async throws {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            _ = getBuffer(.max)
        }
        let text = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
        #expect(text.contains("mempool: a buffer of 9223372036854775807 bytes was asked for"))
    }

    @Test("a size the system has no memory for traps, with a message that names it")
    func noMemory() async throws {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            _ = getBuffer((1 << 46) - 1)
        }
        let text = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
        #expect(
            text.contains("mempool: a get of 70368744177663 bytes failed: the system refused 703687441"))
    }

    @Test("an index outside the buffer traps")
    func index() async {
        await #expect(processExitsWith: .failure) { _ = getBuffer(10)[10] }
        await #expect(processExitsWith: .failure) { getBuffer(10)[-1] = 0 }
        await #expect(processExitsWith: .failure) { _ = getBuffer(10).prefix(11) }
        await #expect(processExitsWith: .failure) { _ = getBuffer(10).dropFirst(11) }
        await #expect(processExitsWith: .failure) { _ = getBuffer(10).slice(5..<11) }
    }
}

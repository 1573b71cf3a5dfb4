// What can be chosen about a pool: buckets, limits, zeroing; and what is said about choices that do not work.

import CMempoolPlatform
import Glibc
import Testing

@testable import Mempool

@Suite("Configurations")
struct ConfigurationTests {
    private func description(_ body: () throws -> Void) -> String? {
        do {
            try body()
            return nil
        } catch {
            return (error as? PoolConfigurationError)?.description
        }
    }

    @Test(
        "a bad layout is refused with the entry that does not fit",
        arguments: [
            ([], "a bucket layout needs at least one capacity"),
            ([0, 5], "capacity 0 is 0; it must be above 0"),
            ([-4], "capacity 0 is -4; it must be above 0"),
            ([512, 512], "capacity 1 is 512; it must be above the one before it, 512"),
            ([512, 1024, 100], "capacity 2 is 100; it must be above the one before it, 1024"),
            ([1 << 41], "capacity 0 is 2199023255552; 1099511627776 is the most"),
            (Array(1...33), "a bucket layout of 33 capacities is too long; 32 is the most"),
        ]
    )
    func badLayouts(capacities: [Int], expected: String) {
        #expect(description { _ = try BucketLayout(capacities: capacities) } == expected)
    }

    @Test("a negative limit and a useless decay are refused")
    func badValues() {
        #expect(
            description { _ = try BufferPool(configuration: .init(idleLimit: .bytes(-1))) }
                == "idleLimit is -1 bytes; it must be 0 or more"
        )
        #expect(
            description { _ = try BufferPool(configuration: .init(decay: .after(seconds: 0))) }
                == "decay is after 0.0 seconds; it must be 0.01 to 1e9"
        )
        #expect(
            description { _ = try BufferPool(configuration: .init(decay: .after(seconds: .nan))) }
                == "decay is after nan seconds; it must be 0.01 to 1e9"
        )
    }

    @Test("a pool too many is an error, also if most have ended with a buffer outstanding")
    func tooManyPools() async throws {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            setenv("MEMPOOL_DEBUG", "off", 1)
            // The default pool has a number as well.
            for _ in 1..<PoolRegistry.poolLimit { _ = BufferPool().get(100) }
            do {
                _ = try BufferPool(configuration: PoolConfiguration())
                exit(2)
            } catch {
                let text = (error as? PoolConfigurationError)?.description
                guard text?.hasPrefix("more than 1024 pools, those included") == true else { exit(3) }
            }
            // The default pool is there all the same.
            putBuffer(getBuffer(100))
            _ = BufferPool()
        }
        let text = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
        #expect(
            text.contains(
                "mempool: more than 1024 pools, those included that ended with buffers outstanding;"
                    + " share pools, and put all buffers of a pool before it ends"))
    }

    @Test("a number is used again for the same kind of pool, and for another one only when fresh ones have run out")
    func numbers() async {
        await #expect(processExitsWith: .exitCode(0)) {
            setenv("MEMPOOL_DEBUG", "off", 1)
            func index(_ name: String, _ capacities: [Int]) throws -> Int {
                let layout = try BucketLayout(capacities: capacities)
                return try BufferPool(configuration: PoolConfiguration(name: name, layout: layout)).index
            }
            let first = try index("a", [512])
            guard try index("b", [512]) == first + 1, try index("a", [1024]) == first + 2 else { exit(2) }
            guard try index("a", [512]) == first, try index("b", [512]) == first + 1 else { exit(3) }
            let all = try (0..<100).map { try index("pool \($0)", [512]) }
            guard Set(all).count == Int(CMEMPOOL_CACHED_POOLS) - first - 3 else { exit(4) }
            exit(all.allSatisfy { $0 < Int(CMEMPOOL_CACHED_POOLS) } ? 0 : 5)
        }
    }

    @Test(
        "every layout serves each size from the smallest bucket that holds it",
        arguments: [
            BucketLayout.standard.capacities, BucketLayout.powersOfTwo.capacities, [1], [100, 101, 102, 5000],
            [64, 16_448, 1_048_640], Array(1...32), [1, 2, 4], [2, 4],
        ]
    )
    func layouts(capacities: [Int]) throws {
        let pool = try BufferPool(configuration: PoolConfiguration(layout: BucketLayout(capacities: capacities)))
        let interesting = capacities.flatMap { [$0 - 1, $0, $0 + 1] } + [1, 2, 3, 99, 4095, 4096, 4097]
        for size in Set(interesting).sorted() where size > 0 {
            // Twice: the first get of a bucket takes the slow path, the second one the fast path.
            for _ in 0..<2 {
                let buffer = pool.get(size)
                if let expected = capacities.first(where: { $0 >= size }) {
                    #expect(buffer.capacity == expected, "size \(size)")
                } else {
                    #expect(buffer.capacity >= size)
                }
                buffer[size - 1] = 1
                pool.put(buffer)
            }
        }
        let stats = pool.stats()
        #expect(stats.inUse == 0 && stats.gets == stats.puts && stats.oversized == stats.discards.oversized)
    }

    @Test("buffers of odd capacities are aligned and do not overlap")
    func oddCapacities() throws {
        let pool = try BufferPool(configuration: PoolConfiguration(layout: BucketLayout(capacities: [100, 5000])))
        let buffers = (0..<300).flatMap { _ in [pool.get(100), pool.get(5000)] }
        var ranges: [Range<UInt>] = []
        for buffer in buffers {
            buffer.withUnsafeMutableBytes {
                let start = UInt(bitPattern: $0.baseAddress)
                #expect(start % (buffer.capacity >= 4096 ? 4096 : 64) == 0)
                ranges.append(start..<start + UInt(buffer.capacity))
            }
        }
        ranges.sort { $0.lowerBound < $1.lowerBound }
        for (range, next) in zip(ranges, ranges.dropFirst()) { #expect(range.upperBound <= next.lowerBound) }
        buffers.forEach(pool.put)
        #expect(pool.stats().inUse == 0)
    }

    @Test("an address finds its buffer in odd layouts, and a gap between two buffers belongs to nobody")
    func rawInOddLayouts() throws {
        let pool = try BufferPool(configuration: PoolConfiguration(layout: BucketLayout(capacities: [100, 5000])))
        let raw = (0..<50).flatMap { _ in [pool.getRaw(100), pool.getRaw(5000)] }
        if let base = raw[1].baseAddress { pool.putRaw(base + 6000) }
        #expect(pool.stats().discards.foreign == 1 && pool.stats().inUse == 100)
        for bytes in raw { pool.putRaw(bytes.baseAddress) }
        #expect(pool.stats().inUse == 0 && pool.stats().puts == 100 && pool.stats().discarded == 1)
    }

    @Test("a pool that may keep nothing keeps nothing")
    func noIdleMemory() throws {
        let pool = try BufferPool(configuration: PoolConfiguration(idleLimit: .bytes(0)))
        for _ in 0..<10 { pool.put(pool.get(1000)) }
        let stats = pool.stats()
        #expect(stats.allocations == 10 && stats.trimmed == 10 && stats.puts == 10)
        #expect(pool.bucketStats()[1].idle == 0)
    }

    @Test("a pool without a limit keeps everything")
    func unlimited() throws {
        let pool = try BufferPool(configuration: PoolConfiguration(idleLimit: .unlimited, decay: .never))
        let buffers = (0..<100).map { _ in pool.get(1 << 20) }
        buffers.forEach(pool.put)
        #expect(pool.stats().trimmed == 0 && pool.bucketStats()[6].idle == 100)
        #expect(pool.trim() >= 98 << 20)
        #expect(pool.bucketStats()[6].idle == 0)
    }

    @Test("zeroing at the get gives zeros, exactly as many as were asked for")
    func zeroingOnGet() throws {
        let pool = try BufferPool(configuration: PoolConfiguration(zeroing: .onGet))
        for _ in 0..<3 {
            let dirty = pool.get(1000)
            for index in 0..<1000 { dirty[index] = 0xAA }
            pool.put(dirty)
            let clean = pool.get(600)
            #expect((0..<600).allSatisfy { clean[$0] == 0 })
            // What a recorder writes behind the request is not zero either.
            clean.withUnsafeMutableBytes { #expect($0.baseAddress?.load(fromByteOffset: 600, as: UInt8.self) != 0) }
            pool.put(clean)
        }
    }

    @Test("zeroing at the put leaves nothing of what was asked for, even if a prefix or a slice is put")
    func zeroingOnPut() throws {
        let pool = try BufferPool(configuration: PoolConfiguration(zeroing: .onPut))
        for form in 0..<3 {
            let buffer = pool.get(900)
            for index in 0..<900 { buffer[index] = 0xAA }
            pool.put(form == 0 ? buffer : form == 1 ? buffer.prefix(10) : buffer.dropFirst(10))
            // The memory is still mapped; nobody else has it.
            buffer.withUnsafeMutableBytes { bytes in #expect(bytes.allSatisfy { $0 == 0 }, "form \(form)") }
        }
    }

    @Test("a second put zeroes nothing of the new owner's")
    func zeroingAndDoublePut() throws {
        let pool = try BufferPool(configuration: PoolConfiguration(zeroing: .onPut))
        let first = pool.get(100)
        pool.put(first)
        let second = pool.get(100)
        second[0] = 7
        pool.put(first)
        #expect(second[0] == 7 && pool.stats().discards.doublePut == 1)
    }

    @Test("the empty buffer works in every pool", arguments: [Zeroing.never, .onGet, .onPut])
    func emptyBuffer(zeroing: Zeroing) throws {
        let pool = try BufferPool(configuration: PoolConfiguration(zeroing: zeroing))
        let buffer = try pool.tryGet(0)
        #expect(buffer.isEmpty)
        pool.put(buffer)
        pool.put(pool.get(0))
        #expect(pool.stats() == PoolStats())
    }

    @Test func `Requests are remembered whole, also those above 4 GiB`() throws {
        try ZeroingRequests.reserve()
        for request in [0, 1, 1 << 32, 5 << 30, 1 << 40] {
            // A slot that no pool uses: slot 0 is never given out.
            cmempool_remember_request(0, request)
            #expect(cmempool_remembered_request(0) == request)
        }
    }

    @Test func `Errors of memory say what ran out`() {
        let memory = PoolAllocationError(byteCount: 4096, errorNumber: ENOMEM)
        #expect(memory.description == "the system refused 4096 bytes: Cannot allocate memory")
        let slots = PoolAllocationError(byteCount: 4096, errorNumber: ENOSPC)
        #expect(
            slots.description
                == "all 16777216 slots of the process are in use, by outstanding and idle buffers of all pools")
    }
}

// What the inlined get and put find where there is nothing for them: an empty magazine, a bucket that the pool has not, no cache.

import CMempoolPlatform
import Testing

@testable import Mempool

@Suite struct FastPathTests {
    private static let sizes = [Int.min, -1, 0, 1, 2, 3, 512, 513, 16 << 20, 16 << 20 + 1, 1 << 46, Int.max]

    @Test func `A thread without a cache gets and puts nothing inline`() {
        let pool = BufferPool()
        let buffer = pool.get(512)
        // The shape word of the last one is 0, as that of nobody's magazine.
        let buffers = [buffer, buffer.dropFirst(100), buffer.dropFirst(512), getBuffer(512).dropFirst(512)]
        #expect(buffers[3].shape & ~BufferShape.watched == 0)
        onThreads(1) { _ in
            #expect(cmempool_fast_cache(pool.index) == cmempool_cache_of_nobody())
            for size in Self.sizes {
                #expect(BufferPool.fastGet(size, pool: pool.index) == nil)
                #expect(BufferPool.fastGetBySearch(size, pool: pool.index) == nil)
            }
            for buffer in buffers { #expect(!BufferPool.fastPut(buffer, pool: pool.index)) }
        }
        pool.put(buffer)
        #expect(pool.stats().inUse == 0)
    }

    @Test(arguments: [[512], [3, 700], Array(1...32)])
    func `Every bucket that a shape can name leads to a magazine of the pool or to none`(capacities: [Int]) throws {
        let pool = try BufferPool(configuration: PoolConfiguration(layout: BucketLayout(capacities: capacities)))
        for capacity in capacities { pool.put(pool.get(capacity)) }
        let cache = try #require(cmempool_owned_cache(pool.index))
        guard cmempool_fast_cache(pool.index) == cache else { return }
        for bucket in 0..<64 {
            let magazine = cmempool_put_magazine(cache, bucket)
            #expect(magazine == cmempool_magazine_at(cache, min(bucket, capacities.count)))
            let shape = BufferShape.word(capacity: 100, pool: pool.index, bucket: bucket)
            let foreign = Buffer(base: nil, count: 0, shape: shape, ticket: Ticket.word(16, 1))
            let isWhole = bucket < capacities.count && capacities[bucket] == 100
            #expect(isWhole || !BufferPool.fastPut(foreign, pool: pool.index))
        }
        // One buffer lies in each magazine; with it gone, the magazine gives nothing.
        for capacity in capacities {
            #expect(BufferPool.fastGetBySearch(capacity, pool: pool.index)?.capacity == capacity)
            #expect(BufferPool.fastGetBySearch(capacity, pool: pool.index) == nil)
        }
        for size in Self.sizes where size < 1 || size > capacities[capacities.count - 1] {
            #expect(BufferPool.fastGetBySearch(size, pool: pool.index) == nil)
        }
    }
}

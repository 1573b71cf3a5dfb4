// `SampledGets`: which gets a recorder is told of while it wants one in so many, and what the others do.
// `PoolTotals`: what a pool has counted by itself meanwhile.

internal import CMempoolPlatform

/// The countdown to the next sampled get, one per thread.
///
/// The distance from one sampled get to the next is drawn evenly from 1...2N-1, so that no loop runs in step with it and its
/// mean is N. Each get counts down once, wherever it is served.
enum SampledGets {
    /// Counts one get of the calling thread. True if it is to be told.
    static func isNext() -> Bool {
        let mean = cmempool_sample_interval()
        var left = cmempool_until_sampled()
        if left == 0 { left = first(mean) }
        guard left <= 1 else {
            cmempool_set_until_sampled(left - 1)
            return false
        }
        drawNext(mean)
        return true
    }

    /// Whether the calling thread's next get is to be told; false before its first one.
    @inline(__always)
    static var isNextDue: Bool { cmempool_until_sampled() == 1 }

    /// Begins the countdown anew.
    static func drawNext(_ mean: UInt32) { cmempool_set_until_sampled(1 + random(below: 2 * mean - 1)) }

    /// The distance to a thread's first sampled get.
    ///
    /// Not drawn like the others: a thread begins anywhere between two of them, not right behind one. Drawn like the others,
    /// threads with few gets would be sampled half as often as the rest. The chance of a distance is proportional to how many
    /// intervals are at least as long, which is that of the smaller one of two different numbers up to 2N.
    private static func first(_ mean: UInt32) -> UInt32 {
        let one = random(below: 2 * mean)
        var other = random(below: 2 * mean - 1)
        if other >= one { other += 1 }
        return 1 + min(one, other)
    }

    /// An even number of the calling thread's, by xorshift64*.
    static func random(below bound: UInt32) -> UInt32 {
        let thread = cmempool_thread_current()
        var state = thread.pointee.random
        if state == 0 {
            var system = SystemRandomNumberGenerator()
            state = system.next() | 1
        }
        state ^= state >> 12
        state ^= state << 25
        state ^= state >> 27
        thread.pointee.random = state
        let high = (state &* 0x2545_F491_4F6C_DD1D) >> 32
        return UInt32(truncatingIfNeeded: (high * UInt64(bound)) >> 32)
    }
}

/// What the inlined get would do if gets were not sampled, for those that are not: all of it, and the countdown. For pools
/// that are plain (`BufferPool.isPlain`); for the others the slow path counts.
///
/// Nil if gets are not sampled, if this is the one that is, or if the magazine has nothing.
@inline(__always)
func unsampledGet(_ size: Int, pool: Int) -> Buffer? {
    let left = cmempool_until_sampled()
    guard left > 1 else { return nil }
    let cache = cmempool_fast_cache(pool)
    let magazine = cmempool_own_magazine(cache, BucketLayout.highestBit(size))
    guard let buffer = BufferPool.take(size, cache, magazine) else { return nil }
    cmempool_set_until_sampled(left &- 1)
    return buffer
}

/// What a pool has counted since it was created, whoever was told of it.
package struct PoolTotals: Sendable {
    package var pool: Int
    /// Smallest capacity first.
    package var buckets: [BucketStats]
    package var oversizedGets: UInt64
    package var oversizedPuts: UInt64

    /// The totals of every pool there is, destroyed ones with outstanding buffers included.
    ///
    /// - Complexity: O(buffers of all pools).
    package static var ofAllPools: [PoolTotals] { PoolRegistry.all.map { $0.totals() } }
}

extension PoolCore {
    /// Reads all counters. Exact whenever no call is in flight.
    func totals() -> PoolTotals {
        PoolTotals(
            pool: index, buckets: bucketStats(),
            oversizedGets: oversized.gets.load(ordering: .relaxed),
            oversizedPuts: oversized.puts.load(ordering: .relaxed)
        )
    }
}

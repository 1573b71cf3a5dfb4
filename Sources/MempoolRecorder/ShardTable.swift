// `ShardTable`: which counters in the recording belong to which thread.

#if Recorder
internal import CMempoolPlatform
internal import Mempool
internal import MempoolRecording
internal import Synchronization

/// Lends pages of counters to threads: a counter that threads share costs each of them a hundred cycles when they all count.
///
/// They lie in the recording, so that they are right in the file of a killed process. The shard of a thread that ended goes
/// on with the next one that uses the same pool. Thread-safe.
final class ShardTable: Sendable {
    private struct State: ~Copyable {
        var used = 0
        /// Shards of ended threads, by pool.
        var free: [[Int]] = Array(repeating: [], count: RecordingLimits.pools)
    }

    private let file: RecordingFile
    private nonisolated(unsafe) let words: UnsafeMutablePointer<UInt64>
    private let state = Guarded(State())
    private let isFull = Atomic(false)

    init(file: RecordingFile) {
        self.file = file
        words = file.records(.shards, as: UInt64.self)
    }

    /// Gives the calling thread a shard and its credits for its use of a pool, until it ends; false if there are no more.
    @inline(never)
    func take(pool: Int, _ highWater: HighWater) -> Bool {
        guard !isFull.load(ordering: .relaxed), pool < RecordingLimits.pools, cmempool_is_recorded_thread() else {
            return false
        }
        let index = state.withLock { state -> Int? in
            if let index = state.free[pool].popLast() { return index }
            guard file.reserve(.shards, count: state.used + 1) != nil else { return nil }
            let index = state.used
            words[index * CounterShard.wordCount + CounterShard.poolWord] = UInt64(pool) + 1
            state.used += 1
            file.publish(.shards, count: state.used)
            return index
        }
        guard let index else {
            // Those of threads that end from here on serve their successors only once somebody looks again.
            isFull.store(true, ordering: .relaxed)
            return false
        }
        let shard = words + index * CounterShard.wordCount
        return cmempool_set_counters(pool, shard, highWater.credits(of: shard))
    }

    /// Takes a shard back when its thread ends.
    func giveBack(pool: Int, _ shard: UnsafeMutablePointer<UInt64>) {
        state.withLock { $0.free[pool].append((shard - words) / CounterShard.wordCount) }
        isFull.store(false, ordering: .relaxed)
    }
}
#endif

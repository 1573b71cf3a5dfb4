// `HighWater`: the most buffers of a bucket that were outstanding at once, without a counter that threads share.

#if Recorder
internal import CMempoolPlatform
internal import Glibc
internal import Mempool
internal import MempoolRecording

/// Raises the high water of each row of counters.
///
/// A get below the high water so far cannot raise it. How far a row is below is handed out as *credits*: one for each get that may
/// still happen before the mark is reached again. A get uses a credit, a put brings one back, both in the thread's own words.
/// Invariant: outstanding buffers and all credits of a row together are its high water. Only a thread that has no credit left looks
/// at the others' and takes half of what somebody has; if nobody has any, every buffer of the high water is outstanding, and
/// this get raises it.
///
/// Exact whenever no call is in flight, for up to `exactShardLimit` threads at a time in a pool; with more, a get that raises it
/// raises it by `batch` at once, so that it may be too high by that much per thread. Thread-safe.
struct HighWater: @unchecked Sendable {
    /// Up to here a thread that runs out looks at all the others each time.
    private static let exactShardLimit = 8
    private static let batch: UInt64 = 16
    /// Words per shard: a row each, and a distance to the next shard's that no cache line spans.
    private static var wordsPerShard: Int { 64 }

    /// Private memory, bytes: 128 KiB of address space for shards, of which used pages take memory, and one word per row.
    static let byteCount =
        (RecordingLimits.shards * wordsPerShard + RecordingLimits.pools * RecordingLimits.bucketRowsPerPool)
        * MemoryLayout<UInt64>.stride

    private let credits: UnsafeMutablePointer<UInt64>
    /// Credits that no shard has, by row.
    private let common: UnsafeMutablePointer<UInt64>
    private let shardWords: UnsafeMutablePointer<UInt64>
    private let publishedShards: UnsafeMutablePointer<UInt64>
    private let rows: UnsafeMutablePointer<BucketCounters>
    private let lock: UnsafeMutablePointer<Guarded<Void>>
    /// How many buffers one counted get stands for.
    private let unit: UInt64

    init?(file: RecordingFile, unit: Int) {
        self.unit = UInt64(unit)
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
        guard let memory = mmap(nil, Self.byteCount, PROT_READ | PROT_WRITE, flags, -1, 0), memory != MAP_FAILED else {
            return nil
        }
        credits = memory.assumingMemoryBound(to: UInt64.self)
        common = credits + RecordingLimits.shards * Self.wordsPerShard
        shardWords = file.records(.shards, as: UInt64.self)
        publishedShards = file.published(.shards)
        rows = file.records(.counters, as: BucketCounters.self)
        // Never freed: the recorder lives as long as the process.
        lock = .allocate(capacity: 1)
        lock.initialize(to: Guarded(()))
    }

    /// The credits of a shard in a row.
    @inline(__always)
    private func words(_ shard: UnsafeMutablePointer<UInt64>, _ row: Int) -> UnsafeMutablePointer<UInt64> {
        credits + ((UnsafeRawPointer(shard) - UnsafeRawPointer(shardWords)) &>> 6 &+ row)
    }

    /// Counts a get of a row, on the thread of the shard.
    @inline(__always)
    func didGet(pool: Int, row: Int, _ shard: UnsafeMutablePointer<UInt64>) {
        let word = words(shard, row)
        let credit = cmempool_load64(word)
        // Others only take credits away, and then this fails and looks again.
        if credit > 0, cmempool_exchange64(word, credit, credit &- 1) { return }
        getWithoutCredit(pool: pool, row: row, word)
    }

    /// Counts a put of a row, on the thread of the shard.
    @inline(__always)
    func didPut(row: Int, _ shard: UnsafeMutablePointer<UInt64>) { _ = cmempool_add64(words(shard, row), 1) }

    /// Counts a get on a thread without a shard.
    func didGet(pool: Int, row: Int) {
        let word = common + pool * HotLayout.rowsPerPool + row
        if !Self.take(from: word) { getWithoutCredit(pool: pool, row: row, word) }
    }

    /// Counts a put on a thread without a shard.
    func didPut(pool: Int, row: Int) { _ = cmempool_add64(common + pool * HotLayout.rowsPerPool + row, 1) }

    /// Takes one credit if there is one.
    private static func take(from word: UnsafeMutablePointer<UInt64>) -> Bool {
        while true {
            let credit = cmempool_load64(word)
            if credit == 0 { return false }
            if cmempool_exchange64(word, credit, credit - 1) { return true }
        }
    }

    /// Takes half of the credits, at least one, if there are any.
    private static func takeHalf(from word: UnsafeMutablePointer<UInt64>) -> UInt64 {
        while true {
            let credit = cmempool_load64(word)
            if credit == 0 { return 0 }
            let half = (credit + 1) / 2
            if cmempool_exchange64(word, credit, credit - half) { return half }
        }
    }

    @inline(never)
    private func getWithoutCredit(pool: Int, row: Int, _ own: UnsafeMutablePointer<UInt64>) {
        lock.pointee.withLock { (_: inout Void) in
            if Self.take(from: own) { return }
            var found = Self.takeHalf(from: common + pool * HotLayout.rowsPerPool + row)
            var others = 0
            for index in 0..<Int(cmempool_load64_acquire(publishedShards)) {
                let shard = shardWords + index * CounterShard.wordCount
                guard shard[CounterShard.poolWord] == UInt64(pool) + 1 else { continue }
                others += 1
                if found == 0 { found = Self.takeHalf(from: words(shard, row)) }
            }
            if found == 0 {
                // The lock makes this the only writer.
                found = others > Self.exactShardLimit ? Self.batch : 1
                let mark = rows + pool * HotLayout.rowsPerPool + row
                cmempool_store64(&mark.pointee.highWater, mark.pointee.highWater &+ found &* unit)
            }
            if found > 1 { _ = cmempool_add64(own, found - 1) }
        }
    }
}
#endif

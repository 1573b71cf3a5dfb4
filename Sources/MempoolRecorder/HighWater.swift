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
/// One credit of a thread is its *pocket* money: no other thread may touch it, so that a get and its put take no atomic operation.
/// Others can see it, though, and borrow it by making the rest of the thread's credits one less; the thread pays back at its
/// next get, or its next put does.
///
/// Exact whenever no call is in flight, for up to `exactShardLimit` threads at a time in a pool; with more, a get that raises it
/// raises it by `batch` at once, so that it may be too high by that much per thread. Two gets that use one pocket at the same moment
/// leave it too low by one until the next get. Thread-safe.
struct HighWater: @unchecked Sendable {
    /// Up to here a thread that runs out looks at all the others each time.
    private static let exactShardLimit = 8
    private static let batch: UInt64 = 16
    /// Words per shard: two for each row, its pocket and the rest, and a distance to the next shard's that no cache line spans.
    private static var wordsPerShard: Int { 128 }

    /// Private memory, bytes: 256 KiB of address space for shards, of which used pages take memory, and one word per row.
    static let byteCount =
        (RecordingLimits.shards * wordsPerShard + RecordingLimits.pools * RecordingLimits.bucketRowsPerPool)
        * MemoryLayout<UInt64>.stride

    private let credits: UnsafeMutablePointer<UInt64>
    private let shardWords: UnsafeMutablePointer<UInt64>
    /// Never freed: the recorder lives as long as the process.
    private let rare: UnsafeMutablePointer<Rare>

    /// What gets and puts do without while there are credits; apart, as a get would copy it for the case that there are none.
    private struct Rare: ~Copyable {
        /// Credits that no shard has, by row.
        let common: UnsafeMutablePointer<UInt64>
        let publishedShards: UnsafeMutablePointer<UInt64>
        let rows: UnsafeMutablePointer<BucketCounters>
        let lock = Guarded(())
        /// How many buffers one counted get stands for.
        let unit: UInt64
    }

    init?(file: RecordingFile, unit: Int) {
        let wordCount = Self.byteCount / MemoryLayout<UInt64>.stride
        guard let credits = SystemMemory.reserve(UInt64.self, wordCount) else { return nil }
        self.credits = credits
        shardWords = file.records(.shards, as: UInt64.self)
        rare = .allocate(capacity: 1)
        rare.initialize(
            to: Rare(
                common: credits + RecordingLimits.shards * Self.wordsPerShard,
                publishedShards: file.published(.shards),
                rows: file.records(.counters, as: BucketCounters.self),
                unit: UInt64(unit)
            ))
    }

    /// The credits of a shard: for each row its pocket, 0 or 1, and the rest behind it, as a signed number.
    func credits(of shard: UnsafeMutablePointer<UInt64>) -> UnsafeMutablePointer<UInt64> {
        credits + (shard - shardWords) / CounterShard.wordCount * Self.wordsPerShard
    }

    @inline(__always)
    private func pocket(_ credits: UnsafeMutablePointer<UInt64>, _ row: Int) -> UnsafeMutablePointer<UInt64> {
        credits + row &* 2
    }

    /// Counts a get of a row, on the thread that has the credits.
    @inline(__always)
    func didGet(pool: Int, row: Int, _ credits: UnsafeMutablePointer<UInt64>) {
        let pocket = pocket(credits, row)
        // Below 0: somebody borrowed what is in the pocket.
        if cmempool_load64(pocket) > 0, Int64(bitPattern: cmempool_load64(pocket + 1)) >= 0 {
            cmempool_store64(pocket, 0)
        } else {
            getWithoutPocket(pool: pool, row: row, pocket)
        }
    }

    /// Counts a put of a row, on the thread that has the credits.
    @inline(__always)
    func didPut(row: Int, _ credits: UnsafeMutablePointer<UInt64>) {
        let pocket = pocket(credits, row)
        if cmempool_load64(pocket) == 0 { cmempool_store64(pocket, 1) } else { _ = cmempool_add64(pocket + 1, 1) }
    }

    @inline(never)
    private func getWithoutPocket(pool: Int, row: Int, _ pocket: UnsafeMutablePointer<UInt64>) {
        if Self.take(from: pocket + 1) { return }
        getWithoutCredit(pool: pool, row: row, pocket + 1)
    }

    /// Counts a get on a thread without a shard.
    func didGet(pool: Int, row: Int) {
        let word = rare.pointee.common + pool * HotLayout.rowsPerPool + row
        if !Self.take(from: word) { getWithoutCredit(pool: pool, row: row, word) }
    }

    /// Counts a put on a thread without a shard.
    func didPut(pool: Int, row: Int) {
        _ = cmempool_add64(rare.pointee.common + pool * HotLayout.rowsPerPool + row, 1)
    }

    /// Takes one credit if there is one.
    private static func take(from word: UnsafeMutablePointer<UInt64>) -> Bool {
        while true {
            let credit = Int64(bitPattern: cmempool_load64(word))
            if credit <= 0 { return false }
            if exchange(word, credit, credit - 1) { return true }
        }
    }

    /// Takes half of the credits, at least one, if there are any.
    private static func takeHalf(from word: UnsafeMutablePointer<UInt64>) -> UInt64 {
        while true {
            let credit = Int64(bitPattern: cmempool_load64(word))
            if credit <= 0 { return 0 }
            let half = (credit + 1) / 2
            if exchange(word, credit, credit - half) { return UInt64(half) }
        }
    }

    /// Takes what a thread has: half of its credits, or what is in its pocket.
    private static func take(fromThread pocket: UnsafeMutablePointer<UInt64>) -> UInt64 {
        let half = takeHalf(from: pocket + 1)
        if half > 0 || cmempool_load64(pocket) == 0 { return half }
        return exchange(pocket + 1, 0, -1) ? 1 : takeHalf(from: pocket + 1)
    }

    private static func exchange(_ word: UnsafeMutablePointer<UInt64>, _ old: Int64, _ new: Int64) -> Bool {
        cmempool_exchange64(word, UInt64(bitPattern: old), UInt64(bitPattern: new))
    }

    @inline(never)
    private func getWithoutCredit(pool: Int, row: Int, _ own: UnsafeMutablePointer<UInt64>) {
        rare.pointee.lock.withLock { (_: inout Void) in
            if Self.take(from: own) { return }
            var found = Self.takeHalf(from: rare.pointee.common + pool * HotLayout.rowsPerPool + row)
            var others = 0
            for index in 0..<Int(cmempool_load64_acquire(rare.pointee.publishedShards)) {
                let shard = shardWords + index * CounterShard.wordCount
                guard shard[CounterShard.poolWord] == UInt64(pool) + 1 else { continue }
                others += 1
                if found == 0 { found = Self.take(fromThread: pocket(credits(of: shard), row)) }
            }
            if found == 0 {
                // The lock makes this the only writer.
                found = others > Self.exactShardLimit ? Self.batch : 1
                let mark = rare.pointee.rows + pool * HotLayout.rowsPerPool + row
                cmempool_store64(&mark.pointee.highWater, mark.pointee.highWater &+ found &* rare.pointee.unit)
            }
            if found > 1 { _ = cmempool_add64(own, found - 1) }
        }
    }
}
#endif

// `Sampling`: the end of the counters of a recording at level sampled, where the recorder is told of one get in many.

#if Recorder
internal import CMempoolPlatform
internal import Mempool
internal import MempoolRecording

/// Puts the pools' own totals in place of the estimates when the process ends.
///
/// The recorder counts each sampled get for as many as it stands for. While the process runs, and in the file of one that died, the
/// counters are such estimates and the header says so. Thread-safe.
final class Sampling: Sendable {
    /// Gets that a sampled one stands for.
    let interval: Int
    private let file: RecordingFile
    /// What pools that were destroyed had counted, summed by index.
    private let ended = Guarded<[Int: PoolTotals]>([:])

    init(interval: Int, file: RecordingFile) {
        self.interval = interval
        self.file = file
        file.header.pointee.sampleInterval = UInt64(interval)
        file.header.pointee.flags |= RecordingHeader.estimatedCountersFlag
    }

    // MARK: - Exact totals

    /// Keeps what a pool has counted, as it cannot be asked any more later.
    func poolWillEnd(_ totals: PoolTotals) {
        ended.withLock { $0[totals.pool] = $0[totals.pool].map { Self.sum($0, totals) } ?? totals }
    }

    /// Puts the pools' own totals in place of the estimates. Returns how many buffers are outstanding.
    func enterTotals() -> UInt64 {
        collectShards()
        let pools = file.records(.pools, as: PoolRecord.self)
        let poolCount = Int(file.published(.pools).pointee)
        var all = ended.withLock { $0 }
        for totals in PoolTotals.ofAllPools where totals.pool < poolCount && pools[totals.pool].state == 1 {
            all[totals.pool] = all[totals.pool].map { Self.sum($0, totals) } ?? totals
        }
        var outstanding: UInt64 = 0
        for totals in all.values where totals.pool < poolCount && pools[totals.pool].state != 0 {
            let rows =
                file.records(.counters, as: BucketCounters.self) + totals.pool * RecordingLimits.bucketRowsPerPool
            for (row, stats) in zip(rows..<rows + totals.buckets.count, totals.buckets) {
                row.pointee.allocations = stats.allocations
                row.pointee.trimmed = stats.trimmed
                row.pointee.wrongCapacityPuts = stats.wrongCapacity
                let inUse = UInt64(max(0, stats.inUse))
                enter(gets: stats.gets, puts: stats.puts, inUse: inUse, in: row)
                outstanding += inUse
            }
            let inUse = totals.oversizedGets - min(totals.oversizedGets, totals.oversizedPuts)
            let oversized = rows + totals.buckets.count
            oversized.pointee.allocations = totals.oversizedGets
            enter(gets: totals.oversizedGets, puts: totals.oversizedPuts, inUse: inUse, in: oversized)
            outstanding += inUse
        }
        file.header.pointee.flags &= ~RecordingHeader.estimatedCountersFlag
        return outstanding
    }

    /// Moves what threads have counted by themselves to the rows, to which the reader would add it. A thread that still counts
    /// may leave a little.
    private func collectShards() {
        let shards = file.records(.shards, as: UInt64.self)
        for number in 0..<Int(file.published(.shards).pointee) {
            let shard = shards + number * CounterShard.wordCount
            guard shard[CounterShard.poolWord] > 0 else { continue }
            let pool = Int(shard[CounterShard.poolWord]) - 1
            let rows = file.records(.counters, as: BucketCounters.self) + pool * RecordingLimits.bucketRowsPerPool
            for row in 0..<RecordingLimits.bucketRowsPerPool {
                let words = HotLayout.row(row, of: shard)
                rows[row].gets += words[CounterShard.getsWord]
                rows[row].requestedBytes += words[CounterShard.requestedBytesWord]
                for word in 0..<CounterShard.wordsPerRow { words[word] = 0 }
            }
        }
    }

    private func enter(gets: UInt64, puts: UInt64, inUse: UInt64, in row: UnsafeMutablePointer<BucketCounters>) {
        // Sums of sizes follow the number they are sums over, so that means stay what the samples say.
        let estimate = row.pointee.gets
        if estimate > 0 {
            let share = Double(gets) / Double(estimate)
            row.pointee.requestedBytes = UInt64((Double(row.pointee.requestedBytes) * share).rounded())
            row.pointee.handedOutBytes = UInt64((Double(row.pointee.handedOutBytes) * share).rounded())
        }
        row.pointee.gets = gets
        row.pointee.puts = puts
        row.pointee.highWater = min(gets, max(inUse, row.pointee.highWater))
    }

    private static func sum(_ one: PoolTotals, _ other: PoolTotals) -> PoolTotals {
        var (longer, shorter) = one.buckets.count >= other.buckets.count ? (one, other) : (other, one)
        for (index, stats) in shorter.buckets.enumerated() {
            longer.buckets[index].allocations += stats.allocations
            longer.buckets[index].gets += stats.gets
            longer.buckets[index].puts += stats.puts
            longer.buckets[index].inUse += stats.inUse
            longer.buckets[index].trimmed += stats.trimmed
            longer.buckets[index].wrongCapacity += stats.wrongCapacity
        }
        longer.oversizedGets += shorter.oversizedGets
        longer.oversizedPuts += shorter.oversizedPuts
        return longer
    }
}
#endif

// Computes the figures of a pool from its counters.

internal import MempoolRecording

extension PoolReport {
    /// The figures of a recorded pool.
    init(recorded pool: Recording.Pool, number: Int) {
        self.init(
            name: pool.name.isEmpty ? "pool \(number)" : pool.name, destroyed: pool.record.state == PoolRecord.destroyed
        )
        let bucketCount = Int(pool.record.bucketCount)
        buckets = pool.rows.prefix(bucketCount).map { BucketReport(recorded: $0) }
        if pool.rows.count > bucketCount { oversized = BucketReport(recorded: pool.rows[bucketCount]) }

        // As in the pool: oversized buffers count as oversized, not as gets, and as discarded, not as puts.
        for bucket in buckets {
            stats.gets = Counter.sum(stats.gets, bucket.gets)
            stats.puts = Counter.sum(stats.puts, bucket.puts)
            stats.inUse = Counter.sum(stats.inUse, bucket.inUse)
        }
        for row in buckets + [oversized] {
            stats.allocations = Counter.sum(stats.allocations, row.allocations)
            discards.wrongCapacity = Counter.sum(discards.wrongCapacity, row.wrongCapacity)
            discards.doublePut = Counter.sum(discards.doublePut, row.doublePut)
        }
        stats.oversized = oversized.gets
        discards.foreign = Int(clamping: pool.record.foreignPuts)
        discards.wrongPool = Int(clamping: pool.record.wrongPoolPuts)
        discards.oversized = oversized.puts
        stats.discarded = discards.total

        requestSizes = pool.histogram.enumerated().compactMap { bin, count in
            guard count > 0 else { return nil }
            let range = SizeHistogram.range(ofBin: bin)
            return RequestSizeBin(from: range.lowerBound, to: range.upperBound, count: Int(clamping: count))
        }
    }
}

extension BucketReport {
    /// The figures of a recorded row.
    init(recorded row: BucketCounters) {
        self.init(capacity: Int(clamping: row.capacity))
        gets = Int(clamping: row.gets)
        puts = Int(clamping: row.puts)
        // Counted up and down by wrapping additions.
        inUse = Int(truncatingIfNeeded: row.inUse)
        highWater = Int(clamping: row.highWater)
        allocations = Int(clamping: row.allocations)
        wrongCapacity = Int(clamping: row.wrongCapacityPuts)
        doublePut = Int(clamping: row.doublePuts)
        trimmed = Int(clamping: row.trimmed)
        requestedBytes = Int(clamping: row.requestedBytes)
        handedOutBytes = Int(clamping: row.handedOutBytes)
        if gets > 0 { hitPercent = Self.percent(gets - min(allocations, gets), of: gets) }
        // Each get asks for something; a recorder that sampled may have seen none of them.
        if handedOutBytes > 0, requestedBytes > 0 {
            wastePercent = Self.percent(handedOutBytes - min(requestedBytes, handedOutBytes), of: handedOutBytes)
        }
    }

    /// Tenths of a per cent are what a table shows.
    private static func percent(_ part: Int, of whole: Int) -> Double {
        (Double(part) / Double(whole) * 1000).rounded() / 10
    }
}

extension KeptReport {
    /// What is kept on purpose of the buffers of a pool.
    init(of pool: Int, groups: RecordedGroups, stacks: NamedStacks) {
        self.init()
        // In a fixed order, as places are put together in the order they come.
        let sorted = groups.kept.filter { Int($0.key.pool) == pool }
            .sorted { ($1.value.bytes, $0.key.stack) < ($0.value.bytes, $1.key.stack) }
        var positions: [Frame?: Int] = [:]
        for (key, group) in sorted {
            count = Counter.sum(count, group.count)
            bytes = Counter.sum(bytes, group.bytes)
            let site = NamedStacks.site(of: stacks.frames(key.stack))
            if let index = positions[site] {
                sites[index].count = Counter.sum(sites[index].count, group.count)
                sites[index].bytes = Counter.sum(sites[index].bytes, group.bytes)
            } else {
                positions[site] = sites.count
                sites.append(KeptSite(site: site, count: group.count, bytes: group.bytes))
            }
        }
        sites = sites.enumerated().sorted { ($1.element.bytes, $0.offset) < ($0.element.bytes, $1.offset) }
            .map(\.element)
    }
}

// The figures of one pool: its six counters, its buckets and the sizes that were asked for.

/// A pool's figures since its recorder started.
package struct PoolReport: Codable, Equatable, Sendable {
    package var name: String
    /// Whether the pool itself is gone.
    package var destroyed: Bool
    package var stats: StatsReport
    package var discards: DiscardsReport
    package var buckets: [BucketReport]
    /// Requests above the largest bucket.
    package var oversized: BucketReport
    /// Requests by size; ranges without a request are left out.
    package var requestSizes: [RequestSizeBin]
    /// Outstanding buffers that the program keeps for its life and said so; they are no leaks.
    package var kept = KeptReport()

    package init(
        name: String, destroyed: Bool = false, stats: StatsReport = .init(), discards: DiscardsReport = .init(),
        buckets: [BucketReport] = [], oversized: BucketReport = .init(capacity: 0), requestSizes: [RequestSizeBin] = []
    ) {
        self.name = name
        self.destroyed = destroyed
        self.stats = stats
        self.discards = discards
        self.buckets = buckets
        self.oversized = oversized
        self.requestSizes = requestSizes
    }
}

/// Buffers that are kept on purpose. At level sampled what was seen; each stands for as many as `RecorderReport.sampleInterval`.
package struct KeptReport: Codable, Equatable, Sendable {
    package var count = 0
    /// Capacities, bytes in all.
    package var bytes = 0
    /// Where they were got, most bytes first.
    package var sites: [KeptSite] = []

    package init() {}
}

/// Buffers that are kept on purpose and were got at one place.
package struct KeptSite: Codable, Equatable, Sendable {
    /// Nil if no stack was captured, or it has no names.
    package var site: Frame?
    package var count: Int
    package var bytes: Int

    package init(site: Frame?, count: Int, bytes: Int) {
        self.site = site
        self.count = count
        self.bytes = bytes
    }
}

/// The six numbers of `getStats()`.
package struct StatsReport: Codable, Equatable, Sendable {
    package var allocations = 0
    package var gets = 0
    package var puts = 0
    package var inUse = 0
    package var oversized = 0
    package var discarded = 0

    package init() {}
}

/// Discards by reason.
package struct DiscardsReport: Codable, Equatable, Sendable {
    package var wrongCapacity = 0
    package var doublePut = 0
    package var foreign = 0
    package var wrongPool = 0
    /// The normal end of an oversized buffer.
    package var oversized = 0

    package init() {}

    package var total: Int {
        [wrongCapacity, doublePut, foreign, wrongPool, oversized].reduce(0, Counter.sum)
    }
}

/// One row of the bucket table.
package struct BucketReport: Codable, Equatable, Sendable {
    /// Bytes; 0 for the oversized row.
    package var capacity: Int
    package var gets = 0
    package var puts = 0
    package var inUse = 0
    package var highWater = 0
    package var allocations = 0
    /// Share of gets served without an allocation, per cent; nil without a get.
    package var hitPercent: Double?
    package var wrongCapacity = 0
    package var doublePut = 0
    /// Buffers given back to the system because the pool was full.
    package var trimmed = 0
    /// What was asked for and what was handed out, bytes in all.
    package var requestedBytes = 0
    package var handedOutBytes = 0
    /// Share of the bytes handed out that nobody asked for, per cent; nil without a get whose request is known.
    package var wastePercent: Double?

    package init(capacity: Int) { self.capacity = capacity }
}

/// Requests within a range of sizes.
package struct RequestSizeBin: Codable, Equatable, Sendable {
    /// Bytes, both included.
    package var from: Int
    package var to: Int
    package var count: Int

    package init(from: Int, to: Int, count: Int) {
        self.from = from
        self.to = to
        self.count = count
    }
}

/// Sums of figures from a file that may be damaged: they stop at the largest number instead of trapping.
enum Counter {
    static func sum(_ left: Int, _ right: Int) -> Int {
        let (sum, overflow) = left.addingReportingOverflow(right)
        guard overflow else { return sum }
        return left < 0 ? .min : .max
    }

    static func product(_ left: Int, _ right: Int) -> Int {
        let (product, overflow) = left.multipliedReportingOverflow(by: right)
        guard overflow else { return product }
        return (left < 0) == (right < 0) ? .max : .min
    }
}

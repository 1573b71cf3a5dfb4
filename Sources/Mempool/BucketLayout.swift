// `BucketLayout`: the capacities of a pool's buckets.

/// The capacities of a pool's buckets, bytes, ascending.
///
/// A request is served from the smallest bucket that holds it; the rest of the buffer is unused. Few buckets find an idle buffer
/// more often, many waste less.
public struct BucketLayout: Sendable, Equatable {
    /// The capacities, bytes, ascending.
    public let capacities: [Int]

    /// The most buckets a layout can have: each thread keeps a magazine for each.
    public static let bucketLimit = 32
    /// The largest capacity a bucket can have: 1 TiB. Larger buffers are oversized.
    public static let capacityLimitBytes = 1 << 40

    /// Nine buckets: 512 B, 1 KiB, and then by a factor of four up to 16 MiB.
    public static let standard = BucketLayout(
        unchecked: [512, 1024, 4096, 16384, 65536, 262_144, 1_048_576, 4_194_304, 16_777_216]
    )

    /// Sixteen buckets: 512 B, and then every power of two up to 16 MiB. For callers who round up to powers of two.
    public static let powersOfTwo = BucketLayout(unchecked: (9...24).map { 1 << $0 })

    private init(unchecked capacities: [Int]) { self.capacities = capacities }

    /// Makes a layout of one's own.
    ///
    /// - Parameter capacities: Bytes, each above the one before; 1 to 32 of them, each at most 1 TiB.
    /// - Throws: ``PoolConfigurationError``, which names the first entry that does not fit.
    public init(capacities: [Int]) throws(PoolConfigurationError) {
        guard !capacities.isEmpty else {
            throw PoolConfigurationError(description: "a bucket layout needs at least one capacity")
        }
        guard capacities.count <= Self.bucketLimit else {
            throw PoolConfigurationError(
                description:
                    "a bucket layout of \(capacities.count) capacities is too long; \(Self.bucketLimit) is the most"
            )
        }
        var previous = 0
        for (index, capacity) in capacities.enumerated() {
            guard capacity > 0 else {
                throw PoolConfigurationError(description: "capacity \(index) is \(capacity); it must be above 0")
            }
            guard capacity > previous else {
                throw PoolConfigurationError(
                    description: "capacity \(index) is \(capacity); it must be above the one before it, \(previous)"
                )
            }
            guard capacity <= Self.capacityLimitBytes else {
                throw PoolConfigurationError(
                    description: "capacity \(index) is \(capacity); \(Self.capacityLimitBytes) is the most"
                )
            }
            previous = capacity
        }
        self.capacities = capacities
    }

    /// By bit width of `size - 1`: the first bucket that may serve such a size; the number of buckets if none does.
    var firstBuckets: [UInt8] {
        (0...64).map { width in
            // The smallest size of this width; larger ones search upwards from here.
            let smallest = width == 0 ? 1 : width > 47 ? Int.max : (1 << (width - 1)) + 1
            return UInt8(capacities.firstIndex { $0 >= smallest } ?? capacities.count)
        }
    }
}

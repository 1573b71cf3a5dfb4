// `BucketLayout`: the capacities of a pool's buckets.

internal import CMempoolPlatform

/// The capacities of a pool's buckets, bytes, ascending.
///
/// A request is served from the smallest bucket that holds it; the rest of the buffer is unused. Few buckets find an idle buffer
/// more often, many waste less.
public struct BucketLayout: Sendable, Equatable {
    /// The capacities, bytes, ascending.
    public let capacities: [Int]

    /// The most buckets a layout can have: each thread keeps a magazine for each.
    public static let bucketLimit = Int(CMEMPOOL_BUCKET_LIMIT)
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

    /// The highest bit that is set in `size - 1`, or 0: what the first bucket to look at goes by. 63 for 0 and negative sizes.
    @inlinable @inline(__always)
    static func highestBit(_ size: Int) -> Int { Int.bitWidth &- 1 &- ((size &- 1) | 1).leadingZeroBitCount }

    /// By ``highestBit(_:)``: the first bucket that may serve such a size; the number of buckets if none does.
    var firstBuckets: [UInt8] {
        (0...63).map { bit in
            // The smallest such size; larger ones search upwards from here.
            let smallest = bit == 0 ? 1 : bit > 46 ? Int.max : (1 << bit) + 1
            return UInt8(capacities.firstIndex { $0 >= smallest } ?? capacities.count)
        }
    }
}

// The size buckets of a pool, and which bucket serves a request.

/// The nine buckets of the standard layout.
///
/// The capacities grow by a factor of four, from 512 B to 16 MiB, except that 1 KiB stands between 512 B and 4 KiB.
@usableFromInline
package enum BucketLayout {
    /// Capacities in bytes, ascending.
    package static let capacities = [
        512, 1024, 4096, 16384, 65536, 262_144, 1_048_576, 4_194_304, 16_777_216,
    ]
    @usableFromInline package static let bucketCount = 9
    /// The largest request a bucket serves, bytes; above it buffers are oversized.
    package static let largestCapacity = 16_777_216

    /// The bucket of a request of 1 byte to 16 MiB. Any other size, negative ones and 0 included, gives an index of at
    /// least ``bucketCount``, so that one comparison sorts out everything the fast path does not serve.
    ///
    /// No branch and no table: the bit width of `size - 1`, at least 9, halved; 512 B is the one bucket off the pattern.
    @inlinable @inline(__always)
    package static func bucket(for size: Int) -> Int {
        let width = Int.bitWidth &- ((size &- 1) | 256).leadingZeroBitCount
        return ((width &- 7) &>> 1) &- (width == 9 ? 1 : 0)
    }
}

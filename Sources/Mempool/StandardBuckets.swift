// `StandardBuckets`: which of the nine standard buckets serves a request, without a table.

/// The nine buckets of the standard layout.
@usableFromInline
package enum StandardBuckets {
    /// Capacities in bytes, ascending: a factor of four from 1 KiB on, with 512 B before it.
    package static let capacities = [
        512, 1024, 4096, 16384, 65536, 262_144, 1_048_576, 4_194_304, 16_777_216,
    ]
    @usableFromInline package static let count = 9

    /// The bucket of a request of 1 byte to 16 MiB. Any other size, negative ones and 0 included, gives an index of at
    /// least ``count``, so that one comparison sorts out everything the fast path does not serve.
    ///
    /// No branch and no table: the bit width of `size - 1`, at least 9, halved; 512 B is the one bucket off the pattern.
    @inlinable @inline(__always)
    package static func bucket(for size: Int) -> Int {
        let width = Int.bitWidth &- ((size &- 1) | 256).leadingZeroBitCount
        return ((width &- 7) &>> 1) &- (width == 9 ? 1 : 0)
    }
}

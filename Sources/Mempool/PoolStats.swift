// The counters of a pool and of its buckets, as values read at one moment.

/// Why puts did not go back to a bucket, by reason.
public struct DiscardCounts: Sendable, Equatable, Codable {
    /// Puts of a slice of a bucket's buffer.
    public var wrongCapacity: UInt64 = 0
    /// Puts of a buffer that had already been put.
    public var doublePut: UInt64 = 0
    /// Puts of memory that no pool issued.
    public var foreign: UInt64 = 0
    /// Puts of a buffer that another pool issued.
    public var wrongPool: UInt64 = 0
    /// Puts of oversized buffers: the normal end of their life. A slice that was put instead counts here too, as such a
    /// buffer never counted among the gets; the recorder reports it as what it is.
    public var oversized: UInt64 = 0

    /// All counts zero.
    public init() {}

    /// The sum over all reasons.
    public var total: UInt64 { wrongCapacity + doublePut + foreign + wrongPool + oversized }
}

/// The counters of a pool since it was created.
///
/// `gets == puts + inUse + discards.wrongCapacity` whenever no call is in flight. Oversized buffers count in `allocations`,
/// `oversized` and, once put, in `discarded`, and nowhere else.
public struct PoolStats: Sendable, Equatable, Codable {
    /// Buffers that had to be allocated from the system, oversized ones included.
    public var allocations: UInt64 = 0
    /// Buffers handed out from a bucket, allocated or not.
    public var gets: UInt64 = 0
    /// Buffers taken back into a bucket, or dropped because the pool was full.
    public var puts: UInt64 = 0
    /// Buffers of the buckets that are outstanding now.
    public var inUse: Int64 = 0
    /// Requests above the largest bucket.
    public var oversized: UInt64 = 0
    /// Puts that did not go back to a bucket; the sum of ``discards``.
    public var discarded: UInt64 = 0
    /// ``discarded`` by reason.
    public var discards = DiscardCounts()
    /// Puts whose memory went back to the system because the pool was full; they are counted in ``puts`` as well.
    public var trimmed: UInt64 = 0
    /// Puts of signal handlers that were lost: more than 32 came while one get or put of their thread was interrupted. They count
    /// nowhere else, and their buffers stay outstanding until they are put again.
    public var lostPuts: UInt64 = 0

    /// All counts zero.
    public init() {}
}

/// The counters of one bucket of a pool since it was created.
public struct BucketStats: Sendable, Equatable, Codable {
    /// What every buffer of the bucket holds, bytes.
    public var capacity: Int = 0
    /// Buffers that had to be allocated.
    public var allocations: UInt64 = 0
    /// Buffers handed out.
    public var gets: UInt64 = 0
    /// Buffers taken back.
    public var puts: UInt64 = 0
    /// Buffers that are outstanding now.
    public var inUse: Int64 = 0
    /// Buffers that hold memory and wait for the next get.
    public var idle: Int64 = 0
    /// Puts whose memory went back to the system because the pool was full; they are counted in ``puts`` as well.
    public var trimmed: UInt64 = 0
    /// Puts of slices of this bucket's buffers.
    public var wrongCapacity: UInt64 = 0

    /// All counts zero.
    public init() {}
}

// The fixed-size records of a recording's sections.

/// The state of a slot, the low two bits of `LedgerRecord.sequence`.
package enum LedgerState: UInt64, Sendable {
    case empty = 0
    /// Being written. In the file of a dead process: killed inside get or put of this slot.
    case inProgress = 1
    case outstanding = 2
    case returned = 3
}

/// One slot of the pool: its present owner, or its last one after the put.
///
/// Protocol: `sequence` gets the in-progress mark, a release fence, the fields, then the new state with a release store.
/// A reader takes the words between two equal, not in-progress reads of `sequence`. Times are on the header's clock.
package struct LedgerRecord: BitwiseCopyable, Sendable {
    /// generation << 2 | state.
    package var sequence: UInt64 = 0
    /// Bytes asked for.
    package var request: UInt64 = 0
    package var address: UInt64 = 0
    package var getTime: UInt64 = 0
    /// 0 while outstanding.
    package var putTime: UInt64 = 0
    package var getStack: UInt32 = 0
    package var putStack: UInt32 = 0
    /// Linux thread identifiers.
    package var getThread: UInt32 = 0
    package var putThread: UInt32 = 0
    /// 0 is "unscoped".
    package var scope: UInt32 = 0
    package var pool: UInt16 = 0
    /// Row of the pool's bucket table; the row after the last bucket is "oversized".
    package var bucket: UInt8 = 0
    package var flags: UInt8 = 0

    package init() {}

    package var state: LedgerState { LedgerState(rawValue: sequence & 3) ?? .empty }
    package var generation: UInt64 { sequence >> 2 }
}

/// An ELF image of the process.
package struct ModuleRecord: BitwiseCopyable, Sendable {
    /// Load bias: what is added to the addresses in the file.
    package var base: UInt64 = 0
    /// Executable range in memory, [start, end).
    package var start: UInt64 = 0
    package var end: UInt64 = 0
    package var path = StringReference()
    package var buildIDLength: UInt32 = 0
    package var buildID:
        (
            UInt32, UInt32, UInt32, UInt32, UInt32
        ) = (0, 0, 0, 0, 0)

    package init() {}
    // 24 + 8 + 4 + 20 = 56 bytes.

    /// The bytes of the NT_GNU_BUILD_ID note, at most 20.
    package var buildIDBytes: [UInt8] {
        withUnsafeBytes(of: buildID) { Array($0.prefix(Int(min(buildIDLength, 20)))) }
    }
}

/// A pool.
package struct PoolRecord: BitwiseCopyable, Sendable {
    package var name = StringReference()
    /// Rows of its counters in use: its buckets; one more row holds the oversized buffers.
    package var bucketCount: UInt32 = 0
    /// 1 while the pool lives, 2 after it was destroyed.
    package var state: UInt32 = 0
    /// Puts refused that belong to no bucket of this pool.
    package var foreignPuts: UInt64 = 0
    package var wrongPoolPuts: UInt64 = 0

    package init() {}
}

/// Counters of one bucket of one pool since the recorder started, or of its oversized buffers. The pool's `CounterShard`s hold a
/// part of gets, puts and requested bytes.
package struct BucketCounters: BitwiseCopyable, Sendable {
    /// Bytes; 0 in the row of oversized buffers.
    package var capacity: UInt64 = 0
    package var gets: UInt64 = 0
    package var puts: UInt64 = 0
    package var allocations: UInt64 = 0
    /// Not counted by the recorder: gets less puts, which the reader fills in.
    package var inUse: UInt64 = 0
    package var highWater: UInt64 = 0
    package var trimmed: UInt64 = 0
    package var wrongCapacityPuts: UInt64 = 0
    package var doublePuts: UInt64 = 0
    /// Sum of the sizes asked for, bytes.
    package var requestedBytes: UInt64 = 0
    /// Sum of the capacities handed out, bytes. The recorder counts it for oversized buffers only: elsewhere it is gets times
    /// capacity, which the reader fills in.
    package var handedOutBytes: UInt64 = 0
    package var reserved: UInt64 = 0

    package init() {}
}

/// The kinds of mistake caught while the program ran. A leak is not among them: it is what the ledger holds at the end.
package enum FindingKind: UInt32, Sendable, CaseIterable {
    case doublePut = 1
    case wrongCapacity = 2
    case foreignPut = 3
    case wrongPool = 4
}

/// A group of equal mistakes: the same kind with the same stacks. The values are those of the first one.
package struct FindingRecord: BitwiseCopyable, Sendable {
    /// 0 until complete (stored last, with release).
    package var kind: UInt32 = 0
    package var pool: UInt32 = 0
    /// How often it happened.
    package var count: UInt64 = 0
    package var firstTime: UInt64 = 0
    package var lastTime: UInt64 = 0
    /// Base of the buffer that was put.
    package var address: UInt64 = 0
    /// Bytes asked for at the get; for a foreign put the count of the wrapped bytes.
    package var request: UInt64 = 0
    package var givenCapacity: UInt64 = 0
    package var expectedCapacity: UInt64 = 0
    /// Sum of the capacities over `count`, bytes.
    package var bytes: UInt64 = 0
    /// Times the slot was handed out again between the first put and the second.
    package var reissues: UInt64 = 0
    package var getTime: UInt64 = 0
    package var firstPutTime: UInt64 = 0
    package var getStack: UInt32 = 0
    package var firstPutStack: UInt32 = 0
    /// The put that was wrong.
    package var putStack: UInt32 = 0
    /// Who got the buffer after the first put; 0 if nobody did, or it is no longer known.
    package var reissueStack: UInt32 = 0
    package var getThread: UInt32 = 0
    package var firstPutThread: UInt32 = 0
    package var putThread: UInt32 = 0
    /// The pool that issued the buffer, for wrong-pool puts.
    package var issuingPool: UInt32 = 0
    package var slot: UInt32 = 0
    /// `historyLostFlag`.
    package var flags: UInt32 = 0

    /// The get and first put are older than the history kept: their stacks are 0.
    package static let historyLostFlag: UInt32 = 1

    package init() {}
}

/// Bins of a request-size histogram: exact below 16, then eight per power of two.
package enum SizeHistogram {
    package static let binCount = 384

    /// The bin of a size; sizes beyond 2^49 share the last one.
    package static func bin(of size: Int) -> Int {
        guard size >= 16 else { return max(size, 0) }
        let exponent = Int.bitWidth - 1 - size.leadingZeroBitCount
        let sub = (size >> (exponent - 3)) & 7
        return min(16 + (exponent - 4) * 8 + sub, binCount - 1)
    }

    /// The sizes that fall into a bin, both bounds included.
    package static func range(ofBin bin: Int) -> ClosedRange<Int> {
        guard bin >= 16 else { return bin...bin }
        let exponent = (bin - 16) / 8 + 4
        let sub = (bin - 16) % 8
        let lower = (8 + sub) << (exponent - 3)
        return lower...(lower + (1 << (exponent - 3)) - 1)
    }
}

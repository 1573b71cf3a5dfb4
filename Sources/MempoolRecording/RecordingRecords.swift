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
    /// Number of a `ContextRecord`; 0 is "unscoped, without a note".
    package var context: UInt32 = 0
    package var pool: UInt16 = 0
    /// Row of the pool's bucket table; the row after the last bucket is "oversized".
    package var bucket: UInt8 = 0
    /// `LedgerFlags`.
    package var flags: UInt8 = 0

    package init() {}

    package var state: LedgerState { LedgerState(rawValue: sequence & 3) ?? .empty }
    package var generation: UInt64 { sequence >> 2 }
}

/// What else is known about a slot, in `LedgerRecord.flags`.
package enum LedgerFlags {
    /// Returned, and poisoned since: the bytes are still there and nobody may have changed them.
    package static let poisoned: UInt8 = 1
    /// Kept for the life of the process on purpose: no leak.
    package static let kept: UInt8 = 2
    /// Part of a finding, so no leak as well: its pool was destroyed while it was outstanding, or a touch beyond its end met a
    /// guard page.
    package static let inFinding: UInt8 = 4
    /// Outstanding, between guard pages.
    package static let guarded: UInt8 = 8
    /// Has no red zones, as these had used up their memory when it was mapped.
    package static let unzoned: UInt8 = 16
}

/// Where a get belongs: a scope, or a note made in one. Record 0 is never used.
///
/// A scope is one call of `withScope`; a note is a record of its own whose `scope` is that of the scope it was made in.
package struct ContextRecord: BitwiseCopyable, Sendable {
    /// Of a scope; empty for a note.
    package var name = StringReference()
    /// Of a note; empty for a scope.
    package var note = StringReference()
    /// For a note: the scope it was made in, 0 if none. For a scope: the scope around it, 0 if none.
    package var scope: UInt32 = 0
    /// 0 free, 1 open, 2 ended.
    package var state: UInt32 = 0
    package var beginTime: UInt64 = 0
    package var endTime: UInt64 = 0
    /// Buffers got in the scope that were outstanding when it ended.
    package var outstandingAtEnd: UInt64 = 0
    /// How many of them came back later, and the longest time after the end, nanoseconds.
    package var lateReturns: UInt64 = 0
    package var slowestReturn: UInt64 = 0

    package init() {}

    /// Whether this is the scope or note that an earlier copy of the record was, so that a text read between the two is its own.
    package func isUnchanged(since earlier: ContextRecord) -> Bool {
        state != 0 && earlier.state != 0 && beginTime == earlier.beginTime && name == earlier.name
            && note == earlier.note
    }
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
    /// 1 while the pool lives, `destroyed` after that.
    package var state: UInt32 = 0
    /// Puts refused that belong to no bucket of this pool.
    package var foreignPuts: UInt64 = 0
    package var wrongPoolPuts: UInt64 = 0

    /// The `state` of a pool that is gone.
    package static let destroyed: UInt32 = 2

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
    /// Memory was touched after its put: found by poison, by an accessor or by a guard page.
    case useAfterPut = 5
    /// Bytes before the buffer or behind the request were written: found by canary or by a guard page.
    case overrun = 6
    /// A pool was destroyed with buffers outstanding.
    case poolDestroyed = 7
    /// Came back, but later than `held=` allows.
    case heldTooLong = 8

    /// The name of the kind in options and reports.
    package var name: String {
        switch self {
        case .doublePut: "double-put"
        case .wrongCapacity: "wrong-capacity"
        case .foreignPut: "foreign-put"
        case .wrongPool: "wrong-pool"
        case .useAfterPut: "use-after-put"
        case .overrun: "overrun"
        case .poolDestroyed: "pool-destroyed"
        case .heldTooLong: "held-too-long"
        }
    }
}

/// A group of equal mistakes: the same kind with the same stacks. The values are those of the first one.
package struct FindingRecord: BitwiseCopyable, Sendable {
    /// A `FindingKind`.
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
    /// `historyLostFlag`, `readFlag`, `faultFlag`, `unsampledFlag`.
    package var flags: UInt32 = 0
    /// The touch itself, if it was caught; else 0.
    package var accessStack: UInt32 = 0
    package var accessThread: UInt32 = 0
    /// Number of a `ContextRecord`: that of the get.
    package var context: UInt32 = 0
    /// How many bytes of `found` are there.
    package var foundCount: UInt32 = 0
    /// The first byte that is not as it should be, from the buffer's first byte; below 0 for an underrun. For a touch that was
    /// caught: where it was.
    package var offset: Int64 = 0
    /// From the first byte that is not as it should be through the last one that was seen; for a touch its bytes, 0 if unknown.
    package var badBytes: UInt64 = 0
    /// What all those bytes should be.
    package var expected: UInt64 = 0
    /// The bytes at `offset`, at most 16.
    package var found: (UInt64, UInt64) = (0, 0)
    /// How long the buffer was held, nanoseconds; held too long only.
    package var duration: UInt64 = 0

    /// The get and first put are older than the history kept: their stacks are 0.
    package static let historyLostFlag: UInt32 = 1
    /// The touch was a read.
    package static let readFlag: UInt32 = 2
    /// The touch was stopped by a guard page: the process ended there.
    package static let faultFlag: UInt32 = 4
    /// Level sampled: the buffer's get was not among the sampled ones, so that get and first put are not known.
    package static let unsampledFlag: UInt32 = 8

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

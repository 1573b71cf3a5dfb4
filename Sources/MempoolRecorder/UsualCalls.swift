// `UsualCalls`: what the recorder does at almost every get and put, in as few instructions and cache lines as it can be done.

#if Recorder
internal import CMempoolPlatform
internal import Mempool
internal import MempoolRecording
internal import Synchronization

/// The gets and puts that nothing is special about: of a bucket's buffer that the thread's magazine had, which the recorder saw before, by a
/// thread that has counters, without a scope, a note, or damaged bytes.
///
/// Each function either does all that `Recorder.didGet` or `Recorder.didPut` would, or nothing and says so; then those are called. What
/// they need is in one place, beside each other and not behind references; it stays as it is, `attention` apart. Thread-safe.
struct UsualCalls: ~Copyable, Sendable {
    /// What a get has to look at beside its buffer; `Attention`s.
    let attention = Atomic<UInt32>(0)
    /// How many gets a watched one stands for.
    private let weight: UInt64
    private let ledger: Ledger
    private let highWater: HighWater
    private let canaryLimit: Int
    private let poisonLimit: Int
    /// Nanoseconds a buffer may be held.
    private let heldLimit: UInt64
    /// By pool: what idle buffers are filled with.
    private nonisolated(unsafe) let poisonBytes: UnsafeMutablePointer<UInt8>

    init(
        weight: UInt64, ledger: Ledger, highWater: HighWater, bytes: BufferBytes, heldLimit: UInt64,
        poisonBytes: UnsafeMutablePointer<UInt8>
    ) {
        self.weight = weight
        self.ledger = ledger
        self.highWater = highWater
        canaryLimit = bytes.canaryLimit
        poisonLimit = bytes.poisonLimit
        self.heldLimit = heldLimit
        self.poisonBytes = poisonBytes
    }

    /// The recorder's; nil in a forked child.
    @inline(__always)
    private static var current: UnsafePointer<UsualCalls>? {
        UnsafePointer(cmempool_recorder_usual_calls()?.assumingMemoryBound(to: UsualCalls.self))
    }

    // MARK: - Get

    /// - Parameter ticket: Of the buffer, its generation being the new one.
    static let didGet: PoolHook.MagazineGet = { ticket, request, base, shape, frame in
        guard let usual = current else { return false }
        return usual.pointee.didGet(ticket, request, base, shape, frame, isSampled: false)
    }

    /// The same at level sampled, where slots have owners in between that are not recorded, and bytes are not looked at.
    static let didGetSampled: PoolHook.MagazineGet = { ticket, request, base, shape, frame in
        guard let usual = current else { return false }
        return usual.pointee.didGet(ticket, request, base, shape, frame, isSampled: true)
    }

    @inline(__always)
    private borrowing func didGet(
        _ ticket: UInt64, _ request: Int, _ base: UnsafeMutableRawPointer, _ shape: UInt64,
        _ frame: UnsafeMutableRawPointer, isSampled: Bool
    ) -> Bool {
        let slot = Int(truncatingIfNeeded: ticket & 0xFFFF_FFFF)
        let generation = UInt32(truncatingIfNeeded: ticket &>> 32)
        let pool = BufferShape.pool(shape)
        let lastRecord =
            isSampled
            ? ledger.recordOfLastSampled(slot: slot) : ledger.recordOfLastOwner(slot: slot, generation: generation)
        guard let record = lastRecord, attention.load(ordering: .relaxed) == 0,
            let own = cmempool_counters_of(pool)
        else { return false }
        let lastOwner = ledger.placeOfOwner(record, slot: slot)
        if !isSampled, record.pointee.flags & HotLayout.poisoned != 0 {
            let lastRequest = Int(truncatingIfNeeded: record.pointee.request)
            guard cmempool_poison_is_intact(base, lastRequest, poisonLimit, poisonBytes[pool]) else { return false }
        }
        let bucketRow = BufferShape.bucket(shape)
        let stack = cmempool_capture_get(frame)
        if isSampled {
            ledger.recordSampledGet(
                record, slot: slot, generation: generation, base: base, request: request, pool: pool,
                bucketRow: bucketRow, stack: stack, lastOwner)
        } else {
            ledger.recordNextGet(record, slot: slot, base: base, request: request, stack: stack, lastOwner)
            if canaryLimit > 0 { cmempool_fill_slack(base, request, BufferShape.capacity(shape), canaryLimit) }
        }
        countGet(pool, bucketRow, request, own)
        return true
    }

    /// Counts a get in the thread's own counters.
    @inline(__always)
    borrowing func countGet(_ pool: Int, _ bucketRow: Int, _ request: Int, _ own: UnsafePointer<cmempool_counters>) {
        let shard = cmempool_shard_in(own)
        let words = HotLayout.row(bucketRow, of: shard)
        cmempool_add64_unshared(words, weight)
        cmempool_add64_unshared(words + 2, UInt64(truncatingIfNeeded: request) &* weight)
        cmempool_add64_unshared(shard + HotLayout.shardHistogram + HotLayout.bin(of: request), weight)
        highWater.didGet(pool: pool, row: bucketRow, cmempool_credits_in(own))
    }

    // MARK: - Put

    static let didPut: PoolHook.MagazinePut = { ticket, base, shape, frame in
        guard let usual = current else { return false }
        return usual.pointee.didPut(ticket, base, shape, frame)
    }

    @inline(__always)
    private borrowing func didPut(
        _ ticket: UInt64, _ base: UnsafeMutableRawPointer, _ shape: UInt64, _ frame: UnsafeMutableRawPointer
    ) -> Bool {
        let slot = Int(truncatingIfNeeded: ticket & 0xFFFF_FFFF)
        let pool = BufferShape.pool(shape)
        guard let record = ledger.recordOfPlainOwner(slot: slot, generation: UInt32(truncatingIfNeeded: ticket &>> 32)),
            let own = cmempool_counters_of(pool)
        else { return false }
        let request = Int(truncatingIfNeeded: record.pointee.request)
        if canaryLimit > 0 {
            let hasZones = record.pointee.flags & HotLayout.unzoned == 0
            let capacity = BufferShape.capacity(shape)
            guard cmempool_surroundings_are_intact(base, request, capacity, canaryLimit, hasZones) else { return false }
        }
        let time = cmempool_now()
        guard time &- record.pointee.getTime <= heldLimit else { return false }
        if poisonLimit > 0 { cmempool_poison(base, request, poisonLimit, poisonBytes[pool]) }
        ledger.recordPlainPut(record, time: time, stack: cmempool_capture_put(frame), isPoisoned: poisonLimit > 0)
        countPut(BufferShape.bucket(shape), own)
        return true
    }

    /// Counts the put of a whole buffer in the thread's own counters.
    @inline(__always)
    borrowing func countPut(_ bucketRow: Int, _ own: UnsafePointer<cmempool_counters>) {
        cmempool_add64_unshared(HotLayout.row(bucketRow, of: cmempool_shard_in(own)) + 1, weight)
        highWater.didPut(row: bucketRow, cmempool_credits_in(own))
    }
}
#endif

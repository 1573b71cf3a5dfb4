// `Ledger`: one record per slot of the pools, and the history of owners that a re-issued slot had.

#if Recorder
internal import CMempoolPlatform
internal import Glibc
internal import MempoolRecording

/// The ownership of one buffer from get to put, as findings need it.
struct Ownership {
    var generation: UInt64
    var request: Int
    var getStack: UInt32
    var putStack: UInt32
    var getThread: UInt32
    var putThread: UInt32
    var getTime: UInt64
    var putTime: UInt64
}

/// The ledger section of a recording and a ring of past owners beside it. Thread-safe: a record is written only by
/// the thread that got or put its slot.
///
/// A trivial value, so that a get copies no reference.
struct Ledger: @unchecked Sendable {
    /// The file lives as long as the recorder, which is for ever.
    private let file: Unmanaged<RecordingFile>
    private let records: UnsafeMutablePointer<LedgerRecord>
    private let published: UnsafeMutablePointer<UInt64>
    private let history: PutHistory

    // The states as numbers: the enumeration's are behind a call into another module.
    @inline(__always) private static var inProgress: UInt64 { 1 }
    @inline(__always) private static var outstanding: UInt64 { 2 }
    @inline(__always) private static var returned: UInt64 { 3 }

    init?(file: RecordingFile) {
        assert(LedgerState.inProgress.rawValue == Self.inProgress && LedgerState.returned.rawValue == Self.returned)
        guard let history = PutHistory() else { return nil }
        self.file = .passUnretained(file)
        self.history = history
        records = file.records(.ledger, as: LedgerRecord.self)
        published = file.published(.ledger)
    }

    /// The record of a slot, making room for it; nil if the ledger is full.
    @inline(__always)
    private func record(_ slot: Int) -> UnsafeMutablePointer<LedgerRecord>? {
        if UInt64(slot) < cmempool_load64_acquire(published) { return records + slot }
        return grow(toHold: slot)
    }

    @inline(never)
    private func grow(toHold slot: Int) -> UnsafeMutablePointer<LedgerRecord>? {
        guard let room = file._withUnsafeGuaranteedRef({ $0.reserve(.ledger, count: slot + 1) }) else { return nil }
        // Racing threads publish growing numbers; the larger one stays.
        while true {
            let old = cmempool_load64_acquire(published)
            if old >= UInt64(room) || cmempool_exchange64(published, old, UInt64(room)) { return records + slot }
        }
    }

    @inline(__always)
    private func begin(_ record: UnsafeMutablePointer<LedgerRecord>, generation: UInt64) {
        cmempool_store64(&record.pointee.sequence, generation << 2 | Self.inProgress)
        // A reader that sees any field below also sees the mark.
        cmempool_fence_release()
    }

    @inline(__always)
    private func end(_ record: UnsafeMutablePointer<LedgerRecord>, generation: UInt64, _ state: UInt64) {
        cmempool_store64_release(&record.pointee.sequence, generation << 2 | state)
    }

    /// Enters a get. False if the ledger has no room for the slot.
    @inline(__always)
    func recordGet(
        slot: Int, generation: UInt64, request: Int, address: UInt, pool: Int, bucketRow: Int, stack: UInt32
    ) -> Bool {
        guard let record = record(slot) else { return false }
        if record.pointee.sequence & 3 == Self.returned { history.add(slot: slot, ownership(record.pointee)) }
        begin(record, generation: generation)
        record.pointee.request = UInt64(request)
        record.pointee.address = UInt64(address)
        record.pointee.getTime = cmempool_now()
        record.pointee.putTime = 0
        record.pointee.getStack = stack
        record.pointee.putStack = 0
        record.pointee.getThread = cmempool_thread_id()
        record.pointee.putThread = 0
        record.pointee.pool = UInt16(truncatingIfNeeded: pool)
        record.pointee.bucket = UInt8(truncatingIfNeeded: bucketRow)
        end(record, generation: generation, Self.outstanding)
        return true
    }

    /// Enters a put.
    @inline(__always)
    func recordPut(slot: Int, generation: UInt64, stack: UInt32) {
        guard let record = record(slot), record.pointee.sequence >> 2 == generation else { return }
        begin(record, generation: generation)
        record.pointee.putTime = cmempool_now()
        record.pointee.putStack = stack
        record.pointee.putThread = cmempool_thread_id()
        end(record, generation: generation, Self.returned)
    }

    /// Who had the buffer of a slot in a given generation: from the record, or from the history if it was re-issued.
    func owner(slot: Int, generation: UInt64) -> Ownership? {
        if let present = present(slot: slot), present.generation == generation { return present }
        return history.find(slot: slot, generation: generation)
    }

    /// The slot's record, read while its owner may be writing it; nil if it stays in progress.
    func present(slot: Int) -> Ownership? {
        guard UInt64(slot) < cmempool_load64_acquire(published) else { return nil }
        let record = records + slot
        for _ in 0..<3 {
            let before = cmempool_load64_acquire(&record.pointee.sequence)
            let copy = record.pointee
            if before & 3 != LedgerState.inProgress.rawValue,
                before == cmempool_load64_acquire(&record.pointee.sequence)
            {
                return ownership(copy)
            }
        }
        return nil
    }

    @inline(__always)
    private func ownership(_ record: LedgerRecord) -> Ownership {
        Ownership(
            generation: record.sequence >> 2, request: Int(truncatingIfNeeded: record.request),
            getStack: record.getStack, putStack: record.putStack,
            getThread: record.getThread, putThread: record.putThread,
            getTime: record.getTime, putTime: record.putTime
        )
    }

    /// Calls `body` for each outstanding record.
    func forEachOutstanding(_ body: (LedgerRecord) -> Void) {
        for slot in 0..<Int(cmempool_load64_acquire(published)) where records[slot].state == .outstanding {
            body(records[slot])
        }
    }

    var heapBytes: Int { PutHistory.byteCount }
}

/// The last owners of slots that were handed out again, so that a late second put still finds the stacks of the first.
///
/// A ring per stripe of slots: the oldest entries make room. 32,768 owners in all, which is what a server that reuses 100,000
/// buffers a second forgets after a third of a second, and a small program never.
struct PutHistory: @unchecked Sendable {
    private static let stripeCount = 16
    private static let entriesPerStripe = 2048
    static let byteCount =
        stripeCount * MemoryLayout<Stripe>.stride
        + stripeCount * entriesPerStripe * MemoryLayout<Entry>.stride

    private struct Stripe {
        var next: UInt64
        // A cache line each: threads that work on different stripes do not disturb each other.
        var padding: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0, 0, 0, 0)
    }

    private struct Entry {
        /// 0 while being written, else slot + 1.
        var slotPlusOne: UInt64
        var owner: Ownership
    }

    private let stripes: UnsafeMutablePointer<Stripe>
    private let entries: UnsafeMutablePointer<Entry>

    init?() {
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
        guard let memory = mmap(nil, Self.byteCount, PROT_READ | PROT_WRITE, flags, -1, 0), memory != MAP_FAILED else {
            return nil
        }
        stripes = memory.bindMemory(to: Stripe.self, capacity: Self.stripeCount)
        entries = (memory + Self.stripeCount * MemoryLayout<Stripe>.stride)
            .bindMemory(to: Entry.self, capacity: Self.stripeCount * Self.entriesPerStripe)
    }

    @inline(__always)
    func add(slot: Int, _ owner: Ownership) {
        let stripe = slot % Self.stripeCount
        let next = cmempool_add64(&stripes[stripe].next, 1)
        let entry = entries + stripe * Self.entriesPerStripe + Int(next % UInt64(Self.entriesPerStripe))
        cmempool_store64(&entry.pointee.slotPlusOne, 0)
        cmempool_fence_release()
        entry.pointee.owner = owner
        cmempool_store64_release(&entry.pointee.slotPlusOne, UInt64(slot) + 1)
    }

    func find(slot: Int, generation: UInt64) -> Ownership? {
        let first = entries + slot % Self.stripeCount * Self.entriesPerStripe
        for entry in first..<first + Self.entriesPerStripe
        where cmempool_load64_acquire(&entry.pointee.slotPlusOne) == UInt64(slot) + 1 {
            let owner = entry.pointee.owner
            guard cmempool_load64_acquire(&entry.pointee.slotPlusOne) == UInt64(slot) + 1 else { continue }
            if owner.generation == generation { return owner }
        }
        return nil
    }
}
#endif

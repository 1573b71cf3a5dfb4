// `Ledger`: one record per slot of the pools, and the history of owners that a re-issued slot had.

#if Recorder
internal import CMempoolPlatform
internal import Glibc
internal import Mempool
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
    /// Number of the `ContextRecord`, which may belong to a later scope by now; see `ScopeTable.context(_:at:)`.
    var context: UInt32
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

    init?(file: RecordingFile, isSampled: Bool) {
        guard let history = PutHistory(isSampled: isSampled) else { return nil }
        self.file = .passUnretained(file)
        self.history = history
        records = file.records(.ledger, as: LedgerRecord.self)
        published = file.published(.ledger)
    }

    /// The record of a slot, making room for it; nil if the ledger is full.
    @inline(__always)
    func record(_ slot: Int) -> UnsafeMutablePointer<LedgerRecord>? {
        if UInt64(slot) < cmempool_load64_acquire(published) { return records + slot }
        return Self.grow(toHold: slot, file, records, published)
    }

    /// Not of a ledger, which every get would have to copy for it.
    @inline(never)
    private static func grow(
        toHold slot: Int, _ file: Unmanaged<RecordingFile>, _ records: UnsafeMutablePointer<LedgerRecord>,
        _ published: UnsafeMutablePointer<UInt64>
    ) -> UnsafeMutablePointer<LedgerRecord>? {
        guard let room = file._withUnsafeGuaranteedRef({ $0.reserve(.ledger, count: slot + 1) }) else { return nil }
        // Racing threads publish growing numbers; the larger one stays.
        while true {
            let old = cmempool_load64_acquire(published)
            if old >= UInt64(room) || cmempool_exchange64(published, old, UInt64(room)) { return records + slot }
        }
    }

    @inline(__always)
    private func begin(_ record: UnsafeMutablePointer<LedgerRecord>, generation: UInt64) {
        cmempool_store64(&record.pointee.sequence, generation << 2 | HotLayout.inProgress)
        // A reader that sees any field below also sees the mark.
        cmempool_fence_release()
    }

    @inline(__always)
    private func end(_ record: UnsafeMutablePointer<LedgerRecord>, generation: UInt64, _ state: UInt64) {
        cmempool_store64_release(&record.pointee.sequence, generation << 2 | state)
    }

    // MARK: - The usual get and put

    /// The record of a slot whose last owner has put it, if that was the owner before the get of a generation's low half. Nil: anything
    /// else.
    @inline(__always)
    func recordOfLastOwner(slot: Int, generation: UInt32) -> UnsafeMutablePointer<LedgerRecord>? {
        record(slot, in: HotLayout.returned, generation &- 2)
    }

    /// The record of a slot whose last sampled owner has put it.
    @inline(__always)
    func recordOfLastSampled(slot: Int) -> UnsafeMutablePointer<LedgerRecord>? {
        guard UInt64(truncatingIfNeeded: slot) < cmempool_load64_acquire(published) else { return nil }
        let record = records + slot
        return record.pointee.sequence & 3 == HotLayout.returned ? record : nil
    }

    /// The record of an outstanding slot, if it has the low half of a generation and neither a context nor a flag that a put has to
    /// look at. Nil: anything else.
    @inline(__always)
    func recordOfPlainOwner(slot: Int, generation: UInt32) -> UnsafeMutablePointer<LedgerRecord>? {
        guard let record = record(slot, in: HotLayout.outstanding, generation) else { return nil }
        let place = HotLayout.word(HotLayout.placeWord, of: record).pointee
        return place & ~HotLayout.lastingPlace == 0 ? record : nil
    }

    @inline(__always)
    private func record(_ slot: Int, in state: UInt64, _ generation: UInt32) -> UnsafeMutablePointer<LedgerRecord>? {
        guard UInt64(truncatingIfNeeded: slot) < cmempool_load64_acquire(published) else { return nil }
        let record = records + slot
        // The low halves of generations tell: 2^31 gets of a slot do not pass by its record.
        let found = record.pointee.sequence &<< 30
        return found == UInt64(generation) &<< 32 | state &<< 30 ? record : nil
    }

    /// Where the owner that a record is of will be kept. Asks for that memory: a get comes back to it after thousands of others.
    @inline(__always)
    func placeOfOwner(_ record: UnsafeMutablePointer<LedgerRecord>, slot: Int) -> PutHistory.Place {
        let place = history.place(slot, record.pointee.sequence &>> 2)
        cmempool_prefetch_for_write(place)
        return place
    }

    /// Enters a get in the record of the owner before it, who goes to `lastOwner`. Pool, bucket and red zones are those of before.
    @inline(__always)
    func recordNextGet(
        _ record: UnsafeMutablePointer<LedgerRecord>, slot: Int, base: UnsafeMutableRawPointer, request: Int,
        stack: UInt32, _ lastOwner: PutHistory.Place
    ) {
        let place = HotLayout.word(HotLayout.placeWord, of: record).pointee & HotLayout.lastingPlace
        let generation = record.pointee.sequence &>> 2 &+ 2
        recordGet(
            record, slot: slot, generation: generation, base: base, request: request, stack: stack, place: place,
            lastOwner)
    }

    /// Enters a get in the record of the last sampled owner, who goes to `lastOwner`. The slot may be another pool's by now.
    @inline(__always)
    func recordSampledGet(
        _ record: UnsafeMutablePointer<LedgerRecord>, slot: Int, generation low: UInt32, base: UnsafeMutableRawPointer,
        request: Int, pool: Int, bucketRow: Int, stack: UInt32, _ lastOwner: PutHistory.Place
    ) {
        let place = UInt64(truncatingIfNeeded: pool) &<< 32 | UInt64(truncatingIfNeeded: bucketRow) &<< 48
        // By less than 2^32: so many gets of one slot do not pass unsampled.
        let last = record.pointee.sequence &>> 2
        let generation = last &+ UInt64(low &- UInt32(truncatingIfNeeded: last))
        recordGet(
            record, slot: slot, generation: generation, base: base, request: request, stack: stack, place: place,
            lastOwner)
    }

    @inline(__always)
    private func recordGet(
        _ record: UnsafeMutablePointer<LedgerRecord>, slot: Int, generation: UInt64, base: UnsafeMutableRawPointer,
        request: Int, stack: UInt32, place: UInt64, _ lastOwner: PutHistory.Place
    ) {
        history.keep(record, slot: slot, in: lastOwner)
        begin(record, generation: generation)
        HotLayout.word(HotLayout.placeWord, of: record).pointee = place
        record.pointee.request = UInt64(truncatingIfNeeded: request)
        record.pointee.address = UInt64(UInt(bitPattern: base))
        record.pointee.putTime = 0
        HotLayout.word(HotLayout.stacksWord, of: record).pointee = UInt64(stack)
        HotLayout.word(HotLayout.threadsWord, of: record).pointee = UInt64(cmempool_thread_id())
        record.pointee.getTime = cmempool_now()
        end(record, generation: generation, HotLayout.outstanding)
    }

    /// Enters the put of a whole buffer in what ``recordOfPlainOwner(slot:generation:)`` gave.
    @inline(__always)
    func recordPlainPut(
        _ record: UnsafeMutablePointer<LedgerRecord>, time: UInt64, stack: UInt32, isPoisoned: Bool
    ) {
        let generation = record.pointee.sequence &>> 2
        begin(record, generation: generation)
        if isPoisoned {
            let place = HotLayout.word(HotLayout.placeWord, of: record)
            cmempool_store64(place, place.pointee | UInt64(HotLayout.poisoned) &<< 56)
        }
        record.pointee.putTime = time
        putHalves(record, stack)
        end(record, generation: generation, HotLayout.returned)
    }

    /// Whole words, atomically: the compiler would store the changed half only, and who reads the word soon would wait.
    @inline(__always)
    private func putHalves(_ record: UnsafeMutablePointer<LedgerRecord>, _ stack: UInt32) {
        let stacks = HotLayout.word(HotLayout.stacksWord, of: record)
        cmempool_store64(stacks, stacks.pointee & 0xFFFF_FFFF | UInt64(stack) &<< 32)
        let threads = HotLayout.word(HotLayout.threadsWord, of: record)
        cmempool_store64(threads, threads.pointee & 0xFFFF_FFFF | UInt64(cmempool_thread_id()) &<< 32)
    }

    // MARK: - Any get and put

    /// Enters a get.
    @inline(__always)
    func recordGet(
        _ record: UnsafeMutablePointer<LedgerRecord>, slot: Int, generation: UInt64, request: Int, address: UInt,
        pool: Int, bucketRow: Int, stack: UInt32, context: UInt32, flags: UInt8
    ) {
        if record.pointee.sequence & 3 == HotLayout.returned {
            history.keep(record, slot: slot, in: history.place(slot, record.pointee.sequence &>> 2))
        }
        begin(record, generation: generation)
        record.pointee.request = UInt64(request)
        record.pointee.address = UInt64(address)
        record.pointee.getTime = cmempool_now()
        record.pointee.putTime = 0
        let place =
            UInt64(context) | UInt64(UInt16(truncatingIfNeeded: pool)) &<< 32
            | UInt64(UInt8(truncatingIfNeeded: bucketRow)) &<< 48 | UInt64(flags) &<< 56
        HotLayout.word(HotLayout.stacksWord, of: record).pointee = UInt64(stack)
        HotLayout.word(HotLayout.threadsWord, of: record).pointee = UInt64(cmempool_thread_id())
        HotLayout.word(HotLayout.placeWord, of: record).pointee = place
        end(record, generation: generation, HotLayout.outstanding)
    }

    /// The record of an outstanding slot; nil if the ledger had no room for its get.
    @inline(__always)
    func outstanding(slot: Int, generation: UInt64) -> UnsafeMutablePointer<LedgerRecord>? {
        guard UInt64(slot) < cmempool_load64_acquire(published) else { return nil }
        let record = records + slot
        return record.pointee.sequence >> 2 == generation ? record : nil
    }

    /// Enters a put.
    @inline(__always)
    func recordPut(
        _ record: UnsafeMutablePointer<LedgerRecord>, generation: UInt64, time: UInt64, stack: UInt32, isPoisoned: Bool
    ) {
        if record.pointee.flags & HotLayout.kept != 0 { Self.countKept(.max, file) }
        begin(record, generation: generation)
        record.pointee.flags = record.pointee.flags & HotLayout.unzoned | (isPoisoned ? HotLayout.poisoned : 0)
        record.pointee.putTime = time
        putHalves(record, stack)
        end(record, generation: generation, HotLayout.returned)
    }

    /// Marks an outstanding buffer as kept for the life of the process. False if it has no record.
    ///
    /// Only its owner may call this, so that no put comes in between; if it does all the same, a later owner may be marked.
    func keep(slot: Int, generation: UInt32) -> Bool {
        guard let present = read(slot), present.state == .outstanding,
            UInt32(truncatingIfNeeded: present.generation) == generation
        else { return false }
        // A byte of its own, so readers see the record before or after, never torn.
        if cmempool_or8(&records[slot].flags, HotLayout.kept) & HotLayout.kept == 0 { Self.countKept(1, file) }
        return true
    }

    @inline(never)
    private static func countKept(_ change: UInt64, _ file: Unmanaged<RecordingFile>) {
        file._withUnsafeGuaranteedRef { _ = cmempool_add64(&$0.header.pointee.keptBuffers, change) }
    }

    /// Marks an idle slot's record as no longer poisoned: its memory goes.
    func clearPoison(_ record: UnsafeMutablePointer<LedgerRecord>) {
        let generation = record.pointee.sequence >> 2
        begin(record, generation: generation)
        record.pointee.flags &= HotLayout.unzoned
        end(record, generation: generation, HotLayout.returned)
    }

    /// Marks the outstanding buffers of a pool that was destroyed, and calls `body` for each.
    func markDestroyed(pool: Int, _ body: (_ slot: Int, LedgerRecord) -> Void) {
        for slot in 0..<Int(cmempool_load64_acquire(published)) {
            // The slot may be another pool's, whose threads write its record.
            guard let record = read(slot), record.state == .outstanding, Int(record.pool) == pool,
                record.flags & LedgerFlags.kept == 0
            else { continue }
            cmempool_or8(&records[slot].flags, LedgerFlags.inFinding)
            body(slot, record)
        }
    }

    /// Marks an outstanding buffer as told already.
    func markInFinding(slot: Int, generation: UInt64) {
        guard let present = read(slot), present.state == .outstanding, present.generation == generation else { return }
        cmempool_or8(&records[slot].flags, LedgerFlags.inFinding)
    }

    /// The record of a slot that is not outstanding; nil if there is none.
    func idle(slot: Int) -> UnsafeMutablePointer<LedgerRecord>? {
        guard UInt64(slot) < cmempool_load64_acquire(published), records[slot].state == .returned else { return nil }
        return records + slot
    }

    /// Who had the buffer of a slot in a given generation: from the record, or from the history if it was re-issued.
    func owner(slot: Int, generation: UInt64) -> Ownership? {
        if let present = present(slot: slot), present.generation == generation { return present }
        return history.find(slot: slot, generation: generation)
    }

    /// The slot's record, read while its owner may be writing it; nil if it stays in progress.
    func present(slot: Int) -> Ownership? {
        read(slot).map(ownership)
    }

    /// Slots that have a record.
    var slotCount: Int { Int(cmempool_load64_acquire(published)) }

    /// A copy of a slot's record, made while its owner may be writing it; nil if there is none or it stays in progress.
    func read(_ slot: Int) -> LedgerRecord? {
        guard slot < slotCount else { return nil }
        let record = UnsafeMutableRawPointer(records + slot).assumingMemoryBound(to: UInt64.self)
        for _ in 0..<Self.readLimit {
            let before = cmempool_load64_acquire(record)
            guard before & 3 != HotLayout.inProgress else { continue }
            var copy = LedgerRecord()
            withUnsafeMutableBytes(of: &copy) { copy in
                guard let copy = copy.assumingMemoryBound(to: UInt64.self).baseAddress else { return }
                cmempool_copy_words(copy, record, MemoryLayout<LedgerRecord>.size / 8)
            }
            if copy.sequence == before, before == cmempool_load64_acquire(record) { return copy }
        }
        return nil
    }

    /// Looks at a record that is being written. A get or put takes some tens of nanoseconds, unless its thread is interrupted.
    private static let readLimit = 100

    @inline(__always)
    private func ownership(_ record: LedgerRecord) -> Ownership {
        Ownership(
            generation: record.sequence >> 2, request: Int(truncatingIfNeeded: record.request),
            getStack: record.getStack, putStack: record.putStack,
            getThread: record.getThread, putThread: record.putThread,
            getTime: record.getTime, putTime: record.putTime, context: record.context
        )
    }

    /// Calls `body` for each outstanding record. One that is just being got or put may be left out.
    func forEachOutstanding(_ body: (_ slot: Int, _ record: LedgerRecord) -> Void) {
        for slot in 0..<slotCount {
            if let record = read(slot), record.state == .outstanding { body(slot, record) }
        }
    }

    var heapBytes: Int { history.byteCount }
}

/// The last owners of slots that were handed out again, so that a late second put still finds the stacks of the first.
///
/// A table of 8,192 owners in which slot and generation say where an owner is: the owners of one slot follow each other, and a
/// newer owner takes the place of an older one, of the same slot after 1,024 at the latest. That is what a server that reuses
/// 100,000 buffers a second forgets after a twelfth of a second, if they are eight or more by turns, and a small program never. Half a megabyte: four times as much does not stay in the caches and doubled the cost of
/// a get and its put.
///
/// Writers take no lock and exchange nothing: threads that meet in one entry leave a mixture, whose checksum tells it.
struct PutHistory: @unchecked Sendable {
    private let indexMask: Int
    /// For the last 1,024 owners of one slot. A loop that has one buffer at a time would otherwise go through the whole table, and find
    /// each place of it in the memory of others who use the same caches.
    private let depthMask: Int
    var byteCount: Int { (indexMask + 1) * Self.wordsPerPlace * 8 }

    /// Where an owner is kept: eight words, which are stored and loaded one by one, atomically and in no order; the last says whether they
    /// belong together. The first six are those of the ledger's record.
    typealias Place = UnsafeMutablePointer<UInt64>
    private static var wordsPerPlace: Int {
        @inline(__always) get { 8 }
    }

    private let places: Place

    /// While gets are sampled, 2,048 owners do for as long, 64 of one slot, and stay in the processor's cache: who is told rarely waits for
    /// memory each time, and one whose thread has come from another core waits for that one's.
    init?(isSampled: Bool) {
        indexMask = (isSampled ? 2_048 : 8_192) - 1
        depthMask = (isSampled ? 64 : 1_024) - 1
        guard let places = SystemMemory.reserve(UInt64.self, (indexMask + 1) * Self.wordsPerPlace) else { return nil }
        self.places = places
    }

    /// Neighbouring slots start far apart, and each owner of a slot has the place after the one before.
    @inline(__always)
    func place(_ slot: Int, _ generation: UInt64) -> Place {
        let index = (slot &* 20_261 &+ Int(truncatingIfNeeded: generation &>> 1) & depthMask) & indexMask
        return places + index &* Self.wordsPerPlace
    }

    /// Keeps the owner that a record is of.
    @inline(__always)
    func keep(_ record: UnsafeMutablePointer<LedgerRecord>, slot: Int, in place: Place) {
        let source = HotLayout.word(0, of: record)
        let sequence = source[HotLayout.sequenceWord]
        let request = source[HotLayout.requestWord]
        let getTime = source[HotLayout.getTimeWord]
        let putTime = source[HotLayout.putTimeWord]
        let stacks = source[HotLayout.stacksWord]
        let threads = source[HotLayout.threadsWord]
        // The context, which is the low half, and the slot.
        let owner = source[HotLayout.placeWord] & 0xFFFF_FFFF | UInt64(truncatingIfNeeded: slot) &<< 32
        cmempool_store64(place, sequence)
        cmempool_store64(place + 1, request)
        cmempool_store64(place + 2, getTime)
        cmempool_store64(place + 3, putTime)
        cmempool_store64(place + 4, stacks)
        cmempool_store64(place + 5, threads)
        cmempool_store64(place + 6, owner)
        cmempool_store64(place + 7, Self.sum(sequence, request, getTime, putTime, stacks, threads, owner))
    }

    /// Each word counts by another factor, so that words in each other's place are noticed; odd, and small enough to be part of an
    /// instruction. Not 0 for an empty place, which is nobody's.
    @inline(__always)
    private static func sum(
        _ sequence: UInt64, _ request: UInt64, _ getTime: UInt64, _ putTime: UInt64, _ stacks: UInt64,
        _ threads: UInt64, _ owner: UInt64
    ) -> UInt64 {
        // One after the other: a long expression takes the compiler seconds.
        var sum: UInt64 = 0x5851_F42D_4C95_7F2D
        sum &+= sequence &* 0x7FEB_352D
        sum &+= request &* 0x2C1B_3C6D
        sum &+= getTime &* 0x297A_2D39
        sum &+= putTime &* 0x1656_67B1
        sum &+= stacks &* 0x27D4_EB2F
        sum &+= threads &* 0x4CF5_AD43
        sum &+= owner &* 0x61C8_8647
        return sum
    }

    func find(slot: Int, generation: UInt64) -> Ownership? {
        let place = place(slot, generation)
        let words = (0..<8).map { cmempool_load64(place + $0) }
        let sum = Self.sum(words[0], words[1], words[2], words[3], words[4], words[5], words[6])
        guard words[7] == sum, words[6] >> 32 == UInt64(slot), words[0] >> 2 == generation else { return nil }
        return Ownership(
            generation: generation, request: Int(truncatingIfNeeded: words[1]),
            getStack: UInt32(truncatingIfNeeded: words[4]), putStack: UInt32(truncatingIfNeeded: words[4] >> 32),
            getThread: UInt32(truncatingIfNeeded: words[5]), putThread: UInt32(truncatingIfNeeded: words[5] >> 32),
            getTime: words[2], putTime: words[3], context: UInt32(truncatingIfNeeded: words[6])
        )
    }
}
#endif

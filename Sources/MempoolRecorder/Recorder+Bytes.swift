// The recorder's findings about a buffer's bytes and its life: use after put, overrun, held too long, destroyed pools.

#if Recorder
internal import CMempoolPlatform
internal import Glibc
internal import Mempool
internal import MempoolRecording

/// The last owners whose writes after the put were caught in the act, so that the poison does not tell them a second time.
///
/// Thread-safe: each entry is one word.
struct CaughtWriters: @unchecked Sendable {
    // Unchecked: the words are atomic.
    private static let count = 256
    private let words: UnsafeMutablePointer<UInt64>

    init() {
        words = .allocate(capacity: Self.count)
        words.initialize(repeating: 0, count: Self.count)
    }

    /// 24 bits of a slot number and 40 of its generation are more than the time between a put and the next get needs.
    private static func word(_ slot: Int, _ generation: UInt64) -> UInt64 {
        UInt64(slot) << 40 | generation & (1 << 40 - 1)
    }

    func add(slot: Int, generation: UInt64) {
        cmempool_store64(words + slot % Self.count, Self.word(slot, generation))
    }

    func holds(slot: Int, generation: UInt64) -> Bool {
        cmempool_load64(words + slot % Self.count) == Self.word(slot, generation)
    }
}

extension Recorder {
    // MARK: - Use after put

    /// Looks at the bytes of an idle slot, before somebody gets it or its memory goes.
    @inline(__always)
    func checkPoison(_ record: UnsafeMutablePointer<LedgerRecord>, _ slot: Int, isUnderLock: Bool = false) {
        guard let base = UnsafeRawPointer(bitPattern: UInt(record.pointee.address)) else { return }
        let damage = bytes.damage(
            inPoisoned: base, request: Int(truncatingIfNeeded: record.pointee.request),
            byte: poisonByte(ofPool: Int(record.pointee.pool)))
        if let damage { addUseAfterPut(record.pointee, slot, damage, isUnderLock: isUnderLock) }
    }

    @inline(never)
    private func addUseAfterPut(_ record: LedgerRecord, _ slot: Int, _ damage: Damage, isUnderLock: Bool) {
        if caught.holds(slot: slot, generation: record.generation) { return }
        var finding = finding(.useAfterPut, record, slot)
        finding.fill(damage)
        finding.putStack = record.putStack
        finding.putThread = record.putThread
        finding.firstPutTime = record.putTime
        finding.bytes = capacity(of: record)
        add(finding, isUnderLock: isUnderLock)
    }

    /// The memory of an idle slot goes back to the system: the last chance to look at it.
    func willRelease(_ slot: Int) {
        guard bytes.poisonLimit > 0 else { return }
        // First, as a look at the memory may be going on that began when it was poisoned.
        memory.withLock { _ in
            guard let record = ledger.idle(slot: slot), record.pointee.flags & LedgerFlags.poisoned != 0 else { return }
            showToTools(record.pointee)
            checkPoison(record, slot, isUnderLock: true)
            ledger.clearPoison(record)
        }
    }

    /// Slots that are looked at before what was found there is entered: all may be damaged, of millions, and what waits to be
    /// entered takes memory of a process that ends. Some 100 KiB.
    private static let slotsAtOnce = 512

    /// Looks at everything that lies idle, when the process ends. Other threads may still run.
    func checkIdleMemory() {
        let slotCount = ledger.slotCount
        var found: [(slot: Int, record: LedgerRecord, damage: Damage)] = []
        for first in stride(from: 0, to: slotCount, by: Self.slotsAtOnce) {
            forEachIdleDamage(in: first..<min(first + Self.slotsAtOnce, slotCount)) { slot, record, damage in
                found.append((slot, record, damage))
            }
            // Without the lock that it holds: the program's handler is called, and abort= asks the loader for names.
            for (slot, record, damage) in found { addUseAfterPut(record, slot, damage, isUnderLock: false) }
            found.removeAll(keepingCapacity: true)
        }
        deliverPending()
    }

    /// Calls `body` for each idle buffer, of all slots or some, that was written to after its put and that nobody has got since. It
    /// may not call the program.
    func forEachIdleDamage(
        in slots: Range<Int>? = nil, _ body: (_ slot: Int, _ record: LedgerRecord, _ damage: Damage) -> Void
    ) {
        func isPoisoned(_ record: LedgerRecord) -> Bool {
            record.state == .returned && record.flags & LedgerFlags.poisoned != 0
        }
        for slot in slots ?? 0..<ledger.slotCount where ledger.read(slot).map(isPoisoned) ?? false {
            memory.withLock { _ in
                guard let record = ledger.read(slot), isPoisoned(record) else { return }
                showToTools(record)
                guard let base = UnsafeRawPointer(bitPattern: UInt(record.address)),
                    let damage = bytes.damage(
                        inPoisoned: base, request: Int(truncatingIfNeeded: record.request),
                        byte: poisonByte(ofPool: Int(record.pool))),
                    // Got meanwhile: it was the new owner who wrote.
                    record.sequence == ledger.read(slot)?.sequence
                else { return }
                // A touch that was caught is a finding already.
                if caught.holds(slot: slot, generation: record.generation) { return }
                body(slot, record, damage)
            }
        }
    }

    /// Other tools see the recorder itself look at memory that they were told nobody may touch.
    private func showToTools(_ record: LedgerRecord) {
        guard cmempool_has_tools(), let base = UnsafeMutableRawPointer(bitPattern: UInt(record.address)) else {
            return
        }
        cmempool_tools_show(base, Int(capacity(of: record)))
    }

    /// A buffer's own function was called after the put.
    func didAccessAfterPut(_ access: AccessEvent) {
        let stack = cmempool_capture_get(access.frame)
        let generation = Self.fullGeneration(access.ticketGeneration, now: access.generation)
        var finding = FindingRecord()
        finding.kind = FindingKind.useAfterPut.rawValue
        finding.pool = UInt32(access.pool)
        finding.issuingPool = UInt32(access.pool)
        finding.slot = UInt32(access.slot)
        finding.accessStack = stack
        finding.accessThread = cmempool_thread_id()
        finding.badBytes = UInt64(access.count)
        if access.isRead { finding.flags |= FindingRecord.readFlag }
        finding.reissues = (access.generation - min(generation, access.generation)) / 2
        let owner = ledger.owner(slot: access.slot, generation: generation)
        // From what the caller has, as the slot's present buffer may lie elsewhere: between guard pages, or in other memory.
        let capacity = max(access.capacity, wholeCapacity(access, owner) ?? 0)
        let offset = capacity - access.capacity + access.offset
        finding.expectedCapacity = UInt64(capacity)
        finding.bytes = UInt64(capacity)
        finding.address = UInt64(access.address) &- UInt64(offset)
        finding.offset = Int64(offset)
        if let owner {
            fill(&finding, from: owner)
            finding.putStack = owner.putStack
            finding.putThread = owner.putThread
            finding.firstPutStack = 0
            finding.firstPutThread = 0
        } else {
            finding.flags |= FindingRecord.historyLostFlag
        }
        // Idle memory is compared in the name of its last owner, whoever wrote to it. What somebody has is not compared.
        if !access.isRead, access.generation & 1 == 0 {
            caught.add(slot: access.slot, generation: access.generation &- 1)
        }
        if finding.reissues > 0, let next = ledger.owner(slot: access.slot, generation: generation &+ 2) {
            finding.reissueStack = next.getStack
        }
        add(finding)
    }

    /// What the buffer held of which a part was touched, perhaps all; nil if nobody knows any more. What a slice lacks of it lies
    /// before the slice.
    private func wholeCapacity(_ access: AccessEvent, _ owner: Ownership?) -> Int? {
        guard let bucket = access.bucket else { return owner.map { ($0.request + 4095) & ~4095 } }
        var record = LedgerRecord()
        record.pool = UInt16(access.pool)
        record.bucket = UInt8(bucket)
        // Without counters of the pool it is what the record has for the request: 0.
        return Int(self.capacity(of: record))
    }

    // MARK: - Overrun, and lives that are too long

    @inline(never)
    func addOverrun(_ record: LedgerRecord, _ slot: Int, _ damage: Damage, _ capacity: Int, _ stack: UInt32) {
        var finding = finding(.overrun, record, slot)
        finding.fill(damage)
        finding.expectedCapacity = UInt64(capacity)
        finding.bytes = UInt64(capacity)
        add(&finding, stack)
    }

    @inline(never)
    func addHeld(_ record: LedgerRecord, _ put: PutEvent, _ time: UInt64, _ stack: UInt32) {
        var finding = finding(.heldTooLong, record, put.slot)
        finding.duration = time &- record.getTime
        finding.bytes = UInt64(put.capacity)
        add(&finding, stack)
    }

    /// Finds what was outstanding in a pool that is being destroyed, a finding for each get stack.
    func findOutstanding(inDestroyed pool: Int) {
        let stack = cmempool_capture_stack()
        var groups: [UInt32: FindingRecord] = [:]
        ledger.markDestroyed(pool: pool) { slot, record in
            var group = groups[record.getStack] ?? finding(.poolDestroyed, record, slot)
            group.count &+= 1
            group.bytes &+= capacity(of: record)
            groups[record.getStack] = group
        }
        for (_, group) in groups.sorted(by: { $0.key < $1.key }) {
            var group = group
            add(&group, stack)
        }
    }

    /// A finding about a buffer, with what its record knows.
    private func finding(_ kind: FindingKind, _ record: LedgerRecord, _ slot: Int) -> FindingRecord {
        var finding = FindingRecord()
        finding.kind = kind.rawValue
        finding.pool = UInt32(record.pool)
        finding.issuingPool = UInt32(record.pool)
        finding.slot = UInt32(slot)
        finding.address = record.address
        finding.request = record.request
        finding.getStack = record.getStack
        finding.getThread = record.getThread
        finding.getTime = record.getTime
        finding.context = record.context
        return finding
    }
}
#endif

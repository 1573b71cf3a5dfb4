// `BucketCore`: the shared tiers of one bucket: the shelf of idle buffers and the slabs behind it.

internal import CMempoolPlatform
internal import Glibc
internal import Synchronization

/// One bucket's buffers that no thread holds.
///
/// Invariant: each slot of the bucket is outstanding (odd generation), in one thread's magazine, on the shelf, vacant, or on its
/// way from the shelf to vacant; in exactly one of them. Thread-safe.
struct BucketCore: ~Copyable, Sendable {
    let capacity: Int
    /// Bytes from one buffer to the next with red zones between them; the same as without if no recorder wants any.
    private let zonedStrideBytes: Int
    private let wantsZones: Bool
    /// The most bytes of red zones there may be in all pools.
    private let redZoneLimit: Int
    /// Bytes from one buffer to the next: the capacity, rounded up to what its alignment asks for. What an idle buffer counts for
    /// in limits, whether there are red zones or not.
    let accountedBytes: Int
    /// How many idle buffers one thread keeps at most.
    let magazineLimit: Int
    let wrongCapacityPuts = Atomic<UInt64>(0)
    private nonisolated(unsafe) let nextGets = SlotTable.nextGets

    struct State: ~Copyable {
        // What every hand-over between threads touches comes first: it begins in the cache line of the mutex and ends in the next.
        var stacks = SlotStacks()
        /// The fewest slots on the shelf since the last tick: so many have not been needed.
        var leastShelved = 0
        var credit = IdleCredit()
        /// Ascending by first slot.
        var slabs: [Slab] = []
        var slotCount = 0
        /// Vacant slots that are set aside for threads.
        var lentCount = 0
        var allocations: UInt64 = 0
        var trimmed: UInt64 = 0
    }

    let state = Guarded(State())

    init(capacity: Int, redZoneBytes: Int = 0, redZoneLimit: Int = 0) {
        self.capacity = capacity
        let alignment = capacity >= 4096 ? 4096 : 64
        accountedBytes = (capacity + alignment - 1) / alignment * alignment
        zonedStrideBytes = (capacity + redZoneBytes + alignment - 1) / alignment * alignment
        wantsZones = redZoneBytes > 0
        self.redZoneLimit = redZoneLimit
        // A thread keeps at most 4 MiB of a bucket, or a single buffer: with fewer than 16 buffers, threads that hand buffers
        // to each other would meet at the shelf all the time.
        magazineLimit = min(Int(CMEMPOOL_MAGAZINE_SLOTS), max(1, (4 << 20) / capacity))
    }

    // MARK: - Get

    /// Takes an idle slot, and fills an empty magazine on the way, or makes a slot out of a vacant one.
    ///
    /// - Parameters:
    ///   - magazine: The thread's, empty; nil if it has none.
    ///   - vacancies: The thread's vacant slots; nil if it has none.
    /// - Returns: The ticket of the idle slot, and whether it had to be allocated.
    func take(
        _ magazine: UnsafeMutablePointer<cmempool_magazine>?, _ vacancies: UnsafeMutablePointer<cmempool_vacancies>?,
        budget: IdleBudget
    ) throws(PoolAllocationError) -> (ticket: UInt64, isAllocated: Bool) {
        // Half of what the magazine holds, so that neither a run of gets nor a run of puts crosses the shelf every time.
        let wanted = magazine.map { max(1, ($0.pointee.limit - $0.pointee.bottom) / 2) } ?? 1
        return try state.withLock { state throws(PoolAllocationError) -> (UInt64, Bool) in
            let count = min(state.stacks.shelfCount, wanted)
            guard count > 0 else {
                return (SlotTable.nextTicket(of: try takeVacant(&state, vacancies)), true)
            }
            let entries = state.stacks.popShelf(count)
            if let magazine {
                let tickets = magazine.pointee.bottom
                for index in 0..<count - 1 { tickets[index] = ShelfEntry.ticket(entries[index], nextGets) }
                magazine.pointee.top = tickets + (count - 1)
            }
            state.leastShelved = min(state.leastShelved, state.stacks.shelfCount)
            state.credit.release(count, of: accountedBytes, keeping: magazineLimit, to: budget)
            return (ShelfEntry.ticket(entries[count - 1], nextGets), false)
        }
    }

    private func takeVacant(
        _ state: inout State, _ vacancies: UnsafeMutablePointer<cmempool_vacancies>?
    ) throws(PoolAllocationError) -> Int {
        let slot: Int
        if let vacancies {
            let slots = cmempool_vacancy_slots(vacancies)
            if vacancies.pointee.count == 0 {
                if state.stacks.vacantCount == 0 { try addSlab(&state) }
                // In the order in which they lie: the first ones are taken from the end.
                let count = min(state.stacks.vacantCount, SlotTable.slotsPerLine)
                for index in (0..<count).reversed() {
                    slots[index] = UInt32(truncatingIfNeeded: state.stacks.popVacant())
                }
                vacancies.pointee.count = UInt32(truncatingIfNeeded: count)
                state.lentCount += count
            }
            vacancies.pointee.count -= 1
            state.lentCount -= 1
            slot = Int(slots[Int(vacancies.pointee.count)])
        } else {
            if state.stacks.vacantCount == 0 { try addSlab(&state) }
            slot = state.stacks.popVacant()
        }
        state.allocations += 1
        if let slab = Self.slabIndex(of: slot, in: state) { state.slabs[slab].occupy(slot) }
        return slot
    }

    /// Takes back the vacant slots that were set aside for a thread.
    func takeBack(_ vacancies: UnsafeMutablePointer<cmempool_vacancies>) {
        state.withLock { state in
            let slots = cmempool_vacancy_slots(vacancies)
            for index in 0..<Int(vacancies.pointee.count) { state.stacks.pushVacant(Int(slots[index])) }
            state.lentCount -= Int(vacancies.pointee.count)
            vacancies.pointee.count = 0
        }
    }

    /// From this capacity on, buffers are shifted against each other; and by so many different numbers of pages.
    private static let shiftedBytes = 256 << 10
    private static let shiftCount = 16

    private func addSlab(_ state: inout State) throws(PoolAllocationError) {
        // Slabs of 256 KiB make the system call rare for small buckets without holding much that is unused.
        var strideBytes = zonedStrideBytes
        var count = max(1, (256 << 10) / strideBytes)
        // One zone lies before the first buffer: a whole page, so that pages and strides begin at the same place.
        var leadBytes = 4096
        var redZoneBytes = count * (strideBytes - accountedBytes) + leadBytes
        let hasZones = wantsZones && RedZones.reserve(redZoneBytes, limit: redZoneLimit)
        if !hasZones {
            strideBytes = accountedBytes
            count = max(1, (256 << 10) / strideBytes)
            leadBytes = 0
            redZoneBytes = 0
        }
        var isAdded = false
        defer { if !isAdded { RedZones.release(redZoneBytes) } }
        guard state.stacks.reserve(state.slotCount + count) else {
            throw PoolAllocationError(byteCount: count * MemoryLayout<UInt32>.stride, errorNumber: ENOMEM)
        }
        let byteCount = (count * strideBytes + 4095) / 4096 * 4096
        // Large buffers that all begin at the same distance from a power of two would share the same few sets of the
        // caches, so each begins a few pages further than the one before it.
        let shift = leadBytes + (capacity >= Self.shiftedBytes ? state.slabs.count % Self.shiftCount * 4096 : 0)
        let memory = try SystemMemory.map(byteCount + shift)
        guard let first = SlotTable.takeRun(of: count) else {
            SystemMemory.unmap(memory, byteCount + shift)
            throw PoolAllocationError(byteCount: byteCount, errorNumber: ENOSPC)
        }
        let slab = Slab(
            firstSlot: first, slotCount: count, base: memory + shift, strideBytes: strideBytes, shiftBytes: shift,
            redZoneBytes: redZoneBytes
        )
        isAdded = true
        if wantsZones { RedZones.note(slab.slots, areMissing: !hasZones) }
        // Almost always at the end; runs that a destroyed pool gave back may come before.
        let isLast = state.slabs.last.map { $0.firstSlot < first } ?? true
        let position = isLast ? nil : state.slabs.firstIndex { $0.firstSlot > first }
        state.slabs.insert(slab, at: position ?? state.slabs.count)
        state.slotCount += count
        for index in (0..<count).reversed() {
            SlotTable.bases[first + index] = slab.base + index * strideBytes
            state.stacks.pushVacant(first + index)
        }
    }

    // MARK: - Put

    /// Takes all but `kept` slots of a magazine, those that have lain longest. Returns how many went to the shelf, and how
    /// many were trimmed because the budget is used up.
    ///
    /// The magazine changes while the lock is held: a fork, which takes the lock first, finds each slot in one place only.
    func shelve(
        _ magazine: UnsafeMutablePointer<cmempool_magazine>, keeping kept: Int, budget: IdleBudget
    ) -> (shelved: Int, trimmed: Int) {
        let tickets = magazine.pointee.bottom
        let count = magazine.pointee.top - tickets - kept
        guard count > 0 else { return (0, 0) }
        return state.withLock { state in
            let room = state.credit.reserve(
                min(count, state.stacks.freeCount), of: accountedBytes, from: budget)
            state.stacks.pushShelf(tickets, count: room)
            for index in room..<count { vacate(Ticket.slot(tickets[index]), &state) }
            state.trimmed += UInt64(count - room)
            tickets.update(from: tickets + count, count: kept)
            magazine.pointee.top = tickets + kept
            return (room, count - room)
        }
    }

    /// Takes one slot of a thread without a magazine. Returns whether it went to the shelf; otherwise it was trimmed.
    func shelve(_ ticket: UInt64, budget: IdleBudget) -> Bool {
        var ticket = ticket
        return state.withLock { state in
            let hasRoom =
                state.stacks.freeCount > 0
                && state.credit.reserve(1, of: accountedBytes, from: budget) == 1
            if hasRoom {
                state.stacks.pushShelf(&ticket, count: 1)
            } else {
                vacate(Ticket.slot(ticket), &state)
                state.trimmed += 1
            }
            return hasRoom
        }
    }

    /// Gives up the memory of a slot whose buffer was discarded; the slot can be used again.
    func discard(slot: Int) {
        state.withLock { vacate(slot, &$0) }
    }

    private func vacate(_ slot: Int, _ state: inout State) {
        PoolHook.installed?.willRelease(slot)
        state.stacks.pushVacant(slot)
        guard let index = Self.slabIndex(of: slot, in: state) else { return }
        state.slabs[index].vacate(slot)
        state.slabs[index].releasePages(around: slot)
    }

    private static func slabIndex(of slot: Int, in state: borrowing State) -> Int? {
        var low = 0
        var high = state.slabs.count
        while low < high {
            let middle = (low + high) / 2
            if state.slabs[middle].firstSlot <= slot { low = middle + 1 } else { high = middle }
        }
        return low > 0 ? low - 1 : nil
    }

    // MARK: - Giving idle memory back

    /// Gives back what has lain on the shelf since the last tick. Returns bytes.
    func decay(budget: IdleBudget) -> Int {
        let idle = state.withLock { $0.leastShelved }
        let released = release(atMost: idle, budget: budget) { $0.popColdest($1) }
        state.withLock { state in
            state.leastShelved = state.stacks.shelfCount
            state.credit.release(0, of: accountedBytes, keeping: 0, to: budget)
        }
        return released
    }

    /// Gives back everything on the shelf. Returns bytes.
    func trim(budget: IdleBudget) -> Int {
        let released = release(atMost: .max, budget: budget) { $0.popShelf($1) }
        state.withLock { $0.credit.release(0, of: accountedBytes, keeping: 0, to: budget) }
        return released
    }

    /// Gives back what a thread keeps, which the budget does not count any more. Returns bytes.
    func trim(_ magazine: UnsafeMutablePointer<cmempool_magazine>) -> Int {
        state.withLock { state in
            let count = magazine.pointee.top - magazine.pointee.bottom
            vacate(UnsafeBufferPointer(start: magazine.pointee.bottom, count: count), &state, slot: Ticket.slot)
            magazine.pointee.top = magazine.pointee.bottom
            return count * accountedBytes
        }
    }

    /// Buffers that are given back under one hold of the lock; others wait that long, a millisecond at most.
    private static let releaseBatch = 512

    private func release(
        atMost limit: Int, budget: IdleBudget,
        pop: (inout SlotStacks, Int) -> UnsafePointer<UInt32>
    ) -> Int {
        var released = 0
        while released < limit {
            let wanted = min(Self.releaseBatch, limit - released)
            let count = withUnsafeTemporaryAllocation(of: UInt32.self, capacity: Self.releaseBatch) { entries -> Int in
                state.withLock { state in
                    let count = min(wanted, state.stacks.shelfCount)
                    guard count > 0, let start = entries.baseAddress else { return 0 }
                    start.update(from: pop(&state.stacks, count), count: count)
                    state.leastShelved = min(state.leastShelved, state.stacks.shelfCount)
                    vacate(UnsafeBufferPointer(start: start, count: count), &state, slot: ShelfEntry.slot)
                    return count
                }
            }
            guard count > 0 else { break }
            budget.release(count, of: accountedBytes)
            released += count
        }
        return released * accountedBytes
    }

    /// Gives up the memory of slots, in as few calls as it goes.
    private func vacate<Element>(
        _ elements: UnsafeBufferPointer<Element>, _ state: inout State, slot: (Element) -> Int
    ) {
        var touched: Set<Int> = []
        for element in elements {
            let slot = slot(element)
            PoolHook.installed?.willRelease(slot)
            state.stacks.pushVacant(slot)
            guard let index = Self.slabIndex(of: slot, in: state) else { continue }
            state.slabs[index].vacate(slot)
            touched.insert(index)
        }
        for index in touched { state.slabs[index].releasePages() }
    }

    // MARK: - Stats and end

    /// Reads the counters. Gets and puts are in the slots' generations, so this walks the bucket's slots.
    ///
    /// - Complexity: O(slots of the bucket).
    func stats() -> BucketStats {
        var stats = BucketStats()
        stats.capacity = capacity
        var total: UInt64 = 0
        state.withLock { state in
            for slab in state.slabs {
                for slot in slab.slots {
                    let generation = SlotTable.generation(of: slot)
                    total += generation / 2
                    stats.inUse += Int64(generation & 1)
                }
                total -= slab.inheritedPairs
            }
            stats.allocations = state.allocations
            stats.trimmed = state.trimmed
            stats.idle = Int64(state.slotCount - state.stacks.vacantCount - state.lentCount) - stats.inUse
        }
        stats.wrongCapacity = wrongCapacityPuts.load(ordering: .relaxed)
        stats.gets = total + UInt64(stats.inUse)
        // A put of a slice may be between its two counters; never show a negative number.
        stats.puts = total - min(total, stats.wrongCapacity)
        return stats
    }

    /// Unmaps the slabs without outstanding buffers. Returns the number of buffers still outstanding; their slabs stay.
    ///
    /// To be called once no thread can use the pool any more and its magazines have been shelved.
    func destroy(budget: IdleBudget) -> Int {
        state.withLock { state in
            var outstanding = 0
            state.credit.release(state.stacks.shelfCount, of: accountedBytes, keeping: 0, to: budget)
            state.stacks = SlotStacks()
            state.slotCount = 0
            state.slabs.removeAll { slab in
                let count = slab.slots.count { SlotTable.generation(of: $0) & 1 == 1 }
                outstanding += count
                guard count == 0 else { return false }
                if let hook = PoolHook.installed { slab.slots.forEach(hook.willRelease) }
                SystemMemory.unmap(slab.base - slab.shiftBytes, slab.byteCount + slab.shiftBytes)
                RedZones.release(slab.redZoneBytes)
                for slot in slab.slots { SlotTable.bases[slot] = nil }
                SlotTable.returnRun(first: slab.firstSlot, count: slab.slotCount)
                return true
            }
            return outstanding
        }
    }
}

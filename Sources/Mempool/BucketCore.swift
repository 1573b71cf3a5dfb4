// `BucketCore`: the shared tiers of one bucket: the shelf of idle buffers and the slabs behind it.

internal import CMempoolPlatform
internal import Glibc
internal import Synchronization

/// A failed allocation of memory from the system.
struct SystemAllocationError: Error {
    var byteCount: Int
    var errorNumber: CInt
}

/// Consecutive slots whose memory was mapped together.
struct Slab {
    var firstSlot: Int
    var slotCount: Int
    var base: UnsafeMutableRawPointer
    var byteCount: Int
    /// Slots without memory. All of them: the slab's pages have been given back.
    var vacantCount: Int
}

/// One bucket's buffers that no thread holds.
///
/// Invariant: each slot of the bucket is outstanding (odd generation), in one thread's magazine, on the shelf, or vacant;
/// in exactly one of them. Thread-safe.
final class BucketCore: Sendable {
    let capacity: Int
    /// How many idle buffers one thread keeps.
    let magazineLimit: Int
    let wrongCapacityPuts = Atomic<UInt64>(0)

    struct State: ~Copyable {
        /// Idle slots with memory; the last one was used last, so its memory is the warmest.
        var shelf: [UInt32] = []
        /// Slots without memory; handing one out is an allocation.
        var vacant: [UInt32] = []
        /// Ascending by first slot.
        var slabs: [Slab] = []
        var slotCount = 0
        var allocations: UInt64 = 0
        var trimmed: UInt64 = 0
        /// Pairs that the slots' generations counted before this bucket had them.
        var inheritedPairs: UInt64 = 0
    }

    let state = Guarded(State())

    init(capacity: Int) {
        self.capacity = capacity
        // A thread keeps at most 1 MiB of a bucket, or a single buffer.
        magazineLimit = min(Int(CMEMPOOL_MAGAZINE_SLOTS), max(1, (1 << 20) / capacity))
    }

    // MARK: - Get

    /// Moves idle slots into `magazine`, or makes one. Returns whether it had to allocate.
    func refill(_ magazine: UnsafeMutablePointer<cmempool_magazine>, shelfBytes: borrowing Atomic<Int>) throws -> Bool {
        let slots = cmempool_magazine_slots(magazine)
        return try state.withLock { state in
            let count = min(state.shelf.count, max(1, magazineLimit / 2))
            guard count > 0 else {
                slots[0] = UInt32(truncatingIfNeeded: try takeVacant(&state))
                magazine.pointee.count = 1
                return true
            }
            // The warmest last, where the magazine hands out first.
            for index in 0..<count { slots[index] = state.shelf[state.shelf.count - count + index] }
            state.shelf.removeLast(count)
            magazine.pointee.count = UInt32(truncatingIfNeeded: count)
            shelfBytes.subtract(count * capacity, ordering: .relaxed)
            return false
        }
    }

    private func takeVacant(_ state: inout State) throws -> Int {
        if state.vacant.isEmpty { try addSlab(&state) }
        let slot = Int(state.vacant.removeLast())
        state.allocations += 1
        if let slab = Self.slabIndex(of: slot, in: state) { state.slabs[slab].vacantCount -= 1 }
        return slot
    }

    private func addSlab(_ state: inout State) throws {
        // Slabs of 256 KiB make the system call rare for small buckets without holding much that is unused.
        let count = max(1, (256 << 10) / capacity)
        let byteCount = count * capacity
        guard let memory = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
            memory != MAP_FAILED
        else {
            throw SystemAllocationError(byteCount: byteCount, errorNumber: errno)
        }
        guard let first = SlotTable.takeRun(of: count) else {
            munmap(memory, byteCount)
            throw SystemAllocationError(byteCount: byteCount, errorNumber: ENOSPC)
        }
        let slab = Slab(firstSlot: first, slotCount: count, base: memory, byteCount: byteCount, vacantCount: count)
        state.slabs.insert(slab, at: state.slabs.firstIndex { $0.firstSlot > first } ?? state.slabs.count)
        state.slotCount += count
        // Reserved here so that no put ever has to allocate.
        state.shelf.reserveCapacity(state.slotCount)
        state.vacant.reserveCapacity(state.slotCount)
        for index in (0..<count).reversed() {
            SlotTable.slots[first + index].base = memory + index * capacity
            state.inheritedPairs += SlotTable.generation(of: first + index) / 2
            state.vacant.append(UInt32(truncatingIfNeeded: first + index))
        }
    }

    // MARK: - Put

    /// Takes slots back from a thread. Returns how many were trimmed because the shelf holds `limit` bytes already.
    func shelve(
        _ slots: UnsafeBufferPointer<UInt32>, shelfBytes: borrowing Atomic<Int>, limit: Int
    ) -> Int {
        let byteCount = slots.count * capacity
        let held = shelfBytes.add(byteCount, ordering: .relaxed).newValue
        let room = max(0, slots.count - max(0, held - limit + capacity - 1) / capacity)
        state.withLock { state in
            for index in 0..<room { state.shelf.append(slots[index]) }
            for index in room..<slots.count { vacate(Int(slots[index]), &state) }
            state.trimmed += UInt64(slots.count - room)
        }
        shelfBytes.subtract((slots.count - room) * capacity, ordering: .relaxed)
        return slots.count - room
    }

    /// Gives up the memory of a slot whose buffer was discarded; the slot can be used again.
    func discard(slot: Int) {
        state.withLock { vacate(slot, &$0) }
    }

    private func vacate(_ slot: Int, _ state: inout State) {
        state.vacant.append(UInt32(truncatingIfNeeded: slot))
        guard let index = Self.slabIndex(of: slot, in: state) else { return }
        state.slabs[index].vacantCount += 1
        let slab = state.slabs[index]
        // The advice is about memory use only; if the kernel declines, the pages stay.
        if capacity >= 4096 {
            madvise(SlotTable.slots[slot].base, capacity, MADV_DONTNEED)
        } else if slab.vacantCount == slab.slotCount {
            madvise(slab.base, slab.byteCount, MADV_DONTNEED)
        }
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
                for slot in slab.firstSlot..<slab.firstSlot + slab.slotCount {
                    let generation = SlotTable.generation(of: slot)
                    total += generation / 2
                    stats.inUse += Int64(generation & 1)
                }
            }
            stats.allocations = state.allocations
            stats.trimmed = state.trimmed
            stats.idle = Int64(state.slotCount - state.vacant.count) - stats.inUse
            total -= state.inheritedPairs
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
    func destroy() -> Int {
        state.withLock { state in
            var outstanding = 0
            state.shelf = []
            state.vacant = []
            state.slabs.removeAll { slab in
                let slots = slab.firstSlot..<slab.firstSlot + slab.slotCount
                let count = slots.count { SlotTable.generation(of: $0) & 1 == 1 }
                outstanding += count
                guard count == 0 else { return false }
                munmap(slab.base, slab.byteCount)
                for slot in slots { SlotTable.slots[slot].base = nil }
                SlotTable.returnRun(first: slab.firstSlot, count: slab.slotCount)
                return true
            }
            return outstanding
        }
    }
}

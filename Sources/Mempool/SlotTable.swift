// `SlotTable`: the one table of slots that all pools share, and the numbers that tickets carry.

internal import CMempoolPlatform
internal import Glibc

/// Hands out runs of slot numbers.
///
/// The table is one reserved range of address space, so that a slot is found by adding to a constant and never moves.
/// Pages of it exist only once slots in them are used. Slot 0 is never given out: ticket 0 means "no pool".
/// Thread-safe.
enum SlotTable {
    /// Enough for 8 GiB of outstanding 512 B buffers; 256 MiB of address space, of which only used pages take memory.
    static let slotLimit = 1 << 24

    /// Entries in a cache line of 64 bytes. Runs begin on a line, so that no two slabs share one.
    static let slotsPerLine = 4

    struct State: ~Copyable {
        /// Numbers from here on have never been used.
        var next = slotsPerLine
        /// Runs that destroyed pools gave back: length → first numbers. Their generations go on counting.
        var returned: [Int: [Int]] = [:]
    }

    static let state = Guarded(State())

    /// The start of the table. A constant; slots are only accessed as their generations allow.
    nonisolated(unsafe) static let slots: UnsafeMutablePointer<cmempool_slot> = {
        let bytes = slotLimit * MemoryLayout<cmempool_slot>.stride
        let protection = PROT_READ | PROT_WRITE
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
        guard let memory = mmap(nil, bytes, protection, flags, -1, 0), memory != MAP_FAILED else {
            fatalError("mempool: cannot reserve \(bytes) bytes of address space for the slot table: \(systemError())")
        }
        return memory.bindMemory(to: cmempool_slot.self, capacity: slotLimit)
    }()

    /// The first number of `count` consecutive slots, or nil if the table is used up.
    static func takeRun(of count: Int) -> Int? {
        state.withLock { state in
            if let first = state.returned[count]?.popLast() { return first }
            guard state.next + count <= slotLimit else { return nil }
            defer { state.next += (count + slotsPerLine - 1) / slotsPerLine * slotsPerLine }
            return state.next
        }
    }

    /// Gives a run back. No ticket of it may be outstanding: its slots' generations are even.
    static func returnRun(first: Int, count: Int) {
        state.withLock { $0.returned[count, default: []].append(first) }
    }

    static func lockForFork() { state.lockForFork() }

    static func unlockAfterFork() { state.unlockAfterFork() }

    /// Gets and puts of a slot together since it first existed; odd while the slot is outstanding.
    @inline(__always)
    static func generation(of slot: Int) -> UInt64 {
        let entry = slots + slot
        while true {
            // Equal readings of the high half around the low one: no carry in between.
            let high = cmempool_load32(&entry.pointee.generation_high)
            let low = cmempool_load32_acquire(&entry.pointee.generation)
            if high == cmempool_load32(&entry.pointee.generation_high) { return UInt64(high) << 32 | UInt64(low) }
        }
    }
}

/// The text of the calling thread's `errno`.
func systemError() -> String { String(cString: strerror(errno)) }

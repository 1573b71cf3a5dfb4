// `SlotTable`: the one table of slots that all pools share, and the numbers that tickets carry.

internal import CMempoolPlatform
internal import Glibc

/// Hands out runs of slot numbers.
///
/// The table is reserved address space, so that a slot is found by adding to a constant and never moves. Pages of it exist
/// only once slots in them are used. Slot 0 is never given out: ticket 0 means "no pool".
/// Thread-safe.
enum SlotTable {
    /// Enough for 8 GiB of outstanding 512 B buffers; 320 MiB of address space in all, of which only used
    /// pages take memory.
    static let slotLimit = 1 << 24

    /// Slots whose generations lie in a cache line of 64 bytes. Runs begin on a line, so that no two slabs share one.
    static let slotsPerLine = Int(CMEMPOOL_SLOTS_PER_LINE)

    struct State: ~Copyable {
        /// Numbers from here on have never been used.
        var next = slotsPerLine
        /// Runs that destroyed pools gave back: length → first numbers. Their generations go on counting.
        var returned: [Int: [Int]] = [:]
    }

    static let state = Guarded(State())

    // Arrays and not one of structures: only gets write the one generation and only puts the other. Were they one, a thread that gets
    // and another one that puts would pull its cache lines back and forth.

    /// The generation of the ticket that the next get of each slot gives, the low half.
    nonisolated(unsafe) static let nextGets = {
        let generations = reserve(UInt32.self)
        // Of slot 0: an empty magazine gives ticket 0, whose generation this is not.
        generations[0] = 1
        return generations
    }()
    /// The generation of the ticket that the next put has to have, the low half: the same while the slot is idle, and one get behind
    /// while a caller owns the buffer.
    ///
    /// Shifted by some lines: the processor takes a load for one of what was just stored if the addresses have twelve bits in
    /// common, and the put loads this right after the get stored the other one.
    nonisolated(unsafe) static let nextPuts = reserve(UInt32.self, shiftedBy: 33 * slotsPerLine)
    /// The high half, touched once in 2^31 pairs.
    nonisolated(unsafe) static let generationsHigh = reserve(UInt32.self)
    /// Where each slot's buffer is; changes only while no caller owns it.
    nonisolated(unsafe) static let bases = reserve(UnsafeMutableRawPointer?.self)

    /// Address space for an element per slot, behind `shift` unused ones; pages exist once they are written.
    static func reserve<Element>(_ type: Element.Type, shiftedBy shift: Int = 0) -> UnsafeMutablePointer<Element> {
        guard let memory = SystemMemory.reserve(type, slotLimit + shift) else {
            let reason = systemError()
            let bytes = slotLimit * MemoryLayout<Element>.stride
            fatalError("mempool: cannot reserve \(bytes) bytes of address space for the slot table: \(reason)")
        }
        return memory + shift
    }

    /// The first number of `count` consecutive slots, or nil if the table is used up.
    static func takeRun(of count: Int) -> Int? {
        state.withLock { state in
            if let first = state.returned[count]?.popLast() { return first }
            guard state.next + count <= slotLimit else { return nil }
            let first = state.next
            state.next += (count + slotsPerLine - 1) / slotsPerLine * slotsPerLine
            (nextGets + first).update(repeating: 1, count: count)
            (nextPuts + first).update(repeating: 1, count: count)
            return first
        }
    }

    /// Gives a run back. No ticket of it may be outstanding: the two generations of each slot are equal.
    static func returnRun(first: Int, count: Int) {
        state.withLock { $0.returned[count, default: []].append(first) }
    }

    static func lockForFork() { state.lockForFork() }

    static func unlockAfterFork() { state.unlockAfterFork() }

    /// The ticket that the next get of an idle slot gives.
    static func nextTicket(of slot: Int) -> UInt64 { Ticket.word(slot, cmempool_load32(nextPuts + slot)) }

    /// Whether the buffer that was handed out with a ticket is outstanding. Of the next ticket of an idle slot, which nobody has yet, this
    /// is true as well.
    @inline(__always)
    static func isOutstanding(_ ticket: UInt64) -> Bool {
        cmempool_load32_acquire(nextPuts + Ticket.slot(ticket)) == Ticket.generation(ticket)
    }

    /// Whether a ticket is the next one of an idle slot.
    static func isIdle(_ ticket: UInt64) -> Bool {
        isOutstanding(ticket) && cmempool_load32(nextGets + Ticket.slot(ticket)) == Ticket.generation(ticket)
    }

    /// Gets and puts of a slot together since it first existed; odd while the slot is outstanding.
    ///
    /// Without the bucket's lock it may be 2^32 short for the moment of a carry, once in 2^31 pairs.
    @inline(__always)
    static func generation(of slot: Int) -> UInt64 {
        while true {
            // Equal readings of the high half around the low one: no carry in between.
            let high = cmempool_load32(generationsHigh + slot)
            let nextPut = cmempool_load32_acquire(nextPuts + slot)
            // Behind that, so that what is seen was true at one of the two moments.
            let isOutstanding = cmempool_load32_acquire(nextGets + slot) != nextPut
            if high == cmempool_load32(generationsHigh + slot) {
                return UInt64(high) << 32 | UInt64(nextPut & ~1) | (isOutstanding ? 1 : 0)
            }
        }
    }
}

/// The text of the calling thread's `errno`.
func systemError() -> String { String(cString: strerror(errno)) }

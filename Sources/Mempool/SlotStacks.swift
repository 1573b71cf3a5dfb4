// `SlotStacks`: the shelf and the vacant slots of a bucket, two stacks in one array.

internal import CMempoolPlatform
internal import Glibc

/// An idle slot on a shelf, in four bytes: its number, and eight bits of the generation of its next ticket.
///
/// With whole tickets, idle buffers of 1 KiB would cost 0.4 % more memory.
enum ShelfEntry {
    private static var slotBits: UInt32 { UInt32(truncatingIfNeeded: SlotTable.slotLimit.trailingZeroBitCount) }

    @inline(__always)
    static func word(_ ticket: UInt64) -> UInt32 {
        // The lowest bit is always set.
        UInt32(truncatingIfNeeded: Ticket.slot(ticket)) | (Ticket.generation(ticket) &>> 1) &<< slotBits
    }

    @inline(__always)
    static func slot(_ entry: UInt32) -> Int { Int(entry & (1 &<< slotBits &- 1)) }

    /// The whole ticket: of the last 256 gets the one that fits. Of a slot that was kept twice, a copy from a multiple of 256 gets
    /// before is taken for the next one: the only such copy that gets by `PoolCore.isDuplicate(_:)`.
    @inline(__always)
    static func ticket(_ entry: UInt32, _ nextGets: UnsafeMutablePointer<UInt32>) -> UInt64 {
        let last = cmempool_load32(nextGets + slot(entry))
        let behind = (last &>> 1 &- entry &>> slotBits) & 0xFF
        return Ticket.word(slot(entry), last &- 2 &* behind)
    }
}

/// Two stacks that share one array: the shelf, of `ShelfEntry`s, grows from its start, the vacant slots, of their numbers, from its end.
///
/// A slot of the bucket is on at most one of them, so an array with room for each slot once suffices, and a put never has to
/// allocate. Should a slot come twice (see `PoolCore.isDuplicate(_:)`), what finds no room is dropped. Four bytes per slot.
/// Guarded by the bucket's lock.
struct SlotStacks: ~Copyable {
    private var entries: UnsafeMutablePointer<UInt32>?
    /// Where the shelf begins: above 0 once slots that have lain longest were taken.
    private var shelfStart = 0
    private(set) var capacity = 0
    private(set) var shelfCount = 0
    private(set) var vacantCount = 0

    deinit { Self.free(entries, capacity) }

    /// How many more slots find room.
    var freeCount: Int { capacity - shelfCount - vacantCount }

    /// Makes room for `count` slots in all; false if there is no memory, and nothing has changed.
    mutating func reserve(_ count: Int) -> Bool {
        // Always some more than needed, so that the shelf, whose start moves on as slots become vacant, seldom moves back.
        guard count + count / 64 > capacity else { return true }
        let larger = count + count / 32
        guard let fresh = Self.allocate(larger) else { return false }
        if let entries {
            fresh.update(from: entries + shelfStart, count: shelfCount)
            (fresh + larger - vacantCount).update(from: entries + capacity - vacantCount, count: vacantCount)
            Self.free(entries, capacity)
        }
        entries = fresh
        shelfStart = 0
        capacity = larger
        return true
    }

    /// Bytes from which on an array is mapped: what the C library is given back of a growing one it may keep.
    private static let mappedBytes = 64 << 10

    private static func allocate(_ count: Int) -> UnsafeMutablePointer<UInt32>? {
        let byteCount = count * MemoryLayout<UInt32>.stride
        let memory = byteCount < mappedBytes ? SystemMemory.allocate(byteCount) : try? SystemMemory.map(byteCount)
        return memory?.bindMemory(to: UInt32.self, capacity: count)
    }

    private static func free(_ entries: UnsafeMutablePointer<UInt32>?, _ count: Int) {
        let byteCount = count * MemoryLayout<UInt32>.stride
        guard let entries, byteCount >= mappedBytes else { return Glibc.free(entries) }
        SystemMemory.unmap(entries, byteCount)
    }

    mutating func pushVacant(_ slot: Int) {
        guard freeCount > 0 else { return }
        makeRoom(1)
        vacantCount += 1
        entries.unsafelyUnwrapped[capacity - vacantCount] = UInt32(truncatingIfNeeded: slot)
    }

    mutating func popVacant() -> Int {
        vacantCount -= 1
        return Int(entries.unsafelyUnwrapped[capacity - vacantCount - 1])
    }

    /// Puts slots on the shelf, `freeCount` at most; the last one will be taken first.
    mutating func pushShelf(_ tickets: UnsafePointer<UInt64>, count: Int) {
        makeRoom(count)
        let end = entries.unsafelyUnwrapped + shelfStart + shelfCount
        for index in 0..<count { end[index] = ShelfEntry.word(tickets[index]) }
        shelfCount += count
    }

    /// Takes the `count` entries that came last; they keep their order, and are to be read before the next change.
    mutating func popShelf(_ count: Int) -> UnsafePointer<UInt32> {
        shelfCount -= count
        return UnsafePointer(entries.unsafelyUnwrapped + shelfStart + shelfCount)
    }

    /// Takes the `count` entries that have lain longest; to be read before the next change as well.
    mutating func popColdest(_ count: Int) -> UnsafePointer<UInt32> {
        defer {
            shelfStart += count
            shelfCount -= count
        }
        return UnsafePointer(entries.unsafelyUnwrapped + shelfStart)
    }

    /// Moves the shelf back to the start if there are less than `count` entries between the stacks.
    @inline(__always)
    private mutating func makeRoom(_ count: Int) {
        guard shelfStart + shelfCount + count > capacity - vacantCount, shelfStart > 0 else { return }
        let start = entries.unsafelyUnwrapped
        start.update(from: start + shelfStart, count: shelfCount)
        shelfStart = 0
    }
}

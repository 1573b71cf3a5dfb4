// `SlotStacks`: the shelf and the vacant slots of a bucket, two stacks in one array.

internal import Glibc

/// Two stacks of slot numbers that share one array: the shelf grows from its start, the vacant slots from its end.
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
    mutating func pushShelf(_ slots: UnsafePointer<UInt32>, count: Int) {
        makeRoom(count)
        (entries.unsafelyUnwrapped + shelfStart + shelfCount).update(from: slots, count: count)
        shelfCount += count
    }

    /// Takes the `count` slots that came last; they keep their order.
    mutating func popShelf(into slots: UnsafeMutablePointer<UInt32>, count: Int) {
        shelfCount -= count
        slots.update(from: entries.unsafelyUnwrapped + shelfStart + shelfCount, count: count)
    }

    /// Takes the `count` slots that have lain longest.
    mutating func popColdest(into slots: UnsafeMutablePointer<UInt32>, count: Int) {
        slots.update(from: entries.unsafelyUnwrapped + shelfStart, count: count)
        shelfStart += count
        shelfCount -= count
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

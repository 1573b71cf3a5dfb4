// `SlotStacks`: the shelf and the vacant slots of a bucket, two stacks in one array.

internal import Glibc

/// Two stacks of slot numbers that share one array: the shelf grows from its start, the vacant slots from its end.
///
/// A slot of the bucket is on at most one of them, so an array with room for each slot once never overflows, and a put never
/// has to allocate. Four bytes per slot. Guarded by the bucket's lock.
struct SlotStacks: ~Copyable {
    private var entries: UnsafeMutablePointer<UInt32>?
    private(set) var capacity = 0
    private(set) var shelfCount = 0
    private(set) var vacantCount = 0

    deinit { free(entries) }

    /// Makes room for `count` slots in all; false if there is no memory, and nothing has changed.
    mutating func reserve(_ count: Int) -> Bool {
        guard count > capacity else { return true }
        // A thirty-second more than needed: growing stays rare and the unused part small.
        let larger = count + count / 32
        let memory = SystemMemory.allocate(larger * MemoryLayout<UInt32>.stride)
        guard let fresh = memory?.bindMemory(to: UInt32.self, capacity: larger) else { return false }
        if let entries {
            fresh.update(from: entries, count: shelfCount)
            (fresh + larger - vacantCount).update(from: entries + capacity - vacantCount, count: vacantCount)
            free(entries)
        }
        entries = fresh
        capacity = larger
        return true
    }

    mutating func pushVacant(_ slot: Int) {
        vacantCount += 1
        entries.unsafelyUnwrapped[capacity - vacantCount] = UInt32(truncatingIfNeeded: slot)
    }

    mutating func popVacant() -> Int {
        vacantCount -= 1
        return Int(entries.unsafelyUnwrapped[capacity - vacantCount - 1])
    }

    /// Puts slots on the shelf; the last one will be taken first.
    mutating func pushShelf(_ slots: UnsafePointer<UInt32>, count: Int) {
        (entries.unsafelyUnwrapped + shelfCount).update(from: slots, count: count)
        shelfCount += count
    }

    /// Takes the `count` slots that came last; they keep their order.
    mutating func popShelf(into slots: UnsafeMutablePointer<UInt32>, count: Int) {
        shelfCount -= count
        slots.update(from: entries.unsafelyUnwrapped + shelfCount, count: count)
    }

    /// Takes the `count` slots that have lain longest.
    mutating func popColdest(into slots: UnsafeMutablePointer<UInt32>, count: Int) {
        let start = entries.unsafelyUnwrapped
        slots.update(from: start, count: count)
        shelfCount -= count
        start.update(from: start + count, count: shelfCount)
    }
}

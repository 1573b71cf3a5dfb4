// `OversizedCore`: buffers above the largest bucket, mapped for each get and unmapped at the put.

internal import CMempoolPlatform
internal import Glibc
internal import Synchronization

/// The oversized buffers of one pool. They have slots and tickets like any other, so the same mistakes are found.
///
/// A get and a put each cost a system call and the first touch of fresh pages. Thread-safe.
final class OversizedCore: Sendable {
    struct State: ~Copyable {
        /// Slots with a buffer outstanding → its capacity, bytes; the margins are mapped beside it.
        var outstanding: [Int: Int] = [:]
        var free: [Int] = []
    }

    let state = Guarded(State())
    /// Mapped bytes before and behind each buffer: 0 or a page.
    private let marginBytes: Int
    let gets = Atomic<UInt64>(0)
    let puts = Atomic<UInt64>(0)

    init(redZoneBytes: Int = 0) { marginBytes = redZoneBytes > 0 ? 4096 : 0 }

    /// Maps memory for a request and gives it a slot. The capacity is the request rounded up to whole pages.
    func allocate(_ request: Int) throws(PoolAllocationError) -> (slot: Int, capacity: Int) {
        let capacity = (request + 4095) & ~4095
        let mapped = capacity + 2 * marginBytes
        let memory = try SystemMemory.map(mapped)
        let taken = state.withLock { state -> Int? in
            guard let slot = state.free.popLast() ?? SlotTable.takeRun(of: 1) else { return nil }
            state.outstanding[slot] = capacity
            // The slot may have been one of a slab that had none; an oversized buffer has its pages.
            if marginBytes > 0 { RedZones.note(slot..<slot + 1, areMissing: false) }
            // Under the lock, as a put by address reads it.
            SlotTable.bases[slot] = memory + marginBytes
            return slot
        }
        guard let slot = taken else {
            SystemMemory.unmap(memory, mapped)
            throw PoolAllocationError(byteCount: capacity, errorNumber: ENOSPC)
        }
        gets.add(1, ordering: .relaxed)
        return (slot, capacity)
    }

    /// What the buffer of an outstanding slot holds, bytes.
    func capacity(of slot: Int) -> Int? { state.withLock { $0.outstanding[slot] } }

    /// Unmaps the buffer of a slot whose put, of the whole or of a slice, ended its life.
    func free(slot: Int) {
        puts.add(1, ordering: .relaxed)
        PoolHook.installed?.willRelease(slot)
        guard let capacity = state.withLock({ $0.outstanding.removeValue(forKey: slot) }) else { return }
        if let base = SlotTable.bases[slot] {
            SystemMemory.unmap(base - marginBytes, capacity + 2 * marginBytes)
        }
        SlotTable.bases[slot] = nil
        state.withLock { $0.free.append(slot) }
    }

    /// Returns the free slots to the table, and how many buffers are still outstanding.
    func destroy() -> Int {
        state.withLock { state in
            for slot in state.free { SlotTable.returnRun(first: slot, count: 1) }
            state.free = []
            return state.outstanding.count
        }
    }
}

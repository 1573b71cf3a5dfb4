// `OversizedCore`: buffers above the largest bucket, mapped for each get and unmapped at the put.

internal import CMempoolPlatform
internal import Glibc
internal import Synchronization

/// The oversized buffers of one pool. They have slots and tickets like any other, so the same mistakes are found.
///
/// A get and a put each cost a system call and the first touch of fresh pages. Thread-safe.
final class OversizedCore: Sendable {
    struct State: ~Copyable {
        /// Slots with a buffer outstanding → its memory.
        var outstanding: [Int: Memory] = [:]
        /// Where these lie, ascending: for puts by address. A get and a put move half of it on average, 16 bytes for each buffer,
        /// which takes less than their calls of the system as long as there are some thousands.
        var places: [Place] = []
        var free: [Int] = []
    }

    /// What was mapped for a buffer, the margins beside it apart; a recorder may have placed the buffer elsewhere.
    struct Memory {
        var base: UnsafeMutableRawPointer
        var capacity: Int
    }

    struct Place {
        var start: UInt
        var slot: Int
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
            let base = memory + marginBytes
            state.outstanding[slot] = Memory(base: base, capacity: capacity)
            let start = UInt(bitPattern: base)
            state.places.insert(Place(start: start, slot: slot), at: state.places.count(upTo: start, by: \.start))
            // The slot may have been one of a slab that had none; an oversized buffer has its pages.
            if marginBytes > 0 { RedZones.note(slot..<slot + 1, areMissing: false) }
            // Under the lock, as a put by address reads it.
            SlotTable.bases[slot] = base
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
    func capacity(of slot: Int) -> Int? { state.withLock { $0.outstanding[slot]?.capacity } }

    /// The slot of the outstanding buffer that holds an address, and its capacity.
    ///
    /// - Complexity: O(log n) for n outstanding oversized buffers.
    func slot(at address: UInt) -> (slot: Int, capacity: Int)? {
        state.withLock { state in
            guard let place = state.places.last(upTo: address, by: \.start),
                let memory = state.outstanding[place.slot], address - place.start < UInt(memory.capacity),
                // Otherwise a recorder has placed it elsewhere, and nobody was given this address.
                SlotTable.bases[place.slot] == memory.base
            else { return nil }
            return (place.slot, memory.capacity)
        }
    }

    /// Unmaps the buffer of a slot whose put, of the whole or of a slice, ended its life.
    func free(slot: Int) {
        puts.add(1, ordering: .relaxed)
        PoolHook.installed?.willRelease(slot)
        let taken = state.withLock { state -> Memory? in
            guard let memory = state.outstanding.removeValue(forKey: slot) else { return nil }
            state.places.remove(at: state.places.count(upTo: UInt(bitPattern: memory.base), by: \.start) - 1)
            return memory
        }
        // After that, as the system may give the address to another one at once.
        guard let taken else { return }
        SystemMemory.unmap(taken.base - marginBytes, taken.capacity + 2 * marginBytes)
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

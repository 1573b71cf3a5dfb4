// `RedZones`: the memory between the buffers that a recorder watches, and how much of it there may be.

internal import CMempoolPlatform
internal import Synchronization

/// Counts the memory that red zones take in all pools. Thread-safe.
///
/// A red zone costs as much as the alignment of the buffers, 64 bytes or a page, so a program with a million buffers would pay
/// more for it than for everything else that is recorded. Slabs that are mapped once the limit is reached have none.
enum RedZones {
    private static let used = Atomic<Int>(0)

    /// Bytes counted now.
    static var usedBytes: Int { used.load(ordering: .relaxed) }

    /// Whether there is room for so many bytes more, which then count.
    static func reserve(_ byteCount: Int, limit: Int) -> Bool {
        if used.wrappingAdd(byteCount, ordering: .relaxed).newValue <= limit { return true }
        release(byteCount)
        return false
    }

    static func release(_ byteCount: Int) { used.wrappingSubtract(byteCount, ordering: .relaxed) }

    /// A byte per slot, 1 if its buffer has none although a recorder wants them. Written before the slot is first handed out.
    private nonisolated(unsafe) static let missing = SlotTable.reserve(UInt8.self)

    static func note(_ slots: Range<Int>, areMissing: Bool) {
        for slot in slots where missing[slot] != (areMissing ? 1 : 0) { missing[slot] = areMissing ? 1 : 0 }
    }

    static func areMissing(ofSlot slot: Int) -> Bool { missing[slot] != 0 }
}

// `IdleBudget`: how much idle memory a pool, and all pools together, may keep.

internal import Synchronization

/// Counts idle bytes against a pool's limit and the limit of the process. Thread-safe; one atomic addition to each.
final class IdleBudget: Sendable {
    private let limit: Int
    private let used = Atomic<Int>(0)

    /// What all pools may keep together, bytes.
    static let processLimit = Atomic<Int>(SystemMemory.physicalBytes / 4)
    private static let processUsed = Atomic<Int>(0)

    init(_ limit: ByteLimit) { self.limit = limit.value }

    /// Idle bytes counted now.
    var usedBytes: Int { used.load(ordering: .relaxed) }

    /// Counts as many of `count` buffers as fit; returns how many.
    func reserve(_ count: Int, of byteCount: Int) -> Int {
        let total = count * byteCount
        let over = max(
            used.add(total, ordering: .relaxed).newValue.saturatingDifference(limit),
            Self.processUsed.add(total, ordering: .relaxed).newValue
                .saturatingDifference(Self.processLimit.load(ordering: .relaxed))
        )
        guard over > 0 else { return count }
        let excess = min(count, (over + byteCount - 1) / byteCount)
        release(excess, of: byteCount)
        return count - excess
    }

    /// Takes buffers out of the count.
    func release(_ count: Int, of byteCount: Int) {
        used.subtract(count * byteCount, ordering: .relaxed)
        Self.processUsed.subtract(count * byteCount, ordering: .relaxed)
    }
}

extension Int {
    /// `self - other`, or 0 if that is negative; no overflow for non-negative values.
    fileprivate func saturatingDifference(_ other: Int) -> Int { self > other ? self - other : 0 }
}

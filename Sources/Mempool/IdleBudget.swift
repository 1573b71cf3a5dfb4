// `IdleBudget`: how much idle memory a pool, and all pools together, may keep; `IdleCredit`: what a bucket has of it
// and does not use at the moment.

internal import Synchronization

/// Counts idle bytes against a pool's limit and the limit of the process. Thread-safe.
final class IdleBudget: Sendable {
    private let limit: Int
    private let used = Atomic<Int>(0)

    /// What all pools may keep together, bytes.
    static let processLimit = Atomic<Int>(SystemMemory.physicalBytes / 4)
    private static let processUsed = Atomic<Int>(0)

    init(_ limit: ByteLimit) { self.limit = limit.value }

    /// The most that one bucket may keep as credit: what it does not use must not be missing elsewhere.
    var creditBytes: Int { min(limit, Self.processLimit.load(ordering: .relaxed)) / 128 }

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

/// Buffers' worth of idle memory that a bucket has counted against the budget, beyond those on its shelf.
///
/// Buffers that go from thread to thread come to the shelf and leave it all the time. Without this each of these moves would
/// change two counters that all threads share, whose cache lines would travel with the buffers. Guarded by the bucket's lock.
struct IdleCredit {
    private var count = 0

    var isEmpty: Bool { count == 0 }

    /// Counts as many of `count` buffers as fit; returns how many.
    mutating func reserve(_ count: Int, of byteCount: Int, from budget: IdleBudget) -> Int {
        let own = min(count, self.count)
        self.count -= own
        return own == count ? count : own + budget.reserve(count - own, of: byteCount)
    }

    /// Takes buffers out of the count, all but `kept` at most, which stay as credit.
    mutating func release(_ count: Int, of byteCount: Int, keeping kept: Int, to budget: IdleBudget) {
        self.count += count
        guard self.count > kept || self.count * byteCount > budget.creditBytes else { return }
        let excess = self.count - min(kept, budget.creditBytes / byteCount)
        self.count -= excess
        budget.release(excess, of: byteCount)
    }
}

extension Int {
    /// `self - other`, or 0 if that is negative; no overflow for non-negative values.
    fileprivate func saturatingDifference(_ other: Int) -> Int { self > other ? self - other : 0 }
}

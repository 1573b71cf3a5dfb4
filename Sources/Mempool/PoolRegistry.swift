// `PoolRegistry`: the pools of the process by index.

internal import CMempoolPlatform

/// Gives pools their indices. Index 0 is the default pool's.
///
/// The index of a destroyed pool is used again only if none of its buffers was outstanding: a buffer names its pool by index,
/// and one that comes back late must not be taken for another pool's. A recorder goes on counting where the predecessor ended, so
/// an index goes to a pool with the same name and buckets, as long as there are fresh ones among those with thread caches.
/// Thread-safe.
enum PoolRegistry {
    /// Ten bits of a buffer's shape word.
    static let poolLimit = 1024

    struct State: ~Copyable {
        var pools: [PoolCore?] = [nil]
        /// Indices that may be used again.
        var free: [Int] = []
        /// By index: the latest pool's name, as configured, and capacities.
        var kinds: [Kind] = [Kind(name: "", capacities: [])]
    }

    struct Kind: Equatable {
        var name: String
        var capacities: [Int]
    }

    static let state = Guarded(State())

    /// Registers a pool; nil if there are 1,024 already, those included that ended with buffers outstanding.
    static func register(
        isDefault: Bool, _ configuration: PoolConfiguration, _ make: (Int) -> PoolCore
    ) -> PoolCore? {
        state.withLock { state in
            let kind = Kind(name: configuration.name, capacities: configuration.layout.capacities)
            let index: Int
            if isDefault {
                index = 0
            } else if let free = state.free.lastIndex(where: { state.kinds[$0] == kind }) {
                index = state.free.remove(at: free)
            } else if state.pools.count >= Int(CMEMPOOL_CACHED_POOLS), let free = state.free.popLast() {
                index = free
            } else {
                index = state.pools.count
                guard index < poolLimit else { return nil }
                state.pools.append(nil)
                state.kinds.append(kind)
            }
            state.kinds[index] = kind
            let pool = make(index)
            state.pools[index] = pool
            return pool
        }
    }

    /// The pool at an index, or nil.
    static func pool(at index: Int) -> PoolCore? { state.withLock { $0.pools[index] } }

    /// Every pool, destroyed ones with outstanding buffers included.
    static var all: [PoolCore] { state.withLock { $0.pools.compactMap { $0 } } }

    static func lockForFork() { state.lockForFork() }

    /// Calls `body` for every pool; only between ``lockForFork()`` and ``unlockAfterFork()``.
    static func forEachWhileLocked(_ body: (PoolCore) -> Void) {
        state.withStateWhileLocked { $0.pools.forEach { pool in pool.map(body) } }
    }

    static func unlockAfterFork() { state.unlockAfterFork() }

    /// Forgets a pool whose index may be used again.
    static func remove(index: Int) {
        state.withLock { state in
            state.pools[index] = nil
            state.free.append(index)
        }
    }
}

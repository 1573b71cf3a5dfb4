// `PoolRegistry`: the pools of the process by index.

/// Gives pools their indices. Index 0 is the default pool's.
///
/// The index of a destroyed pool is used again only if none of its buffers was outstanding: a buffer names its pool by index,
/// and one that comes back late must not be taken for another pool's. Thread-safe.
enum PoolRegistry {
    /// Ten bits of a buffer's shape word.
    static let poolLimit = 1024

    struct State: ~Copyable {
        var pools: [PoolCore?] = [nil]
        var free: [Int] = []
    }

    static let state = Guarded(State())

    /// Registers a pool. Traps when 1,024 pools exist.
    static func register(isDefault: Bool, _ make: (Int) -> PoolCore) -> PoolCore {
        state.withLock { state in
            let index: Int
            if isDefault {
                index = 0
            } else if let free = state.free.popLast() {
                index = free
            } else {
                index = state.pools.count
                guard index < poolLimit else {
                    fatalError("mempool: more than \(poolLimit) pools; share pools or destroy unused ones")
                }
                state.pools.append(nil)
            }
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

// `ForkSafety`: what makes the pools usable in a forked child.

internal import CMempoolPlatform

/// Holds every lock of the pools across a `fork`, so that the child, which has only the forking thread, finds none of them
/// taken and no structure half changed.
///
/// Handlers of others that were registered before run while the locks are held, and may use the pool: the forking thread is
/// inside of it meanwhile, and they are served like signal handlers.
enum ForkSafety {
    /// Registers the handlers, once.
    static let install: Void = cmempool_around_fork(beforeFork, afterForkInParent, afterForkInChild)

    fileprivate static func lock() {
        ThreadCaches.lockForFork()
        PoolRegistry.lockForFork()
        PoolRegistry.forEachWhileLocked { pool in
            for bucket in pool.buckets.indices { pool.buckets[bucket].state.lockForFork() }
            pool.oversized.state.lockForFork()
        }
        SlotTable.lockForFork()
        RawAddresses.lockForFork()
    }

    fileprivate static func unlock() {
        RawAddresses.unlockAfterFork()
        SlotTable.unlockAfterFork()
        PoolRegistry.forEachWhileLocked { pool in
            for bucket in pool.buckets.indices { pool.buckets[bucket].state.unlockAfterFork() }
            pool.oversized.state.unlockAfterFork()
        }
        PoolRegistry.unlockAfterFork()
        ThreadCaches.unlockAfterFork()
    }
}

/// Whether the forking thread entered the pool for the fork. Guarded by the locks, which one thread at a time holds.
nonisolated(unsafe) private var hasEntered = false

private func beforeFork() {
    let isEntering = cmempool_enter()
    ForkSafety.lock()
    hasEntered = isEntering
}

private func afterForkInParent() {
    let isLeaving = hasEntered
    ForkSafety.unlock()
    if isLeaving { InterruptedCalls.leave() }
}

private func afterForkInChild() {
    let isLeaving = hasEntered
    ForkSafety.unlock()
    cmempool_forget_thread_id()
    IdleDecayThread.holdAfterFork()
    ThreadCaches.takeBackAfterFork()
    IdleDecayThread.forgetAfterFork()
    if isLeaving { InterruptedCalls.leave() }
}

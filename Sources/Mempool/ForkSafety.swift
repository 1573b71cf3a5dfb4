// `ForkSafety`: what makes the pools usable in a forked child.

internal import CMempoolPlatform

/// Holds every lock of the pools across a `fork`, so that the child, which has only the forking thread, finds none of them
/// taken and no structure half changed.
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

private func beforeFork() { ForkSafety.lock() }

private func afterForkInParent() { ForkSafety.unlock() }

private func afterForkInChild() {
    ForkSafety.unlock()
    cmempool_forget_thread_id()
    IdleDecayThread.holdAfterFork()
    ThreadCaches.takeBackAfterFork()
    IdleDecayThread.forgetAfterFork()
}

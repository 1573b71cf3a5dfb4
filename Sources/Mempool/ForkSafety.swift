// `ForkSafety`: what makes the pools usable in a forked child.

internal import CMempoolPlatform

/// Holds every lock of the pools across a `fork`, so that the child, which has only the forking thread, finds none of them
/// taken and no structure half changed.
///
/// Handlers of others that were registered before run while the locks are held, and may use the pool: the forking thread is
/// inside of it meanwhile, and they are served like signal handlers. A signal handler that forks where it interrupted the pool
/// gets no locks, and its child finds them as they were.
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

private func beforeFork() {
    // False in a signal handler that interrupted this thread inside of the pool, perhaps with one of the locks: it would wait for
    // ever. Such a child can only call exec, or what is async-signal-safe otherwise.
    let isEntering = cmempool_enter()
    cmempool_set_inside_for_fork(isEntering)
    if isEntering { ForkSafety.lock() }
}

private func afterForkInParent() {
    guard cmempool_is_inside_for_fork() else { return }
    ForkSafety.unlock()
    InterruptedCalls.leave()
}

private func afterForkInChild() {
    cmempool_forget_thread_id()
    guard cmempool_is_inside_for_fork() else { return IdleDecayThread.forgetAfterFork() }
    ForkSafety.unlock()
    IdleDecayThread.holdAfterFork()
    ThreadCaches.takeBackAfterFork()
    IdleDecayThread.forgetAfterFork()
    InterruptedCalls.leave()
}

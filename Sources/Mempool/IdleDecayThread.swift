// `IdleDecayThread`: the thread that gives idle memory back, while there is some.

internal import CMempoolPlatform
internal import Glibc
internal import Synchronization

/// Ticks the decay of all pools.
///
/// A program that goes idle after a burst makes no more calls that could give the memory back, so this needs a thread. It starts when
/// idle memory passes a floor and ends when the shelves are empty: most programs never have it.
enum IdleDecayThread {
    /// Below this there is nothing worth a thread, bytes.
    static let floorBytes = 1 << 20
    /// The longest sleep: a pool that was made meanwhile may tick faster.
    private static let longestSleepNanoseconds: UInt64 = 1_000_000_000

    private static let isRunning = Atomic<Bool>(false)

    /// Starts the thread if idle memory is worth it and it does not run. Called off the fast path only.
    static func startIfNeeded(idleBytes: Int) {
        guard idleBytes >= floorBytes, !isRunning.load(ordering: .relaxed) else { return }
        guard isRunning.compareExchange(expected: false, desired: true, ordering: .acquiringAndReleasing).exchanged
        else {
            return
        }
        ForkSafety.install
        if !cmempool_start_thread("mempool-decay", decayUntilNothingIsIdle) {
            isRunning.store(false, ordering: .releasing)
        }
    }

    static func run() {
        while true {
            let now = cmempool_now()
            var sleep = longestSleepNanoseconds
            var hasIdleMemory = false
            for pool in PoolRegistry.all {
                guard let next = pool.decay(now: now) else { continue }
                sleep = min(sleep, next)
                hasIdleMemory = hasIdleMemory || pool.hasIdleMemory
            }
            guard hasIdleMemory else { break }
            var duration = timespec(tv_sec: Int(sleep / 1_000_000_000), tv_nsec: Int(sleep % 1_000_000_000))
            nanosleep(&duration, nil)
        }
        isRunning.store(false, ordering: .releasing)
    }

    /// In a forked child: no thread is started while its caches are put in order; many a child only calls exec.
    static func holdAfterFork() { isRunning.store(true, ordering: .relaxed) }

    /// A forked child does not have the thread.
    static func forgetAfterFork() { isRunning.store(false, ordering: .relaxed) }
}

private func decayUntilNothingIsIdle() { IdleDecayThread.run() }

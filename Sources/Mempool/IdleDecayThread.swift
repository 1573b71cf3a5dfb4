// `IdleDecayThread`: the thread that gives idle memory back, while there is some.

internal import CMempoolPlatform
internal import Glibc
internal import Synchronization

/// Ticks the decay of all pools.
///
/// A program that goes idle after a burst makes no more calls that could give the memory back, so this needs a thread. It starts when
/// something is shelved in a pool whose idle memory is above a floor, and ends when all shelves are empty after a sleep: most
/// programs never have it.
enum IdleDecayThread {
    /// Below this there is nothing worth a thread, bytes.
    static let floorBytes = 1 << 20
    /// The longest sleep: a pool that was made meanwhile may tick faster.
    private static let longestSleepNanoseconds: UInt64 = 1_000_000_000

    private static let isRunning = Atomic<Bool>(false)
    /// How often the thread was started. For tests.
    static let startCount = Atomic<Int>(0)

    /// Starts the thread if idle memory is worth it and it does not run. Called after something was shelved.
    static func startIfNeeded(idleBytes: Int) {
        guard idleBytes >= floorBytes, !isRunning.load(ordering: .relaxed) else { return }
        guard isRunning.compareExchange(expected: false, desired: true, ordering: .acquiringAndReleasing).exchanged
        else {
            return
        }
        startCount.add(1, ordering: .relaxed)
        if !cmempool_start_thread("mempool-decay", decayUntilNothingIsIdle) {
            isRunning.store(false, ordering: .releasing)
        }
    }

    static func run() {
        repeat {
            repeat {
                let sleep = tick()
                var duration = timespec(tv_sec: Int(sleep / 1_000_000_000), tv_nsec: Int(sleep % 1_000_000_000))
                nanosleep(&duration, nil)
            } while hasIdleMemory
        } while !mayEnd()
    }

    /// Tells that the thread ends; false if it has to go on.
    static func mayEnd() -> Bool {
        isRunning.store(false, ordering: .releasing)
        // What was shelved before this second look may have found the thread still running. What comes later finds that it
        // does not: the shelf's lock orders both.
        guard hasIdleMemory else { return true }
        return !isRunning.compareExchange(expected: false, desired: true, ordering: .acquiringAndReleasing).exchanged
    }

    /// Decays the pools whose time has come. Returns nanoseconds until the next one's.
    private static func tick() -> UInt64 {
        let now = cmempool_now()
        return InterruptedCalls.around {
            PoolRegistry.all.reduce(longestSleepNanoseconds) { min($0, $1.decay(now: now) ?? $0) }
        }
    }

    /// Whether a pool that decays has anything to give back.
    private static var hasIdleMemory: Bool {
        InterruptedCalls.around {
            PoolRegistry.all.contains { $0.decayTickNanoseconds != nil && $0.hasIdleMemory }
        }
    }

    /// In a forked child: no thread is started while its caches are put in order; many a child only calls exec.
    static func holdAfterFork() { isRunning.store(true, ordering: .relaxed) }

    /// A forked child does not have the thread.
    static func forgetAfterFork() { isRunning.store(false, ordering: .relaxed) }
}

private func decayUntilNothingIsIdle() { IdleDecayThread.run() }

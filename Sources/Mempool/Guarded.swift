// `Guarded`: a mutex with the state it guards, visible to the thread sanitizer.

internal import CMempoolPlatform
internal import Synchronization

/// A mutex that holds the state it guards.
///
/// It is `Synchronization.Mutex` with one addition: the standard library's lock is not built with the thread sanitizer,
/// which therefore reports every access under it as a race, in the programs of everybody who tests with it. The lock tells the
/// sanitizer what it does; in other builds that is two empty calls, off the fast path.
package struct Guarded<State: ~Copyable>: ~Copyable, Sendable {
    private let mutex: Mutex<State>
    /// What the sanitizer knows the lock by. Never dereferenced.
    private nonisolated(unsafe) let token: UnsafeMutableRawPointer

    package init(_ state: consuming sending State) {
        mutex = Mutex(state)
        token = .allocate(byteCount: 1, alignment: 1)
    }

    deinit {
        token.deallocate()
    }

    /// Calls `body` with the state while no other thread can reach it. Not recursive.
    package borrowing func withLock<R: ~Copyable, E: Error>(
        _ body: (inout sending State) throws(E) -> sending R
    ) throws(E) -> sending R {
        try mutex.withLock { state throws(E) -> sending R in
            cmempool_did_lock(token)
            defer { cmempool_will_unlock(token) }
            return try body(&state)
        }
    }
}

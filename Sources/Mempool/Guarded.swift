// `Guarded`: a mutex with the state it guards.

internal import Glibc

/// A mutex that holds the state it guards.
///
/// It is a POSIX mutex and not `Synchronization.Mutex` for two reasons. The thread sanitizer knows it, while the standard
/// library's lock is not built with the sanitizer, which then reports every access under it as a race, in the programs of
/// everybody who uses the pool. And it can be held across `fork`, so that a child finds no lock taken by a thread it does
/// not have. It spins briefly before it sleeps, as what it guards here is short.
package struct Guarded<State: ~Copyable>: ~Copyable, @unchecked Sendable {
    // Unchecked: the state is reached under the mutex only.
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let state: UnsafeMutablePointer<State>

    package init(_ initial: consuming State) {
        // One allocation, the state right behind the mutex and the mutex on a line of its own: whoever takes the lock has
        // the beginning of the state as well.
        let offset = Self.stateOffset
        let memory = UnsafeMutableRawPointer.allocate(byteCount: offset + MemoryLayout<State>.stride, alignment: 128)
        mutex = memory.bindMemory(to: pthread_mutex_t.self, capacity: 1)
        state = (memory + offset).bindMemory(to: State.self, capacity: 1)
        state.initialize(to: initial)
        var attributes = pthread_mutexattr_t()
        pthread_mutexattr_init(&attributes)
        pthread_mutexattr_settype(&attributes, CInt(PTHREAD_MUTEX_ADAPTIVE_NP))
        pthread_mutex_init(mutex, &attributes)
        pthread_mutexattr_destroy(&attributes)
    }

    deinit {
        pthread_mutex_destroy(mutex)
        state.deinitialize(count: 1)
        UnsafeMutableRawPointer(mutex).deallocate()
    }

    private static var stateOffset: Int {
        let mask = max(MemoryLayout<State>.alignment, 1) - 1
        return (MemoryLayout<pthread_mutex_t>.size + mask) & ~mask
    }

    /// Calls `body` with the state while no other thread can reach it. Not recursive.
    @inline(__always)
    package borrowing func withLock<R: ~Copyable, E: Error>(_ body: (inout State) throws(E) -> R) throws(E) -> R {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return try body(&state.pointee)
    }

    /// Takes the mutex before a `fork`; the parent and the child each release it with ``unlockAfterFork()``.
    borrowing func lockForFork() { pthread_mutex_lock(mutex) }

    /// The state, between the two.
    borrowing func withStateWhileLocked<R>(_ body: (inout State) -> R) -> R { body(&state.pointee) }

    borrowing func unlockAfterFork() { pthread_mutex_unlock(mutex) }
}

// The rows of the zoo: the places where a mistake can be made, and helpers to get there.

import Dispatch
import Glibc
import Mempool

/// A place: code of one form that makes the mistake it is given, on a line with the mark `SITE get NAME`,
/// `SITE put NAME` or `SITE touch NAME`.
struct Place: Sendable {
    let name: String
    var pool: @Sendable () -> BufferPool = { Pools.main }
    var size = Mistake.usualSize
    /// Kinds that cannot be had here.
    var impossible: [Mistake.Kind] = []
    /// Whether the mistake is made after `visit`, while the process ends.
    var isLate = false
    let visit: @Sendable (Mistake) async throws -> Void

    /// All rows, in the order of the table.
    static let all = synchronous + concurrent

    /// How often each specimen makes its mistake: more than once, so that counting is tested too.
    static let repetitions = 3

    /// Makes the mistake, `repetitions` times.
    func make(_ kind: Mistake.Kind) async throws {
        for _ in 0..<Self.repetitions {
            let destroyed = try await makeOnce(kind)
            if kind == .poolDestroyed, !isLate { destroyed.wait() }
        }
    }

    private func makeOnce(_ kind: Mistake.Kind) async throws -> PoolEnd {
        let mistake = Mistake(kind, pool: pool(), size: size)
        try await visit(mistake)
        if !isLate { mistake.finish() }
        return PoolEnd(mistake.pool)
    }
}

/// Waits for a pool to be destroyed: what ran a place may keep it a little longer.
private struct PoolEnd {
    private weak var pool: BufferPool?

    private static let limitSeconds = 20.0

    init(_ pool: BufferPool) { self.pool = pool }

    func wait() {
        let limit = DispatchTime.now() + Self.limitSeconds
        while pool != nil, DispatchTime.now() < limit { usleep(1_000) }
    }
}

/// An error that means nothing.
struct ZooError: Error {}

/// Runs code on a thread of its own and waits for its end.
func onThread(_ body: @escaping @Sendable () -> Void) { join(startThread(body)) }

/// Starts code on a thread of its own.
func startThread(_ body: @escaping @Sendable () -> Void) -> pthread_t {
    var thread = pthread_t()
    let context = Unmanaged.passRetained(ThreadBody(body))
    let status = pthread_create(
        &thread, nil,
        { context in
            if let context { Unmanaged<ThreadBody>.fromOpaque(context).takeRetainedValue().run() }
            return nil
        }, context.toOpaque())
    precondition(status == 0, "pthread_create")
    return thread
}

/// Waits for the end of a thread.
func join(_ thread: pthread_t) { pthread_join(thread, nil) }

private final class ThreadBody: Sendable {
    let run: @Sendable () -> Void
    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
}

/// A value behind a lock.
final class Box<Value>: @unchecked Sendable {
    // Unchecked: the value is touched only with the mutex locked.
    private var value: Value
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>

    init(_ value: Value) {
        self.value = value
        mutex = .allocate(capacity: 1)
        pthread_mutex_init(mutex, nil)
    }

    deinit {
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    func with<R>(_ body: (inout Value) throws -> R) rethrows -> R {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return try body(&value)
    }

    /// Replaces the value.
    func take(_ next: Value) -> Value {
        with { value in
            defer { value = next }
            return value
        }
    }
}

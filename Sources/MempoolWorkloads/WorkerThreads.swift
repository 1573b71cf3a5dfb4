// Threads for workloads: plain ones, as many as asked for, each with its own magazines in the pool.

internal import Glibc
internal import Mempool

enum WorkerThreads {
    /// Calls `body` with 0, 1, … `count - 1`, each on a thread of its own, and waits for all of them.
    ///
    /// A single call happens on the calling thread.
    ///
    /// - Returns: The results, in the order of the numbers.
    /// - Throws: The error of the lowest number, or why a thread could not be started. All started threads have ended.
    static func run<R: Sendable>(
        _ count: Int,
        _ body: @Sendable @escaping (Int) throws(WorkloadError) -> R
    ) throws(WorkloadError) -> [R] {
        guard count > 1 else { return [try body(0)] }
        let outcomes = Outcomes<R>()
        var threads: [pthread_t] = []
        var failure: WorkloadError?
        for number in 0..<count {
            let start = ThreadStart {
                let outcome: Result<R, WorkloadError>
                do throws(WorkloadError) {
                    outcome = .success(try body(number))
                } catch {
                    outcome = .failure(error)
                }
                outcomes.byNumber.withLock { $0[number] = outcome }
            }
            let context = Unmanaged.passRetained(start)
            var thread = pthread_t()
            let result = pthread_create(
                &thread,
                nil,
                { context in
                    if let context { Unmanaged<ThreadStart>.fromOpaque(context).takeRetainedValue().main() }
                    return nil
                },
                context.toOpaque()
            )
            guard result == 0 else {
                context.release()
                failure = WorkloadError("cannot start thread \(number + 1): \(String(cString: strerror(result)))")
                break
            }
            threads.append(thread)
        }
        for thread in threads { pthread_join(thread, nil) }
        if let failure { throw failure }
        var results: [R] = []
        for number in 0..<count {
            guard let outcome = outcomes.byNumber.withLock({ $0[number] }) else {
                throw WorkloadError("thread \(number + 1) ended without a result")
            }
            results.append(try outcome.get())
        }
        return results
    }
}

/// Results by number of the thread.
private final class Outcomes<R: Sendable>: Sendable {
    let byNumber = Guarded<[Int: Result<R, WorkloadError>]>([:])
}

/// Carries a closure through the one pointer that a new thread receives.
private final class ThreadStart: Sendable {
    let main: @Sendable () -> Void

    init(_ main: @Sendable @escaping () -> Void) { self.main = main }
}

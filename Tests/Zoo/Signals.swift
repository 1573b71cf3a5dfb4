// Programs that are interrupted all the time: by a handler that does nothing, or by one that uses a pool of its own.

import Glibc
import Mempool
import Synchronization

enum Signals {
    /// What the handler does.
    enum Handler: String {
        case nothing
        case pool
        /// The pool of the interrupted thread; that needs the recorder.
        case shared
    }

    private static let handled = Atomic<Int>(0)
    private static let isDone = Atomic<Bool>(false)
    /// The handler's. Nobody else on its threads may be inside of it when a signal arrives.
    private static let pool = BufferPool()

    /// Gets and puts on several threads, each of which is sent signals as fast as it goes.
    static func churnUnderFire(_ handler: Handler, signals count: Int) {
        install(handler)
        let ready = Box(0)
        let workers = (0..<3).map { number in
            startThread {
                // A thread makes its cache of a pool at the first use, which a handler must not do.
                pool.withBuffer(200) { $0[0] = 1 }
                ready.with { $0 += 1 }
                var round = 0
                while !isDone.load(ordering: .relaxed) {
                    churn(.shared, rounds: 200, seed: number &* 1_000 &+ round, largest: 3_000)
                    round += 1
                }
            }
        }
        while ready.with({ $0 }) < workers.count { usleep(1_000) }
        var sent = 0
        while handled.load(ordering: .relaxed) < count {
            pthread_kill(workers[sent % workers.count], SIGUSR1)
            sent += 1
            // Time for the interrupted to get somewhere else.
            if sent.isMultiple(of: 50) { usleep(100) }
        }
        isDone.store(true, ordering: .relaxed)
        for worker in workers { join(worker) }
        putBuffer(kept)
        precondition(getStats().inUse == 0 && pool.stats().inUse == 0)
        print("\(handled.load(ordering: .relaxed)) signals, \(getStats().gets) gets")
    }

    /// What a handler has got and not put.
    private nonisolated(unsafe) static var kept = Buffer(wrapping: UnsafeMutableRawBufferPointer(start: nil, count: 0))
    private static let isTaken = Atomic<Bool>(false)

    /// Gives the kept buffer for another one, or that one back if another thread is at it.
    private static func exchange(_ buffer: Buffer) -> Buffer {
        guard !isTaken.exchange(true, ordering: .acquiring) else { return buffer }
        defer { isTaken.store(false, ordering: .releasing) }
        let last = kept
        kept = buffer
        return last
    }

    private static func install(_ handler: Handler) {
        // Whatever is made at the first use is made now.
        pool.withBuffer(200) { $0[0] = 1 }
        _ = exchange(kept)
        var action = sigaction()
        switch handler {
        case .nothing: action.__sigaction_handler.sa_handler = { _ in Signals.handled.add(1, ordering: .relaxed) }
        case .pool:
            action.__sigaction_handler.sa_handler = { _ in
                let buffer = Signals.pool.get(200)
                buffer[199] = 1
                Signals.pool.put(buffer)
                Signals.handled.add(1, ordering: .relaxed)
            }
        case .shared:
            action.__sigaction_handler.sa_handler = { _ in
                let buffer = getBuffer(200)
                buffer[199] = 1
                // What one signal gets, another one puts.
                putBuffer(Signals.exchange(buffer))
                Signals.handled.add(1, ordering: .relaxed)
            }
        }
        action.sa_flags = SA_RESTART
        sigaction(SIGUSR1, &action, nil)
    }
}

// Places in asynchronous code and on other threads.

import Dispatch
import Glibc
import Mempool

extension Place {
    static let concurrent: [Place] = [
        Place(name: "async-before") { await beforeSuspension($0) },
        Place(name: "async-after") { await afterSuspension($0) },
        Place(name: "async-defer") { await asyncDeferred($0) },
        Place(name: "async-throwing") { try await asyncThrowing($0) },
        Place(name: "actor") { await Keeper().visit($0) },
        Place(name: "main-actor") { await onMainActor($0) },
        Place(name: "detached-task") { await detached($0) },
        Place(name: "task-group") { await grouped($0) },
        Place(name: "async-let") { await asyncLet($0) },
        Place(name: "async-stream") { await streamed($0) },
        Place(name: "continuation") { await continued($0) },
        Place(name: "dispatch-queue") { queued($0) },
        Place(name: "dispatch-concurrent") { performed($0) },
        Place(name: "pthread") { mistake in threaded(mistake) },
        Place(name: "thread-exit") { atThreadExit($0) },
    ]
}

@inline(never)
private func beforeSuspension(_ mistake: Mistake) async {
    if mistake.isGet {
        mistake.keep(mistake.pool.get(mistake.size))  // SITE get async-before
    } else {
        mistake.pool.put(mistake.buffer)  // SITE put async-before
    }
    await Task.yield()
}

@inline(never)
private func afterSuspension(_ mistake: Mistake) async {
    await Task.yield()
    if mistake.isGet {
        mistake.keep(mistake.pool.get(mistake.size))  // SITE get async-after
    } else {
        mistake.pool.put(mistake.buffer)  // SITE put async-after
    }
}

@inline(never)
private func asyncDeferred(_ mistake: Mistake) async {
    let before = getpid()
    defer {
        precondition(getpid() == before)
        if mistake.isGet {
            mistake.keep(mistake.pool.get(mistake.size))  // SITE get async-defer
        } else {
            mistake.pool.put(mistake.buffer)  // SITE put async-defer
        }
    }
    await Task.yield()
}

@inline(never)
private func asyncThrowing(_ mistake: Mistake) async throws {
    do {
        try await throwAfterMistake(mistake)
    } catch is ZooError {
        await Task.yield()
    }
}

@inline(never)
private func throwAfterMistake(_ mistake: Mistake) async throws {
    await Task.yield()
    if mistake.isGet {
        mistake.keep(mistake.pool.get(mistake.size))  // SITE get async-throwing
    } else {
        mistake.pool.put(mistake.buffer)  // SITE put async-throwing
    }
    throw ZooError()
}

private actor Keeper {
    var visits = 0

    func visit(_ mistake: Mistake) {
        visits += 1
        if mistake.isGet {
            mistake.keep(mistake.pool.get(mistake.size))  // SITE get actor
        } else {
            mistake.pool.put(mistake.buffer)  // SITE put actor
        }
    }
}

@MainActor
@inline(never)
private func onMainActor(_ mistake: Mistake) {
    if mistake.isGet {
        mistake.keep(mistake.pool.get(mistake.size))  // SITE get main-actor
    } else {
        mistake.pool.put(mistake.buffer)  // SITE put main-actor
    }
}

private func detached(_ mistake: Mistake) async {
    let size = await Task.detached {
        if mistake.isGet {
            mistake.keep(mistake.pool.get(mistake.size))  // SITE get detached-task
        } else {
            mistake.pool.put(mistake.buffer)  // SITE put detached-task
        }
        return String(mistake.size)
    }.value
    precondition(!size.isEmpty)
}

private func grouped(_ mistake: Mistake) async {
    await withTaskGroup(of: Void.self) { group in
        group.addTask {
            if mistake.isGet {
                mistake.keep(mistake.pool.get(mistake.size))  // SITE get task-group
            } else {
                mistake.pool.put(mistake.buffer)  // SITE put task-group
            }
        }
        await group.waitForAll()
    }
}

@inline(never)
private func child(_ mistake: Mistake) async -> Int {
    if mistake.isGet {
        mistake.keep(mistake.pool.get(mistake.size))  // SITE get async-let
    } else {
        mistake.pool.put(mistake.buffer)  // SITE put async-let
    }
    return mistake.size
}

private func asyncLet(_ mistake: Mistake) async {
    async let size = child(mistake)
    _ = await size
}

private func streamed(_ mistake: Mistake) async {
    let (stream, continuation) = AsyncStream.makeStream(of: Int.self)
    continuation.yield(mistake.size)
    continuation.finish()
    for await size in stream {
        if mistake.isGet {
            mistake.keep(mistake.pool.get(size))  // SITE get async-stream
        } else {
            mistake.pool.put(mistake.buffer)  // SITE put async-stream
        }
    }
}

private func continued(_ mistake: Mistake) async {
    await withCheckedContinuation { continuation in
        if mistake.isGet {
            mistake.keep(mistake.pool.get(mistake.size))  // SITE get continuation
        } else {
            mistake.pool.put(mistake.buffer)  // SITE put continuation
        }
        continuation.resume()
    }
}

@inline(never)
private func queued(_ mistake: Mistake) {
    let done = DispatchSemaphore(value: 0)
    DispatchQueue(label: "zoo").async {
        if mistake.isGet {
            mistake.keep(mistake.pool.get(mistake.size))  // SITE get dispatch-queue
        } else {
            mistake.pool.put(mistake.buffer)  // SITE put dispatch-queue
        }
        done.signal()
    }
    done.wait()
}

@inline(never)
private func performed(_ mistake: Mistake) {
    DispatchQueue.concurrentPerform(iterations: 4) { iteration in
        guard iteration == 2 else { return }
        if mistake.isGet {
            mistake.keep(mistake.pool.get(mistake.size))  // SITE get dispatch-concurrent
        } else {
            mistake.pool.put(mistake.buffer)  // SITE put dispatch-concurrent
        }
    }
}

@inline(never)
private func threaded(_ mistake: Mistake) {
    let creator = pthread_self()
    onThread {
        precondition(pthread_equal(creator, pthread_self()) == 0)
        if mistake.isGet {
            mistake.keep(mistake.pool.get(mistake.size))  // SITE get pthread
        } else {
            mistake.pool.put(mistake.buffer)  // SITE put pthread
        }
    }
}

/// Calls its destructor with the mistake when a thread ends.
private let exitKey: pthread_key_t = {
    var key = pthread_key_t()
    pthread_key_create(&key) { context in
        guard let context else { return }
        let mistake = Unmanaged<Carrier>.fromOpaque(context).takeRetainedValue().mistake
        if mistake.isGet {
            mistake.keep(mistake.pool.get(mistake.size))  // SITE get thread-exit
        } else {
            mistake.pool.put(mistake.buffer)  // SITE put thread-exit
        }
    }
    return key
}()

private final class Carrier: Sendable {
    let mistake: Mistake
    init(_ mistake: Mistake) { self.mistake = mistake }
}

@inline(never)
private func atThreadExit(_ mistake: Mistake) {
    onThread {
        // The thread has a cache of the pool, which the pool takes away at the end of the thread.
        mistake.pool.withBuffer(1) { $0[0] = 1 }
        pthread_setspecific(exitKey, Unmanaged.passRetained(Carrier(mistake)).toOpaque())
    }
}

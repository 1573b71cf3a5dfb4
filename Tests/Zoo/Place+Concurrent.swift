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
    switch mistake.verb {
    case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get async-before
    case .put: mistake.pool.put(mistake.buffer)  // SITE put async-before
    case .touch: mistake.buffer[1] = 7  // SITE touch async-before
    }
    await Task.yield()
}

@inline(never)
private func afterSuspension(_ mistake: Mistake) async {
    await Task.yield()
    switch mistake.verb {
    case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get async-after
    case .put: mistake.pool.put(mistake.buffer)  // SITE put async-after
    case .touch: _ = mistake.buffer[1]  // SITE touch async-after
    }
}

@inline(never)
private func asyncDeferred(_ mistake: Mistake) async {
    let before = getpid()
    defer {
        precondition(getpid() == before)
        switch mistake.verb {
        case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get async-defer
        case .put: mistake.pool.put(mistake.buffer)  // SITE put async-defer
        case .touch: mistake.buffer[1] = 7  // SITE touch async-defer
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
    switch mistake.verb {
    case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get async-throwing
    case .put: mistake.pool.put(mistake.buffer)  // SITE put async-throwing
    case .touch: mistake.buffer[1] = 7  // SITE touch async-throwing
    }
    throw ZooError()
}

private actor Keeper {
    var visits = 0

    func visit(_ mistake: Mistake) {
        visits += 1
        switch mistake.verb {
        case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get actor
        case .put: mistake.pool.put(mistake.buffer)  // SITE put actor
        case .touch: mistake.buffer[1] = 7  // SITE touch actor
        }
    }
}

@MainActor
@inline(never)
private func onMainActor(_ mistake: Mistake) {
    switch mistake.verb {
    case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get main-actor
    case .put: mistake.pool.put(mistake.buffer)  // SITE put main-actor
    case .touch: mistake.buffer[1] = 7  // SITE touch main-actor
    }
}

private func detached(_ mistake: Mistake) async {
    let size = await Task.detached {
        switch mistake.verb {
        case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get detached-task
        case .put: mistake.pool.put(mistake.buffer)  // SITE put detached-task
        case .touch: _ = mistake.buffer[1]  // SITE touch detached-task
        }
        return String(mistake.size)
    }.value
    precondition(!size.isEmpty)
}

private func grouped(_ mistake: Mistake) async {
    await withTaskGroup(of: Void.self) { group in
        group.addTask {
            switch mistake.verb {
            case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get task-group
            case .put: mistake.pool.put(mistake.buffer)  // SITE put task-group
            case .touch: mistake.buffer[1] = 7  // SITE touch task-group
            }
        }
        await group.waitForAll()
    }
}

@inline(never)
private func child(_ mistake: Mistake) async -> Int {
    switch mistake.verb {
    case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get async-let
    case .put: mistake.pool.put(mistake.buffer)  // SITE put async-let
    case .touch: mistake.buffer[1] = 7  // SITE touch async-let
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
        switch mistake.verb {
        case .get: mistake.keep(mistake.pool.get(size))  // SITE get async-stream
        case .put: mistake.pool.put(mistake.buffer)  // SITE put async-stream
        case .touch: mistake.buffer[1] = 7  // SITE touch async-stream
        }
    }
}

private func continued(_ mistake: Mistake) async {
    await withCheckedContinuation { continuation in
        switch mistake.verb {
        case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get continuation
        case .put: mistake.pool.put(mistake.buffer)  // SITE put continuation
        case .touch: mistake.buffer[1] = 7  // SITE touch continuation
        }
        continuation.resume()
    }
}

@inline(never)
private func queued(_ mistake: Mistake) {
    let done = DispatchSemaphore(value: 0)
    DispatchQueue(label: "zoo").async {
        switch mistake.verb {
        case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get dispatch-queue
        case .put: mistake.pool.put(mistake.buffer)  // SITE put dispatch-queue
        case .touch: mistake.buffer[1] = 7  // SITE touch dispatch-queue
        }
        done.signal()
    }
    done.wait()
}

@inline(never)
private func performed(_ mistake: Mistake) {
    DispatchQueue.concurrentPerform(iterations: 4) { iteration in
        guard iteration == 2 else { return }
        switch mistake.verb {
        case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get dispatch-concurrent
        case .put: mistake.pool.put(mistake.buffer)  // SITE put dispatch-concurrent
        case .touch: mistake.buffer[1] = 7  // SITE touch dispatch-concurrent
        }
    }
}

@inline(never)
private func threaded(_ mistake: Mistake) {
    let creator = pthread_self()
    onThread {
        precondition(pthread_equal(creator, pthread_self()) == 0)
        switch mistake.verb {
        case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get pthread
        case .put: mistake.pool.put(mistake.buffer)  // SITE put pthread
        case .touch: _ = mistake.buffer[1]  // SITE touch pthread
        }
    }
}

/// Calls its destructor with the mistake when a thread ends.
private let exitKey: pthread_key_t = {
    var key = pthread_key_t()
    pthread_key_create(&key) { context in
        guard let context else { return }
        let mistake = Unmanaged<Carrier>.fromOpaque(context).takeRetainedValue().mistake
        switch mistake.verb {
        case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get thread-exit
        case .put: mistake.pool.put(mistake.buffer)  // SITE put thread-exit
        case .touch: mistake.buffer[1] = 7  // SITE touch thread-exit
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

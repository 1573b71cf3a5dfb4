// Correct programs on several threads and in asynchronous code.

import Dispatch
import Glibc
import Mempool

extension Correct {
    static let acrossThreads: [Correct] = [
        Correct("handed to another thread") {
            let buffer = getBuffer(1_000)
            onThread { putBuffer(buffer) }
        },
        Correct("got on a thread that has ended") {
            let box = Box<[Buffer]>([])
            onThread { for size in 1...100 { box.with { $0.append(getBuffer(size)) } } }
            for buffer in box.with({ $0 }) { putBuffer(buffer) }
        },
        Correct("a lease handed to another thread") {
            let lease = leaseBuffer(100)
            let buffer = lease.buffer
            onThread { buffer[0] = 1 }
            lease.put()
        },
        Correct("producer and consumer") { producerAndConsumer() },
        Correct("a pipeline of four threads") { pipeline() },
        Correct("8 threads, default pool") { threads(8) { churn(.shared, rounds: 1_000, seed: $0) } },
        Correct("8 threads, one small pool of their own") {
            let pool = BufferPool()
            threads(8) { churn(pool, rounds: 1_000, seed: $0, largest: 600) }
        },
        Correct("many short threads") {
            for group in 0..<8 { threads(8) { churn(.shared, rounds: 5, seed: group * 8 + $0) } }
        },
        Correct("threads that exchange buffers") { exchange() },
        Correct("put when the thread ends") { putAtThreadExit() },
        Correct("Dispatch, concurrently") { performConcurrently() },
        Correct("Dispatch, from queue to queue") { fromQueueToQueue() },
        Correct("statistics and trims under load") {
            threads(5) { number in
                if number == 0 {
                    for _ in 0..<20 {
                        _ = getStats()
                        BufferPool.shared.trim()
                    }
                } else {
                    churn(.shared, rounds: 500, seed: number)
                }
            }
        },
    ]

    static let asynchronous: [Correct] = [
        Correct("held across a suspension") {
            let buffer = getBuffer(100)
            await Task.yield()
            putBuffer(buffer)
        },
        Correct("withBuffer, async") {
            let sum = await BufferPool.shared.withBuffer(100) { buffer in
                buffer[0] = 4
                await Task.yield()
                return Int(buffer[0])
            }
            precondition(sum == 4)
        },
        Correct("withBuffer, async, that throws") {
            do {
                try await BufferPool.shared.withBuffer(100) { _ in
                    await Task.yield()
                    throw ZooError()
                }
            } catch {}
        },
        Correct("withBuffer, async, cancelled") {
            let task = Task.detached {
                try await BufferPool.shared.withBuffer(100) { _ in try await Task.sleep(for: .seconds(100)) }
            }
            await Task.yield()
            task.cancel()
            _ = await task.result
        },
        Correct("a task for each buffer") {
            await withTaskGroup(of: Void.self) { group in
                for size in 1...200 {
                    let buffer = getBuffer(size)
                    group.addTask { putBuffer(buffer) }
                }
            }
        },
        Correct("child tasks that return buffers") {
            await withTaskGroup(of: Buffer.self) { group in
                for size in 1...100 { group.addTask { getBuffer(size) } }
                for await buffer in group { putBuffer(buffer) }
            }
        },
        Correct("async let") {
            async let first = Task.detached { getBuffer(10) }.value
            async let second = Task.detached { getBuffer(20) }.value
            for buffer in [await first, await second] { putBuffer(buffer) }
        },
        Correct("an actor's cache") {
            let cache = CacheActor()
            await withTaskGroup(of: Void.self) { group in
                for number in 0..<50 { group.addTask { await cache.use(number % 5) } }
            }
            await cache.clear()
        },
        Correct("buffers through a stream") {
            let (stream, continuation) = AsyncStream.makeStream(of: Buffer.self)
            Task.detached {
                for size in 1...100 { continuation.yield(getBuffer(size)) }
                continuation.finish()
            }
            for await buffer in stream { putBuffer(buffer) }
        },
        Correct("a buffer through a continuation") {
            let buffer = await withCheckedContinuation { continuation in
                _ = startDetached { continuation.resume(returning: getBuffer(77)) }
            }
            putBuffer(buffer)
        },
    ]
}

/// Starts a thread nobody waits for.
private func startDetached(_ body: @escaping @Sendable () -> Void) -> Bool { pthread_detach(startThread(body)) == 0 }

/// Runs threads 0, 1, … at the same time.
func threads(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) {
    let started = (0..<count).map { number in startThread { body(number) } }
    for thread in started { join(thread) }
}

/// A queue with room for a few.
private final class Channel: Sendable {
    private let buffers = Box<[Buffer]>([])
    private let filled = DispatchSemaphore(value: 0)
    private let free = DispatchSemaphore(value: 8)

    func send(_ buffer: Buffer) {
        free.wait()
        buffers.with { $0.append(buffer) }
        filled.signal()
    }

    func receive() -> Buffer {
        filled.wait()
        defer { free.signal() }
        return buffers.with { $0.removeFirst() }
    }
}

private func producerAndConsumer() {
    let channel = Channel()
    threads(2) { number in
        for size in 1...500 {
            if number == 0 { channel.send(getBuffer(size)) } else { putBuffer(channel.receive()) }
        }
    }
}

private func pipeline() {
    let channels = (0..<3).map { _ in Channel() }
    threads(4) { stage in
        for round in 0..<200 {
            let buffer = stage == 0 ? getBuffer(100 + round) : channels[stage - 1].receive()
            buffer[0] = UInt8(stage)
            if stage == 3 { putBuffer(buffer) } else { channels[stage].send(buffer) }
        }
    }
}

private func exchange() {
    let shelf = Box<[Buffer]>([])
    threads(4) { number in
        var numbers = Numbers(seed: number)
        for _ in 0..<500 {
            let mine = getBuffer(1 + numbers.next(below: 3_000))
            let theirs = shelf.with { shelf in
                shelf.append(mine)
                return shelf.remove(at: numbers.next(below: shelf.count))
            }
            putBuffer(theirs)
        }
    }
    for buffer in shelf.with({ $0 }) { putBuffer(buffer) }
}

private final class Carrier: Sendable {
    let buffer: Buffer
    init(_ buffer: Buffer) { self.buffer = buffer }
    deinit { putBuffer(buffer) }
}

private func putAtThreadExit() {
    var key = pthread_key_t()
    pthread_key_create(&key) { context in
        if let context { Unmanaged<Carrier>.fromOpaque(context).release() }
    }
    let made = key
    threads(4) { _ in
        pthread_setspecific(made, Unmanaged.passRetained(Carrier(getBuffer(300))).toOpaque())
    }
}

private func performConcurrently() {
    DispatchQueue.concurrentPerform(iterations: 64) { churn(.shared, rounds: 50, seed: $0) }
}

private func fromQueueToQueue() {
    let group = DispatchGroup()
    let queues = (0..<3).map { DispatchQueue(label: "zoo \($0)") }
    for size in 1...100 {
        queues[0].async(group: group) {
            let buffer = getBuffer(size)
            queues[1].async(group: group) {
                buffer[0] = 1
                queues[2].async(group: group) { putBuffer(buffer) }
            }
        }
    }
    group.wait()
}

private actor CacheActor {
    private var cached: [Int: Buffer] = [:]

    func use(_ key: Int) async {
        if cached[key] == nil { cached[key] = getBuffer(100 * key + 1) }
        await Task.yield()
        cached[key]?[0] = 1
    }

    func clear() {
        for buffer in cached.values { putBuffer(buffer) }
        cached = [:]
    }
}

// The pool and what a process does to it: signals, forks, and keys of threads that ran out.

import CMempoolPlatform
import Foundation
import Synchronization
import Testing

@testable import Mempool

/// fork(2), which Swift does not import because most programs must not use it.
@_silgen_name("fork") private func forkProcess() -> pid_t

/// Of the handler of the test with signals.
private let interruptedPool = BufferPool()
private let signalCount = Atomic<Int>(0)

/// Of the destructor of the test with threads that end.
nonisolated(unsafe) private var lateKey = pthread_key_t()
private let lateRounds = LateRounds()

private struct LateRounds: ~Copyable {
    let pool = BufferPool()
    let count = Atomic<Int>(0)
    /// Rounds in which the thread had a cache after its get and put.
    let caches = Atomic<Int>(0)
}

/// Uses the pool, and asks for another round.
private func useLate(_ value: UnsafeMutableRawPointer?) {
    lateRounds.pool.put(lateRounds.pool.get(100))
    lateRounds.count.add(1, ordering: .relaxed)
    if cmempool_owned_cache(lateRounds.pool.index) != nil { lateRounds.caches.add(1, ordering: .relaxed) }
    pthread_setspecific(lateKey, value)
}

/// Of the destructor of the tests with threads that begin with the pool at their end.
nonisolated(unsafe) private var lastKey = pthread_key_t()
nonisolated(unsafe) private var lastPool: BufferPool?

/// The rounds in which the C library calls destructors.
private let destructorRounds = 4

/// Uses the pool in the last round only; `value` is the number of the round.
private func useLast(_ value: UnsafeMutableRawPointer?) {
    let round = Int(bitPattern: value)
    if round < destructorRounds {
        pthread_setspecific(lastKey, UnsafeRawPointer(bitPattern: round + 1))
    } else if let lastPool {
        // Of a bucket of which a thread takes one buffer at a time, also from the shelf.
        lastPool.put(lastPool.get(2_000_000))
    }
}

/// Runs a thread on a stack of its own, where its thread-local storage lies as well, and takes that memory away when it has ended.
/// False if there can be none.
private func runOnVanishingStack(_ body: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer?) -> Bool
{
    let byteCount = 1 << 20
    var attributes = pthread_attr_t()
    var thread = pthread_t()
    guard let stack = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
        stack != MAP_FAILED, pthread_attr_init(&attributes) == 0,
        pthread_attr_setstack(&attributes, stack, byteCount) == 0,
        pthread_create(&thread, &attributes, body, nil) == 0, pthread_join(thread, nil) == 0
    else { return false }
    pthread_attr_destroy(&attributes)
    // Not unmapped: nothing else may come to lie there.
    return mprotect(stack, byteCount, PROT_NONE) == 0
}

@Suite struct ProcessTests {
    /// A handler may get and put while a recorder watches; the search of a put by address must not keep it from that.
    @Test(.timeLimit(.minutes(2))) func `Threads that put by address are interrupted by handlers that get and put`()
        async
    {
        await #expect(processExitsWith: .exitCode(0)) {
            setenv("MEMPOOL_DEBUG", "full,quiet", 1)
            alarm(60)
            _ = interruptedPool
            guard PoolHook.installed != nil else { exit(0) }
            var action = sigaction()
            action.__sigaction_handler.sa_handler = { _ in
                // More than a magazine holds, so that the last ones need the bucket's lock.
                withUnsafeTemporaryAllocation(of: Buffer.self, capacity: 70) { buffers in
                    for index in 0..<70 { buffers.initializeElement(at: index, to: interruptedPool.get(100)) }
                    for index in 0..<70 {
                        guard index % 2 == 0 else { interruptedPool.put(buffers[index]); continue }
                        interruptedPool.putRaw(buffers[index].base)
                    }
                }
                signalCount.add(1, ordering: .relaxed)
            }
            sigaction(SIGUSR1, &action, nil)
            let isDone = Atomic<Bool>(false)
            let ended = Atomic<Int>(0)
            let workers = Guarded<[pthread_t]>([])
            for _ in 0..<2 {
                let thread = Thread {
                    // Dispatch, on whose thread the test runs, blocks signals.
                    var signals = sigset_t()
                    sigaddset(&signals, SIGUSR1)
                    pthread_sigmask(SIG_UNBLOCK, &signals, nil)
                    interruptedPool.put(interruptedPool.get(100))
                    workers.withLock { $0.append(pthread_self()) }
                    while !isDone.load(ordering: .relaxed) {
                        let memory = interruptedPool.getRaw(100)
                        interruptedPool.putRaw(memory.baseAddress)
                    }
                    ended.add(1, ordering: .relaxed)
                }
                thread.start()
            }
            while workers.withLock({ $0.count }) < 2 { usleep(100) }
            let threads = workers.withLock { $0 }
            var sent = 0
            while signalCount.load(ordering: .relaxed) < 1000 {
                pthread_kill(threads[sent % 2], SIGUSR1)
                sent += 1
                usleep(100)
            }
            isDone.store(true, ordering: .relaxed)
            while ended.load(ordering: .relaxed) < 2 { usleep(100) }
            let stats = interruptedPool.stats()
            exit(stats.inUse == 0 && stats.gets == stats.puts && stats.discarded == 0 ? 0 : 2)
        }
    }

    @Test func `Handlers of a fork that were there first get and put while the locks are held`() async {
        await #expect(processExitsWith: .exitCode(0)) {
            setenv("MEMPOOL_DEBUG", "off", 1)
            alarm(20)
            pthread_atfork(
                { putBuffer(getBuffer(70_000)) }, { putBuffer(getBuffer(70_000)) }, { putBuffer(getBuffer(70_000)) })
            let buffer = getBuffer(100)
            for _ in 0..<3 {
                let child = forkProcess()
                if child == 0 {
                    alarm(10)
                    putBuffer(getBuffer(70_000))
                    putBuffer(buffer)
                    _exit(getStats().inUse == 0 && getStats().discarded == 0 ? 0 : 3)
                }
                var status: CInt = 0
                waitpid(child, &status, 0)
                guard status == 0 else { exit(4) }
            }
            putBuffer(buffer)
            exit(getStats().inUse == 0 && getStats().discarded == 0 ? 0 : 5)
        }
    }

    @Test func `A handler that forks where it interrupted the pool does not wait for the pool's locks`() async {
        await #expect(processExitsWith: .exitCode(0)) {
            setenv("MEMPOOL_DEBUG", "off", 1)
            alarm(20)
            putBuffer(getBuffer(100))
            // As a handler does that came amid a get which holds a lock.
            guard cmempool_enter() else { exit(2) }
            let child = PoolRegistry.state.withLock { _ in forkProcess() }
            InterruptedCalls.leave()
            if child == 0 {
                alarm(10)
                putBuffer(getBuffer(70_000))
                // Another fork, from outside, takes the locks again.
                let grandchild = forkProcess()
                if grandchild == 0 { _exit(getStats().inUse == 0 ? 0 : 3) }
                var status: CInt = 0
                waitpid(grandchild, &status, 0)
                _exit(status == 0 && getStats().inUse == 0 ? 0 : 4)
            }
            var status: CInt = 0
            waitpid(child, &status, 0)
            putBuffer(getBuffer(70_000))
            exit(status == 0 && getStats().inUse == 0 && cmempool_enter() ? 0 : 5)
        }
    }

    @Test func `A thread that uses a pool to its very end leaves nothing of its own behind`() async {
        await #expect(processExitsWith: .exitCode(0)) {
            setenv("MEMPOOL_DEBUG", "off", 1)
            putBuffer(getBuffer(100))
            // Made after the pool's own, so that its destructor runs after that in each round.
            guard pthread_key_create(&lateKey, { useLate($0) }) == 0 else { exit(2) }
            onThreads(1) { _ in
                lateRounds.pool.put(lateRounds.pool.get(100))
                pthread_setspecific(lateKey, UnsafeRawPointer(bitPattern: 1))
            }
            // As many rounds as there are, and a cache in none of them: nobody would take the last one back.
            let rounds = lateRounds.count.load(ordering: .relaxed)
            guard rounds == 4, lateRounds.caches.load(ordering: .relaxed) == 0 else { exit(3) }
            let stats = lateRounds.pool.stats()
            exit(stats.gets == 5 && stats.inUse == 0 && stats.allocations == 1 ? 0 : 4)
        }
    }

    @Test func `The end of a pool leaves alone the memory of a thread that began with it in its last destructor`() async
    {
        await #expect(processExitsWith: .exitCode(0)) {
            setenv("MEMPOOL_DEBUG", "off", 1)
            putBuffer(getBuffer(100))
            lastPool = BufferPool()
            // Made after the pool's own, so that this one's destructor runs last, and nobody tells of the end of the thread.
            guard pthread_key_create(&lastKey, { useLast($0) }) == 0 else { exit(2) }
            guard
                runOnVanishingStack({ _ in
                    pthread_setspecific(lastKey, UnsafeRawPointer(bitPattern: 1))
                    return nil
                })
            else { exit(3) }
            guard lastPool?.stats().gets == 1 else { exit(4) }
            lastPool = nil
            exit(0)
        }
    }

    @Test func `A thread goes on with a pool whose number another pool had`() async throws {
        // The caches of threads outlive their pool; what they say of buckets is another pool's then.
        let layouts = [[512, 4096], [512], [100, 512, 4096, 65536], [512, 4096]]
        for zeroing in [Zeroing.never, .onPut] {
            for capacities in layouts {
                var configuration = PoolConfiguration(name: "numbers", zeroing: zeroing)
                configuration.layout = try BucketLayout(capacities: capacities)
                let pool = try BufferPool(configuration: configuration)
                onThreads(2) { _ in
                    for size in [1, 512, 513, 5000, 70_000] {
                        let buffers = (0..<70).map { _ in pool.get(size) }
                        buffers.forEach(pool.put)
                    }
                }
                for size in [1, 512, 513, 5000, 70_000] { pool.put(pool.get(size)) }
                let stats = pool.stats()
                #expect(stats.inUse == 0 && stats.gets == stats.puts)
                #expect(stats.discarded == stats.oversized)
            }
        }
    }

    @Test func `What threads kept that nobody tells the end of comes back to the pool`() async {
        await #expect(processExitsWith: .exitCode(0)) {
            setenv("MEMPOOL_DEBUG", "off", 1)
            putBuffer(getBuffer(100))
            let pool = BufferPool()
            lastPool = pool
            guard pthread_key_create(&lastKey, { useLast($0) }) == 0 else { exit(2) }
            for _ in 0..<500 {
                onThreads(1) { _ in pthread_setspecific(lastKey, UnsafeRawPointer(bitPattern: 1)) }
            }
            let stats = pool.stats()
            guard stats.gets == 500, stats.inUse == 0 else { exit(3) }
            // Each of them kept its buffer; some of these are always on their way back.
            exit(stats.allocations < 150 ? 0 : 4)
        }
    }

    @Test func `A child goes on with the caches that its thread had before many threads more`() async {
        await #expect(processExitsWith: .exitCode(0)) {
            setenv("MEMPOOL_DEBUG", "off", 1)
            let buffers = (0..<10).map { _ in getBuffer(100) }
            buffers.forEach(putBuffer)
            let cache = cmempool_owned_cache(0)
            let child = forkProcess()
            if child == 0 {
                alarm(20)
                // More caches than are made between two looks for those of threads that are gone.
                let isDone = Atomic<Int>(0)
                onThreads(200) { _ in
                    putBuffer(getBuffer(100))
                    isDone.add(1, ordering: .relaxed)
                    while isDone.load(ordering: .relaxed) < 200 { usleep(100) }
                }
                _exit(cache != nil && cmempool_owned_cache(0) == cache && getStats().inUse == 0 ? 0 : 3)
            }
            var status: CInt = 0
            waitpid(child, &status, 0)
            exit(status == 0 ? 0 : 4)
        }
    }

    @Test func `A handler that comes while a pool is made finds its thread inside of the pool`() async {
        await #expect(processExitsWith: .exitCode(0)) {
            setenv("MEMPOOL_DEBUG", "full,quiet", 1)
            _ = BufferPool()
            guard let made = PoolHook.installed?.didCreatePool else { exit(0) }
            PoolHook.installed?.didCreatePool = { pool, name, capacities, zeroes in
                guard !cmempool_enter() else { exit(2) }
                made(pool, name, capacities, zeroes)
            }
            putBuffer(getBuffer(100))
            exit(cmempool_enter() ? 0 : 3)
        }
    }

    @Test func `A process without keys for threads uses the pools without magazines`() async {
        await #expect(processExitsWith: .exitCode(0)) {
            setenv("MEMPOOL_DEBUG", "off", 1)
            let first = UnsafeRawPointer(pthread_getspecific(0))
            var key = pthread_key_t()
            while pthread_key_create(&key, nil) == 0 {}
            for size in [100, 5000, 100] {
                let buffers = (0..<100).map { _ in getBuffer(size) }
                buffers.forEach(putBuffer)
            }
            guard UnsafeRawPointer(pthread_getspecific(0)) == first else { exit(2) }
            guard cmempool_owned_cache(0) == nil else { exit(3) }
            let stats = getStats()
            exit(stats.gets == 300 && stats.puts == 300 && stats.allocations == 200 ? 0 : 4)
        }
    }
}

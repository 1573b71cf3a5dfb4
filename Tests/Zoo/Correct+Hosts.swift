// Correct programs with several pools, with buffers that come back late, and in hosts that do unusual things.

import Dispatch
import Glibc
import Mempool

extension Correct {
    static let severalPools: [Correct] = [
        Correct("a pool of its own") {
            let pool = BufferPool()
            pool.put(pool.get(100))
        },
        Correct("100 pools at a time") {
            let pools = (0..<100).map { _ in BufferPool() }
            let buffers = pools.map { $0.get(100) }
            for (pool, buffer) in zip(pools, buffers) { pool.put(buffer) }
        },
        Correct("pools that come and go") {
            for _ in 0..<200 {
                let pool = BufferPool()
                pool.put(pool.get(2_000))
            }
        },
        Correct("a pool of pools") {
            let subsystems = (0..<5).map { _ in PoolOfPools(parent: .shared) }
            for subsystem in subsystems { subsystem.put(subsystem.get()) }
            for subsystem in subsystems { subsystem.close() }
        },
        Correct("pools with one name") {
            let pools = try (0..<3).map { _ in try BufferPool(configuration: PoolConfiguration(name: "twin")) }
            for pool in pools { pool.put(pool.get(10)) }
        },
        Correct("buckets of its own") {
            let layout = try BucketLayout(capacities: [64, 1_000, 10_000])
            let pool = try BufferPool(configuration: PoolConfiguration(name: "layout", layout: layout))
            churn(pool, rounds: 1_000, seed: 3)
        },
        Correct("buckets in powers of two") {
            let pool = try BufferPool(configuration: PoolConfiguration(layout: .powersOfTwo))
            churn(pool, rounds: 500, seed: 4, largest: 100_000)
        },
        Correct("zeroing at the put") {
            let pool = try BufferPool(configuration: PoolConfiguration(zeroing: .onPut))
            churn(pool, rounds: 500, seed: 5)
        },
        Correct("zeroing at the get") {
            let pool = try BufferPool(configuration: PoolConfiguration(zeroing: .onGet))
            churn(pool, rounds: 500, seed: 6)
        },
        Correct("nothing is kept") {
            let pool = try BufferPool(configuration: PoolConfiguration(idleLimit: .bytes(0)))
            churn(pool, rounds: 500, seed: 7)
        },
        Correct("idle memory decays meanwhile") {
            let configuration = PoolConfiguration(decay: .after(seconds: 0.01))
            let pool = try BufferPool(configuration: configuration)
            let kept = pool.get(100)
            for round in 0..<5 {
                churn(pool, rounds: 100, seed: round)
                usleep(15_000)
            }
            pool.put(kept)
        },
        Correct("trimmed between uses") {
            for round in 0..<10 {
                churn(.shared, rounds: 100, seed: round)
                BufferPool.shared.trim()
            }
        },
    ]

    static let lateReturns: [Correct] = [
        Correct("a cache returned at exit") {
            putBuffer(getBuffer(1))
            keptCache.with { cache in for size in 1...20 { cache.append(getBuffer(size * 100)) } }
            atexit { for buffer in keptCache.with({ $0 }) { putBuffer(buffer) } }
        },
        Correct("a cache returned at exit, by a handler older than the pool") {
            atexit { for buffer in keptCache.with({ $0 }) { putBuffer(buffer) } }
            keptCache.with { cache in for size in 1...20 { cache.append(getBuffer(size * 100)) } }
        },
        Correct("got and put in a handler at exit") {
            putBuffer(getBuffer(1))
            atexit { putBuffer(getBuffer(100)) }
        },
        Correct("kept for the life of the process, and marked so") {
            for size in [10, 5_000, 20 << 20] { Diagnostics.keepForLife(getBuffer(size)) }
        },
        Correct("marked as kept, then put after all, and its memory used again") {
            let kept = getBuffer(100)
            Diagnostics.keepForLife(kept)
            putBuffer(kept)
            putBuffer(getBuffer(100))
        },
        Correct("kept by several threads that have ended") {
            threads(4) { number in Diagnostics.keepForLife(getBuffer(100 * number + 1)) }
        },
        Correct("returned after the scope it was got in has ended") {
            let buffer = Diagnostics.withScope("a request") { getBuffer(100) }
            Diagnostics.withScope("the next request") { putBuffer(buffer) }
        },
        Correct("returned late") {
            let held = (1...10).map { getBuffer($0) }
            usleep(100_000)
            for buffer in held { putBuffer(buffer) }
        },
        Correct("returned by the object that held it") {
            final class Holder {
                let buffer = getBuffer(100)
                deinit { putBuffer(buffer) }
            }
            var holders = (0..<10).map { _ in Holder() }
            holders.removeAll()
        },
        Correct("a cache that forgets the oldest") {
            var cache: [(key: Int, buffer: Buffer)] = []
            for key in 0..<200 {
                cache.append((key, getBuffer(1 + key * 7)))
                if cache.count > 16 { putBuffer(cache.removeFirst().buffer) }
            }
            for entry in cache { putBuffer(entry.buffer) }
        },
        Correct("two buffers that take turns") {
            var pair = (getBuffer(4_096), getBuffer(4_096))
            for _ in 0..<100 {
                pair.0[0] = 1
                swap(&pair.0, &pair.1)
            }
            putBuffer(pair.0)
            putBuffer(pair.1)
        },
    ]

    static let hosts: [Correct] = [
        Correct("a child that was forked") {
            let held = getBuffer(100)
            // What is idle at the fork, and behind a request, is nobody's for other tools that watch memory.
            putBuffer(getBuffer(200))
            let child = rawFork()
            if child == 0 {
                // The child's copy is its own affair.
                let idle = getBuffer(400)
                for index in 0..<idle.count { idle[index] = 1 }
                putBuffer(held)
                let again = getBuffer(500)
                for index in 0..<again.count { again[index] = 1 }
                putBuffer(idle)
                putBuffer(again)
                _exit(0)
            }
            var status: CInt = 0
            waitpid(child, &status, 0)
            precondition(status == 0)
            putBuffer(held)
        },
        Correct("a child that was forked and leaves in order") {
            let held = getBuffer(100)
            let child = rawFork()
            if child == 0 { exit(0) }
            var status: CInt = 0
            waitpid(child, &status, 0)
            precondition(status == 0)
            putBuffer(held)
        },
        Correct("another program is started") {
            let held = getBuffer(100)
            var child: pid_t = 0
            var words = [strdup("true"), nil]
            precondition(posix_spawnp(&child, "true", nil, nil, &words, environ) == 0)
            var status: CInt = 0
            waitpid(child, &status, 0)
            putBuffer(held)
        },
        Correct("signals arrive meanwhile") {
            signal(SIGALRM) { _ in }
            var interval = itimerval(
                it_interval: timeval(tv_sec: 0, tv_usec: 500), it_value: timeval(tv_sec: 0, tv_usec: 500))
            setitimer(CInt(ITIMER_REAL.rawValue), &interval, nil)
            churn(.shared, rounds: 3_000, seed: 8)
            interval = itimerval()
            setitimer(CInt(ITIMER_REAL.rawValue), &interval, nil)
        },
        Correct("in a C callback") {
            var numbers: [CInt] = (0..<100).map { 100 - $0 }
            qsort(&numbers, numbers.count, MemoryLayout<CInt>.stride) { a, b in
                let buffer = getBuffer(50)
                defer { putBuffer(buffer) }
                return a?.load(as: CInt.self) ?? 0 < b?.load(as: CInt.self) ?? 0 ? -1 : 1
            }
        },
        Correct("deep in a recursion") {
            func descend(_ depth: Int) -> Int {
                let buffer = getBuffer(depth + 1)
                defer { putBuffer(buffer) }
                return depth == 0 ? 0 : descend(depth - 1) + 1
            }
            precondition(descend(300) == 300)
        },
        Correct("exit from another thread") {
            putBuffer(getBuffer(10))
            onThread {
                putBuffer(getBuffer(20))
                exit(0)
            }
        },
        Correct("_exit") {
            putBuffer(getBuffer(10))
            _exit(0)
        },
        Correct("a status other than 0") {
            putBuffer(getBuffer(10))
            exit(3)
        },
        Correct("the default pool and its own, mixed") {
            let pool = BufferPool()
            let pairs = (1...100).map { (getBuffer($0), pool.get($0)) }
            for (first, second) in pairs {
                pool.put(second)
                putBuffer(first)
            }
        },
    ]
}

private let keptCache = Box<[Buffer]>([])

/// A pool whose buffers are parts of the life of one of another pool.
private final class PoolOfPools: Sendable {
    private let parent: BufferPool
    private let scratch: Buffer
    private let own = BufferPool()

    init(parent: BufferPool) {
        self.parent = parent
        scratch = parent.get(4_096)
    }

    func get() -> Buffer { own.get(scratch.count) }

    func put(_ buffer: Buffer) { own.put(buffer) }

    func close() { parent.put(scratch) }
}

/// fork(2), which Swift does not import because most programs must not use it; the children here use the pool and leave.
@_silgen_name("fork") func rawFork() -> pid_t

// Which idle memory counts, who gives it back, and when: the budget, its credit and the thread that decays.

import Foundation
import Synchronization
import Testing

@testable import Mempool

@Suite struct IdleMemoryTests {
    // MARK: - Credit

    @Test func `Credit is what a bucket counted and does not use, up to a 128th of the limit`() {
        let budget = IdleBudget(.bytes(128 * 1000))
        var credit = IdleCredit()
        #expect(credit.isEmpty)
        #expect(credit.reserve(20, of: 100, from: budget) == 20)
        #expect(budget.usedBytes == 2000)
        // 1,000 bytes may stay, hence 10.
        credit.release(15, of: 100, keeping: 64, to: budget)
        #expect(budget.usedBytes == 1500 && !credit.isEmpty)
        #expect(credit.reserve(10, of: 100, from: budget) == 10)
        #expect(budget.usedBytes == 1500 && credit.isEmpty)
        credit.release(15, of: 100, keeping: 3, to: budget)
        #expect(budget.usedBytes == 300)
        credit.release(0, of: 100, keeping: 0, to: budget)
        #expect(budget.usedBytes == 0 && credit.isEmpty)
    }

    @Test func `Credit is bounded by the limit of all pools too`() async {
        await #expect(processExitsWith: .exitCode(0)) {
            BufferPool.totalIdleLimit = .bytes(128 * 500)
            let budget = IdleBudget(.unlimited)
            guard budget.creditBytes == 500 else { exit(2) }
            var credit = IdleCredit()
            guard credit.reserve(20, of: 100, from: budget) == 20 else { exit(3) }
            credit.release(20, of: 100, keeping: 64, to: budget)
            exit(budget.usedBytes == 500 ? 0 : 4)
        }
    }

    @Test func `What one pool does not use is there for the others`() async {
        await #expect(processExitsWith: .exitCode(0)) {
            setenv("MEMPOOL_DEBUG", "off", 1)
            BufferPool.totalIdleLimit = .bytes(8 << 20)
            let one = BufferPool()
            let buffers = (0..<128).map { _ in one.get(65_536) }
            buffers.forEach(one.put)
            let again = (0..<128).map { _ in one.get(65_536) }
            let other = BufferPool()
            let others = (0..<16).map { _ in other.get(65_536) }
            others.forEach(other.put)
            again.forEach(one.put)
            exit(other.stats().trimmed == 0 ? 0 : 1)
        }
    }

    @Test func `A pool with credit has idle memory until the next tick`() throws {
        // Otherwise the thread that decays might be there first.
        let configuration = PoolConfiguration(layout: try BucketLayout(capacities: [4096]), decay: .never)
        let pool = try BufferPool(configuration: configuration)
        let buffers = (0..<200).map { _ in pool.get(4096) }
        buffers.forEach(pool.put)
        let again = (0..<200).map { _ in pool.get(4096) }
        #expect(pool.core.hasIdleMemory)
        _ = pool.core.buckets[0].decay(budget: pool.core.budget)
        #expect(!pool.core.hasIdleMemory)
        again.forEach(pool.put)
    }

    // MARK: - The thread

    @Test func `Puts of which nothing is kept do not start the thread, one by one`() async {
        await #expect(processExitsWith: .exitCode(0)) {
            setenv("MEMPOOL_DEBUG", "off", 1)
            guard let pool = try? BufferPool(configuration: PoolConfiguration(idleLimit: .bytes(4 << 20))) else {
                exit(2)
            }
            // This thread's magazine takes all that may be idle.
            pool.put(pool.get(65_536))
            onThreads(1) { _ in
                for _ in 0..<2000 { pool.put(pool.get(65_536)) }
            }
            guard pool.stats().trimmed == 2000 else { exit(3) }
            exit(IdleDecayThread.startCount.load(ordering: .relaxed) <= 2 ? 0 : 4)
        }
    }

    @Test func `Puts of which little is kept start the thread a few times at most`() async {
        await #expect(processExitsWith: .exitCode(0)) {
            setenv("MEMPOOL_DEBUG", "off", 1)
            let pool = BufferPool()
            // Each ending thread shelves its buffer, and the next one takes it.
            let held = (0..<64).map { _ in pool.get(65_536) }
            held.forEach(pool.put)
            for _ in 0..<200 { onThreads(1) { _ in pool.put(pool.get(65_536)) } }
            exit(IdleDecayThread.startCount.load(ordering: .relaxed) <= 2 ? 0 : 4)
        }
    }

    @Test func `A burst that is shelved while the thread ends makes it go on`() async {
        await #expect(processExitsWith: .exitCode(0)) {
            setenv("MEMPOOL_DEBUG", "off", 1)
            let pool = BufferPool()
            // As if the thread ran and had found nothing.
            IdleDecayThread.holdAfterFork()
            let buffers = (0..<8).map { _ in pool.get(1 << 20) }
            buffers.forEach(pool.put)
            guard IdleDecayThread.startCount.load(ordering: .relaxed) == 0 else { exit(2) }
            guard !IdleDecayThread.mayEnd() else { exit(3) }
            pool.trim()
            guard IdleDecayThread.mayEnd() else { exit(4) }
            // The next burst starts another one.
            let more = (0..<8).map { _ in pool.get(1 << 20) }
            more.forEach(pool.put)
            exit(IdleDecayThread.startCount.load(ordering: .relaxed) == 1 ? 0 : 5)
        }
    }
}

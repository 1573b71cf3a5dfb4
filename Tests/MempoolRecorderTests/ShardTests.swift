// Counters that threads keep by themselves add up: after threads ended, after a kill, and in the high water.

import CaptureFixtures
import Foundation
import Mempool
import MempoolRecording
import Synchronization
import Testing

private func debug(_ settings: String) { setenv("MEMPOOL_DEBUG", settings, 1) }

/// Threads meet here with what they hold; each arrival counts one.
private let arrived = Atomic(0)

/// Of the destructor of the threads that begin with the pool at their end.
nonisolated(unsafe) private var lastKey = pthread_key_t()

private func meet(_ count: Int) {
    arrived.add(1, ordering: .acquiringAndReleasing)
    while arrived.load(ordering: .acquiring) < count { sched_yield() }
}

@Suite("Counters of threads")
struct ShardTests {
    private func smallest(_ path: String) throws -> BucketCounters {
        try #require(try Recording(path: path).pools.first?.rows.first)
    }

    @Test("3,000 threads one after the other are all counted, and share few counters")
    func manyThreads() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.recording as String] in
            debug("full,quiet,recording=\(path)")
            let isRun = fixture_run_threads(3000, 6) { _ in for _ in 0..<5 { putBuffer(getBuffer(100)) } }
            exit(isRun ? 0 : 1)
        }
        let recording = try Recording(path: scratch.recording)
        let row = try smallest(scratch.recording)
        #expect(row.gets == 15_000 && row.puts == 15_000 && row.inUse == 0)
        #expect(row.requestedBytes == 1_500_000 && row.handedOutBytes == 15_000 * 512)
        #expect(recording.pools[0].histogram[SizeHistogram.bin(of: 100)] == 15_000)
        #expect(recording.header[.shards].published <= 12)
        #expect((1...6).contains(row.highWater))
        // Each thread learns where its stack begins, and needs the unwinder for new stacks only.
        if !fixture_is_sanitized() { #expect(recording.header.slowCaptures == 0) }
        #expect(recording.header.captureMismatches == 0)
    }

    @Test("threads that get their first buffer in their last destructor leave their counters to others")
    func lastDestructors() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.recording as String] in
            debug("full,quiet,recording=\(path)")
            // The recorder's key comes first, so that this one's destructor runs after its.
            putBuffer(getBuffer(100))
            let isMade = pthread_key_create(&lastKey) { value in
                let round = Int(bitPattern: value)
                if round < 4 {
                    pthread_setspecific(lastKey, UnsafeRawPointer(bitPattern: round + 1))
                } else {
                    putBuffer(getBuffer(100))
                }
            }
            let isRun = fixture_run_threads(500, 5) { _ in
                pthread_setspecific(lastKey, UnsafeRawPointer(bitPattern: 1))
            }
            exit(isMade == 0 && isRun ? 0 : 1)
        }
        let recording = try Recording(path: scratch.recording)
        let row = try smallest(scratch.recording)
        #expect(row.gets == 501 && row.puts == 501)
        // A page each, and 36 KiB of memory beside it.
        #expect(recording.header[.shards].published < 150)
    }

    @Test("threads that are killed leave exact counters")
    func killed() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .signal(SIGKILL)) { [path = scratch.recording as String] in
            debug("full,quiet,recording=\(path)")
            _ = fixture_run_threads(4, 4) { _ in
                for _ in 0..<20_000 { putBuffer(getBuffer(512)) }
                _ = getBuffer(300)
                meet(4)
                kill(getpid(), SIGKILL)
            }
        }
        let row = try smallest(scratch.recording)
        #expect(row.gets == 80_004 && row.puts == 80_000 && row.inUse == 4)
        #expect((4...8).contains(row.highWater))
    }

    @Test("the high water is what threads held at once, wherever they put it", arguments: [1, 2, 4, 8])
    func highWater(threads: Int) async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) {
            [path = scratch.recording as String, threads = threads as Int] in
            debug("full,quiet,recording=\(path)")
            setenv("MEMPOOL_TEST_THREADS", "\(threads)", 1)
            // 10 per thread at once, and the rest of the time fewer: the puts of one thread are the next one's gets.
            let isRun = fixture_run_threads(Int32(threads), Int32(threads)) { _ in
                let count = Int(getenv("MEMPOOL_TEST_THREADS").flatMap { Int(String(cString: $0)) } ?? 0)
                let held = (0..<10).map { _ in getBuffer(512) }
                meet(count)
                held.forEach(putBuffer)
                meet(2 * count)
                for _ in 0..<2000 { (0..<5).map { _ in getBuffer(512) }.forEach(putBuffer) }
            }
            exit(isRun ? 0 : 1)
        }
        let row = try smallest(scratch.recording)
        #expect(row.highWater == UInt64(threads) * 10)
    }

    @Test("more pairs of a running thread and a pool than there are counters for are all counted")
    func manyPairs() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.recording as String] in
            debug("full,quiet,recording=\(path)")
            let isRun = fixture_run_threads(8, 8) { _ in
                for pool in pools { for _ in 0..<10 { pool.put(pool.get(100)) } }
                // All hold their counters until here.
                meet(8)
            }
            exit(isRun ? 0 : 1)
        }
        let recording = try Recording(path: scratch.recording)
        #expect(8 * 40 > RecordingLimits.shards)
        #expect(recording.header[.shards].published == UInt64(RecordingLimits.shards))
        let rows = recording.pools.compactMap(\.rows.first).filter { $0.gets > 0 }
        #expect(rows.count == 40)
        #expect(rows.allSatisfy { $0.gets == 80 && $0.puts == 80 && $0.requestedBytes == 8_000 && $0.inUse == 0 })
    }

    @Test("buffers that are put on another thread keep the high water right")
    func handOver() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.recording as String] in
            debug("full,quiet,recording=\(path)")
            for _ in 0..<50 {
                handed.withLock { $0 = (0..<20).map { _ in getBuffer(512) } }
                _ = fixture_run_threads(2, 2) { _ in
                    handed.withLock { $0.popLast().map(putBuffer) }
                }
                handed.withLock { $0.forEach(putBuffer) }
            }
            exit(0)
        }
        let row = try smallest(scratch.recording)
        #expect(row.highWater == 20 && row.inUse == 0 && row.gets == 1000)
    }
}

private let handed = Mutex<[Buffer]>([])

private let pools = (0..<40).map { _ in BufferPool() }

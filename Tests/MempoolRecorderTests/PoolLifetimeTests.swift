// Pools that begin and end while a recorder watches, in processes of their own.

import CMempoolPlatform
import CaptureFixtures
import Foundation
import Mempool
import MempoolRecording
import Testing

/// A pool that has ended when this returns.
@inline(never) private func usePool(_ body: (BufferPool) -> Void) { body(BufferPool()) }

@Suite struct PoolLifetimeTests {
    @Test func `The totals at the end bear a destroyed pool whose memory had been another one's`() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            setenv("MEMPOOL_DEBUG", "sampled,quiet,recording=\(path)", 1)
            // Its slots go back, and take 1,000 pairs with them.
            usePool { pool in
                for _ in 0..<1000 { pool.put(pool.get(512)) }
            }
            // One slab of those slots, and a fresh one, which stays as it has a buffer outstanding.
            usePool { pool in
                let buffers = (0..<513).map { _ in pool.get(512) }
                for buffer in buffers.dropLast() { pool.put(buffer) }
            }
            exit(0)
        }
        let recording = try Recording(path: path)
        #expect(recording.header.flags & RecordingHeader.cleanExitFlag != 0)
        #expect(recording.header.flags & RecordingHeader.estimatedCountersFlag == 0)
        let rows = recording.pools.flatMap(\.rows)
        #expect(rows.map(\.gets).reduce(0, +) == 1513)
        #expect(rows.map(\.puts).reduce(0, +) == 1512)
    }

    @Test func `Pools that follow each other are counted together if they are of a kind, and else apart`() async throws
    {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            setenv("MEMPOOL_DEBUG", "full,quiet,recording=\(path)", 1)
            for (name, capacities) in [("a", [512]), ("b", [512, 1024]), ("a", [512])] {
                let layout = try BucketLayout(capacities: capacities)
                let pool = try BufferPool(configuration: PoolConfiguration(name: name, layout: layout))
                for size in capacities { pool.put(pool.get(size)) }
            }
            exit(0)
        }
        let pools = try Recording(path: path).pools.filter { !$0.name.isEmpty }
        #expect(pools.map(\.name) == ["a", "b"])
        #expect(pools.map { $0.rows.map(\.gets).reduce(0, +) } == [2, 2])
    }

    @Test func `No thread finds the default pool before the recorder knows it`() async {
        await #expect(processExitsWith: .exitCode(0)) {
            setenv("MEMPOOL_DEBUG", "full,quiet", 1)
            let other = BufferPool()
            guard PoolHook.installed != nil else { exit(2) }
            PoolHook.installed?.didCreatePool = { pool, _, _, _ in
                _exit(pool == 0 && cmempool_default_core() == nil ? 0 : 3)
            }
            other.put(other.get(100))
            putBuffer(getBuffer(100))
            exit(4)
        }
    }

    @Test func `A signal while space is reserved costs nothing`() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            setenv("MEMPOOL_DEBUG", "full,quiet,recording=\(path)", 1)
            fixture_interrupt_fallocate(1)
            putBuffer(getBuffer(100))
            fixture_interrupt_fallocate(3)
            for _ in 0..<20_000 { _ = getBuffer(100) }
            exit(0)
        }
        let recording = try Recording(path: path)
        #expect(recording.header.flags & RecordingHeader.cleanExitFlag != 0)
        #expect(recording.pools.first?.rows.first?.gets == 20_001)
        #expect(recording.header.dropped.ledger == 0)
    }

    @Test func `A sampled buffer has its own address, also where the slot had another pool's`() async {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.recording as String] in
            setenv("MEMPOOL_DEBUG", "sampled,sample=2,quiet,recording=\(path)", 1)
            func turn(_ pool: BufferPool) -> [Buffer] { (0..<60).map { _ in pool.get(512) } }
            usePool { pool in
                for _ in 0..<50 { turn(pool).forEach(pool.put) }
            }
            // Where that pool's slab was, nothing else may come to lie.
            for _ in 0..<32 { must(mmap(nil, 256 << 10, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED) }
            let pool = BufferPool()
            turn(pool).forEach(pool.put)
            // Half of them is sampled for the first time since the slot has this memory.
            let addresses = Set(
                turn(pool).map { $0.withUnsafeMutableBytes { UInt64(UInt(bitPattern: $0.baseAddress)) } })
            var count = 0
            _ = try Recording(path: path).forEachLedgerRecord { _, record in
                guard record.state == .outstanding else { return }
                count += 1
                must(addresses.contains(record.address))
            }
            must(count > 10 && addresses.count == 60)
            exit(0)
        }
    }
}

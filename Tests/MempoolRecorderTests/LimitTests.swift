// The limits of a recording, each filled in a process of its own: what does not fit is counted, and nothing else goes wrong.

import CaptureFixtures
import Foundation
import Mempool
import MempoolRecording
import Testing

private func debug(_ settings: String) { setenv("MEMPOOL_DEBUG", settings, 1) }

/// Runs `body` below a stack of `depth` calls that no other number has: each bit chooses one of two calls.
@inline(never) private func descend(_ number: Int, _ depth: Int, _ body: () -> Void) {
    if depth == 0 {
        body()
    } else if number & 1 == 0 {
        descend(number >> 1, depth - 1, body)
    } else {
        descend(number >> 1, depth - 1, body)
    }
    keepFrame()
}

@inline(never) @_optimize(none) private func keepFrame() {}

@Suite("Limits of a recording")
struct LimitTests {
    private func outstanding(_ recording: Recording) -> [LedgerRecord] {
        var records: [LedgerRecord] = []
        _ = recording.forEachLedgerRecord { _, record in
            if record.state == .outstanding { records.append(record) }
        }
        return records
    }

    @Test("pools beyond the last row are counted, and what leaks from them is listed all the same")
    func pools() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.recording as String] in
            debug("full,quiet,recording=\(path)")
            let pools = (0..<RecordingLimits.pools + 10).map { _ in BufferPool() }
            for pool in pools { _ = pool.get(100) }
            for pool in pools { pool.put(pool.get(200)) }
            exit(0)
        }
        let recording = try Recording(path: scratch.recording)
        // The default pool has a row too, if it was made.
        let rows = recording.pools.count
        #expect(rows == RecordingLimits.pools)
        #expect((10...11).contains(recording.header.dropped.pools))
        let records = outstanding(recording)
        #expect(records.count == RecordingLimits.pools + 10)
        #expect(Set(records.map(\.pool)).count == RecordingLimits.pools + 10)
    }

    @Test("findings from more places than there is room for are counted, and those entered before go on counting")
    func findings() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.recording as String] in
            debug("full,quiet,frames=32,recording=\(path)")
            let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 8, alignment: 8)
            for number in 0..<RecordingLimits.findings + 100 {
                descend(number, 13) { putBuffer(Buffer(wrapping: memory)) }
            }
            for _ in 0..<5 { descend(1, 13) { putBuffer(Buffer(wrapping: memory)) } }
            exit(0)
        }
        let recording = try Recording(path: scratch.recording)
        #expect(recording.findings.count == RecordingLimits.findings)
        #expect(recording.findings.allSatisfy { $0.kind == FindingKind.foreignPut.rawValue && $0.putStack > 0 })
        // The last five are another call site.
        #expect(recording.header.dropped.findings == 105)
        #expect(recording.pools.first?.record.foreignPuts == UInt64(RecordingLimits.findings + 105))
    }

    @Test("stacks that find no room are counted, and their buffers are listed without one")
    func stacks() async throws {
        let scratch = ScratchDirectory()
        let leaks = 4096
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.recording as String] in
            // The section has 64 MiB; under a limit on file sizes it has a quarter of what is left, here about 1.3 MiB.
            var limit = rlimit(rlim_cur: 8 << 20, rlim_max: 8 << 20)
            setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
            debug("full,quiet,frames=128,recording=\(path)")
            for number in 0..<4096 { descend(number, 100) { getBuffer(100)[0] = 1 } }
            exit(0)
        }
        let recording = try Recording(path: scratch.recording)
        let records = outstanding(recording)
        #expect(records.count == leaks)
        let without = records.count { $0.getStack == 0 }
        #expect(without > 0 && without < leaks)
        #expect(recording.header.dropped.stacks == UInt64(without))
        #expect(recording.header.dropped.ledger == 0)
        for record in records where record.getStack > 0 {
            #expect((recording.stack(record.getStack)?.count ?? 0) > 100)
        }
    }

    @Test("a name that finds no room is counted, and its pool has none")
    func strings() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.recording as String] in
            debug("full,quiet,recording=\(path)")
            let name = String(repeating: "a", count: RecordingLimits.stringBytes)
            let long = try BufferPool(configuration: PoolConfiguration(name: name))
            let short = try BufferPool(configuration: PoolConfiguration(name: "short"))
            _ = long.get(100)
            _ = short.get(100)
            exit(0)
        }
        let recording = try Recording(path: scratch.recording)
        #expect(recording.header.dropped.strings == 1)
        let names = recording.pools.map(\.name)
        #expect(names.contains("short") && names.contains(""), "\(names)")
        #expect(outstanding(recording).count == 2)
    }
}

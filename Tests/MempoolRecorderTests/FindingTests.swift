// When a finding is made, what it is counted as, and what a handler of findings sees meanwhile.

import Foundation
import Mempool
import MempoolRecorder
import MempoolRecording
import Synchronization
import Testing

/// Writes one byte behind the request.
private func overrun(_ buffer: Buffer) {
    buffer.withUnsafeMutableBytes { bytes in
        bytes.baseAddress?.storeBytes(of: 1, toByteOffset: buffer.count, as: UInt8.self)
    }
}

/// Puts a buffer again when nobody holds it any more.
private final class PutsTwice: Sendable {
    let buffer: Buffer
    init(_ buffer: Buffer) { self.buffer = buffer }
    deinit { putBuffer(buffer) }
}

/// Findings that a handler was told.
private let told = Mutex<[Diagnostics.Finding]>([])

@Suite("Findings and their moment")
struct FindingTests {
    private func outstanding(_ recording: Recording) -> Int {
        recording.forEachLedgerRecord { _, _ in }.outstanding
    }

    @Test("at level sampled no bytes are looked at, whatever poison= and canary= say")
    func sampledBytes() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            record("sampled,sample=2,poison=1k,canary=256,quiet,recording=\(path)")
            for round in 0..<1_000 {
                let buffer = getBuffer(300)
                for index in 0..<300 { buffer[index] = UInt8(truncatingIfNeeded: round) }
                putBuffer(buffer)
            }
            exit(0)
        }
        let recording = try Recording(path: path)
        #expect(recording.findings.isEmpty)
        #expect(recording.header.poisonLimit == 0 && recording.header.canaryLimit == 0)
    }

    @Test("a stale owner's write is blamed on him, not also on the owner after him")
    func staleWriter() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            record("full,quiet,recording=\(path)")
            let stale = getBuffer(100)
            putBuffer(stale)
            putBuffer(getBuffer(100))
            stale[1] = 1
            exit(0)
        }
        let findings = try Recording(path: path).findings
        #expect(findings.map(\.kind) == [FindingKind.useAfterPut.rawValue])
        #expect(findings.map(\.count) == [1] && findings.map(\.reissues) == [1])
    }

    // MARK: - What else is seen of the buffer that a finding is about

    @Test("a buffer that was overrun, or held too long, is no leak for the handler", arguments: ["", ",held=0.000001"])
    func handlerChecks(keys: String) async {
        await #expect(processExitsWith: .exitCode(0)) { [keys = keys as String] in
            record("full,quiet" + keys)
            Diagnostics.onFinding { finding in told.withLock { $0.append(finding) } }
            Diagnostics.onFinding { finding in
                let findings = (try? Diagnostics.check()) ?? []
                told.withLock { $0 += findings }
            }
            let buffer = getBuffer(100)
            if keys.isEmpty { overrun(buffer) } else { usleep(20_000) }
            putBuffer(buffer)
            let kinds = told.withLock { $0.map(\.kind) }
            must(kinds == [keys.isEmpty ? .overrun : .heldTooLong], "\(kinds)")
            exit(0)
        }
    }

    @Test("a handler that ends the program leaves the overrun buffer as put", arguments: [100, 99])
    func handlerExits(putCount: Int) async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String, putCount = putCount as Int] in
            record("full,quiet,recording=\(path)")
            Diagnostics.onFinding { if $0.kind == .overrun { exit(0) } }
            let buffer = getBuffer(100)
            overrun(buffer)
            // Also if it is put as a slice.
            putBuffer(buffer.dropFirst(100 - putCount))
            exit(1)
        }
        let recording = try Recording(path: path)
        #expect(outstanding(recording) == 0)
        let row = try #require(recording.pools.first?.rows.first)
        #expect(row.inUse == 0)
    }

    @Test("abort= leaves the overrun buffer as put")
    func abortAtOverrun() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .signal(SIGABRT)) { [path = path as String] in
            record("full,abort=overrun,recording=\(path)")
            let buffer = getBuffer(100)
            overrun(buffer)
            putBuffer(buffer)
        }
        let recording = try Recording(path: path)
        #expect(outstanding(recording) == 0 && recording.findings.count == 1)
    }

    // MARK: - Handlers

    @Test("what a handler held may make a finding when the handler is replaced")
    func replacedHandler() async {
        await #expect(processExitsWith: .exitCode(0)) {
            alarm(30)
            record("full,quiet")
            let buffer = getBuffer(100)
            putBuffer(buffer)
            func install() {
                let object = PutsTwice(buffer)
                Diagnostics.onFinding { _ in withExtendedLifetime(object) {} }
            }
            install()
            Diagnostics.onFinding { finding in told.withLock { $0.append(finding) } }
            must(told.withLock { $0.map(\.kind) } == [.doublePut])
            exit(0)
        }
    }

    @Test("a finding that waits while the handler runs is delivered after it")
    func findingDuringHandler() async {
        await #expect(processExitsWith: .exitCode(0)) {
            record("full,quiet")
            let pool = BufferPool()
            let damaged = pool.get(1_000)
            let base = damaged.withUnsafeMutableBytes { $0.baseAddress }
            pool.put(damaged)
            base?.storeBytes(of: 1, as: UInt8.self)
            Diagnostics.onFinding { finding in
                told.withLock { $0.append(finding) }
                guard finding.kind == .doublePut else { return }
                // Notices the damage with a lock held.
                pool.trim()
                putBuffer(getBuffer(10))
            }
            let twice = getBuffer(10)
            putBuffer(twice)
            putBuffer(twice)
            putBuffer(getBuffer(10))
            let kinds = told.withLock { $0.map(\.kind) }
            must(kinds == [.doublePut, .useAfterPut], "\(kinds)")
            exit(0)
        }
    }

    // MARK: - Pools, snapshots, tickets

    @Test("a pool that has the number of a destroyed one has its own buckets only")
    func reusedPoolNumber() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            record("full,quiet,recording=\(path)")
            for capacities in [[512, 1024, 2048], [512]] {
                let configuration = PoolConfiguration(layout: try BucketLayout(capacities: capacities))
                let pool = try BufferPool(configuration: configuration)
                pool.put(pool.get(3_000))
            }
            exit(0)
        }
        let pools = try Recording(path: path).pools
        #expect(pools.map(\.rows).contains { $0.map(\.capacity) == [512, 0] }, "\(pools.map(\.rows))")
    }

    @Test("a snapshot at level sampled says that its counters are estimates")
    func sampledSnapshot() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            record("sampled,quiet")
            putBuffer(getBuffer(1))
            try Diagnostics.snapshot(to: path)
            exit(0)
        }
        let flags = try Recording(path: path).header.flags
        #expect(flags == RecordingHeader.snapshotFlag | RecordingHeader.estimatedCountersFlag)
    }

    @Test("a buffer with a ticket from the future is refused and does not stop the program", arguments: [0, 1])
    func forgedTicket(use: Int) async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String, use = use as Int] in
            record("full,quiet,recording=\(path)")
            var forged = getBuffer(100)
            putBuffer(forged)
            withUnsafeMutableBytes(of: &forged) { words in
                let generation = MemoryLayout<Buffer>.size - 4
                words.storeBytes(of: 77, toByteOffset: generation, as: UInt32.self)
            }
            if use == 0 { putBuffer(forged) } else { forged[0] = 1 }
            exit(0)
        }
        let expected: FindingKind = use == 0 ? .doublePut : .useAfterPut
        #expect(try Recording(path: path).findings.map(\.kind) == [expected.rawValue])
    }

    @Test(
        "names of scopes whose records are used again are whole in snapshots and in a recording that is read meanwhile")
    func reusedScopes() async {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            record("full,quiet,recording=\(path)")
            let count = Mutex(0)
            Thread.detachNewThread {
                while true {
                    let number = count.withLock { number in
                        number += 1
                        return number
                    }
                    let letter = String(UnicodeScalar(UInt8(97 + number % 26)))
                    Diagnostics.withScope(String(repeating: letter, count: 100 + number % 100)) {}
                }
            }
            while count.withLock({ $0 }) < 10_000 { usleep(1_000) }
            for round in 0..<15 {
                let snapshot = "\(path)-\(round)"
                try Diagnostics.snapshot(to: snapshot)
                for file in [snapshot, path] {
                    let names = try Recording(path: file).contexts.map(\.name)
                    must(names.count { !$0.isEmpty } > 1_000, "\(names.count)")
                    for name in names { must(Set(name).count <= 1, "\(file) \(name)") }
                }
            }
            exit(0)
        }
    }
}

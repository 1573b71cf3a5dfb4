// Everything of `Diagnostics` at once, on threads that get and put; run under the thread sanitizer.

import CaptureFixtures
import Foundation
import Mempool
import MempoolRecording
import Synchronization
import Testing

private let working = Atomic(0)
private let told = Atomic(0)
private let seeds = Atomic(0)

/// Rounds of each worker; each makes a double put.
private let rounds = 300

private func work(_ seed: Int) {
    for round in 0..<rounds {
        Diagnostics.withScope("worker") {
            var buffers = (0..<(seed + round) % 7).map { getBuffer(100 << $0) }
            Diagnostics.withNote({ "round=\(round % 5)" }) {
                buffers.append(getBuffer(10))
                Diagnostics.withScope("inner") { buffers.append(getBuffer(5000)) }
            }
            for buffer in buffers { buffer[buffer.count / 2] = UInt8(truncatingIfNeeded: round) }
            buffers.forEach(putBuffer)
            if let last = buffers.last { putBuffer(last) }
        }
    }
}

@Suite("Concurrent diagnostics")
struct DiagnosticsConcurrencyTests {
    @Test("checks, marks, snapshots and handlers while four threads get, put and make mistakes in scopes")
    func everything() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.path as String] in
            record("full,quiet,recording=\(path)/a.mempool")
            Diagnostics.onFinding { _ in told.add(1, ordering: .relaxed) }
            working.store(4, ordering: .relaxed)
            let observer = Thread {
                var snapshots = 0
                while working.load(ordering: .acquiring) > 0 {
                    let mark = Diagnostics.mark()
                    _ = try? Diagnostics.check()
                    _ = try? Diagnostics.outstanding(since: mark)
                    try? Diagnostics.withCheckedScope("observer") { putBuffer(getBuffer(10)) }
                    if snapshots < 5 {
                        must((try? Diagnostics.snapshot(to: "\(path)/\(snapshots).mempool")) != nil)
                        snapshots += 1
                    }
                }
                working.store(-1, ordering: .releasing)
            }
            observer.start()
            let isRun = fixture_run_threads(4, 4) { _ in
                work(seeds.add(1, ordering: .relaxed).newValue)
                working.subtract(1, ordering: .acquiringAndReleasing)
            }
            must(isRun)
            while working.load(ordering: .acquiring) >= 0 { usleep(1000) }
            must(told.load(ordering: .relaxed) == 4 * rounds, "\(told.load(ordering: .relaxed))")
            let findings = try Diagnostics.check()
            must(findings.allSatisfy { $0.kind == .doublePut }, "\(findings)")
            must(findings.reduce(0) { $0 + $1.count } == 4 * rounds)
            exit(0)
        }
        for number in 0..<5 {
            let path = "\(scratch.path)/\(number).mempool"
            guard FileManager.default.fileExists(atPath: path) else {
                // A quick machine was done before.
                #expect(number > 0)
                continue
            }
            let recording = try Recording(path: path)
            #expect(recording.damage == [])
            let scan = recording.forEachLedgerRecord { _, record in
                #expect(Int(record.context) < recording.contexts.count && recording.stack(record.getStack) != nil)
            }
            #expect(scan.inProgress == 0 && scan.missing == 0)
        }
        let recording = try Recording(path: scratch.recording)
        // Every buffer came back, those of the inner scopes after their end.
        #expect(recording.contexts.allSatisfy { $0.record.lateReturns == $0.record.outstandingAtEnd })
        #expect(recording.contexts.allSatisfy { $0.record.lateReturns == ($0.name == "inner" ? 1 : 0) })
        #expect(recording.header.dropped.total == 0)
    }
}

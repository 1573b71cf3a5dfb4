// `CaptureProbe`: gets and puts along many paths, and the comparison of what was recorded with what libunwind gives.

import CMempoolPlatform
import CaptureFixtures
import Foundation
import Mempool
import MempoolRecording
import Synchronization

/// Runs in the process of an exit test. Its functions trap when something is wrong, which the test sees.
enum CaptureProbe {
    /// A buffer that was kept, and the stack that libunwind gives in the function that got it.
    struct Sample {
        var address: UInt64
        var truth: [UInt64]
    }

    static let samples = Mutex<[Sample]>([])
    static let isKeeping = Atomic(false)

    /// Gets a buffer and puts it, or keeps it and notes the stack that it must be recorded with.
    static let body: fixture_body = { _ in probe() }

    @inline(never) static func probe() {
        let buffer = getBuffer(512)
        guard isKeeping.load(ordering: .relaxed) else { return putBuffer(buffer) }
        var frames = [UInt64](repeating: 0, count: 128)
        let count = Int(cmempool_capture(&frames, 128))
        let address = buffer.withUnsafeMutableBytes { UInt64(UInt(bitPattern: $0.baseAddress)) }
        samples.withLock { $0.append(Sample(address: address, truth: Array(frames.prefix(count)))) }
    }

    // MARK: - Paths

    /// One way to reach `probe`.
    typealias Path = @Sendable () -> Void

    static let paths: [(name: String, run: Path)] = [
        ("plain", { body(nil) }),
        ("frameless", { fixture_call_frameless(body, nil) }),
        ("clobbered", { fixture_call_clobbered(body, nil) }),
        ("tail call", { fixture_call_tail(body, nil) }),
        ("qsort", { fixture_call_from_qsort(body, nil) }),
        ("signal", { fixture_call_from_signal(body, false) }),
        ("signal stack", { fixture_call_from_signal(body, true) }),
        ("coroutine", { fixture_call_on_coroutine(body, nil) }),
        ("deep", { fixture_call_deep(body, nil, 60) }),
        ("beyond the limit", { fixture_call_deep(body, nil, 500) }),
        ("deep, then frameless", { fixture_call_deep({ _ in fixture_call_frameless(body, nil) }, nil, 300) }),
        ("frameless, then deep", { fixture_call_frameless({ _ in fixture_call_deep(body, nil, 20) }, nil) }),
        ("a job that is no task", { fixture_call_as_job(body) }),
        ("Swift closure", { [1].forEach { _ in body(nil) } }),
    ]

    // Two callers, so that a key that does not see one of them would be found out.
    @inline(never) static func callHere(_ path: Path) { path(); keepFrame() }
    @inline(never) static func callThere(_ path: Path) { path(); keepFrame(); keepFrame() }
    @inline(never) @_optimize(none) static func keepFrame() {}

    /// Takes each path often enough that its stack is known, then keeps a buffer each.
    static func takeAllPaths() {
        for isKept in [false, true] {
            for (_, run) in paths {
                for _ in 0..<(isKept ? 1 : 20) {
                    isKeeping.store(isKept, ordering: .relaxed)
                    callHere(run)
                    callThere(run)
                }
            }
        }
        isKeeping.store(false, ordering: .relaxed)
    }

    // MARK: - Async

    static func takeAsyncPaths() async {
        for isKept in [false, true] {
            for _ in 0..<(isKept ? 1 : 20) {
                isKeeping.store(isKept, ordering: .relaxed)
                await outer(1)
                await otherOuter(2)
                await withTaskGroup(of: Void.self) { group in
                    group.addTask { await outer(3) }
                    await group.waitForAll()
                }
                await Task.detached { await otherOuter(1) }.value
            }
        }
        isKeeping.store(false, ordering: .relaxed)
    }

    @inline(never) static func outer(_ depth: Int) async {
        if depth > 0 { await outer(depth - 1) } else { await inner() }
        keepFrame()
    }

    @inline(never) static func otherOuter(_ depth: Int) async {
        if depth > 0 { await otherOuter(depth - 1) } else { await inner() }
        keepFrame()
    }

    @inline(never) static func inner() async {
        probe()
        await Task.yield()
        probe()
        fixture_call_frameless(body, nil)
        await Task.yield()
        fixture_call_deep(body, nil, 5)
    }

    // MARK: - Comparison

    /// How many of the kept buffers are recorded with another stack than libunwind gave. Traps if one is not recorded at all.
    static func wrongStacks(in path: String, limit: Int = 72) -> [String] {
        guard let recording = try? Recording(path: path) else { fatalError("no recording") }
        var stacks: [UInt64: [UInt64]] = [:]
        _ = recording.forEachLedgerRecord { _, record in
            if record.state == .outstanding { stacks[record.address] = recording.stack(record.getStack) ?? [] }
        }
        return samples.withLock { samples in
            samples.enumerated().compactMap { index, sample in
                guard let stack = stacks[sample.address] else { fatalError("buffer \(index) is not in the ledger") }
                return isStack(stack, sample.truth, limit)
                    ? nil : "\(index): \(Self.hexadecimal(stack)) is not \(Self.hexadecimal(sample.truth))"
            }
        }
    }

    private static func hexadecimal(_ words: [UInt64]) -> String {
        words.map { String($0, radix: 16) }.joined(separator: " ")
    }

    /// Whether a recorded stack is the true one, seen from the get instead of from the capture: from the probe's caller on the
    /// frames are the same, and nothing is missing but what is beyond the limit.
    private static func isStack(_ recorded: [UInt64], _ truth: [UInt64], _ limit: Int) -> Bool {
        let callers = truth.dropFirst()
        // The pool's and the recorder's own frames, and the probe, which the two stacks leave at different places.
        for own in 2..<20 where own < recorded.count {
            let rest = recorded[own...]
            if rest.elementsEqual(callers.prefix(rest.count)), rest.count == callers.count || recorded.count == limit {
                return true
            }
        }
        return false
    }

    static func header(_ path: String) -> RecordingHeader {
        guard let recording = try? Recording(path: path) else { fatalError("no recording") }
        return recording.header
    }

    static func require(_ isTrue: Bool, _ what: @autoclosure () -> String) {
        guard !isTrue else { return }
        FileHandle.standardError.write(Data((what() + "\n").utf8))
        exit(99)
    }
}

// A stack that was found by its frame pointers is the stack that libunwind gives, on every path that a program can take.

import CMempoolPlatform
import CaptureFixtures
import Foundation
import Mempool
import MempoolRecording
import Synchronization
import Testing

private func debug(_ settings: String) { setenv("MEMPOOL_DEBUG", settings, 1) }

@Suite("Capture")
struct CaptureTests {
    @Test("every path is recorded with the stack that libunwind gives, also when it was found in the cache")
    func everyPath() async {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.recording as String] in
            debug("full,quiet,recording=\(path)")
            putBuffer(getBuffer(1))
            // Nothing is compared on the way, so that what the cache says is what is recorded.
            cmempool_set_check_interval(.max)
            // An exit test's body is a task, so a stack here ends in async parents; on a thread of its own it ends in the C library.
            CaptureProbe.takeAllPaths()
            CaptureProbe.require(fixture_run_threads(1, 1) { _ in CaptureProbe.takeAllPaths() }, "no thread")
            let wrong = CaptureProbe.wrongStacks(in: path)
            CaptureProbe.require(wrong.isEmpty, wrong.joined(separator: "\n"))
            let header = CaptureProbe.header(path)
            CaptureProbe.require(header.captureChecks == 0 && header.captureMismatches == 0, "compared")
            exit(0)
        }
    }

    @Test("comparing every hit finds no difference, and some paths need the unwinder")
    func everyHit() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.recording as String] in
            debug("full,quiet,recording=\(path)")
            putBuffer(getBuffer(1))
            cmempool_set_check_interval(1)
            for _ in 0..<5 { CaptureProbe.takeAllPaths() }
            CaptureProbe.require(fixture_run_threads(5, 1) { _ in CaptureProbe.takeAllPaths() }, "no thread")
            exit(0)
        }
        let header = try Recording(path: scratch.recording).header
        #expect(header.captureMismatches == 0)
        // Plain, tail call, deep, beyond the limit, the job and the closure are told by frame pointers: 6 of 14 paths from two places.
        #expect(header.captureChecks > 2 * 5 * 2 * 2 * 6 * 10)
        if fixture_has_frameless() { #expect(header.slowCaptures > 2 * 5 * 2 * 2 * 20) }
    }

    @Test(
        "a stack beyond the limit, through one function again and again, is told by frame pointers as well",
        .enabled(if: !fixture_is_sanitized(), "below a sanitizer's first function no stack is told by frame pointers"))
    func beyondTheLimit() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.recording as String] in
            debug("full,quiet,frames=16,recording=\(path)")
            @Sendable @inline(never)
            func descend(_ depth: Int) {
                if depth > 0 { return descend(depth - 1) }
                for _ in 0..<100 { putBuffer(getBuffer(1)) }
            }
            let isRun = fixture_run_threads(1, 1) { _ in descend(60) }
            exit(isRun ? 0 : 1)
        }
        #expect(try Recording(path: scratch.recording).header.slowCaptures == 0)
    }

    @Test(
        "without being told so, one cached stack in 1,024 is compared with what the unwinder gives",
        .enabled(if: !fixture_is_sanitized(), "below a sanitizer's first function no stack is told by frame pointers"))
    func usualInterval() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.recording as String] in
            debug("full,quiet,recording=\(path)")
            let isRun = fixture_run_threads(1, 1) { _ in for _ in 0..<100_000 { putBuffer(getBuffer(1)) } }
            exit(isRun ? 0 : 1)
        }
        let header = try Recording(path: scratch.recording).header
        try #require(header.unwinder == UnwinderKind.libunwind.rawValue)
        // 200,000 captures. The distances are even in 1...2047, so the count scatters by 0.58 of its square root, 8; this is six of that.
        #expect((147...244).contains(header.captureChecks), "\(header.captureChecks)")
        #expect(header.captureMismatches == 0)
    }

    @Test(
        "taking every key for exact is found out",
        .enabled(if: fixture_has_frameless(), "no calls without frame pointers on this architecture"))
    func naiveKeys() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.recording as String] in
            debug("full,quiet,recording=\(path)")
            putBuffer(getBuffer(1))
            cmempool_trust_frame_pointers(true)
            cmempool_set_check_interval(.max)
            CaptureProbe.takeAllPaths()
            CaptureProbe.require(!CaptureProbe.wrongStacks(in: path).isEmpty, "the comparison sees nothing")
            cmempool_set_check_interval(1)
            CaptureProbe.takeAllPaths()
            exit(0)
        }
        #expect(try Recording(path: scratch.recording).header.captureMismatches > 0)
    }

    @Test("async functions are recorded with their parents, before and after suspension")
    func asyncParents() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.recording as String] in
            debug("full,quiet,recording=\(path)")
            putBuffer(getBuffer(1))
            cmempool_set_check_interval(.max)
            await CaptureProbe.takeAsyncPaths()
            let wrong = CaptureProbe.wrongStacks(in: path)
            CaptureProbe.require(wrong.isEmpty, wrong.joined(separator: "\n"))
            let hasParents = CaptureProbe.samples.withLock { samples in
                samples.filter { $0.truth.contains { $0 & StackWord.asyncBit != 0 } }.count
            }
            CaptureProbe.require(hasParents > 8, "\(hasParents) async stacks")
            cmempool_set_check_interval(1)
            await CaptureProbe.takeAsyncPaths()
            exit(0)
        }
        let header = try Recording(path: scratch.recording).header
        #expect(header.captureMismatches == 0 && header.captureChecks > 100)
    }

    @Test("a job that is no task has no async parents")
    func jobs() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.recording as String] in
            debug("full,quiet,recording=\(path)")
            let isRun = fixture_run_threads(1, 1) { _ in
                CaptureProbe.takeAllPaths()
                #if compiler(>=6.2)
                EndsInIsolation.end(10)
                #endif
            }
            CaptureProbe.require(isRun, "no thread")
            #if compiler(>=6.2)
            await EndsInIsolation.ended(10)
            #endif
            exit(0)
        }
        let recording = try Recording(path: scratch.recording)
        var stacks = 0
        _ = recording.forEachLedgerRecord { _, record in
            let stack = recording.stack(record.getStack) ?? []
            #expect(!stack.contains { $0 & StackWord.asyncBit != 0 }, "\(stack)")
            stacks += 1
        }
        #expect(stacks > 10)
        #expect(recording.header.captureMismatches == 0)
    }

    @Test("a job that is no task has no async parents where a task runs it, either")
    func jobsWithinTasks() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.recording as String] in
            debug("full,quiet,recording=\(path)")
            await CaptureProbe.takeAsyncPaths()
            for isKept in [false, true] {
                CaptureProbe.isKeeping.store(isKept, ordering: .relaxed)
                for _ in 0..<20 { fixture_call_as_job(CaptureProbe.body) }
            }
            #if compiler(>=6.2)
            await InlineActor.letGo()
            #endif
            exit(0)
        }
        let recording = try Recording(path: scratch.recording)
        var asyncStacks = 0
        var ends = 0
        _ = recording.forEachLedgerRecord { _, record in
            let stack = recording.stack(record.getStack) ?? []
            // The resume function of the context that the job has below its frame pointer, which is none.
            #expect(!stack.contains(0x5A5A | StackWord.asyncBit), "\(stack)")
            let hasParents = stack.contains { $0 & StackWord.asyncBit != 0 }
            if hasParents { asyncStacks += 1 }
            guard record.request == InlineActor.endRequest else { return }
            ends += 1
            #expect(!hasParents, "\(stack)")
        }
        #expect(asyncStacks > 8)
        #if compiler(>=6.2)
        #expect(ends == 1)
        #endif
        #expect(recording.header.captureMismatches == 0)
    }

    @Test("a task that an executor runs within another one has parents of its own")
    func tasksWithinTasks() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.recording as String] in
            debug("full,quiet,recording=\(path)")
            await CaptureProbe.takeAsyncPaths()
            let actor = InlineActor()
            for _ in 0..<20 { await actor.run() }
            exit(0)
        }
        let recording = try Recording(path: scratch.recording)
        var parents: [UInt64: [[UInt64]]] = [:]
        _ = recording.forEachLedgerRecord { _, record in
            let stack = recording.stack(record.getStack) ?? []
            parents[record.request, default: []].append(stack.filter { $0 & StackWord.asyncBit != 0 })
        }
        let before = try #require(parents[InlineActor.beforeRequest])
        let within = try #require(parents[InlineActor.withinRequest])
        let after = try #require(parents[InlineActor.afterRequest])
        #expect(before.count == 20 && within.count == 20 && after.count == 20)
        for stack in before + after { #expect(stack.count > 1 && stack == before[0]) }
        for stack in within { #expect(!stack.contains(before[0][0])) }
        #expect(recording.header.captureMismatches == 0)
    }

    @Test("many threads at once, and a thread's first function that uses the pool itself")
    func threads() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.recording as String] in
            debug("full,quiet,recording=\(path)")
            putBuffer(getBuffer(1))
            cmempool_set_check_interval(1)
            let isRun = fixture_run_threads(8, 8) { _ in
                for _ in 0..<3 { for (_, run) in CaptureProbe.paths { for _ in 0..<10 { CaptureProbe.callHere(run) } } }
            }
            CaptureProbe.require(isRun, "no threads")
            CaptureProbe.require(
                fixture_run_threads(2, 1) { _ in for _ in 0..<10 { CaptureProbe.probe() } }, "no threads")
            CaptureProbe.isKeeping.store(true, ordering: .relaxed)
            CaptureProbe.require(fixture_run_threads(4, 2, CaptureProbe.body), "no threads")
            let wrong = CaptureProbe.wrongStacks(in: path)
            CaptureProbe.require(wrong.isEmpty, wrong.joined(separator: "\n"))
            exit(0)
        }
        let header = try Recording(path: scratch.recording).header
        #expect(header.captureMismatches == 0 && header.captureChecks > 500)
    }

    @Test("frames= bounds what is kept of a stack", arguments: [1, 4, 30])
    func frameLimit(limit: Int) async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.recording as String, limit = limit as Int] in
            debug("full,quiet,frames=\(limit),recording=\(path)")
            putBuffer(getBuffer(1))
            cmempool_set_check_interval(.max)
            CaptureProbe.takeAllPaths()
            let wrong = CaptureProbe.wrongStacks(in: path, limit: limit + 8)
            CaptureProbe.require(wrong.isEmpty, wrong.joined(separator: "\n"))
            cmempool_set_check_interval(1)
            CaptureProbe.takeAllPaths()
            exit(0)
        }
        let header = try Recording(path: scratch.recording).header
        #expect(header.captureMismatches == 0 && header.captureChecks > 100)
    }

    @Test("the most that frames= can ask for is kept beside the pool's own frames")
    func mostFrames() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.recording as String] in
            debug("full,quiet,frames=128,recording=\(path)")
            fixture_call_deep({ _ in getBuffer(512)[0] = 1 }, nil, 300)
            exit(0)
        }
        let recording = try Recording(path: scratch.recording)
        var counts: [Int] = []
        _ = recording.forEachLedgerRecord { _, record in
            guard record.state == .outstanding, let stack = recording.stack(record.getStack) else { return }
            // Each turn of the recursion has the same return address.
            let turns = Dictionary(grouping: stack) { $0 }.values.map(\.count).max() ?? 0
            counts.append(turns)
        }
        // All but the closure's frames and those of the pool that are left.
        #expect(counts.count == 1 && counts.allSatisfy { $0 >= 124 }, "\(counts)")
        #expect(recording.header.frameLimit == 128)
    }

    /// Compilers of C, for a library that is made in the test.
    private static let compilers: [String] = ["/usr/bin/cc", "/usr/bin/clang", "/usr/bin/gcc"]
    private static let compiler = compilers.first { access($0, X_OK) == 0 }

    @Test(
        "stacks through a library stay right when others take its place",
        .enabled(if: compiler != nil, "no compiler of C in /usr/bin"))
    func unloadedLibraries() async throws {
        let compiler = try #require(Self.compiler)
        let scratch = ScratchDirectory()
        // The same function at the same place, once with and once without a frame pointer.
        let source = """
            void call(void (*body)(void *)) { volatile long room[4]; room[0] = 1; body(0); room[1] = 2; }
            """
        try source.write(toFile: scratch.path + "/library.c", atomically: true, encoding: .utf8)
        for (name, flag) in [("a", "-fno-omit-frame-pointer"), ("b", "-fomit-frame-pointer")] {
            let process = Process()
            process.executableURL = URL(fileURLWithPath: compiler)
            process.arguments = [
                "-shared", "-fPIC", "-O1", flag, "-o", "\(scratch.path)/\(name).so", "\(scratch.path)/library.c",
            ]
            try process.run()
            process.waitUntilExit()
            try #require(process.terminationStatus == 0)
        }
        await #expect(processExitsWith: .exitCode(0)) {
            [path = scratch.recording as String, directory = scratch.path as String] in
            debug("full,quiet,recording=\(path)")
            putBuffer(getBuffer(1))
            cmempool_set_check_interval(.max)
            for turn in 0..<20 {
                let name = turn % 2 == 0 ? "a" : "b"
                guard let library = dlopen("\(directory)/\(name).so", RTLD_NOW),
                    let symbol = dlsym(library, "call")
                else { fatalError("no library") }
                let call = unsafeBitCast(symbol, to: (@convention(c) (fixture_body) -> Void).self)
                for _ in 0..<10 { CaptureProbe.callHere { call(CaptureProbe.body) } }
                CaptureProbe.isKeeping.store(true, ordering: .relaxed)
                CaptureProbe.callHere { call(CaptureProbe.body) }
                CaptureProbe.isKeeping.store(false, ordering: .relaxed)
                dlclose(library)
            }
            let wrong = CaptureProbe.wrongStacks(in: path)
            CaptureProbe.require(wrong.isEmpty, wrong.joined(separator: "\n"))
            exit(0)
        }
    }
}

#if compiler(>=6.2)
/// Uses the pool where it ends, which is a job on its actor if somebody else lets it go.
private actor EndsInIsolation {
    private static let count = Atomic(0)

    let lease = leaseBuffer(100)

    isolated deinit {
        for _ in 0..<10 { putBuffer(getBuffer(200)) }
        Self.count.add(1, ordering: .releasing)
    }

    /// Makes and lets go of so many.
    static func end(_ number: Int) {
        for _ in 0..<number { _ = EndsInIsolation() }
    }

    /// Waits until so many have ended.
    static func ended(_ number: Int) async {
        while count.load(ordering: .acquiring) < number { await Task.yield() }
    }
}
#endif

/// Runs each job where it is enqueued, in the middle of whatever enqueues it.
private final class InlineExecutor: SerialExecutor {
    func enqueue(_ job: consuming ExecutorJob) {
        UnownedJob(job).runSynchronously(on: asUnownedSerialExecutor())
    }
}

private actor InlineActor {
    static let beforeRequest: UInt64 = 601
    static let withinRequest: UInt64 = 602
    static let afterRequest: UInt64 = 603
    static let endRequest: UInt64 = 604

    private let executor = InlineExecutor()
    nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    /// Keeps a buffer of each request, the second one in a task that runs where it is made.
    func run() {
        _ = getBuffer(Int(Self.beforeRequest))
        Task { self.runWithin() }
        _ = getBuffer(Int(Self.afterRequest))
    }

    private func runWithin() { _ = getBuffer(Int(Self.withinRequest)) }

    #if compiler(>=6.2)
    isolated deinit { _ = getBuffer(Int(Self.endRequest)) }

    /// The last one to hold the actor is a task elsewhere, so that the end is a job on the actor's executor.
    static func letGo() async { await hold(InlineActor()) }

    @inline(never) private static func hold(_ actor: InlineActor) async { await Task.yield() }
    #endif
}

// What a program learns from `Diagnostics`: findings so far, marks, kept buffers, the handler, snapshots.

import Foundation
import Mempool
import MempoolRecorder
import MempoolRecording
import Synchronization
import Testing

/// Starts a recorded process of its own: to be called first in an exit test, before any pool is used.
func record(_ settings: String) { setenv("MEMPOOL_DEBUG", settings, 1) }

/// Ends an exit test with a status that none of them expects, unless the condition holds.
func must(_ condition: Bool, _ what: @autoclosure () throws -> String = "", line: Int = #line) {
    guard !condition else { return }
    FileHandle.standardError.write(Data("line \(line): not so \((try? what()) ?? "")\n".utf8))
    _exit(99)
}

/// The error that the body throws; a body that throws none ends the exit test.
func failure<R>(line: Int = #line, _ body: () throws -> R) -> (any Error)? {
    do {
        _ = try body()
        must(false, "throws nothing", line: line)
        return nil
    } catch {
        return error
    }
}

@inline(never) func leakHere(_ size: Int) { getBuffer(size)[0] = 1 }
@inline(never) private func leakElsewhere(_ size: Int) { getBuffer(size)[0] = 1 }

@inline(never) private func putTwice() {
    let buffer = getBuffer(100)
    putBuffer(buffer)
    putBuffer(buffer)
}

/// Findings that a handler was told.
private let told = Mutex<[Diagnostics.Finding]>([])

@Suite("Diagnostics")
struct DiagnosticsTests {
    @Test("check lists mistakes first, then leaks grouped by stack, with count, bytes and functions")
    func check() async {
        await #expect(processExitsWith: .exitCode(0)) {
            record("full,quiet")
            must(Diagnostics.isRecording && Diagnostics.level == .full)
            must(try Diagnostics.check().isEmpty)
            for _ in 0..<3 { leakHere(4000) }
            leakElsewhere(10)
            putTwice()
            let findings = try Diagnostics.check()
            must(findings.map(\.kind) == [.doublePut, .leak, .leak], "\(findings)")
            must(findings.map(\.count) == [1, 3, 1] && findings.map(\.bytes) == [512, 3 * 4096, 512])
            must(findings[0].functions.first == "MempoolRecorderTests.putTwice", "\(findings[0].functions)")
            must(findings[1].functions.first == "MempoolRecorderTests.leakHere")
            must(findings.allSatisfy { $0.scope == nil && $0.note == nil })
            must(findings[1].description.hasPrefix("leak: 3 buffers, 12 KiB, got in MempoolRecorderTests.leakHere < "))
            exit(0)
        }
    }

    @Test("check knows of a write after the put before anybody gets the buffer, and counts it once")
    func writtenAfterPut() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.recording as String] in
            record("full,quiet,recording=\(path)")
            let buffer = getBuffer(100)
            let bytes = buffer.withUnsafeMutableBytes { $0 }
            putBuffer(buffer)
            bytes[7] = 1
            for _ in 0..<2 {
                let findings = try Diagnostics.check()
                must(findings.map(\.kind) == [.useAfterPut] && findings[0].count == 1, "\(findings)")
            }
            exit(0)
        }
        let findings = try Recording(path: scratch.recording).findings
        #expect(findings.map(\.kind) == [FindingKind.useAfterPut.rawValue] && findings.map(\.count) == [1])
    }

    @Test("nothing answers when the recorder is off, and the bodies of scopes and notes run")
    func off() async {
        await #expect(processExitsWith: .exitCode(0)) {
            record("off")
            must(!Diagnostics.isRecording && Diagnostics.level == .off)
            leakHere(10)
            let mark = Diagnostics.mark()
            must(failure { try Diagnostics.check() } as? DiagnosticsError == .off)
            must(failure { try Diagnostics.outstanding(since: mark) } as? DiagnosticsError == .off)
            must(failure { try Diagnostics.snapshot(to: "/nowhere/a") } as? DiagnosticsError == .off)
            let checked = failure { try Diagnostics.withCheckedScope("a") { must(false, "runs unchecked") } }
            must(checked as? DiagnosticsError == .off)
            must(Diagnostics.withScope("a") { 1 } == 1)
            must(Diagnostics.withNote({ fatalError() }) { getBuffer(1).count } == 1)
            let asynchronous = await Diagnostics.withScope("a") { await Task { 2 }.value }
            must(asynchronous == 2)
            Diagnostics.onFinding { _ in must(false, "is told") }
            putTwice()
            Diagnostics.keepForLife(getBuffer(1))
            exit(0)
        }
    }

    @Test("nothing answers for good when records were dropped")
    func incomplete() async {
        await #expect(processExitsWith: .exitCode(0)) {
            record("full,quiet,max-ledger=20")
            for _ in 0..<10 { leakHere(10) }
            let error = failure { try Diagnostics.check() } as? DiagnosticsError
            must(error == .incomplete(dropped: 6), "\(String(describing: error))")
            must(failure { try Diagnostics.outstanding(since: Diagnostics.mark()) } as? DiagnosticsError == error)
            must(failure { try Diagnostics.withCheckedScope("a") {} } as? DiagnosticsError == error)
            exit(0)
        }
    }

    @Test("a checked scope that drops records throws, although it finds nothing")
    func incompleteScope() async {
        await #expect(processExitsWith: .exitCode(0)) {
            record("full,quiet,max-ledger=1")
            let error = failure { try Diagnostics.withCheckedScope("a") { leakHere(10) } }
            must(error as? DiagnosticsError == .incomplete(dropped: 1), "\(String(describing: error))")
            exit(0)
        }
    }

    @Test("check throws at level sampled", .enabled(if: RecorderOptions.levels.contains(.sampled)))
    func sampled() async {
        await #expect(processExitsWith: .exitCode(0)) {
            record("sampled,sample=64,quiet")
            putBuffer(getBuffer(1))
            must(failure { try Diagnostics.check() } as? DiagnosticsError == .sampled(interval: 64))
            must(Diagnostics.isRecording && Diagnostics.level == .sampled)
            exit(0)
        }
    }

    @Test("a forked child is not recorded, and says so")
    func forkedChild() async {
        await #expect(processExitsWith: .exitCode(0)) {
            record("full,quiet")
            leakHere(10)
            Diagnostics.onFinding { _ in must(false, "is told") }
            let status = Diagnostics.withScope("around") {
                let child = rawFork()
                if child == 0 {
                    must(!Diagnostics.isRecording)
                    must(failure { try Diagnostics.check() } as? DiagnosticsError == .forkedChild)
                    must(failure { try Diagnostics.snapshot(to: "/nowhere/a") } as? DiagnosticsError == .forkedChild)
                    Diagnostics.withScope("child") { putTwice() }
                    _exit(0)
                }
                var status: CInt = 0
                waitpid(child, &status, 0)
                return status
            }
            must(status == 0)
            must(try Diagnostics.check().count == 1)
            exit(0)
        }
    }

    // MARK: - Marks and kept buffers

    @Test("since a mark only what is new is listed, also in a slot that was outstanding at the mark")
    func sinceMark() async {
        await #expect(processExitsWith: .exitCode(0)) {
            record("full,quiet")
            for _ in 0..<5 { leakElsewhere(10) }
            let buffer = getBuffer(100)
            let mark = Diagnostics.mark()
            must(try Diagnostics.outstanding(since: mark).isEmpty)
            putBuffer(buffer)
            must(try Diagnostics.outstanding(since: mark).isEmpty)
            // The same slot again.
            leakHere(100)
            leakHere(4000)
            let findings = try Diagnostics.outstanding(since: mark)
            must(findings.map(\.count) == [1, 1] && findings.map(\.bytes) == [4096, 512], "\(findings)")
            must(try Diagnostics.outstanding(since: Diagnostics.Mark()).reduce(0) { $0 + $1.count } == 7)
            exit(0)
        }
    }

    @Test("a buffer kept for life is no leak, until it is put and got again")
    func kept() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(5)) { [path = scratch.recording as String] in
            record("full,quiet,exitcode=9,recording=\(path)")
            let kept = getBuffer(100)
            Diagnostics.keepForLife(kept)
            Diagnostics.keepForLife(kept.prefix(10))
            must(try Diagnostics.check().isEmpty)
            let other = getBuffer(100)
            Diagnostics.keepForLife(other)
            putBuffer(other)
            Diagnostics.keepForLife(other)
            must(try Diagnostics.check().isEmpty)
            let again = getBuffer(100)
            must(try Diagnostics.check().count == 1)
            putBuffer(again)
            Diagnostics.keepForLife(Buffer(wrapping: UnsafeMutableRawBufferPointer(start: nil, count: 0)))
            exit(5)
        }
        let recording = try Recording(path: scratch.recording)
        #expect(recording.header.keptBuffers == 1)
        var flags: [UInt8] = []
        _ = recording.forEachLedgerRecord { _, record in
            if record.state == .outstanding { flags.append(record.flags) }
        }
        #expect(flags == [LedgerFlags.kept])
    }

    @Test("a kept buffer does not change the exit status")
    func keptAtExit() async {
        await #expect(processExitsWith: .exitCode(0)) {
            record("full,quiet,exitcode=9")
            Diagnostics.keepForLife(getBuffer(100))
            exit(0)
        }
    }

    // MARK: - The handler

    @Test("the handler is told each mistake once, on its thread; it may use the pool and be replaced")
    func handler() async {
        await #expect(processExitsWith: .exitCode(0)) {
            record("full,quiet")
            let thread = pthread_self()
            Diagnostics.onFinding { finding in
                must(pthread_equal(pthread_self(), thread) != 0)
                told.withLock { $0.append(finding) }
                // Neither a lock nor a half-done put is in the way, even if magazines overflow.
                let buffers = (0..<300).map { _ in getBuffer(100) }
                buffers.forEach(putBuffer)
                // Its own mistakes are not told.
                putTwice()
            }
            for _ in 0..<3 { putTwice() }
            putBuffer(getBuffer(1000).dropFirst(16))
            let overrun = getBuffer(100)
            overrun.withUnsafeMutableBytes { bytes in
                bytes.baseAddress?.storeBytes(of: 1, toByteOffset: 101, as: UInt8.self)
            }
            putBuffer(overrun)
            let kinds = told.withLock { $0.map(\.kind) }
            must(kinds == [.doublePut, .doublePut, .doublePut, .wrongCapacity, .overrun], "\(kinds)")
            must(told.withLock { $0.allSatisfy { $0.count == 1 } })
            must(told.withLock { $0[0].functions.first } == "MempoolRecorderTests.putTwice")
            Diagnostics.onFinding { finding in told.withLock { $0 = [finding] } }
            putTwice()
            must(told.withLock { $0.count } == 1)
            Diagnostics.onFinding(nil)
            putTwice()
            must(told.withLock { $0.count } == 1)
            must(getStats().inUse == 0)
            let doublePuts = try Diagnostics.check().filter { $0.kind == .doublePut }.reduce(0) { $0 + $1.count }
            must(doublePuts == 3 + 5 + 2, "\(doublePuts)")
            exit(0)
        }
    }

    @Test("what is noticed while memory goes back to the system is told with the next get")
    func handlerAfterTrim() async {
        await #expect(processExitsWith: .exitCode(0)) {
            record("full,quiet")
            Diagnostics.onFinding { finding in
                told.withLock { $0.append(finding) }
                putBuffer(getBuffer(100))
            }
            let buffer = getBuffer(100_000)
            let bytes = buffer.withUnsafeMutableBytes { $0 }
            putBuffer(buffer)
            bytes[7] = 1
            _ = BufferPool.shared.trim()
            must(told.withLock { $0.isEmpty })
            putBuffer(getBuffer(10))
            must(told.withLock { $0.map(\.kind) } == [.useAfterPut])
            exit(0)
        }
    }

    // MARK: - Snapshots

    @Test("a snapshot is a recording of the moment: outstanding, scopes, stacks, findings, counters")
    func snapshot() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.path + "/snapshot.mempool"
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            record("full,quiet")
            for _ in 0..<20_000 { putBuffer(getBuffer(10)) }
            leakHere(3000)
            putTwice()
            let late = Diagnostics.withScope("upload") { Diagnostics.withNote({ "route=/a" }) { getBuffer(100) } }
            try Diagnostics.snapshot(to: path)
            putBuffer(late)
            leakHere(10)
            must(
                failure { try Diagnostics.snapshot(to: path) } as? DiagnosticsError
                    == .cannotWrite(path: path, errorNumber: EEXIST))
            must(
                failure { try Diagnostics.snapshot(to: "/nowhere/a") } as? DiagnosticsError
                    == .cannotWrite(path: "/nowhere/a", errorNumber: ENOENT))
            exit(0)
        }
        var status = stat()
        #expect(lstat(path, &status) == 0 && status.st_mode & 0o777 == 0o600)
        let recording = try Recording(path: path)
        #expect(recording.damage == [])
        #expect(recording.header.flags == RecordingHeader.snapshotFlag && recording.header.endMonotonic == 0)
        var outstanding: [LedgerRecord] = []
        _ = recording.forEachLedgerRecord { _, record in
            if record.state == .outstanding { outstanding.append(record) }
        }
        #expect(outstanding.map(\.request).sorted() == [100, 3000])
        #expect(outstanding.allSatisfy { (recording.stack($0.getStack)?.count ?? 0) > 3 })
        let noted = try #require(outstanding.first { $0.request == 100 })
        let context = recording.contexts[Int(noted.context)]
        #expect(context.note == "route=/a")
        #expect(recording.contexts[Int(context.record.scope)].name == "upload")
        #expect(recording.findings.map(\.kind) == [FindingKind.doublePut.rawValue])
        #expect(recording.pools.first?.rows.map(\.gets).reduce(0, +) == 20_003)
        #expect(recording.modules.count > 3 && !recording.executable.isEmpty)
    }

    @Test("a snapshot that finds no room is an error, not a signal, and leaves no file")
    func snapshotBeyondLimit() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.path + "/snapshot.mempool"
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            record("full,quiet,recording=\(path).live")
            leakHere(10)
            var limit = rlimit(rlim_cur: 100_000, rlim_max: 100_000)
            setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
            must(
                failure { try Diagnostics.snapshot(to: path) } as? DiagnosticsError
                    == .cannotWrite(path: path, errorNumber: EFBIG))
            exit(0)
        }
        #expect(!FileManager.default.fileExists(atPath: path))
    }
}

/// fork(2), which Swift does not import because most programs must not use it.
@_silgen_name("fork") private func rawFork() -> pid_t

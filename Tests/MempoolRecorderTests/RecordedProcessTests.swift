// The recorder in real processes: each test runs a part of itself as an exit test and reads the recording it left.

import Foundation
import Mempool
import MempoolRecorder
import MempoolRecording
import Synchronization
import Testing

/// A fresh directory that is removed with the value.
final class ScratchDirectory: Sendable {
    let path: String
    init() {
        path = FileManager.default.temporaryDirectory.path + "/mempool-test-\(UUID().uuidString)"
        try? FileManager.default.createDirectory(
            atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700]
        )
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }
    var recording: String { path + "/a.mempool" }
}

/// Makes the settings of the coming recorder; to be called first in an exit test, before any pool is used.
private func debug(_ settings: String) { setenv("MEMPOOL_DEBUG", settings, 1) }

private func limitFileSize(_ bytes: Int) {
    var limit = rlimit(rlim_cur: rlim_t(bytes), rlim_max: rlim_t(bytes))
    setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
}

@inline(never) private func leak(_ size: Int) { getBuffer(size)[0] = 1 }

private func leakInClosures() async {
    await Task.detached {
        let outer = {
            let inner = { leak(5000) }; inner()
        }
        outer()
    }.value
}

private func leakOnThread() {
    var thread = pthread_t()
    pthread_create(
        &thread, nil,
        { _ in
            leak(100); return nil
        }, nil)
    pthread_join(thread, nil)
}

@Suite("Recorded processes")
struct RecordedProcessTests {
    private func read(_ path: String) throws -> Recording { try Recording(path: path) }

    private func outstanding(_ recording: Recording) -> [LedgerRecord] {
        var records: [LedgerRecord] = []
        _ = recording.forEachLedgerRecord { _, record in
            if record.state == .outstanding { records.append(record) }
        }
        return records
    }

    @Test("a clean exit completes the recording, with what was outstanding")
    func cleanExit() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            debug("full,quiet,recording=\(path)")
            leak(4096)
            putBuffer(getBuffer(100))
            exit(0)
        }
        let recording = try read(path)
        #expect(recording.header.flags & RecordingHeader.cleanExitFlag != 0)
        #expect(recording.header.exitStatus == 0)
        let records = outstanding(recording)
        #expect(records.map(\.request) == [4096])
        #expect((recording.stack(records[0].getStack)?.count ?? 0) > 3)
        #expect(recording.header.dropped.total == 0)
    }

    @Test("kill -9 leaves everything that was outstanding in the recording")
    func killed() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .signal(SIGKILL)) { [path = path as String] in
            debug("full,recording=\(path)")
            for size in 1...1000 { leak(size) }
            kill(getpid(), SIGKILL)
        }
        let recording = try read(path)
        #expect(recording.header.flags & RecordingHeader.cleanExitFlag == 0)
        #expect(outstanding(recording).map { Int($0.request) }.sorted() == Array(1...1000))
    }

    @Test("a signal that nobody handles leaves the recording, and neither a block nor another status")
    func terminated() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        let result = await #expect(processExitsWith: .signal(SIGTERM), observing: [\.standardErrorContent]) {
            [path = path as String] in
            debug("full,exitcode=23,recording=\(path)")
            leak(100)
            // Test processes may inherit it blocked or ignored.
            signal(SIGTERM, SIG_DFL)
            var mask = sigset_t()
            sigemptyset(&mask)
            sigprocmask(SIG_SETMASK, &mask, nil)
            kill(getpid(), SIGTERM)
            // Another thread of the process may be the one that takes it.
            sleep(60)
        }
        let text = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
        #expect(!text.contains("mempool:"), "\(text)")
        #expect(outstanding(try read(path)).map(\.request) == [100])
    }

    @Test("a trap leaves everything that was outstanding in the recording")
    func crashed() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .failure) { [path = path as String] in
            debug("full,recording=\(path)")
            leak(777)
            fatalError("on purpose")
        }
        #expect(outstanding(try read(path)).map(\.request) == [777])
    }

    @Test("the block at exit names kind, count and function, and the command for the rest")
    func block() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardErrorContent]) {
            [path = path as String] in
            debug("full,recording=\(path)")
            leak(5000)
            leak(5000)
            let buffer = getBuffer(100)
            putBuffer(buffer)
            putBuffer(buffer)
            exit(0)
        }
        let text = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
        #expect(text.contains("mempool: 3 findings from 3 places when "))
        #expect(text.contains("mempool:   double put, once, in "))
        #expect(text.contains("mempool:   leak: 1 buffer, 16 KiB, got in MempoolRecorderTests.leak"))
        #expect(text.contains("mempool: files, lines and stacks: mempool-doctor report \(path)\n"))
    }

    @Test("one buffer that was not watched and one get without room are told as one")
    func singular() async throws {
        var result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardErrorContent]) {
            debug("sampled,sample=1000000")
            leak(100)
            exit(0)
        }
        var text = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
        #expect(text.contains("mempool: 1 buffer is outstanding, and none of those that were sampled;"), "\(text)")
        result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardErrorContent]) {
            debug("full,max-ledger=1")
            leak(100)
            exit(0)
        }
        text = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
        #expect(text.contains("mempool: 1 get found no room in the recording and is not checked: "), "\(text)")
    }

    @Test("the block names what somebody wrote, and neither what a macro nor what the runtime made")
    func blockOfGlue() async throws {
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardErrorContent]) {
            debug("full,recording=/dev/null")
            await leakInClosures()
            leakOnThread()
            exit(0)
        }
        let text = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
        let leak = "got in MempoolRecorderTests.leak < closure in MempoolRecorderTests."
        #expect(text.contains("1 buffer, 16 KiB, \(leak)leakInClosures < "), "\(text)")
        #expect(text.contains("1 buffer, 512 B, \(leak)leakOnThread"), "\(text)")
        for glue in ["closure in closure", "@objc", "$s", "_ZN", "swift_job_run", "pthread_"] {
            #expect(!text.contains(glue), "\(glue) in \(text)")
        }
    }

    @Test("exitcode replaces a status of 0, and no other")
    func exitCode() async {
        await #expect(processExitsWith: .exitCode(23)) {
            debug("full,quiet,exitcode=23")
            leak(1)
            exit(0)
        }
        await #expect(processExitsWith: .exitCode(3)) {
            debug("full,quiet,exitcode=23")
            leak(1)
            exit(3)
        }
        await #expect(processExitsWith: .exitCode(0)) {
            debug("full,quiet,exitcode=23")
            putBuffer(getBuffer(1))
            exit(0)
        }
    }

    @Test("without findings and without recording= no file stays and nothing is printed")
    func nothingLeft() async throws {
        let scratch = ScratchDirectory()
        let directory = scratch.path
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardErrorContent]) {
            [directory = directory as String] in
            setenv("XDG_RUNTIME_DIR", directory, 1)
            debug("full")
            putBuffer(getBuffer(1))
            exit(0)
        }
        let text = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
        // The testing library adds bytes of its own.
        #expect(!text.contains("mempool"))
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory + "/mempool") == [])
    }

    @Test("with findings and without recording= the file stays in the user's own directory, mode 0600")
    func ownDirectory() async throws {
        let scratch = ScratchDirectory()
        let directory = scratch.path
        await #expect(processExitsWith: .exitCode(0)) { [directory = directory as String] in
            setenv("XDG_RUNTIME_DIR", directory, 1)
            debug("full,quiet")
            leak(1)
            exit(0)
        }
        let files = try FileManager.default.contentsOfDirectory(atPath: directory + "/mempool")
        let file = try #require(files.first)
        #expect(files.count == 1 && file.hasSuffix(".mempool"))
        var status = stat()
        #expect(lstat(directory + "/mempool/" + file, &status) == 0 && status.st_mode & 0o777 == 0o600)
        #expect(lstat(directory + "/mempool", &status) == 0 && status.st_mode & 0o777 == 0o700)
    }

    @Test("old recordings are pruned: at most 32, none older than a week")
    func pruned() async throws {
        let scratch = ScratchDirectory()
        let directory = scratch.path
        let own = directory + "/mempool"
        try FileManager.default.createDirectory(
            atPath: own, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700]
        )
        for number in 0..<50 {
            // Process identifiers that cannot be: above the kernel's largest.
            let path = "\(own)/x-\(90_000_000 + number).mempool"
            #expect(FileManager.default.createFile(atPath: path, contents: Data([1])))
            let age = number == 0 ? 0 : number == 1 ? 8 * 24 * 3600.0 : Double(number)
            try FileManager.default.setAttributes(
                [.modificationDate: Date(timeIntervalSinceNow: -age)], ofItemAtPath: path)
        }
        #expect(FileManager.default.createFile(atPath: own + "/notes.txt", contents: Data()))
        await #expect(processExitsWith: .exitCode(0)) { [directory = directory as String] in
            setenv("XDG_RUNTIME_DIR", directory, 1)
            debug("full,quiet")
            putBuffer(getBuffer(1))
            exit(0)
        }
        let left = try FileManager.default.contentsOfDirectory(atPath: own)
        #expect(left.count == 33 && left.contains("notes.txt"))
        #expect(left.contains("x-90000000.mempool") && !left.contains("x-90000001.mempool"))
    }

    @Test("an existing file is kept; the recording goes beside it and the line says so")
    func existingFile() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        try Data("precious".utf8).write(to: URL(fileURLWithPath: path))
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardErrorContent]) {
            [path = path as String] in
            debug("full,quiet,recording=\(path)")
            leak(1)
            exit(0)
        }
        let text = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
        #expect(text.hasPrefix("mempool: \(path) exists and is kept; recording to \(path)."))
        #expect(try String(contentsOfFile: path, encoding: .utf8) == "precious")
        #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path).count == 2)
    }

    @Test("a place that cannot be written gives one line, and findings are still printed")
    func unwritable() async throws {
        let result = await #expect(processExitsWith: .exitCode(9), observing: [\.standardErrorContent]) {
            debug("full,exitcode=9,recording=/proc/nowhere/a.mempool")
            leak(1)
            exit(0)
        }
        let text = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
        #expect(
            text.contains("mempool: cannot create /proc/nowhere/a.mempool: No such file or directory; findings are"))
        #expect(text.contains("mempool:   leak: 1 buffer, 512 B"))
        #expect(!text.contains("mempool-doctor report"))
    }

    @Test("a limit on file sizes makes the recording smaller, and too small a limit does without, but no signal comes")
    func fileSizeLimit() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            limitFileSize(8 << 20)
            debug("full,quiet,recording=\(path)")
            for _ in 0..<200_000 { leak(10) }
            exit(0)
        }
        let recording = try read(path)
        #expect(recording.header.dropped.ledger > 0)
        #expect(outstanding(recording).count + Int(recording.header.dropped.ledger) == 200_000)
        await #expect(processExitsWith: .exitCode(7)) { [path = path as String] in
            limitFileSize(100_000)
            debug("full,quiet,exitcode=7,recording=\(path)-2")
            leak(10)
            exit(0)
        }
        #expect(!FileManager.default.fileExists(atPath: path + "-2"))
    }

    @Test("a device is no place for a recording, nor for one beside it")
    func device() async throws {
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardErrorContent]) {
            debug("full,quiet,recording=/dev/null")
            leak(1)
            exit(0)
        }
        let text = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
        #expect(text.contains("mempool: cannot create /dev/null: it is a directory, a link or a device; findings"))
        let beside = try FileManager.default.contentsOfDirectory(atPath: "/dev")
        #expect(!beside.contains { $0.hasPrefix("null.") })
    }

    @Test("what a full ledger dropped is said at exit, even if nothing else is")
    func droppedIsSaid() async throws {
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardErrorContent]) {
            debug("full,max-ledger=1")
            leak(10)
            leak(10)
            exit(0)
        }
        let text = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
        #expect(text.contains("mempool: 2 gets found no room in the recording and are not checked: the ledger"))
    }

    @Test("an unknown key gives one line and the recorder runs")
    func unknownKey() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardErrorContent]) {
            [path = path as String] in
            debug("full,quiet,lvel=3,recording=\(path)")
            leak(1)
            exit(0)
        }
        let text = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
        #expect(text.hasPrefix("mempool: MEMPOOL_DEBUG: unknown key 'lvel'; valid are level,"))
        #expect(text.split(separator: "\n").count { $0.contains("mempool:") } == 1)
        #expect(outstanding(try read(path)).count == 1)
    }

    @Test("level off records nothing")
    func off() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            debug("off,exitcode=5,recording=\(path)")
            leak(1)
            exit(0)
        }
        #expect(!FileManager.default.fileExists(atPath: path))
    }

    @Test("a recording that was asked for appears even if no pool was used")
    func unused() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(4)) { [path = path as String] in
            debug("full,recording=\(path)")
            exit(4)
        }
        let recording = try read(path)
        #expect(recording.header.exitStatus == 4 && recording.pools.isEmpty)
    }

    @Test("a forked child leaves its parent's recording alone")
    func fork() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            debug("full,quiet,recording=\(path)")
            leak(100)
            let child = rawFork()
            if child == 0 {
                leak(200)
                leak(300)
                exit(0)
            }
            var status: CInt = 0
            waitpid(child, &status, 0)
            exit(status == 0 ? 0 : 1)
        }
        #expect(outstanding(try read(path)).map(\.request) == [100])
    }

    @Test("a forked child says once that it is not recorded, its parent never")
    func forkedChildSaysSo() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardErrorContent]) {
            [path = path as String] in
            debug("full,recording=\(path)")
            putBuffer(getBuffer(100))
            var children: [pid_t] = []
            for _ in 0..<2 {
                let child = rawFork()
                if child == 0 {
                    for _ in 0..<10 { putBuffer(getBuffer(200)) }
                    _exit(0)
                }
                children.append(child)
                var status: CInt = 0
                waitpid(child, &status, 0)
            }
            putBuffer(getBuffer(100))
            try? children.map(String.init).joined(separator: "\n").write(
                toFile: path + ".children", atomically: true, encoding: .utf8)
            exit(0)
        }
        let text = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
        let children = try String(contentsOfFile: path + ".children", encoding: .utf8).split(separator: "\n")
        #expect(children.count == 2)
        let lines = text.split(separator: "\n").filter { $0.hasPrefix("mempool: ") }
        #expect(
            lines == children.map { "mempool: process \($0) was forked from a recorded one and is not recorded itself" }
        )
    }

    @Test("bad puts become findings with all their stacks")
    func findings() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            debug("full,quiet,recording=\(path)")
            let first = getBuffer(100)
            putBuffer(first)
            let second = getBuffer(200)
            putBuffer(first)
            putBuffer(second)
            putBuffer(getBuffer(1000).dropFirst(16))
            putBuffer(Buffer(wrapping: .allocate(byteCount: 33, alignment: 8)))
            let other = BufferPool()
            let elsewhere = other.get(10)
            putBuffer(elsewhere)
            other.put(elsewhere)
            exit(0)
        }
        let recording = try read(path)
        #expect(recording.findings.map(\.kind) == [1, 2, 3, 4])
        let doublePut = recording.findings[0]
        #expect(doublePut.reissues == 1 && doublePut.request == 100 && doublePut.givenCapacity == 512)
        for stack in [doublePut.getStack, doublePut.firstPutStack, doublePut.putStack, doublePut.reissueStack] {
            #expect((recording.stack(stack)?.count ?? 0) > 3)
        }
        #expect(
            Set([doublePut.getStack, doublePut.firstPutStack, doublePut.putStack, doublePut.reissueStack]).count == 4)
        let wrongCapacity = recording.findings[1]
        #expect(wrongCapacity.givenCapacity == 1008 && wrongCapacity.expectedCapacity == 1024)
        #expect(wrongCapacity.getStack > 0 && wrongCapacity.putStack > 0)
        #expect(recording.findings[2].givenCapacity == 33 && recording.findings[2].putStack > 0)
        let wrongPool = recording.findings[3]
        #expect(wrongPool.pool == 0 && wrongPool.issuingPool == 1 && wrongPool.getStack > 0)
        #expect(outstanding(recording).isEmpty)
        let counters = try #require(recording.pools.first).rows
        #expect(counters.map(\.gets).reduce(0, +) == 3 && counters[0].highWater == 1)
    }

    @Test("a double put is explained after the buffer went through many hands")
    func historyOfManyOwners() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            debug("full,quiet,recording=\(path)")
            let first = getBuffer(100)
            putBuffer(first)
            for _ in 0..<1000 { putBuffer(getBuffer(100)) }
            putBuffer(first)
            exit(0)
        }
        let finding = try #require(read(path).findings.first)
        #expect(finding.reissues == 1000 && finding.getStack > 0 && finding.firstPutStack > 0)
        #expect(finding.flags & FindingRecord.historyLostFlag == 0)
    }

    @Test("of a double put after more hands than are remembered it is said that they are forgotten")
    func historyOfTooManyOwners() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            debug("full,quiet,recording=\(path)")
            let first = getBuffer(100)
            putBuffer(first)
            for _ in 0..<2000 { putBuffer(getBuffer(100)) }
            putBuffer(first)
            exit(0)
        }
        let finding = try #require(read(path).findings.first)
        #expect(finding.kind == FindingKind.doublePut.rawValue && finding.reissues == 2000 && finding.putStack > 0)
        #expect(finding.flags & FindingRecord.historyLostFlag != 0)
        #expect(finding.getStack == 0 && finding.firstPutStack == 0)
    }

    @Test("a full ledger counts what it drops and the program goes on")
    func fullLedger() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            debug("full,quiet,max-ledger=100,recording=\(path)")
            for _ in 0..<300 { leak(10) }
            exit(0)
        }
        let recording = try read(path)
        #expect(outstanding(recording).count == 84, "slots 0 to 15 are never used")
        #expect(recording.header.dropped.ledger == 216)
    }

    @Test("equal stacks are stored once")
    func stacksOnce() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            debug("full,quiet,recording=\(path)")
            for _ in 0..<500 { leak(10) }
            exit(0)
        }
        #expect(Set(outstanding(try read(path)).map(\.getStack)).count == 1)
    }
}

/// fork(2), which Swift does not import because most programs must not use it; the children here only use the pool and exit.
@_silgen_name("fork") private func rawFork() -> pid_t

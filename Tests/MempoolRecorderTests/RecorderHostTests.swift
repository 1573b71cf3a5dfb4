// What a program may do to the recorder within it without harm to either: its descriptors, its signals, its limits, its end.

import CMempoolPlatform
import CaptureFixtures
import Foundation
import Mempool
import MempoolRecording
import Synchronization
import Testing

/// fork(2), which Swift does not import because most programs must not use it.
@_silgen_name("fork") private func forkProcess() -> pid_t

/// Where the recorder's file is open in this process.
private func descriptor(of path: String) -> CInt? {
    (3..<1024).first { number in
        (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\(number)")) == path
    }
}

private func limitData(_ bytes: rlim_t?) {
    var limit = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_DATA.rawValue), &limit)
    limit.rlim_cur = bytes ?? limit.rlim_max
    setrlimit(__rlimit_resource_t(RLIMIT_DATA.rawValue), &limit)
}

/// Where `touch` writes.
private let touched = Atomic<UInt>(0)

private func touch(framePointer: UInt) {
    guard let address = UnsafeMutableRawPointer(bitPattern: touched.load(ordering: .relaxed)) else { exit(98) }
    fixture_store_with_frame_pointer(address, framePointer)
}

private let isKnownThread = Atomic(false)
private let wasHandled = Atomic(0)
private let isDone = Atomic(false)

@Suite("The recorder within its host")
struct RecorderHostTests {
    private func outstanding(_ recording: Recording) -> Int {
        recording.forEachLedgerRecord { _, _ in }.outstanding
    }

    // MARK: - Descriptors

    @Test("a program that uses the recorder's descriptor for a file of its own keeps that file, and is recorded on")
    func takenDescriptor() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        let victim = scratch.path + "/precious"
        try Data("precious".utf8).write(to: URL(fileURLWithPath: victim))
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String, victim = victim as String] in
            record("full,quiet,recording=\(path)")
            leakHere(1)
            guard let own = descriptor(of: path) else { exit(98) }
            dup2(open(victim, O_RDWR), own)
            for _ in 0..<5_000 { leakHere(10) }
            exit(0)
        }
        #expect(try Data(contentsOf: URL(fileURLWithPath: victim)) == Data("precious".utf8))
        let recording = try Recording(path: path)
        #expect(recording.isCleanExit && recording.header.dropped.total == 0)
        #expect(outstanding(recording) == 5_001)
    }

    @Test("a line for a pipe that nobody reads raises no signal in the program")
    func brokenPipe() async {
        await #expect(processExitsWith: .exitCode(0)) {
            record("full,nonsense")
            signal(SIGPIPE, SIG_DFL)
            var mask = sigset_t()
            sigemptyset(&mask)
            pthread_sigmask(SIG_SETMASK, &mask, nil)
            var ends: [CInt] = [0, 0]
            must(pipe(&ends) == 0)
            close(ends[0])
            dup2(ends[1], STDERR_FILENO)
            leakHere(1)
            // One that the program itself has pending stays.
            sigaddset(&mask, SIGPIPE)
            pthread_sigmask(SIG_BLOCK, &mask, nil)
            var pending = sigset_t()
            sigpending(&pending)
            if sigismember(&pending, SIGPIPE) != 0 { exit(97) }
            pthread_sigmask(SIG_UNBLOCK, &mask, nil)
            exit(0)
        }
    }

    // MARK: - The end

    @Test("exitcode= ends a program whose other thread waits for input")
    func exitCodeWhileReading() async {
        await #expect(processExitsWith: .exitCode(23)) {
            alarm(30)
            record("full,quiet,exitcode=23")
            leakHere(1)
            var ends: [CInt] = [0, 0]
            must(pipe(&ends) == 0)
            guard let stream = fdopen(ends[0], "r") else { exit(98) }
            nonisolated(unsafe) let input = stream
            Thread.detachNewThread {
                var line: UnsafeMutablePointer<CChar>?
                var capacity = 0
                getline(&line, &capacity, input)
            }
            // Until the thread waits with the stream's lock held.
            while ftrylockfile(input) == 0 {
                funlockfile(input)
                usleep(1_000)
            }
            exit(0)
        }
    }

    @Test("exitcode= also counts for leaks of which no get was sampled")
    func exitCodeUnsampled() async {
        await #expect(processExitsWith: .exitCode(23)) {
            record("sampled,sample=1000000,quiet,exitcode=23")
            leakHere(1)
            exit(0)
        }
    }

    @Test("what other threads get while the program ends does not count as dropped")
    func getsDuringTheEnd() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            alarm(60)
            record("full,recording=\(path)")
            leakHere(1)
            // The block at the end has to wait until the pipe is read.
            var ends: [CInt] = [0, 0]
            must(pipe(&ends) == 0)
            _ = fcntl(ends[1], F_SETFL, O_NONBLOCK)
            let filling = [UInt8](repeating: 0, count: 4096)
            while write(ends[1], filling, filling.count) > 0 {}
            _ = fcntl(ends[1], F_SETFL, 0)
            dup2(ends[1], STDERR_FILENO)
            let reading = ends[0]
            Thread.detachNewThread {
                while (try? Recording(path: path).isCleanExit) != true { leakHere(10) }
                for _ in 0..<40_000 { leakHere(10) }
                var bytes = [UInt8](repeating: 0, count: 4096)
                while read(reading, &bytes, bytes.count) > 0 {}
            }
            exit(0)
        }
        let recording = try Recording(path: path)
        #expect(recording.isCleanExit && recording.header.dropped.total == 0)
    }

    // MARK: - Files of others

    @Test("a file that has the name of a recording to be made is kept, and the recording gets another")
    func takenName() async throws {
        let scratch = ScratchDirectory()
        let directory = scratch.path
        let own = directory + "/mempool"
        try FileManager.default.createDirectory(
            atPath: own, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        await #expect(processExitsWith: .exitCode(0)) { [directory = directory as String] in
            setenv("XDG_RUNTIME_DIR", directory, 1)
            record("full,quiet")
            let program = CommandLine.arguments[0].split(separator: "/").last ?? ""
            let taken = "\(directory)/mempool/\(program)-\(getpid()).mempool"
            must(FileManager.default.createFile(atPath: taken, contents: Data("another's".utf8)))
            leakHere(1)
            exit(0)
        }
        let names = try FileManager.default.contentsOfDirectory(atPath: own)
        let sizes = try names.map { try Data(contentsOf: URL(fileURLWithPath: own + "/" + $0)).count }
        #expect(names.count == 2 && sizes.contains(9), "\(names)")
        // The process stays the last part of the name.
        let processes = Set(names.map { $0.dropLast(".mempool".count).split(separator: "-").last })
        #expect(processes.count == 1)
    }

    @Test("an old recording that another process holds is not pruned")
    func heldRecording() async throws {
        let scratch = ScratchDirectory()
        let directory = scratch.path
        let own = directory + "/mempool"
        try FileManager.default.createDirectory(
            atPath: own, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        // Of processes that are not there, as those of another container.
        for name in ["x-90000001.mempool", "x-90000002.mempool"] {
            #expect(FileManager.default.createFile(atPath: own + "/" + name, contents: Data()))
            try FileManager.default.setAttributes(
                [.modificationDate: Date(timeIntervalSinceNow: -8 * 24 * 3600)], ofItemAtPath: own + "/" + name)
        }
        let held = open(own + "/x-90000001.mempool", O_RDONLY | O_CLOEXEC)
        defer { close(held) }
        #expect(flock(held, LOCK_EX) == 0)
        await #expect(processExitsWith: .exitCode(0)) { [directory = directory as String] in
            setenv("XDG_RUNTIME_DIR", directory, 1)
            record("full,quiet")
            putBuffer(getBuffer(1))
            exit(0)
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: own) == ["x-90000001.mempool"])
    }

    @Test("a recorder holds its recording for as long as the process lives")
    func holdsItsRecording() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            record("full,quiet,recording=\(path)")
            putBuffer(getBuffer(1))
            must(flock(open(path, O_RDONLY), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
            exit(0)
        }
    }

    @Test("if all names for a recording are taken, findings are printed all the same")
    func allNamesTaken() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardErrorContent]) {
            [path = path as String] in
            record("full,recording=\(path)")
            let beside = "\(path).\(getpid())"
            for name in [path, beside] + (2...100).map({ "\(beside).\($0)" }) {
                must(FileManager.default.createFile(atPath: name, contents: Data("another's".utf8)))
            }
            leakHere(1)
            exit(0)
        }
        let text = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
        #expect(text.hasPrefix("mempool: cannot create \(path)."), "\(text)")
        #expect(text.contains(": File exists; findings are printed at exit but no recording is written."))
        #expect(text.contains("mempool:   leak: 1 buffer, 512 B"))
    }

    // MARK: - Images

    @Test("an image that is loaded later is in the recording even if the process is killed")
    func lateImage() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .signal(SIGKILL)) { [path = path as String] in
            record("full,recording=\(path)")
            leakHere(1)
            // Part of the C library's package, and of no program.
            must(dlopen("libBrokenLocale.so.1", RTLD_NOW) != nil)
            let another = getBuffer(2)
            another[0] = 1
            kill(getpid(), SIGKILL)
        }
        let paths = try Recording(path: path).modules.map(\.path)
        #expect(paths.contains { $0.contains("libBrokenLocale") }, "\(paths)")
    }

    // MARK: - Limits

    @Test("a get that finds no memory for its guard pages leaves them usable for the next")
    func refusedGuardPages() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            record("paranoid,quiet,quarantine=0,recording=\(path)")
            putBuffer(getBuffer(100))
            let held = getBuffer(65_536)
            // Not 0, which the kernel takes for no limit.
            limitData(4096)
            let refused = getBuffer(65_536)
            refused[65_535] = 1
            putBuffer(refused)
            limitData(nil)
            putBuffer(held)
            for _ in 0..<4 {
                let buffers = [getBuffer(65_536), getBuffer(100), getBuffer(65_536)]
                for buffer in buffers { buffer[buffer.count - 1] = 1 }
                for buffer in buffers { putBuffer(buffer) }
            }
            must(try Diagnostics.check().isEmpty)
            exit(0)
        }
        #expect(try Recording(path: path).header.unguardedGets == 1)
    }

    @Test("a second put by an address that was in the pool, while the next is between guard pages, is a double put")
    func lateRawPut() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            record("paranoid,quiet,guard=0.5,recording=\(path)")
            func isGuarded(_ memory: UnsafeMutableRawBufferPointer) -> Bool {
                cmempool_region_at(UInt(bitPattern: memory.baseAddress)) != nil
            }
            let pool = BufferPool.shared
            for _ in 0..<1000 {
                let first = pool.getRaw(100)
                pool.putRaw(first.baseAddress)
                // In the same slot.
                let next = pool.getRaw(100)
                if !isGuarded(first), isGuarded(next) {
                    pool.putRaw(first.baseAddress)
                    must(getStats().inUse == 1 && getStats().discards.doublePut == 1)
                    pool.putRaw(next.baseAddress)
                    must(getStats().inUse == 0 && getStats().discarded == 1)
                    exit(0)
                }
                pool.putRaw(next.baseAddress)
            }
            exit(98)
        }
        let finding = try #require(Recording(path: path).findings.first)
        #expect(finding.kind == FindingKind.doublePut.rawValue && finding.reissues == 1 && finding.getStack > 0)
    }

    @Test("space that begins within a page is reserved with the whole page, as where pages are larger than the file's")
    func reserveWithinPages() throws {
        let page = sysconf(CInt(_SC_PAGESIZE))
        let memory = try #require(mmap(nil, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
        defer { munmap(memory, 3 * page) }
        try #require(memory != MAP_FAILED)
        #expect(cmempool_reserve(-1, memory, 100, UInt64(page)) == 0)
        var isResident = [UInt8](repeating: 0, count: 3)
        #expect(mincore(memory, 3 * page, &isResident) == 0)
        #expect(isResident.map { $0 & 1 } == [1, 1, 0])
    }

    // MARK: - Faults

    @Test(
        "a touch after the put is told, with its stack, whatever the frame pointer of its thread holds",
        arguments: [false, true])
    func strayFramePointer(isKnown: Bool) async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .signal(SIGSEGV)) {
            [path = path as String, isKnown = isKnown as Bool] in
            record("paranoid,quiet,recording=\(path)")
            let buffer = getBuffer(700)
            guard let base = buffer.withUnsafeMutableBytes({ $0.baseAddress }) else { exit(98) }
            putBuffer(buffer)
            touched.store(UInt(bitPattern: base) + 17, ordering: .relaxed)
            isKnownThread.store(isKnown, ordering: .relaxed)
            _ = fixture_run_threads(1, 1) { _ in
                // A thread that never used a pool has no known stack.
                if isKnownThread.load(ordering: .relaxed) { putBuffer(getBuffer(1)) }
                touch(framePointer: 64)
            }
        }
        let recording = try Recording(path: path)
        let finding = try #require(recording.findings.first)
        #expect(recording.findings.count == 1 && finding.kind == FindingKind.useAfterPut.rawValue)
        #expect(finding.offset == 17 && finding.flags & FindingRecord.faultFlag != 0)
        // The touch, the two functions below it here, and where the thread began.
        let stack = try #require(recording.stack(finding.accessStack))
        #expect(stack.count >= 4, "\(stack)")
    }

    // MARK: - Signals

    @Test("a handler that comes while the recorder ends finds its thread inside of the pool")
    func handlerAtTheEnd() async {
        await #expect(processExitsWith: .exitCode(0)) {
            record("full,quiet")
            leakHere(1)
            fixture_watch_ftruncate { _ in _exit(cmempool_enter() ? 97 : 0) }
            exit(98)
        }
    }

    @Test("a handler that ends the process amid a call of the pool's ends the recording as well")
    func exitAmidCall() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        let result = await #expect(processExitsWith: .exitCode(23), observing: [\.standardErrorContent]) {
            [path = path as String] in
            record("full,exitcode=23,recording=\(path)")
            leakHere(1)
            InterruptedCalls.around { exit(0) }
        }
        let text = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
        #expect(text.contains("mempool: 1 finding from 1 place when "), "\(text)")
        let header = try Recording(path: path).header
        #expect(header.flags & RecordingHeader.cleanExitFlag != 0 && header.exitStatus == 0)
    }

    @Test("one that does so amid a lock leaves the recording of a process that died, but no process that waits")
    func exitAmidLock() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(7)) { [path = path as String] in
            alarm(60)
            record("full,quiet,exitcode=23,recording=\(path)")
            leakHere(1)
            // Space for another pool is reserved with the lock held that the end of the recording needs.
            fixture_watch_fallocate { _ in exit(7) }
            let pools = (0..<1_000).map { _ in BufferPool() }
            exit(CInt(90 + pools.count % 2))
        }
        let recording = try Recording(path: path)
        #expect(recording.header.flags & RecordingHeader.cleanExitFlag == 0)
        #expect(outstanding(recording) == 1)
    }

    @Test("puts of handlers that find no room are counted, and said where their buffers are listed as leaks")
    func lostPuts() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardErrorContent]) {
            [path = path as String] in
            record("full,recording=\(path)")
            let buffers = (0..<Int(CMEMPOOL_DEFERRED_PUTS) + 3).map { _ in getBuffer(100) }
            // As a handler does that interrupts this thread inside of the pool.
            InterruptedCalls.around { buffers.forEach(putBuffer) }
            must(getStats().lostPuts == 3 && getStats().inUse == 3)
            exit(0)
        }
        let text = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
        #expect(
            text.contains(
                "mempool: lost puts of signal handlers: 3; as many of the leaks may be theirs, as no more than 32 can wait for"
                    + " an interrupted call\n"), "\(text)")
        let recording = try Recording(path: path)
        #expect(recording.header.lostPuts == 3)
        #expect(outstanding(recording) == 3)
    }

    @Test("lost puts are not mentioned where nothing leaked, and are none of a forked child's")
    func lostPutsWithoutLeaks() async throws {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        let result = await #expect(processExitsWith: .exitCode(0), observing: [\.standardErrorContent]) {
            [path = path as String] in
            record("full,recording=\(path)")
            let buffers = (0..<Int(CMEMPOOL_DEFERRED_PUTS) + 1).map { _ in getBuffer(100) }
            let child = forkProcess()
            InterruptedCalls.around { buffers.forEach(putBuffer) }
            must(getStats().lostPuts == 1)
            if child == 0 { _exit(0) }
            var status: CInt = 0
            waitpid(child, &status, 0)
            putBuffer(buffers[buffers.count - 1])
            exit(status)
        }
        let text = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
        #expect(!text.contains("lost puts"), "\(text)")
        #expect(try Recording(path: path).header.lostPuts == 1)
    }

    @Test("handlers use the pool of a thread that asks the recorder and makes mistakes")
    func handlersAmidDiagnostics() async {
        await #expect(processExitsWith: .exitCode(0)) {
            // Far more than it takes, also beside others on one core: a handler that waits for a lock of its own thread ends here.
            alarm(60)
            record("full,quiet")
            let stale = getBuffer(100)
            putBuffer(stale)
            var action = sigaction()
            action.__sigaction_handler.sa_handler = { _ in
                putBuffer(getBuffer(200))
                wasHandled.add(1, ordering: .relaxed)
            }
            action.sa_flags = SA_RESTART
            sigaction(SIGUSR1, &action, nil)
            let worker = Mutex<pthread_t?>(nil)
            let isOver = Mutex(false)
            Thread.detachNewThread {
                putBuffer(getBuffer(200))
                // The threads of a test block signals.
                var signals = sigset_t()
                sigemptyset(&signals)
                pthread_sigmask(SIG_SETMASK, &signals, nil)
                worker.withLock { $0 = pthread_self() }
                while !isDone.load(ordering: .relaxed) {
                    for _ in 0..<50 {
                        Diagnostics.withScope("work") { putBuffer(getBuffer(200)) }
                        stale[1] = 1
                    }
                    _ = try? Diagnostics.check()
                }
                isOver.withLock { $0 = true }
            }
            while worker.withLock({ $0 == nil }) { usleep(100) }
            guard let thread = worker.withLock({ $0 }) else { exit(98) }
            // Few, as this only looks whether it goes together; what must not happen is looked for below.
            for turn in 0..<100 {
                pthread_kill(thread, SIGUSR1)
                // Asleep and not spinning, so that the worker has the core if there is but one, and is interrupted anywhere.
                while wasHandled.load(ordering: .relaxed) == turn { usleep(20) }
                usleep(UInt32(turn % 10) * 20)
            }
            isDone.store(true, ordering: .relaxed)
            while !isOver.withLock({ $0 }) { usleep(100) }
            exit(0)
        }
    }

    @Test("the recorder works inside of the pool whatever it is asked, so handlers wait for none of its locks")
    func insideWhenAsked() async {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [folder = scratch.path as String] in
            record("full,quiet")
            /// Has a put wait, as a handler does. Whoever was inside of the pool makes it on leaving.
            func leavePut() {
                let buffer = getBuffer(100)
                must(cmempool_enter())
                putBuffer(buffer)
                _ = cmempool_step_out()
                must(!isMade())
            }
            func isMade() -> Bool {
                let thread = cmempool_thread_current()
                return thread.pointee.deferred_start == thread.pointee.deferred_end
            }
            func isInside(_ call: () -> Void) -> Bool {
                leavePut()
                call()
                defer { InterruptedCalls.around {} }
                return isMade()
            }
            must(!isInside {}, "nothing")
            let kept = getBuffer(200)
            let stale = getBuffer(300)
            putBuffer(stale)
            let mark = Diagnostics.mark()
            leavePut()
            Diagnostics.withScope("scope") {
                must(isMade(), "a scope that begins")
                leavePut()
            }
            must(isMade(), "a scope that ends")
            must(isInside { Diagnostics.onFinding { _ in } }, "a handler")
            must(isInside { Diagnostics.onFinding(nil) }, "no handler")
            must(isInside { stale[1] = 1 }, "a touch after the put")
            must(isInside { putBuffer(stale) }, "a mistake")
            must(isInside { _ = try? Diagnostics.check() }, "a check")
            must(isInside { _ = Diagnostics.mark() }, "a mark")
            must(isInside { _ = try? Diagnostics.outstanding(since: mark) }, "what is outstanding")
            must(isInside { Diagnostics.keepForLife(kept) }, "a kept buffer")
            must(isInside { try? Diagnostics.snapshot(to: folder + "/snapshot") }, "a snapshot")
            must(isInside { _ = BufferPool() }, "a pool that begins and ends")
            must(isInside { BufferPool.shared.trim() }, "a trim")
            exit(0)
        }
    }
}

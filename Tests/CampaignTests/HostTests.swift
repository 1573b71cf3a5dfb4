// The recorder in hosts that do unusual things: many threads over time, libraries that go away, full disks, a shared path,
// crashes. In none of them may it harm the program.

import Foundation
import Glibc
import MempoolAnalysis
import MempoolRecording
import Testing

@Suite struct HostTests {
    private func report(_ path: String) throws -> Report {
        try Analyzer.report(recordingAt: path, options: AnalysisOptions())
    }

    /// Makes a shared library from a text in C.
    private func compileLibrary(_ text: String, in scratch: Scratch) throws -> String {
        let source = scratch.file("library.c")
        try text.write(toFile: source, atomically: true, encoding: .utf8)
        let library = scratch.file("library.so")
        let compiled = try Program.run(
            ["/usr/bin/env", "clang", "-shared", "-fPIC", "-g", "-o", library, source],
            environment: ["PATH": ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"], in: scratch)
        try #require(compiled.status == 0, "\(compiled.output)")
        return library
    }

    @Test func `Thousands of threads over time leave no finding and a recording of bounded size`() throws {
        let scratch = try Scratch()
        let threads = runsLong ? 10_000 : 300
        let path = scratch.file("recording")
        let end = try Program.run(
            ["zoo", "threads", "\(threads)"], environment: ["MEMPOOL_DEBUG": "full,quiet,recording=\(path)"],
            in: scratch)
        #expect(end.status == 0, "\(end.output)")
        let report = try report(path)
        #expect(report.verdict == .healthy, "\(report.verdictReason)")
        #expect(report.pools.first?.stats.gets == 2 * threads)
        #expect(report.recorder?.dropped.total == 0)
        // 4 threads at a time hold 8 buffers; what is recorded must not grow with the threads that have ended.
        #expect((report.recorder?.fileBytes ?? .max) < 8 << 20)
    }

    @Test func `A library that was unloaded keeps the findings of its callers, and the program goes on`() throws {
        let scratch = try Scratch()
        let library = try compileLibrary(
            "void plugin_call(void (*callback)(void)) { callback(); __asm__ volatile(\"\"); }", in: scratch)
        let path = scratch.file("recording")
        let end = try Program.run(
            ["zoo", "plugin", library], environment: ["MEMPOOL_DEBUG": "full,quiet,recording=\(path)"], in: scratch)
        #expect(end.status == 0, "\(end.output)")
        let report = try report(path)
        #expect(report.findings.map(\.kind) == [.leak])
        #expect(report.findings.first?.count == 3)
        #expect(report.findings.first?.site?.file?.hasSuffix("Tests/Zoo/Stress.swift") == true)
    }

    @Test(arguments: ["off", "sampled", "full", "paranoid"])
    func `The first get of a process waits for no library that is being loaded`(level: String) throws {
        let scratch = try Scratch()
        // The loader is locked while this runs. Should the get wait for it, the end would be far away.
        let library = try compileLibrary(
            """
            #define _GNU_SOURCE
            #include <pthread.h>
            #include <stdlib.h>
            #include <time.h>
            #include <unistd.h>
            __attribute__((constructor)) static void load(void) {
                void *(*get)(void *) = (void *(*)(void *))strtoul(getenv("FIRST_GET"), NULL, 10);
                pthread_t thread;
                struct timespec limit;
                clock_gettime(CLOCK_REALTIME, &limit);
                limit.tv_sec += 20;
                if (pthread_create(&thread, NULL, get, NULL) != 0) _exit(3);
                if (pthread_timedjoin_np(thread, NULL, &limit) != 0) _exit(4);
                get(NULL);
            }
            """, in: scratch)
        let path = scratch.file("recording")
        let end = try Program.run(
            ["zoo", "first-get", library], environment: ["MEMPOOL_DEBUG": "\(level),quiet,recording=\(path)"],
            in: scratch)
        #expect(end.status == 0, "\(end)")
        guard level != "off" else { return }
        #expect(try report(path).recorder?.unwinder == "libunwind")
    }

    @Test func `Guard pages are watched in a program with more thread-local storage than a small stack holds`() throws {
        let scratch = try Scratch()
        let library = try compileLibrary(
            """
            static _Thread_local char room[1 << 20] __attribute__((tls_model("initial-exec")));
            __attribute__((constructor)) static void use(void) { room[0] = 1; }
            """, in: scratch)
        let path = scratch.file("recording")
        let end = try Program.run(
            ["zoo", "touch", "write-after-put"],
            environment: [
                "MEMPOOL_DEBUG": "paranoid,recording=\(path)", "LD_PRELOAD": library, "SWIFT_BACKTRACE": "enable=no",
            ], in: scratch)
        #expect(end.status == 1_000 + SIGSEGV, "\(end)")
        #expect(!end.output.contains("faults in guard pages are not reported"), "\(end)")
        #expect(try report(path).findings.map(\.kind) == [.useAfterPut])
    }

    @Test func `Where the recorder can start no thread, the line about guard pages says why`() throws {
        let scratch = try Scratch()
        let library = try compileLibrary(
            """
            #define _GNU_SOURCE
            #include <dlfcn.h>
            #include <errno.h>
            #include <pthread.h>
            // Those of the pool's own, which have small stacks; the runtime would wait for one until there is one.
            int pthread_create(pthread_t *thread, const pthread_attr_t *given, void *(*body)(void *), void *argument) {
                int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) =
                    dlsym(RTLD_NEXT, "pthread_create");
                size_t bytes = 0;
                if (given) pthread_attr_getstacksize(given, &bytes);
                return bytes == 256 << 10 ? EAGAIN : next(thread, given, body, argument);
            }
            """, in: scratch)
        let path = scratch.file("recording")
        let end = try Program.run(
            ["zoo", "touch", "write-after-put"],
            environment: [
                "MEMPOOL_DEBUG": "paranoid,recording=\(path)", "LD_PRELOAD": library, "SWIFT_BACKTRACE": "enable=no",
            ], in: scratch)
        #expect(end.status == 1_000 + SIGSEGV, "\(end)")
        let reason = String(cString: strerror(EAGAIN))
        #expect(end.output.contains("mempool: faults in guard pages are not reported: \(reason)\n"), "\(end)")
    }

    @Test(.enabled(if: canMount, "a small disk cannot be mounted here"))
    func `A full disk under the recording ends no program`() throws {
        let scratch = try Scratch()
        let disk = scratch.file("disk")
        try FileManager.default.createDirectory(atPath: disk, withIntermediateDirectories: false)
        try #require(mount("zoo", disk, "tmpfs", 0, "size=1m") == 0)
        defer { unmount(disk) }
        for free in [1_000, 500, 100, 20, 0] {
            // What is left on the disk, KiB.
            let filler = disk + "/filler"
            let path = disk + "/recording"
            // A child that another test forks at this moment holds what was read of the last recording, until it calls exec.
            for turn in 0... {
                do {
                    try Data(count: (1_024 - free) * 1_024).write(to: URL(filePath: filler))
                    break
                } catch {
                    guard turn < 1_000 else { throw error }
                    usleep(10_000)
                }
            }
            let end = try Program.run(
                ["zoo", "hoard", "20000"], environment: ["MEMPOOL_DEBUG": "full,recording=\(path)"], in: scratch)
            #expect(end.status == 0, "\(free) KiB free: \(end)")
            let said = end.output.split(separator: "\n").first ?? ""
            let expected = free == 0 ? "mempool: cannot create \(path): " : " gets found no room in the recording "
            #expect(free == 1_000 || said.contains(expected), "\(free) KiB free: \(said)")
            if free == 0 {
                #expect(!FileManager.default.fileExists(atPath: path))
            } else {
                let recording = try Recording(path: path)
                var outstanding = 0
                let scan = recording.forEachLedgerRecord { _, record in
                    outstanding += record.state == .outstanding ? 1 : 0
                }
                #expect(scan.inProgress == 0)
                let dropped = Int(recording.header.dropped.ledger)
                #expect(outstanding + dropped == 20_000, "\(free) KiB free")
            }
            for file in [filler, path] { try? FileManager.default.removeItem(atPath: file) }
        }
    }

    @Test(.enabled(if: canMountBtrfs, "no btrfs can be made and mounted here, or the kernel is older than 6.17"))
    func `A disk with copies on write that fills up after the recording was written back ends no program`() throws {
        let scratch = try Scratch()
        let disk = scratch.file("disk")
        try Program.mountBtrfs(disk, in: scratch)
        defer { unmount(disk) }
        let path = disk + "/recording"
        let held = scratch.file("held")
        let program = try Program(
            ["zoo", "hold", held], environment: ["MEMPOOL_DEBUG": "full,recording=\(path)"], in: scratch)
        while access(held, F_OK) != 0, kill(program.processID, 0) == 0 { usleep(1_000) }
        let filler = open(disk + "/filler", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        defer { close(filler) }
        // What is left at the end is smaller than each of these.
        for size in [1 << 20, 4096] {
            let zeros = [UInt8](repeating: 0, count: size)
            while write(filler, zeros, size) == size {}
        }
        // The pages of the recording are clean after this: each store asks the file system again.
        let written = open(path, O_RDONLY | O_CLOEXEC)
        defer { close(written) }
        try #require(fsync(written) == 0)
        unlink(held)
        let end = try program.finish()
        #expect(end.status == 0, "\(end)")
        let recording = try Recording(path: path)
        #expect(recording.isCleanExit)
        var returned = 0
        _ = recording.forEachLedgerRecord { _, record in returned += record.state == .returned ? 1 : 0 }
        #expect(returned == 5_000)
    }

    /// Stands before the calls that reserve space: `fallocate` and the writes in its place fail from the call after the
    /// first `FAIL_AFTER` on, with the error `FAIL_WITH`; with `OLD` as an old kernel or a file system without it does.
    private static let scarceDisk = """
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <errno.h>
        #include <stdlib.h>
        #include <string.h>
        #include <sys/mman.h>
        #include <unistd.h>
        static int calls;
        static int fails(void) {
            const char *after = getenv("FAIL_AFTER");
            if (!after || calls++ < atoi(after)) return 0;
            errno = atoi(getenv("FAIL_WITH"));
            return 1;
        }
        int fallocate(int file, int mode, off_t at, off_t bytes) {
            if (getenv("OLD")) return errno = EOPNOTSUPP, -1;
            int (*next)(int, int, off_t, off_t) = dlsym(RTLD_NEXT, "fallocate");
            return fails() ? -1 : next(file, mode, at, bytes);
        }
        int madvise(void *start, size_t bytes, int advice) {
            int (*next)(void *, size_t, int) = dlsym(RTLD_NEXT, "madvise");
            return getenv("OLD") && advice == 23 ? (errno = EINVAL, -1) : next(start, bytes, advice);
        }
        ssize_t pwrite(int file, const void *from, size_t bytes, off_t at) {
            ssize_t (*next)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, "pwrite");
            return fails() ? -1 : next(file, from, bytes, at);
        }
        """

    @Test(arguments: [EDQUOT, ENOSPC, EIO], [false, true])
    func `A quota that is used up ends no program, whenever it is noticed and however space is reserved`(
        failure: CInt, isOld: Bool
    ) throws {
        let scratch = try Scratch()
        let library = try compileLibrary(Self.scarceDisk, in: scratch)
        // Steps of space with fallocate, pages without it: the header, some section, in the ledger, never.
        for calls in isOld ? [0, 1, 20, 300, 100_000] : [0, 1, 4, 8, 1_000] {
            let path = scratch.file("recording-\(calls)")
            var environment = ["MEMPOOL_DEBUG": "full,recording=\(path)", "LD_PRELOAD": library]
            environment["FAIL_AFTER"] = "\(calls)"
            environment["FAIL_WITH"] = "\(failure)"
            environment["OLD"] = isOld ? "1" : nil
            let end = try Program.run(["zoo", "hoard", "20000"], environment: environment, in: scratch)
            #expect(end.status == 0, "after \(calls) calls: \(end)")
            let said = end.output.split(separator: "\n").first ?? ""
            if calls == 0 {
                let reason = String(cString: strerror(failure))
                #expect(said.hasPrefix("mempool: cannot create \(path): \(reason); findings are printed"), "\(said)")
                #expect(end.output.contains("mempool: 20000 findings"), "\(end.output)")
                #expect(!FileManager.default.fileExists(atPath: path))
                continue
            }
            let recording = try Recording(path: path)
            var outstanding = 0
            _ = recording.forEachLedgerRecord { _, record in outstanding += record.state == .outstanding ? 1 : 0 }
            let dropped = Int(recording.header.dropped.ledger)
            #expect(outstanding + dropped == 20_000, "after \(calls) calls")
            #expect(
                said.contains(" gets found no room in the recording ") == (dropped > 0), "after \(calls) calls: \(said)"
            )
            #expect((dropped == 0) == (calls >= 1_000), "after \(calls) calls: \(dropped)")
        }
    }

    @Test func `More libraries than a recording has room for are counted, and what leaked through one is listed`()
        throws
    {
        let scratch = try Scratch()
        let library = try compileLibrary(
            "void plugin_call(void (*callback)(void)) { callback(); __asm__ volatile(\"\"); }", in: scratch)
        let folder = scratch.file("libraries")
        let files = FileManager.default
        try files.createDirectory(atPath: folder, withIntermediateDirectories: false)
        for number in 0..<RecordingLimits.modules {
            try files.copyItem(atPath: library, toPath: "\(folder)/\(number).so")
        }
        let path = scratch.file("recording")
        let end = try Program.run(
            ["zoo", "libraries", folder], environment: ["MEMPOOL_DEBUG": "full,quiet,recording=\(path)"], in: scratch)
        #expect(end.status == 0, "\(end.output)")
        let recording = try Recording(path: path)
        #expect(recording.modules.count == RecordingLimits.modules)
        // Those that the program itself needs.
        #expect((1...100).contains(recording.header.dropped.modules))
        let report = try report(path)
        #expect(report.findings.map(\.kind) == [.leak])
        #expect(report.findings.first?.site?.file?.hasSuffix("Tests/Zoo/Stress.swift") == true)
    }

    @Test func `Two processes with one path both live, and each recording is one process's own`() throws {
        let scratch = try Scratch()
        let path = scratch.file("recording")
        let environment = ["MEMPOOL_DEBUG": "full,recording=\(path)"]
        let programs = try (0..<4).map { _ in
            try Program(["zoo", "fault", "leak", "sync"], environment: environment, in: scratch)
        }
        for program in programs {
            let end = try program.finish()
            #expect(end.status == 0)
            #expect(end.output.contains("leak: 3 buffers"), "\(end.output)")
        }
        let names = try FileManager.default.contentsOfDirectory(atPath: scratch.path).filter {
            $0.hasPrefix("recording")
        }
        #expect(names.count == programs.count)
        for name in names {
            let report = try report(scratch.file(name))
            #expect(report.findings.map(\.count) == [3], "\(name)")
        }
        let processes = try names.map { try report(scratch.file($0)).process?.processID ?? 0 }
        #expect(Set(processes) == Set(programs.map { Int($0.processID) }))
    }

    @Test(.enabled(if: hasBacktracer, "Swift's backtracer does not work here, without a recorder either"))
    func `Swift's own backtrace of a crash still appears, and the recording lists what was outstanding`() throws {
        let scratch = try Scratch()
        let path = scratch.file("recording")
        let without = try Program.runWithBacktrace(["zoo", "crash"], debug: "off", in: scratch)
        let with = try Program.runWithBacktrace(["zoo", "crash"], debug: "full,quiet,recording=\(path)", in: scratch)
        #expect(with.status == without.status)
        #expect(with.status > 1_000, "the program did not crash")
        #expect(with.output.contains("crashOnPurpose"), "with the recorder: \(with.output)")
        let report = try report(path)
        #expect(report.process?.ending.kind == .died)
        #expect(report.findings.map(\.kind) == [.leak])
    }

    @Test(.enabled(if: canMount, "a small disk cannot be mounted here"))
    func `A recording on a read-only disk is one line, and the findings are printed`() throws {
        let scratch = try Scratch()
        let disk = scratch.file("disk")
        try FileManager.default.createDirectory(atPath: disk, withIntermediateDirectories: false)
        try #require(mount("zoo", disk, "tmpfs", UInt(MS_RDONLY), "size=1m") == 0)
        defer { unmount(disk) }
        let path = disk + "/recording"
        let end = try Program.run(
            ["zoo", "fault", "leak", "sync"], environment: ["MEMPOOL_DEBUG": "full,recording=\(path)"], in: scratch)
        #expect(end.status == 0)
        #expect(end.output.hasPrefix("mempool: cannot create \(path): Read-only file system; "), "\(end.output)")
        #expect(end.output.contains("leak: 3 buffers"), "\(end.output)")
    }

    @Test(arguments: ["/no/such/folder/recording", "/proc/recording"])
    func `A recording that cannot be made is one line, and the findings are printed`(path: String) throws {
        let scratch = try Scratch()
        let end = try Program.run(
            ["zoo", "fault", "leak", "sync"], environment: ["MEMPOOL_DEBUG": "full,recording=\(path)"], in: scratch)
        #expect(end.status == 0)
        let lines = end.output.split(separator: "\n")
        #expect(lines.first?.hasPrefix("mempool: cannot create \(path): ") == true, "\(end.output)")
        #expect(lines.contains { $0.contains("leak: 3 buffers") }, "\(end.output)")
    }

    @Test(arguments: [
        ("nothing", "off"), ("nothing", "full"), ("pool", "off"), ("pool", "full"), ("shared", "full"),
        ("shared", "paranoid"),
    ])
    func `Signals at a high rate harm neither get nor put, nor does a handler that gets and puts`(
        handler: String, level: String
    ) throws {
        let scratch = try Scratch()
        let path = scratch.file("recording")
        let signals = (runsLong ? 50_000 : 5_000) / (level == "paranoid" ? 10 : 1)
        let end = try Program.run(
            ["/usr/bin/timeout", "-s", "KILL", "300", Program.folder + "/zoo", "signals", handler, "\(signals)"],
            environment: ["MEMPOOL_DEBUG": "\(level),recording=\(path)"], in: scratch)
        #expect(end.status == 0, "\(end.output)")
        print("handler \(handler), level \(level): \(end.output)", terminator: "")
        guard level != "off" else { return }
        let report = try report(path)
        #expect(report.verdict == .healthy, "\(report.verdictReason)")
        #expect(report.pools.allSatisfy { $0.stats.gets == $0.stats.puts && $0.stats.inUse == 0 })
        #expect(report.recorder?.captureMismatches == 0)
    }

    @Test(.enabled(if: canChangeUser, "needs root and setpriv, to become another user"))
    func `A program with raised privileges does not read MEMPOOL_DEBUG`() throws {
        let scratch = try Scratch()
        chmod(scratch.path, 0o777)
        let copy = scratch.file("zoo")
        // By a program of its own: one that another test starts meanwhile would have the copy open for writing, so that it is busy.
        let copied = try Program.run(["/usr/bin/env", "cp", Program.folder + "/zoo", copy], in: scratch)
        try #require(copied.status == 0, "\(copied.output)")
        func run(_ mode: mode_t) throws -> (end: (status: Int32, output: String), isRecorded: Bool) {
            chmod(copy, mode)
            let path = scratch.file("recording-\(mode)")
            let user = ["/usr/bin/setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
            let end = try Program.run(
                user + [copy, "correct", "get and put"],
                environment: ["MEMPOOL_DEBUG": "full,nonsense,recording=\(path)"], in: scratch)
            return (end, FileManager.default.fileExists(atPath: path))
        }
        let plain = try run(0o755)
        try #require(plain.end.status == 0, "another user cannot run a program of this build: \(plain.end.output)")
        #expect(plain.isRecorded)
        #expect(plain.end.output.contains("unknown key 'nonsense'"))
        let raised = try run(0o4755)
        #expect(raised.end.status == 0)
        #expect(!raised.isRecorded)
        // In a debug build it records by default, to a place that the one who started it cannot name.
        #expect(!raised.end.output.contains("nonsense"), "\(raised.end.output)")
    }

    @Test func `Without libunwind there is one line, and the findings keep their lines`() throws {
        let scratch = try Scratch()
        let path = scratch.file("recording")
        let library = try compileLibrary(
            """
            #define _GNU_SOURCE
            #include <dlfcn.h>
            #include <string.h>
            void *dlopen(const char *name, int flags) {
                if (name && strstr(name, "libunwind")) return 0;
                void *(*next)(const char *, int) = dlsym(RTLD_NEXT, "dlopen");
                return next(name, flags);
            }
            """, in: scratch)
        let end = try Program.run(
            ["zoo", "fault", "leak", "deinit"],
            environment: ["MEMPOOL_DEBUG": "full,recording=\(path)", "LD_PRELOAD": library], in: scratch)
        #expect(end.status == 0)
        let lines = end.output.split(separator: "\n")
        #expect(lines.first?.hasPrefix("mempool: libunwind.so.8 is not there, ") == true, "\(end.output)")
        #expect(lines.count { $0.contains("libunwind") } == 1)
        let report = try report(path)
        #expect(report.recorder?.unwinder == "frame-pointers")
        #expect(report.findings.map(\.count) == [3])
        #expect(report.findings.first?.site?.file?.hasSuffix("Tests/Zoo/Place+Synchronous.swift") == true)
        #expect(report.notes.contains { $0.contains("libunwind") })
    }
}

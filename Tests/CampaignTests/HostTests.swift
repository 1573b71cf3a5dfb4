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
        let source = scratch.file("plugin.c")
        try """
        void plugin_call(void (*callback)(void)) { callback(); __asm__ volatile(""); }
        """.write(toFile: source, atomically: true, encoding: .utf8)
        let library = scratch.file("plugin.so")
        let compiled = try Program.run(
            ["/usr/bin/env", "clang", "-shared", "-fPIC", "-g", "-o", library, source],
            environment: ["PATH": ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"], in: scratch)
        try #require(compiled.status == 0, "\(compiled.output)")
        let path = scratch.file("recording")
        let end = try Program.run(
            ["zoo", "plugin", library], environment: ["MEMPOOL_DEBUG": "full,quiet,recording=\(path)"], in: scratch)
        #expect(end.status == 0, "\(end.output)")
        let report = try report(path)
        #expect(report.findings.map(\.kind) == [.leak])
        #expect(report.findings.first?.count == 3)
        #expect(report.findings.first?.site?.file?.hasSuffix("Tests/Zoo/Stress.swift") == true)
    }

    @Test func `A full disk under the recording ends no program`() throws {
        let scratch = try Scratch()
        let disk = scratch.file("disk")
        try FileManager.default.createDirectory(atPath: disk, withIntermediateDirectories: false)
        guard mount("zoo", disk, "tmpfs", 0, "size=1m") == 0 else {
            let reason = String(cString: strerror(errno))
            print("skipped: a small disk cannot be mounted here: \(reason)")
            return
        }
        defer { umount(disk) }
        for free in [1_000, 500, 100, 20, 0] {
            // What is left on the disk, KiB.
            let filler = disk + "/filler"
            let path = disk + "/recording"
            try Data(count: (1_024 - free) * 1_024).write(to: URL(filePath: filler))
            let end = try Program.run(
                ["zoo", "hoard", "20000"], environment: ["MEMPOOL_DEBUG": "full,quiet,recording=\(path)"], in: scratch)
            #expect(end.status == 0, "\(free) KiB free: \(end)")
            if let recording = try? Recording(path: path) {
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

    @Test func `Swift's own backtrace of a crash still appears, and the recording lists what was outstanding`() throws {
        let scratch = try Scratch()
        let path = scratch.file("recording")
        func crash(_ debug: String) throws -> (status: Int32, output: String) {
            // The backtracer finds its helper through the environment of the toolchain.
            var environment = ProcessInfo.processInfo.environment.filter {
                $0.key.hasPrefix("SWIFT") || $0.key == "PATH"
            }
            environment["MEMPOOL_DEBUG"] = debug
            environment["SWIFT_BACKTRACE"] = "enable=yes,color=no,interactive=no,timeout=30s"
            return try Program.run(["zoo", "crash"], environment: environment, in: scratch)
        }
        let without = try crash("off")
        let with = try crash("full,quiet,recording=\(path)")
        #expect(with.status == without.status)
        #expect(with.status > 1_000, "the program did not crash")
        let names = [without, with].map { $0.output.contains("crashOnPurpose") }
        #expect(names[0] == names[1], "with the recorder: \(with.output)")
        if !names[0] { print("Swift's backtracer does not work here, with or without the recorder") }
        let report = try report(path)
        #expect(report.process?.ending.kind == .died)
        #expect(report.findings.map(\.kind) == [.leak])
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
}

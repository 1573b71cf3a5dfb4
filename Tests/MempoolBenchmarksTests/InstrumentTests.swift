// Tests of the search for compilers and tools, on made-up directories, and of the worker that they build.

import Foundation
import Testing

@testable import MempoolBenchmarks

struct InstrumentTests {
    /// Runs `body` with a directory that is removed afterwards.
    private func withDirectory(_ body: (String) throws -> Void) throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        try body(folder.resolvingSymlinksInPath().path)
    }

    /// A program that does what the lines say.
    private func makeProgram(_ path: String, _ lines: String = "exit 1") throws {
        try FileManager.default.createDirectory(
            atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
        try Data("#!/bin/sh\n\(lines)\n".utf8).write(to: URL(fileURLWithPath: path))
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
    }

    @Test func `The clang of the path, that of the Swift toolchain and gcc are found, each once`() throws {
        try withDirectory { directory in
            try makeProgram("\(directory)/bin/clang")
            try makeProgram("\(directory)/bin/gcc-12")
            try makeProgram("\(directory)/swift/usr/bin/swift")
            try makeProgram("\(directory)/swift/usr/bin/clang")
            let bin = "\(directory)/bin"
            for (name, file) in [("gcc", "gcc-12"), ("cc", "gcc-12"), ("swift", "../swift/usr/bin/swift")] {
                try FileManager.default.createSymbolicLink(atPath: "\(bin)/\(name)", withDestinationPath: file)
            }
            #expect(
                InstrumentSearch.compilers("relative:\(directory)/absent:\(bin)") == [
                    Compiler(name: "clang", path: "\(bin)/clang"),
                    Compiler(name: "clang of Swift", path: "\(directory)/swift/usr/bin/clang"),
                    Compiler(name: "gcc", path: "\(bin)/gcc"),
                ])
            // One clang, by both ways.
            try FileManager.default.removeItem(atPath: "\(bin)/clang")
            try FileManager.default.createSymbolicLink(
                atPath: "\(bin)/clang", withDestinationPath: "../swift/usr/bin/clang")
            #expect(InstrumentSearch.compilers(bin).map(\.name) == ["clang", "gcc"])
        }
    }

    @Test func `Whatever cc is will do if nothing else is there`() throws {
        try withDirectory { directory in
            #expect(InstrumentSearch.compilers(directory).isEmpty)
            try makeProgram("\(directory)/cc")
            #expect(InstrumentSearch.compilers(directory) == [Compiler(name: "cc", path: "\(directory)/cc")])
        }
    }

    @Test func `heaptrack without its library is not installed`() throws {
        try withDirectory { directory in
            try makeProgram("\(directory)/bin/heaptrack")
            #expect(InstrumentSearch.heaptrackLibrary("\(directory)/bin") == nil)
            let library = "\(directory)/lib/heaptrack/libheaptrack_preload.so"
            try FileManager.default.createDirectory(
                atPath: "\(directory)/lib/heaptrack", withIntermediateDirectories: true)
            try FileManager.default.copyItem(atPath: "/proc/self/exe", toPath: library)
            #expect(InstrumentSearch.heaptrackLibrary("\(directory)/bin") == library)
        }
    }

    @Test func `What cannot be built is named with the package it needs`() throws {
        try withDirectory { directory in
            try makeProgram("\(directory)/bin/cc")
            let compilers = InstrumentSearch.compilers("\(directory)/bin")
            let none = InstrumentSearch(directory: directory, compilers: compilers, heaptrack: nil)
            #expect(none.found.isEmpty)
            #expect(none.missing.map(\.name) == ["LeakSanitizer", "AddressSanitizer", "heaptrack"])
            #expect(none.missing.map(\.package) == ["gcc", "gcc", "heaptrack"])
        }
        try withDirectory { directory in
            let search = InstrumentSearch(directory: directory, compilers: [], heaptrack: "/opt/heaptrack.so")
            #expect(search.missing.last == MissingPeer(name: "heaptrack", package: "gcc"))
        }
    }

    @Test func `Every compiler that can builds a worker of its own, told how deep to look`() throws {
        try withDirectory { directory in
            // Writes the file behind -o, but has no address sanitizer.
            try makeProgram(
                "\(directory)/bin/gcc",
                """
                case "$*" in *address*) exit 1;; esac
                while [ "$1" != -o ]; do shift; done
                : > "$2"
                """
            )
            try makeProgram("\(directory)/bin/clang", ": clang")
            let search = InstrumentSearch(
                directory: directory,
                compilers: InstrumentSearch.compilers("\(directory)/bin"),
                heaptrack: "/opt/heaptrack.so"
            )
            #expect(
                search.found.map(\.name) == [
                    "LeakSanitizer (clang)", "LeakSanitizer (gcc)", "AddressSanitizer (clang)", "heaptrack",
                ])
            #expect(search.missing.isEmpty)
            #expect(Set(search.found.map(\.program)).count == 4)
            #expect(search.found[1].environment == ["LSAN_OPTIONS=malloc_context_size=16"])
            #expect(search.found[2].environment == ["ASAN_OPTIONS=malloc_context_size=16"])
            #expect(search.found[3].preload == "/opt/heaptrack.so")
            #expect(search.found.map(\.limit) == [1, 1, 0.25, 0.25])
        }
    }

    @Test func `The worker speaks the protocol of the others, with one thread and with two`() throws {
        try withDirectory { directory in
            let compiler = try #require(InstrumentSearch.compilers("/usr/bin:/bin").first, "a C compiler is needed")
            // Without a sanitizer, which not every machine's compiler has.
            let library = try #require(LibraryPaths.all().first { $0.hasSuffix("/libc.so.6") })
            let search = InstrumentSearch(directory: directory, compilers: [compiler], heaptrack: library)
            let program = try #require(search.found.last?.program)
            for threads in ["1", "2"] {
                var worker = try WorkerProcess.start([program, "512", threads], program: program, environment: [])
                for operations in [1, 1000] {
                    let answer = try worker.ask(operations)
                    #expect(answer.count == 2 && answer.allSatisfy { $0 > 0 })
                }
            }
            #expect(throws: WorkerFailure.self) {
                _ = try WorkerProcess.start([program, "0", "1"], program: program, environment: [])
            }
        }
    }

    @Test func `Entries replace those of the own environment, and nothing is preloaded by chance`() {
        let entries = ProcessEnvironment.own(with: ["PATH=/nowhere", "NEW=1"])
        #expect(entries.filter { $0.hasPrefix("PATH=") } == ["PATH=/nowhere"])
        #expect(entries.contains("NEW=1"))
        #expect(!entries.contains { $0.hasPrefix("LD_PRELOAD=") })
    }

    @Test func `A program that was run to its end has a status, a time and a peak`() throws {
        let usage = try ChildProcess.run("/bin/sh", ["sh", "-c", "exit 3"], environment: [])
        #expect(usage.status == 3)
        #expect(usage.seconds > 0 && usage.peakBytes > 0)
        #expect(try ChildProcess.run("/bin/sh", ["sh", "-c", "kill -9 $$"], environment: []).status == 137)
        #expect(throws: WorkerFailure("cannot start a process: No such file or directory")) {
            try ChildProcess.run("/absent", ["absent"], environment: [])
        }
    }
}

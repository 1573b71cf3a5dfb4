// Programs that depend on the package and are built in unusual ways: static, and without frame pointers. Each builds the
// package anew, so only with MEMPOOL_LONG_TESTS=1.

import Foundation
import MempoolAnalysis
import Testing

@Suite(.serialized, .enabled(if: runsLong, "builds the package several times: MEMPOOL_LONG_TESTS=1"))
struct BuildTests {
    /// The line of the get in the client.
    private static let site = 3
    private static let client = """
        import Mempool
        @inline(never) func leak(_ size: Int) {
            getBuffer(size)[0] = 1
        }
        for size in CommandLine.arguments.indices { leak(size + 1) }
        putBuffer(getBuffer(100))
        """
    private static let manifest = """
        // swift-tools-version: 6.1
        import PackageDescription
        let package = Package(
            name: "client", dependencies: [.package(path: "../mempool")],
            targets: [
                .executableTarget(name: "client", dependencies: [.product(name: "Mempool", package: "mempool")])
            ])
        """

    /// Builds a program of two gets, of which one is put, runs it and gives its report, also as the command prints it.
    private func reportOfClient(_ flags: [String]) throws -> (output: String, report: Report, text: String) {
        let scratch = try Scratch()
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().path
        let files = FileManager.default
        try files.createSymbolicLink(atPath: scratch.file("mempool"), withDestinationPath: root)
        try files.createDirectory(atPath: scratch.file("client/Sources/client"), withIntermediateDirectories: true)
        try Self.client.write(
            toFile: scratch.file("client/Sources/client/main.swift"), atomically: true, encoding: .utf8)
        try Self.manifest.write(toFile: scratch.file("client/Package.swift"), atomically: true, encoding: .utf8)
        var environment = ProcessInfo.processInfo.environment
        environment["MEMPOOL_DEBUG"] = nil
        let built = try Program.run(
            ["/usr/bin/env", "swift", "build", "--package-path", scratch.file("client")] + flags,
            environment: environment, in: scratch)
        try #require(built.status == 0, "\(built.output)")
        let configuration = flags.contains("release") ? "release" : "debug"
        let path = scratch.file("recording")
        let end = try Program.run(
            [scratch.file("client/.build/\(configuration)/client")],
            environment: ["MEMPOOL_DEBUG": "full,recording=\(path)"], in: scratch)
        #expect(end.status == 0, "\(end.output)")
        let gated = try Program.run(
            [scratch.file("client/.build/\(configuration)/client")],
            environment: ["MEMPOOL_DEBUG": "quiet,exitcode=23"], in: scratch)
        let isRelease = configuration == "release"
        #expect(gated.status == (isRelease ? 0 : 23))
        #expect(gated.output.contains("MEMPOOL_DEBUG names no level") == isRelease, "\(gated.output)")
        let printed = try Program.run(["mempool-doctor", "report", path], in: scratch)
        return (end.output, try Analyzer.report(recordingAt: path, options: AnalysisOptions()), printed.output)
    }

    private func checkFinding(_ report: Report) {
        #expect(report.findings.map(\.kind) == [.leak])
        #expect(report.findings.first?.count == 1)
        #expect(report.findings.first?.site?.line == Self.site)
        #expect(report.findings.first?.site?.file?.hasSuffix("client/Sources/client/main.swift") == true)
    }

    @Test(arguments: ["debug", "release"])
    func `With a static standard library all is as usual`(configuration: String) throws {
        let (output, report, _) = try reportOfClient(["-c", configuration, "--static-swift-stdlib"])
        checkFinding(report)
        #expect(report.recorder?.unwinder == "libunwind")
        #expect(output.hasPrefix("mempool: 1 finding "), "\(output)")
    }

    @Test(arguments: ["debug", "release"])
    func `A static executable says in one line what it cannot do, and findings keep their lines`(
        configuration: String
    ) throws {
        let (output, report, _) = try reportOfClient(["-c", configuration, "-Xswiftc", "-static-executable"])
        checkFinding(report)
        #expect(report.recorder?.unwinder == "frame-pointers")
        #expect(
            output.hasPrefix(
                "mempool: a static executable cannot load libunwind, so stacks follow frame pointers only"),
            "\(output)")
    }

    @Test(arguments: ["debug", "release"])
    func `A program without frame pointers has right stacks, and the report says why they were slow`(
        configuration: String
    ) throws {
        let (_, report, text) = try reportOfClient([
            "-c", configuration, "--omit-frame-pointers", "-Xcc", "-fomit-frame-pointer",
        ])
        checkFinding(report)
        let functions = report.findings.first?.stacks.get?.map(\.function) ?? []
        #expect(functions.prefix(2) == ["leak(_:)", "main"], "\(functions)")
        #expect(report.recorder?.unwinder == "libunwind")
        let slow = report.recorder?.slowCaptures ?? 0
        #expect(slow > 0 && slow * 2 > report.recorder?.captures ?? 0)
        // Lines are broken where the page ends.
        let words = text.split { $0.isWhitespace }.joined(separator: " ")
        #expect(
            words.contains("Capture was slow: \(slow) stacks pass through code without frame pointers, or lie on"),
            "\(text)")
        #expect(words.contains("give swiftc -Xcc -fno-omit-frame-pointer"), "\(text)")
    }

    @Test func `A shared library with the pool in it can be loaded at run time, and closed`() throws {
        let scratch = try Scratch()
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().path
        let files = FileManager.default
        try files.createSymbolicLink(atPath: scratch.file("mempool"), withDestinationPath: root)
        try files.createDirectory(atPath: scratch.file("plugin/Sources/plugin"), withIntermediateDirectories: true)
        let manifest = """
            // swift-tools-version: 6.1
            import PackageDescription
            let package = Package(
                name: "plugin", products: [.library(name: "plugin", type: .dynamic, targets: ["plugin"])],
                dependencies: [.package(path: "../mempool")],
                targets: [.target(name: "plugin", dependencies: [.product(name: "Mempool", package: "mempool")])])
            """
        try manifest.write(toFile: scratch.file("plugin/Package.swift"), atomically: true, encoding: .utf8)
        let plugin = """
            import Mempool
            @_cdecl("plugin_gets") public func gets() -> CInt {
                putBuffer(getBuffer(100))
                return CInt(getStats().gets)
            }
            """
        try plugin.write(
            toFile: scratch.file("plugin/Sources/plugin/plugin.swift"), atomically: true, encoding: .utf8)
        // A program that is linked with nothing of Swift's. It uses the pool or not, on two threads that end after the library is
        // closed, and itself ends after that.
        let loader = """
            #include <dlfcn.h>
            #include <pthread.h>
            #include <stdio.h>
            static int (*gets_of_pool)(void);
            static pthread_barrier_t used, closed;
            static void *run(void *unused) {
                gets_of_pool();
                pthread_barrier_wait(&used);
                pthread_barrier_wait(&closed);
                return NULL;
            }
            int main(int count, char **words) {
                pthread_t threads[2];
                void *library = dlopen(words[1], RTLD_NOW);
                if (!library) return puts(dlerror()), 2;
                if (count > 2) return dlclose(library);
                gets_of_pool = (int (*)(void))dlsym(library, "plugin_gets");
                if (!gets_of_pool || gets_of_pool() != 1) return 3;
                pthread_barrier_init(&used, NULL, 3);
                pthread_barrier_init(&closed, NULL, 3);
                for (int i = 0; i < 2; i++) if (pthread_create(&threads[i], NULL, run, NULL) != 0) return 4;
                pthread_barrier_wait(&used);
                if (dlclose(library) != 0) return 5;
                pthread_barrier_wait(&closed);
                for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
                // Loaded again, it is the one that was there.
                library = dlopen(words[1], RTLD_NOW);
                int (*again)(void) = library ? (int (*)(void))dlsym(library, "plugin_gets") : 0;
                return again && again() == 4 ? 0 : 6;
            }
            """
        try loader.write(toFile: scratch.file("loader.c"), atomically: true, encoding: .utf8)
        var environment = ProcessInfo.processInfo.environment
        environment["MEMPOOL_DEBUG"] = nil
        for command in [
            ["swift", "build", "--package-path", scratch.file("plugin")],
            ["clang", "-o", scratch.file("loader"), scratch.file("loader.c"), "-ldl", "-lpthread"],
        ] {
            let end = try Program.run(["/usr/bin/env"] + command, environment: environment, in: scratch)
            try #require(end.status == 0, "\(end.output)")
        }
        let library = scratch.file("plugin/.build/debug/libplugin.so")
        for level in ["off", "sampled", "full", "paranoid"] {
            for words in [[library], [library, "unused"]] {
                let end = try Program.run(
                    [scratch.file("loader")] + words, environment: ["MEMPOOL_DEBUG": level], in: scratch)
                #expect(end.status == 0, "\(level), \(words.count): \(end.output)")
            }
        }
    }
}

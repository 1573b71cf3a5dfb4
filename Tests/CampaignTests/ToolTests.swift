// Under other tools that watch memory: valgrind and the address sanitizer are told what nobody may touch, and report it their way.

import Foundation
import Testing

@Suite struct ToolTests {
    private static let valgrind = ["/usr/bin/valgrind", "/usr/local/bin/valgrind"].first {
        FileManager.default.isExecutableFile(atPath: $0)
    }

    /// A program of the build without debug information, which valgrind of some distributions cannot read. Not the zoo, whose
    /// asynchronous main ends in a way that crashes valgrind itself.
    private func stripped(in scratch: Scratch) throws -> String {
        let path = scratch.file("doctor")
        let end = try Program.run(
            ["/usr/bin/strip", "-g", "-o", path, Program.folder + "/mempool-doctor"], in: scratch)
        try #require(end.status == 0, "\(end.output)")
        return path
    }

    @Test(.enabled(if: valgrind != nil, "valgrind is not installed"))
    func `Valgrind reports a touch after the put, and nothing of a correct program`() throws {
        let scratch = try Scratch()
        let program = [Self.valgrind ?? "", "-q", "--error-exitcode=9", "--leak-check=no", try stripped(in: scratch)]
        let variables = ["MEMPOOL_DEBUG": "full,quiet"]
        let wrong = try Program.run(program + ["__plant", "useAfterPut"], environment: variables, in: scratch)
        #expect(wrong.status == 9)
        #expect(wrong.output.contains("Invalid write of size 1"))
        #expect(wrong.output.contains("inside a block of size 1,000 free'd"))
        let right = try Program.run(program + ["__plant", "none"], environment: variables, in: scratch)
        #expect(right.status == 0, "\(right.output)")
        #expect(right.output.isEmpty)
    }

    @Test(.enabled(if: runsLong, "builds the package anew; in the long campaign"))
    func
        `The address sanitizer reports a touch after the put and behind the request, and nothing of a correct program`()
        throws
    {
        let scratch = try Scratch()
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().path
        let build = [
            "/usr/bin/env", "swift", "build", "-c", "release", "--product", "zoo", "--sanitize", "address",
            "--package-path",
            root, "--scratch-path", scratch.file("build"),
        ]
        let environment = [
            "PATH": ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin", "HOME": NSHomeDirectory(),
        ]
        let built = try Program.run(build, environment: environment, in: scratch)
        try #require(built.status == 0, "\(built.output.suffix(2000))")
        let zoo = scratch.file("build/release/zoo")
        let variables = ["MEMPOOL_DEBUG": "full,quiet", "ASAN_OPTIONS": "detect_leaks=0"]
        for kind in ["use-after-put", "overrun"] {
            let wrong = try Program.run([zoo, "fault", kind, "sync"], environment: variables, in: scratch)
            #expect(wrong.status != 0)
            #expect(wrong.output.contains("AddressSanitizer: use-after-poison"), "\(kind): \(wrong.output.prefix(500))")
        }
        for name in ["every bucket's capacity, all bytes", "a child that was forked"] {
            let right = try Program.run([zoo, "correct", name], environment: variables, in: scratch)
            #expect(right.status == 0, "\(name): \(right.output)")
        }
    }
}

// Tests that run the built examples, as a user would, and compare what they print.

import Foundation
import Testing

@Suite struct ExamplesTests {
    @Test(
        "Every correct example prints what it did and ends healthy",
        arguments: [
            (
                "example-basic",
                """
                plain: 4 times the letter o in 22 bytes
                safe: 4 times the letter o in 22 bytes
                gets 2, puts 2, in use 0

                """
            ),
            (
                "example-encode-decode",
                """
                encoded into 12 bytes of a buffer of 512
                decoded sensor 7, value -40
                gets 1, puts 1, in use 0

                """
            ),
            (
                "example-batch",
                """
                first record
                second record
                third record
                wrote 3 records, 40 bytes, with one write
                gets 1, puts 1, in use 0

                """
            ),
        ])
    func correctExample(name: String, output: String) throws {
        let run = try Run(name, debugOptions: "full")
        #expect(run.output == output)
        #expect(run.status == 0)
        #expect(run.errors.isEmpty, "a healthy program is silent")
    }

    @Test(
        "Every example with a bug goes on to its end, and its statistics show the bug",
        arguments: [
            (
                "example-leak",
                """
                two words: 2
                one: too short
                and three words: 3
                in use 1

                """,
                ["leak: 1 buffer", "example_leak.countWords"]
            ),
            (
                "example-double-put",
                """
                short: stored
                rather too long: sorry
                in use 0, discarded 1

                """,
                ["double put, once", "example_double_put.store"]
            ),
            (
                "example-wrong-capacity",
                """
                PUT a: a body of 1 bytes
                PUT bcd: a body of 3 bytes
                in use 0, discarded 2

                """,
                ["wrong-capacity put, 2 times", "example_wrong_capacity.bodyBytes"]
            ),
        ])
    func exampleWithBug(name: String, output: String, findings: [String]) throws {
        let recording = TemporaryFile.unusedPath()
        defer { try? FileManager.default.removeItem(atPath: recording) }
        let run = try Run(name, debugOptions: "level=full,recording=\(recording)")
        #expect(run.output == output)
        #expect(run.status == 0)
        #if Recorder
        for finding in findings { #expect(run.errors.contains(finding)) }
        #expect(run.errors.contains(recording))
        #expect(FileManager.default.fileExists(atPath: recording))
        #else
        #expect(run.errors.isEmpty)
        #endif
    }

    @Test("An example with a bug fails when it is told to", .enabled(if: hasRecorder))
    func exitCode() throws {
        let recording = TemporaryFile.unusedPath()
        defer { try? FileManager.default.removeItem(atPath: recording) }
        #expect(try Run("example-leak", debugOptions: "full,exitcode=23,recording=\(recording)").status == 23)
        #expect(try Run("example-basic", debugOptions: "full,exitcode=23").status == 0)
    }

    private static var hasRecorder: Bool {
        #if Recorder
        true
        #else
        false
        #endif
    }
}

/// A finished run of an example.
struct Run {
    let output: String
    let errors: String
    let status: Int32

    /// Runs an executable that was built along with the tests.
    ///
    /// - Parameter debugOptions: The value of `MEMPOOL_DEBUG`, whatever its value for the tests.
    init(_ name: String, debugOptions: String) throws {
        let process = Process()
        process.executableURL = try Self.productsDirectory().appendingPathComponent(name)
        var environment = ProcessInfo.processInfo.environment
        environment["MEMPOOL_DEBUG"] = debugOptions
        process.environment = environment
        let files = try (0..<2).map { _ in try TemporaryFile() }
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = files[0].handle
        process.standardError = files[1].handle
        try process.run()
        process.waitUntilExit()
        output = try files[0].contents()
        errors = try files[1].contents()
        status = process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus
    }

    /// Where this test binary lies, and the examples beside it.
    private static func productsDirectory() throws -> URL {
        let path = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        return URL(fileURLWithPath: path).deletingLastPathComponent()
    }
}

/// A file for the output of a process: unlike a pipe it is never full.
private final class TemporaryFile {
    private let url = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    let handle: FileHandle

    /// A path where no file is.
    static func unusedPath() -> String {
        FileManager.default.temporaryDirectory.appendingPathComponent("example-\(UUID().uuidString).mempool").path
    }

    init() throws {
        guard FileManager.default.createFile(atPath: url.path, contents: nil) else {
            throw CocoaError(.fileWriteUnknown)
        }
        handle = try FileHandle(forWritingTo: url)
    }

    deinit { try? FileManager.default.removeItem(at: url) }

    func contents() throws -> String { String(decoding: try Data(contentsOf: url), as: UTF8.self) }
}

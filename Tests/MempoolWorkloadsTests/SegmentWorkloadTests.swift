// Tests of `segment` with an input: text, binary files, and inputs that cannot be used.

import Foundation
import Mempool
import Testing

@testable import MempoolWorkloads
@testable import SegmentLog

@Suite struct SegmentWorkloadTests {
    private func run(_ bytes: [UInt8], _ change: (inout WorkloadOptions) -> Void = { _ in }) throws -> WorkloadSummary {
        let scratch = try Scratch()
        let path = try scratch.file("input", bytes)
        return try runCleanly("segment") {
            $0.input = path
            change(&$0)
        }
    }

    @Test(
        "Each line is a record, with or without a last line feed",
        arguments: [
            ("a", 1, 1), ("a\n", 1, 1), ("\n", 1, 0), ("\n\n", 2, 0), ("a\nbc\n\nd", 4, 4), ("a\r\nb\r\n", 2, 4),
            ("tschüß\n日本語", 2, 17),
        ])
    func lines(text: String, records: Int, bytes: Int) throws {
        let facts = try run(Array(text.utf8)).facts
        #expect(facts["records"] == records)
        #expect(facts["verifiedRecords"] == records)
        #expect(facts["bytes"] == bytes)
        #expect(facts["verifiedBytes"] == bytes)
        #expect(facts["cutLines"] == 0)
    }

    @Test("A line at and above the limit is kept whole or cut, and no byte is lost", arguments: [-1, 0, 1, 2])
    func longLines(extra: Int) throws {
        let limit = InputFile.maximumLineBytes
        let line = [UInt8](repeating: UInt8(ascii: "x"), count: 2 * limit + extra)
        let facts = try run(Array("a\n".utf8) + line + Array("\nb".utf8)).facts
        #expect(facts["verifiedBytes"] == line.count + 2)
        #expect(facts["verifiedRecords"] == (extra > 0 ? 3 : 2) + 2)
        #expect(facts["cutLines"] == (extra > 0 ? 2 : 1))
    }

    @Test("Many lines over many threads are all stored once", arguments: [1, 2, 7])
    func threads(threads: Int) throws {
        let text = (0..<1_000).map { "line \($0) \(String(repeating: "y", count: $0 % 90))" }.joined(separator: "\n")
        let summary = try run(Array(text.utf8)) { $0.threads = threads }
        #expect(summary.facts["verifiedRecords"] == 1_000)
        #expect(summary.facts["verifiedBytes"] == text.utf8.count - 999)
        #expect(summary.facts["segments"] == threads)
        #expect((summary.facts["batches"] ?? 0) > 0)
        #expect((summary.facts["singleAppends"] ?? 0) > 0)
        #expect((summary.facts["timeSearches"] ?? 0) > 100)
    }

    @Test("A file with NUL bytes is cut into blocks, and the summary says so") func binary() throws {
        let summary = try run([UInt8](repeating: 0, count: 10_000))
        #expect(summary.facts["verifiedRecords"] == 3)
        #expect(summary.facts["verifiedBytes"] == 10_000)
        #expect(summary.lines[0].contains("blocks of 4,096 bytes of "))
        #expect(summary.lines[0].hasSuffix(", which is binary (it has NUL bytes)"))
    }

    @Test("A record size makes blocks of any file", arguments: [1, 7, 999, 1_000, 1_001, 100_000, 16_777_152])
    func blocks(recordBytes: Int) throws {
        let text = [UInt8]("0123456789".utf8)
        let bytes = (0..<100).flatMap { _ in text }
        let summary = try run(bytes) { $0.recordBytes = recordBytes }
        #expect(summary.facts["verifiedRecords"] == (1_000 + recordBytes - 1) / recordBytes)
        #expect(summary.facts["verifiedBytes"] == 1_000)
        #expect(!summary.lines[0].contains("binary"))
    }

    @Test("A number of operations limits the records of an input") func limit() throws {
        let text = (0..<100).map { "\($0)\n" }.joined()
        for (operations, threads) in [(1, 1), (10, 1), (10, 3), (100, 2), (1_000, 2)] {
            let facts = try run(Array(text.utf8)) {
                $0.operations = operations
                $0.threads = threads
            }.facts
            #expect(facts["verifiedRecords"] == min(operations, 100))
        }
    }

    @Test("The summary of a small text is complete") func summary() throws {
        let scratch = try Scratch()
        let path = try scratch.file("input.txt", Array("alpha\nbeta\ngamma\n".utf8))
        let summary = try runCleanly("segment") {
            $0.input = path
            $0.seed = 3
        }
        #expect(summary.lines.count == 4)
        #expect(summary.lines[0] == "wrote 3 records, 14 bytes, on 1 thread: one of each line of \(path)")
        #expect(summary.lines[1].hasSuffix(", to 1 segment with 0 index entries"))
        #expect(summary.lines[2] == "reopened, read back by offset and compared: 3 records, 14 bytes, all equal")
        #expect(summary.lines[3] == "searched by time: 7 searches, all right")
    }

    @Test("Generated records have the size that is asked for") func generatedSize() throws {
        let facts = try runCleanly("segment") {
            $0.operations = 10
            $0.recordBytes = 5_000
        }.facts
        #expect(facts["verifiedBytes"] == 50_000)
    }

    @Test("An input that cannot be used is refused in one line") func unusableInput() throws {
        let scratch = try Scratch()
        let empty = try scratch.file("empty", [])
        let missing = scratch.path + "/missing"
        let pipe = scratch.path + "/pipe"
        try #require(mkfifo(pipe, 0o600) == 0)
        let lines = [
            empty: "the input \(empty) is empty; there is nothing to write",
            missing: "cannot open the input \(missing): No such file or directory",
            scratch.path: "the input \(scratch.path) is a directory; name a file in it",
            pipe: "the input \(pipe) is no regular file, and only those can be read twice; copy it first",
        ]
        for (input, line) in lines {
            #expect(throws: WorkloadError(line)) { try runCleanly("segment") { $0.input = input } }
        }
    }

    @Test("A work directory that cannot be made is refused in one line") func unusableDirectory() {
        let error = WorkloadError("cannot make a work directory in /nonexistent: No such file or directory")
        #expect(throws: error) { try WorkloadCatalog.run("segment", withDirectory("/nonexistent")) }
    }

    private func withDirectory(_ path: String) -> WorkloadOptions {
        var options = WorkloadOptions()
        options.directory = path
        return options
    }

    @Test("A full disk ends the workload in one line, with all buffers back and no file left") func fullDisk() async {
        await #expect(processExitsWith: .success) {
            var limit = rlimit()
            try #require(getrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit) == 0)
            limit.rlim_cur = 20_000
            try #require(setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit) == 0)
            let error = #expect(throws: WorkloadError.self) { try runCleanly("segment") { $0.operations = 1_000 } }
            #expect(error?.description.contains("00000000000000000000.log, byte ") == true)
            #expect(
                error?.description.hasSuffix(" bytes: File too large; choose a place with more room with --directory")
                    == true)
            #expect(error?.isUsage == false)
        }
    }

    @Test("When a segment is full the next one begins, and reading spans all of them") func rolling() throws {
        let scratch = try Scratch()
        let pool = BufferPool()
        var options = SegmentOptions()
        options.maximumSegmentBytes = 10_000
        let source = RecordSource.generated(seed: 5, count: 500, recordBytes: 100)
        var share = SegmentShare(source: source, directory: scratch.path, pool: pool, options: options)
        var planter = FaultPlanter(nil, pool: pool, seed: 1, thread: 0)
        try share.write(seed: 1, planter: &planter)
        try share.reopen()
        try share.verify()
        #expect(share.tally["verifiedRecords"] == 500)
        #expect(share.tally["segments"] >= 7)
        #expect(pool.stats().inUse == 0)
    }

    @Test("A byte that changes behind the workload's back is noticed") func changedByte() throws {
        let scratch = try Scratch()
        let input = try scratch.file("input", (0..<1_000).flatMap { Array("line number \($0)\n".utf8) })
        let store = scratch.path + "/store"
        try FileManager.default.createDirectory(atPath: store, withIntermediateDirectories: false)
        let pool = BufferPool()
        let source = RecordSource.input(try InputFile(path: input), .lines, thread: 0, threads: 1, limit: .max)
        var share = SegmentShare(source: source, directory: store, pool: pool)
        var planter = FaultPlanter(nil, pool: pool, seed: 1, thread: 0)
        try share.write(seed: 1, planter: &planter)
        try share.reopen()
        // The same number of bytes with one letter changed: the log no longer agrees with the input.
        let file = try FileHandle(forUpdating: URL(fileURLWithPath: input))
        try file.seek(toOffset: 5)
        try file.write(contentsOf: Data("N".utf8))
        try file.close()
        let error = #expect(throws: WorkloadError.self) { try share.verify() }
        #expect(
            error?.description == "the input \(input) changed while it was read; record 0 differs from what was written"
        )
        #expect(pool.stats().inUse == 0)
    }
}

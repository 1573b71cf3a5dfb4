// `AnalysisFixture`: a recording with named stacks, and its report.

import MempoolRecording
import TestSupport

@testable import MempoolAnalysis

/// A recording with one pool of the buckets 512, 4096 and 65536, and stacks of a small program.
struct AnalysisFixture {
    static let own = Frame(function: "BufferPool.get(_:)", file: "/p/Mempool/Get.swift", line: 3, isOwn: true)
    static let read = Frame(function: "read()", file: "/app/main.swift", line: 12, column: 5)
    static let write = Frame(function: "write()", file: "/app/main.swift", line: 30, column: 9)
    static let touch = Frame(function: "touch()", file: "/app/main.swift", line: 50, column: 2)
    static let stop = Frame(function: "stop()", file: "/app/main.swift", line: 70, column: 2)
    static let second = RecordingBuilder.second

    var builder = RecordingBuilder()
    /// Stacks of the pool's own frame and one of the user's.
    let reading: UInt32
    let writing: UInt32
    let touching: UInt32
    let stopping: UInt32

    init() {
        builder.addPool(name: "default")
        reading = builder.addStack([1, 2])
        writing = builder.addStack([1, 3])
        touching = builder.addStack([1, 4])
        stopping = builder.addStack([1, 5])
    }

    /// Adds a finding of one case whose buffer was got in `read()` and put in `write()`.
    mutating func addFinding(_ kind: FindingKind, _ change: (inout FindingRecord) -> Void = { _ in }) {
        let (reading, writing) = (reading, writing)
        builder.addFinding(kind) {
            $0.getStack = reading
            $0.putStack = writing
            change(&$0)
        }
    }

    /// Counts gets and as many puts in the bucket 4096 of the first pool.
    mutating func countPairs(_ count: UInt64) {
        builder.count(pool: 0, row: 1) {
            $0.gets = count
            $0.puts = count
        }
    }

    /// Makes the recording a snapshot: its program runs at 110 seconds.
    mutating func becomeSnapshot() { builder.header.flags = RecordingHeader.snapshotFlag }

    func report(_ options: AnalysisOptions = AnalysisOptions()) throws -> Report {
        let directory = try TemporaryDirectory()
        let recording = try Recording(path: directory.write(builder.bytes()))
        let names: [UInt64: [Frame]] = [
            1: [Self.own], 2: [Self.read], 3: [Self.write], 4: [Self.touch], 5: [Self.stop],
        ]
        return Analyzer.report(of: recording, options: options, symbolizer: TableSymbolizer(names))
    }
}

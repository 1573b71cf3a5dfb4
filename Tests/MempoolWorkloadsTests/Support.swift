// What the tests of the workloads share: scratch files, and a check that no buffer and no file is left.

import Foundation
import Mempool
import Testing

@testable import MempoolWorkloads

/// A directory of a test's own, removed with the value.
final class Scratch {
    let path = NSTemporaryDirectory() + "/workload-test-" + UUID().uuidString

    init() throws {
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// Writes a file and returns its path.
    func file(_ name: String, _ bytes: some Sequence<UInt8>) throws -> String {
        try Data(bytes).write(to: URL(fileURLWithPath: path + "/" + name))
        return path + "/" + name
    }

    var contents: [String] { (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? ["unreadable"] }
}

func readText(_ path: String) throws -> String {
    String(decoding: try Data(contentsOf: URL(fileURLWithPath: path)), as: UTF8.self)
}

/// The sources of the workloads, beside the tests.
let sourceDirectory = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("Sources/MempoolWorkloads").path

/// Runs a workload on a pool of its own, in a directory of its own, and checks that it leaves neither buffers nor files.
@discardableResult
func runCleanly(
    _ name: String,
    sourceLocation: SourceLocation = #_sourceLocation,
    _ change: (inout WorkloadOptions) -> Void = { _ in }
) throws(WorkloadError) -> WorkloadSummary {
    let scratch: Scratch
    do { scratch = try Scratch() } catch { throw WorkloadError("no scratch directory: \(error)") }
    let pool = BufferPool()
    defer {
        let stats = pool.stats()
        #expect(stats.inUse == 0, "buffers were not put back", sourceLocation: sourceLocation)
        #expect(stats.gets == stats.puts, sourceLocation: sourceLocation)
        #expect(stats.discarded == 0, sourceLocation: sourceLocation)
        #expect(scratch.contents.isEmpty, "files were left", sourceLocation: sourceLocation)
    }
    var options = WorkloadOptions()
    options.directory = scratch.path
    change(&options)
    return try WorkloadCatalog.run(name, options, pool: pool)
}

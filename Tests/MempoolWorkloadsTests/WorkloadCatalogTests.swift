// Tests of what all workloads have in common: names, options, repeatability, threads, planted faults.

import Foundation
import Mempool
import Testing

@testable import MempoolWorkloads

@Suite struct WorkloadCatalogTests {
    @Test("The standard set is the three patterns and the segment") func standardSet() {
        #expect(WorkloadCatalog.standardSet == ["message", "encode-decode", "batch", "segment"])
        #expect(WorkloadCatalog.all.filter(\.readsInput).map(\.name) == ["segment"])
    }

    @Test("An unknown workload is refused with the names there are") func unknownWorkload() {
        #expect(
            throws: WorkloadError(
                usage: "there is no workload 'mesage'; the workloads are message, encode-decode, batch, segment")
        ) {
            try WorkloadCatalog.run("mesage")
        }
    }

    @Test(
        "Every workload does as many operations as asked for, on any number of threads",
        arguments: WorkloadCatalog.standardSet, [1, 3])
    func operations(name: String, threads: Int) throws {
        for operations in [1, 2, 50] {
            let summary = try runCleanly(name) {
                $0.operations = operations
                $0.threads = threads
            }
            #expect(summary.name == name)
            #expect(summary.facts["operations"] == operations)
            #expect(summary.facts["threads"] == threads)
            #expect(summary.facts["plantedFaults"] == 0)
            #expect(!summary.lines.isEmpty)
            #expect(summary.lines.allSatisfy { !$0.contains("\n") })
        }
    }

    @Test("The same seed does the same work, another seed does other work", arguments: WorkloadCatalog.standardSet)
    func seeds(name: String) throws {
        func run(seed: UInt64) throws -> [String: Int] {
            try runCleanly(name) {
                $0.operations = 40
                $0.seed = seed
                $0.threads = 2
            }.facts
        }
        #expect(try run(seed: 7) == run(seed: 7))
        #expect(try run(seed: 7)["bytes"] != run(seed: 8)["bytes"])
    }

    @Test(
        "Numbers out of range are refused in one line that says what is right", arguments: WorkloadCatalog.standardSet)
    func badNumbers(name: String) {
        #expect(throws: WorkloadError(usage: "the number of operations must be at least 1, not 0")) {
            try runCleanly(name) { $0.operations = 0 }
        }
        #expect(throws: WorkloadError(usage: "the number of threads must be 1 to 256, not 0")) {
            try runCleanly(name) { $0.threads = 0 }
        }
        #expect(throws: WorkloadError(usage: "the number of threads must be 1 to 256, not 257")) {
            try runCleanly(name) { $0.threads = 257 }
        }
        #expect(throws: WorkloadError(usage: "the record size must be 1 to 16777152 bytes, not 0")) {
            try runCleanly(name) { $0.recordBytes = 0 }
        }
    }

    @Test("A workload that reads no input refuses one", arguments: ["message", "encode-decode", "batch"])
    func needlessInput(name: String) {
        let error = WorkloadError(usage: "workload \(name) takes no input and no record size; segment does")
        #expect(throws: error) { try runCleanly(name) { $0.input = "/etc/passwd" } }
        #expect(throws: error) { try runCleanly(name) { $0.recordBytes = 10 } }
    }

    @Test("Options and summaries survive the way to another process and back") func codable() throws {
        var options = WorkloadOptions()
        options.input = "some file"
        options.threads = 3
        options.plant = try PlantedFault(parsing: "double-put:0.5")
        let data = try JSONEncoder().encode(options)
        #expect(try JSONDecoder().decode(WorkloadOptions.self, from: data) == options)
        #expect(String(decoding: data, as: UTF8.self).contains("\"double-put\""))
    }

    @Test("A fault is planted in every workload, at least once in each form, without harm to the data") func planting()
        async
    {
        await #expect(processExitsWith: .success) {
            for name in WorkloadCatalog.standardSet {
                for kind in PlantedFault.Kind.allCases {
                    for (rate, threads) in [(1e-9, 1), (0.5, 2)] {
                        let pool = BufferPool()
                        var options = WorkloadOptions()
                        options.operations = 20
                        options.threads = threads
                        var plant = PlantedFault(kind: kind, rate: rate)
                        plant.heldSeconds = 0.001
                        options.plant = plant
                        let summary = try WorkloadCatalog.run(name, options, pool: pool)
                        let planted = summary.facts["plantedFaults"] ?? 0
                        let forms = PlantedFaults.Form.all(of: kind).count
                        #expect(rate < 0.1 ? planted == forms : (4...16).contains(planted))
                        let stats = pool.stats()
                        #expect(stats.inUse == (kind == .leak ? Int64(planted) : 0))
                        let isBadPut = [.doublePut, .wrongCapacity, .foreignPut, .wrongPool].contains(kind)
                        #expect(stats.discarded == (isBadPut ? UInt64(planted) : 0))
                        #expect(summary.facts["operations"] == 20)
                        let sites = PlantedFaults.sites(of: kind).map(\.description).joined(separator: " and ")
                        let often = planted == 1 ? "once" : "\(planted) times"
                        #expect(
                            summary.lines.last == "planted on purpose: \(kind.rawValue) \(often), at \(sites)")
                    }
                }
            }
        }
    }
}

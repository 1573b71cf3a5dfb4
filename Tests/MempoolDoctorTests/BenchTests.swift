// Smoke tests of `bench`: that everything is measured, never how fast.

import Foundation
import Testing

@Suite struct BenchTests {
    private let scratch: Scratch

    init() throws { scratch = try Scratch() }

    @Test func `A quick run measures rows of every group asked for`() throws {
        let result = try doctor(
            "bench", "pair", "mixed", "forms", "--only", "handoff", "recorder", "--quick", "--sizes", "512", "64K",
            "--format", "json", in: scratch
        )
        #expect(result.status == 0, "\(result.errors)")
        let json = try #require(result.json)
        #expect(json["schemaVersion"] as? Int == 1)
        #expect(json["failures"] as? [String] == [])
        let rows = try #require(json["rows"] as? [[String: Any]])
        let groups = Set(rows.compactMap { $0["group"] as? String })
        #expect(groups.isSuperset(of: ["pair", "mixed", "forms", "recorder"]))
        #expect(groups.isSubset(of: ["pair", "mixed", "forms", "recorder", "handoff"]))
        for row in rows {
            let measurements = try #require(row["measurements"] as? [[String: Any]])
            #expect(measurements.count >= 2)
            #expect(measurements.allSatisfy { ($0["nanoseconds"] as? Double ?? 0) > 0 && $0["samples"] as? Int == 3 })
            #expect(row["ratio"] is Double)
        }
        let sizes = rows.filter { $0["group"] as? String == "pair" && $0["threads"] as? Int == 1 }
        #expect(sizes.compactMap { $0["size"] as? Int } == [512, 65536])
        let recorder = try #require(json["recorder"] as? [String: Any])
        #expect(recorder["buffers"] as? Int == 10_000)
        for key in ["firstGetNanoseconds", "residentBytes", "recordingBytes", "reportSeconds", "reportPeakBytes"] {
            #expect(recorder[key] as? Double ?? 0 > 0, "\(key)")
        }
    }

    @Test func `The table goes to the file, notes to stderr`() throws {
        let result = try doctor("bench", "swift", "--quick", "--sizes", "1K", "-o", "table.txt", in: scratch)
        #expect(result.status == 0)
        #expect(result.output == "")
        let table = try scratch.read("table.txt")
        #expect(table.hasPrefix("swift: what Swift has by itself, 1 thread, ns\n"))
        #expect(table.contains("\n  1 KiB "))
        #expect(table.contains("\nmachine: "))
    }

    @Test func `A peer that cannot be preloaded is usage, and named`() throws {
        let file = try scratch.write("no library", to: "libfake.so")
        let result = try doctor("bench", "fifo", "--quick", "--peer", file, in: scratch)
        #expect(
            result
                == DoctorResult(
                    status: 64,
                    output: "",
                    errors: "mempool-doctor: --peer: \(file) is not a shared library for this machine\n"
                )
        )
    }

    @Test(arguments: [
        ["bench", "nonsense"], ["bench", "--rounds", "0"], ["bench", "--sizes", "0"], ["bench", "--sizes", "17M"],
        ["bench", "--sizes", "9999999999999999999M"], ["bench", "--only", "nonsense"],
    ])
    func `A mistake in the arguments has status 64`(arguments: [String]) throws {
        let result = try DoctorProcess(arguments, in: scratch).finish()
        #expect(result.status == 64)
        #expect(result.output == "")
        #expect(result.errors.hasPrefix("Error: "), "\(result.errors)")
    }
}

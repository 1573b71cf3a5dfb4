// Tests of JSONReporter: the keys that programs rely on, and that nothing is lost.

import Foundation
import MempoolAnalysis
import Testing

@testable import MempoolReporters

struct JSONReporterTests {
    private func object(_ report: Report) throws -> [String: Any] {
        let data = Data(JSONReporter.render(report).utf8)
        return try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
    }

    @Test func `A report survives the way through JSON`() throws {
        for report in [SampleReports.healthy(), SampleReports.findings(), .inconclusive(because: "No recording.")] {
            let decoded = try JSONDecoder().decode(Report.self, from: Data(JSONReporter.render(report).utf8))
            #expect(decoded == report)
        }
    }

    @Test func `The same report gives the same bytes`() {
        #expect(JSONReporter.render(SampleReports.findings()) == JSONReporter.render(SampleReports.findings()))
    }

    @Test func `The keys of the contract are there`() throws {
        let report = try object(SampleReports.findings())
        #expect(report["schemaVersion"] as? Int == 1)
        #expect(report["verdict"] as? String == "findings")
        let findings = try #require(report["findings"] as? [[String: Any]])
        #expect(findings.map { $0["kind"] as? String } == ["double-put", "leak"])
        let leak = try #require(findings.last)
        #expect(leak["count"] as? Int == 1000)
        #expect(leak["bytes"] as? Int == 4_096_000)
        let site = try #require(leak["site"] as? [String: Any])
        #expect(site["function"] as? String == "readHeader()")
        #expect(site["file"] as? String == "/src/app/Sources/app/Reader.swift")
        #expect(site["line"] as? Int == 12)
        #expect(site["column"] as? Int == 5)
        #expect(site["inlined"] as? Bool == true)
        #expect(site["async"] as? Bool == false)
        let stacks = try #require(findings.first?["stacks"] as? [String: Any])
        #expect(Set(stacks.keys) == ["get", "put", "secondPut"])
        let pools = try #require(report["pools"] as? [[String: Any]])
        #expect(pools.first?["name"] as? String == "default")
        let stats = try #require(pools.first?["stats"] as? [String: Any])
        #expect(Set(stats.keys) == ["allocations", "gets", "puts", "inUse", "oversized", "discarded"])
        #expect((pools.first?["buckets"] as? [Any])?.count == 4)
        let recorder = try #require(report["recorder"] as? [String: Any])
        #expect(recorder["level"] as? String == "full")
        #expect(recorder["unwinder"] as? String == "libunwind")
        #expect(recorder["dropped"] is [String: Any])
    }

    @Test func `Every kind of finding has the name of the contract`() {
        #expect(
            Finding.Kind.allCases.map(\.rawValue) == [
                "double-put", "use-after-put", "overrun", "wrong-pool", "foreign-put", "wrong-capacity",
                "pool-destroyed", "leak", "held-too-long",
            ]
        )
    }
}

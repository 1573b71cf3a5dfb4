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
        let built = [SampleReports.healthy(), SampleReports.findings(), .inconclusive(because: "No recording.")]
        for report in try built + TextReporterTests.recorded.values.map({ try $0() }) {
            let decoded = try JSONDecoder().decode(Report.self, from: Data(JSONReporter.render(report).utf8))
            #expect(decoded == report)
        }
    }

    @Test func `The same report gives the same bytes`() {
        #expect(JSONReporter.render(SampleReports.findings()) == JSONReporter.render(SampleReports.findings()))
    }

    /// As the command puts the reports of several programs together.
    private struct Family: JSONListHolder {
        struct Member: JSONListHolder {
            var name: String
            var report: Report

            static var listPlace: (key: String, depth: Int) { ("findings", 2) }
            var withoutList: Member { Member(name: name, report: report.withoutList) }
            func forEachElement<Failure: Error>(
                _ body: (any Encodable) throws(Failure) -> Void
            ) throws(Failure) { try report.forEachElement(body) }
        }

        var members: [Member]
        var other = 1

        static var listPlace: (key: String, depth: Int) { ("members", 1) }
        var withoutList: Family { Family(members: []) }
        func forEachElement<Failure: Error>(
            _ body: (any Encodable) throws(Failure) -> Void
        ) throws(Failure) { for member in members { try body(member) } }
    }

    @Test func `Written in pieces a report is the same, a finding at a time`() throws {
        func pieces(_ value: some JSONListHolder) -> [String] {
            var pieces: [String] = []
            JSONReporter.write(value) { pieces.append($0) }
            return pieces
        }
        var tricky = SampleReports.findings()
        tricky.notes = ["\n  \"findings\" : [", "\"findings\" : []"]
        let reports = try [SampleReports.healthy(), tricky, RecordedReport.several(), .inconclusive(because: "None.")]
        for report in reports {
            let pieces = pieces(report)
            #expect(pieces.joined() == JSONReporter.render(report))
            #expect(pieces.count { $0.contains("\"happened\"") } == report.findings.count)
        }
        let family = Family(members: reports.enumerated().map { Family.Member(name: "\($0)", report: $1) })
        #expect(pieces(family).joined() == JSONReporter.render(family))
        #expect(pieces(Family(members: [])).joined() == JSONReporter.render(Family(members: [])))
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

    private func findings(_ report: Report) throws -> [[String: Any]] {
        try #require(try object(report)["findings"] as? [[String: Any]])
    }

    @Test func `What is known of bytes has keys`() throws {
        let findings = try findings(RecordedReport.bytes())
        let poison = try #require(findings.first { $0["caughtBy"] as? String == "poison" })
        #expect(poison["kind"] as? String == "use-after-put")
        #expect(poison["offset"] as? Int == 128)
        #expect(poison["badBytes"] as? Int == 40)
        #expect(poison["request"] as? Int == 4000)
        #expect(poison["expectedByte"] as? String == "de")
        #expect(poison["foundBytes"] as? String == "30 31 20 47 45 54 20 2f 20 48 54 54 50 2f 31 2e")
        #expect(poison["access"] as? String == "write")
        #expect(poison["secondsAfterPut"] as? Double == 1)
        let read = try #require(findings.first { $0["caughtBy"] as? String == "accessor" })
        #expect(read["access"] as? String == "read")
        let stacks = try #require(read["stacks"] as? [String: Any])
        #expect(Set(stacks.keys) == ["access", "get", "put", "reissue"])
        let events = try #require(read["events"] as? [String: [String: Any]])
        #expect(Set(events.keys) == ["access", "get", "put"])
        #expect(events["access"]?["thread"] as? Int == 4713)
        #expect(events["access"]?["ageSeconds"] as? Double == 5)
        #expect(findings.contains { $0["caughtBy"] as? String == "guard-page" })
        #expect(findings.contains { $0["offset"] as? Int == -8 })
    }

    @Test func `A bad put has the address and the capacity of what was put`() throws {
        let findings = try findings(RecordedReport.several())
        let foreign = try #require(findings.first { $0["kind"] as? String == "foreign-put" })
        #expect(foreign["address"] as? String == "0x7f3a1c000010")
        #expect(foreign["givenCapacity"] as? Int == 100)
        let stranger = try #require(findings.first { $0["kind"] as? String == "wrong-pool" })
        #expect(stranger["address"] as? String == "0x7f3a20000000")
        #expect(stranger["issuingPool"] as? String == "network")
        // Nobody knows it.
        let slice = try #require(findings.first { $0["kind"] as? String == "wrong-capacity" })
        #expect(slice["address"] == nil)
    }

    @Test func `A frame without a place has all keys of the contract`() throws {
        let findings = try findings(SampleReports.findings())
        let stacks = try #require(findings.first?["stacks"] as? [String: [[String: Any]]])
        let unnamed = try #require(stacks["secondPut"]?.first)
        #expect(unnamed["function"] as? String == "libold.so+0x1f40")
        for key in ["file", "line", "column"] { #expect(unnamed[key] is NSNull, "\(key)") }
        #expect(unnamed["inlined"] as? Bool == false)
        #expect(unnamed["async"] as? Bool == false)
    }

    @Test func `What is known of holding has keys`() throws {
        let report = try object(RecordedReport.holding())
        let findings = try #require(report["findings"] as? [[String: Any]])
        let leak = try #require(findings.first { $0["scope"] as? String == "upload" })
        #expect(leak["scopeEnded"] as? Bool == true)
        #expect(leak["notes"] as? [String] == ["request 1 of client 7", "request 2 of client 7"])
        #expect(leak["noteCount"] as? Int == 2)
        #expect(findings.contains { $0["isUnscoped"] as? Bool == true })
        let destroyed = try #require(findings.first { $0["kind"] as? String == "pool-destroyed" })
        #expect((destroyed["stacks"] as? [String: Any])?["destroy"] != nil)
        let held = try #require(findings.first { $0["kind"] as? String == "held-too-long" })
        #expect(held["heldSeconds"] as? Double == 12)
        #expect(held["isStillHeld"] as? Bool == false)
        let late = try #require(report["lateReturns"] as? [[String: Any]])
        #expect(late.first?["scope"] as? String == "upload")
        #expect(late.first?["outstanding"] as? Int == 4)
        #expect(late.first?["count"] as? Int == 2)
        let pools = try #require(report["pools"] as? [[String: Any]])
        let kept = try #require(pools.first?["kept"] as? [String: Any])
        #expect(kept["count"] as? Int == 2)
        #expect((kept["sites"] as? [[String: Any]])?.first?["bytes"] as? Int == 1024)
    }

    @Test func `Estimates stand beside what was seen`() throws {
        let report = try object(RecordedReport.sampled())
        let leak = try #require((report["findings"] as? [[String: Any]])?.first)
        #expect(leak["count"] as? Int == 3)
        #expect(leak["estimatedCount"] as? Int == 384)
        #expect(leak["estimatedBytes"] as? Int == 384 * 4096)
        let recorder = try #require(report["recorder"] as? [String: Any])
        #expect(recorder["sampleInterval"] as? Int == 128)
        #expect(recorder["isEstimate"] as? Bool == false)
        #expect((recorder["poison"] as? [String: Any])?["bytes"] as? Int == 1024)
        #expect((recorder["canary"] as? [String: Any])?["isWhole"] as? Bool == false)
    }

    @Test func `Advice has keys of its own and leaves the verdict alone`() throws {
        let report = try object(RecordedReport.advice())
        #expect(report["verdict"] as? String == "healthy")
        let advice = try #require(report["advice"] as? [[String: Any]])
        #expect(
            advice.map { $0["kind"] as? String } == [
                "oversized-often", "low-hit-rate", "high-water", "too-few-operations",
            ]
        )
        #expect(advice[1]["capacity"] as? Int == 4096)
        #expect(advice[1]["percent"] as? Double == 42.1)
        #expect((advice[1]["sites"] as? [[String: Any]])?.first?["count"] as? Int == 9)
        #expect(advice[1]["siteTotal"] as? Int == 12)
    }

    @Test func `Every kind of advice has a name that stays`() {
        #expect(
            Advice.Kind.allCases.map(\.rawValue) == [
                "discarded-often", "oversized-often", "low-hit-rate", "high-water", "too-few-operations",
            ]
        )
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

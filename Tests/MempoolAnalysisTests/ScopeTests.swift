// Tests of scopes and notes in reports: leaks by scope, late returns, and context numbers that lead nowhere.

import MempoolRecording
import TestSupport
import Testing

@testable import MempoolAnalysis

struct ScopeTests {
    private var fixture = AnalysisFixture()
    private static let second = AnalysisFixture.second

    @Test func `A buffer of an ended scope leaked when it ended`() throws {
        var fixture = fixture
        let scope = fixture.builder.addScope("upload", outstanding: 1)
        fixture.builder.addSlot(stack: fixture.reading, context: scope)
        let finding = try #require(try fixture.report().findings.first)
        #expect(finding.scope == "upload")
        #expect(finding.scopeEnded == true)
        #expect(finding.isUnscoped == nil)
        #expect(
            finding.happened == "1 buffer got here was outstanding when scope 'upload' ended, and has not come back.")
    }

    @Test func `A buffer of an ended scope leaked even while the program runs, however long it is held`() throws {
        var fixture = fixture
        fixture.becomeSnapshot()
        fixture.builder.header.heldLimit = 1
        let ended = fixture.builder.addScope("upload", outstanding: 1)
        let open = fixture.builder.addScope("download", hasEnded: false)
        fixture.builder.addSlot(stack: fixture.reading, context: ended)
        fixture.builder.addSlot(stack: fixture.reading, context: open)
        let findings = try fixture.report().findings
        #expect(findings.map(\.kind) == [.heldTooLong, .leak])
        #expect(findings.map(\.scope) == ["download", "upload"])
    }

    @Test func `An open scope is told as open`() throws {
        var fixture = fixture
        fixture.builder.addSlot(stack: fixture.reading, context: fixture.builder.addScope("upload", hasEnded: false))
        let finding = try #require(try fixture.report().findings.first)
        #expect(finding.scopeEnded == false)
        #expect(
            finding.happened
                == "1 buffer was got here in scope 'upload' and never put; the scope was still open at the end.")
    }

    @Test func `Nobody claims that a program that died would never have put its buffers`() throws {
        var fixture = fixture
        fixture.builder.header.flags = 0
        fixture.builder.addSlot(stack: fixture.reading, context: fixture.builder.addScope("upload", hasEnded: false))
        fixture.builder.addSlot(stack: fixture.writing)
        #expect(
            try Set(fixture.report().findings.map(\.happened)) == [
                "1 buffer was got here and still outstanding when the recording ended.",
                "1 buffer was got here in scope 'upload' and still outstanding when the recording ended.",
            ])
    }

    @Test func `Scopes of one name are one, other names and no scope are apart`() throws {
        var fixture = fixture
        for _ in 0..<3 {
            fixture.builder.addSlot(stack: fixture.reading, context: fixture.builder.addScope("upload"))
        }
        fixture.builder.addSlot(stack: fixture.reading, context: fixture.builder.addScope("download"))
        fixture.builder.addSlot(stack: fixture.reading)
        let findings = try fixture.report().findings
        #expect(findings.map(\.scope) == ["upload", nil, "download"])
        #expect(findings.map(\.count) == [3, 1, 1])
        #expect(findings.map(\.isUnscoped) == [nil, true, nil])
    }

    @Test func `Where no scope is used nothing is called unscoped`() throws {
        var fixture = fixture
        fixture.builder.addSlot(stack: fixture.reading, context: fixture.builder.addNote("a note"))
        let finding = try #require(try fixture.report().findings.first)
        #expect(finding.isUnscoped == nil && finding.scope == nil)
        #expect(finding.notes == ["a note"])
    }

    @Test func `Notes lead to their scope, equal ones count once, many are cut`() throws {
        var fixture = fixture
        let scope = fixture.builder.addScope("upload")
        for number in 0..<20 {
            for _ in 0..<2 {
                let note = fixture.builder.addNote("request \(number)", in: scope)
                fixture.builder.addSlot(stack: fixture.reading, context: note)
            }
        }
        let finding = try #require(try fixture.report().findings.first)
        #expect(finding.count == 40)
        #expect(finding.scope == "upload")
        #expect(finding.notes == (0..<Finding.noteLimit).map { "request \($0)" })
        #expect(finding.noteCount == 20)
    }

    @Test func `A bad put tells the scope of its get but is not split by it`() throws {
        var fixture = fixture
        let first = fixture.builder.addScope("upload")
        let second = fixture.builder.addScope("download")
        for scope in [first, second] { fixture.addFinding(.doublePut) { $0.context = scope } }
        let findings = try fixture.report().findings
        #expect(findings.map(\.scope) == ["upload"])
        #expect(findings.map(\.count) == [2])
    }

    // MARK: - Late returns

    @Test func `What came back late is told in words and is no finding`() throws {
        var fixture = fixture
        _ = fixture.builder.addScope(
            "upload", outstanding: 2, lateReturns: 2, slowestReturn: Self.second + Self.second / 5)
        for _ in 0..<2 { fixture.builder.addSlot(state: .returned) }
        let report = try fixture.report()
        #expect(report.verdict == .healthy)
        #expect(
            report.notes == [
                "Scope 'upload' ended with 2 buffers outstanding; all of them came back later, the last one 1.2 s after the end."
            ])
        #expect(report.lateReturns.map(\.count) == [2])
    }

    @Test func `Some that came back and some that did not are told apart`() throws {
        var fixture = fixture
        let scope = fixture.builder.addScope(
            "upload", outstanding: 3, lateReturns: 2, slowestReturn: Self.second)
        fixture.builder.addSlot(stack: fixture.reading, context: scope)
        let report = try fixture.report()
        #expect(report.findings.map(\.count) == [1])
        #expect(
            report.notes == [
                "Scope 'upload' ended with 3 buffers outstanding; 2 came back later, the last one 1 s after the end."
            ])
    }

    @Test func `Late returns of scopes of one name are added up`() throws {
        var fixture = fixture
        for time in 1...3 as ClosedRange<UInt64> {
            _ = fixture.builder.addScope(
                "upload", outstanding: 4, lateReturns: 1, slowestReturn: time * Self.second)
        }
        #expect(
            try fixture.report().notes == [
                "Scope 'upload' ended with 12 buffers outstanding in 3 calls; 3 came back later, the last one 3 s after the end."
            ])
    }

    @Test func `More late returns than buffers is damage, and never a negative number`() throws {
        var fixture = fixture
        _ = fixture.builder.addScope("a", outstanding: 1, lateReturns: .max, slowestReturn: .max)
        _ = fixture.builder.addScope("a", outstanding: 1, lateReturns: .max, slowestReturn: .max)
        let report = try fixture.report()
        #expect(report.lateReturns.map(\.count) == [.max])
        #expect(report.lateReturns.map(\.outstanding) == [.max])
        #expect(report.notes.count == 1)
    }

    // MARK: - Damage

    @Test func `Context numbers that lead nowhere are told, and the leak stays`() throws {
        var fixture = fixture
        _ = fixture.builder.addScope("upload")
        fixture.builder.addSlot(stack: fixture.reading, context: 99)
        fixture.builder.addSlot(stack: fixture.reading, context: .max)
        let report = try fixture.report()
        #expect(report.findings.map(\.count) == [2])
        #expect(report.findings.first?.isUnscoped == true)
        #expect(report.recorder?.damage == ["The scopes of 2 outstanding buffers could not be read."])
    }

    @Test func `Notes in a circle belong to no scope`() throws {
        var fixture = fixture
        let first = fixture.builder.addNote("a", in: 2)
        let second = fixture.builder.addNote("b", in: 1)
        let itself = fixture.builder.addNote("c", in: 3)
        for context in [first, second, itself] { fixture.builder.addSlot(stack: fixture.reading, context: context) }
        let finding = try #require(try fixture.report().findings.first)
        #expect(finding.count == 3)
        #expect(finding.scope == nil)
        #expect(finding.notes == ["a", "b", "c"])
    }

    @Test func `An entry that is not in use means nothing`() throws {
        var fixture = fixture
        let scope = fixture.builder.addScope("upload", outstanding: 1, lateReturns: 1)
        fixture.builder.contexts[Int(scope)].state = 0
        fixture.builder.addSlot(stack: fixture.reading, context: scope)
        let report = try fixture.report()
        #expect(report.findings.map(\.scope) == [nil])
        #expect(report.lateReturns.isEmpty)
    }

    @Test func `Findings with impossible figures do not bring the analysis down`() throws {
        var fixture = fixture
        for kind in FindingKind.allCases {
            for extreme in [UInt64(0), 1, UInt64(Int64.max), .max] {
                fixture.addFinding(kind) {
                    $0.count = extreme
                    $0.bytes = extreme
                    $0.request = extreme
                    $0.badBytes = extreme
                    $0.offset = Int64(truncatingIfNeeded: extreme)
                    $0.expected = extreme
                    $0.found = (extreme, extreme)
                    $0.foundCount = UInt32(truncatingIfNeeded: extreme)
                    $0.duration = extreme
                    $0.firstPutTime = extreme
                    $0.getTime = extreme
                    $0.firstTime = ~extreme
                    $0.context = UInt32(truncatingIfNeeded: extreme)
                    $0.accessThread = UInt32(truncatingIfNeeded: extreme)
                    $0.flags = UInt32(truncatingIfNeeded: extreme)
                    $0.reissues = extreme
                }
                fixture.addFinding(kind) { $0.offset = extreme == 0 ? .min : -1 }
            }
        }
        fixture.builder.header.sampleInterval = .max
        fixture.builder.header.heldLimit = .max
        fixture.builder.header.keptBuffers = .max
        #expect(try fixture.report().verdict == .findings)
        fixture.becomeSnapshot()
        #expect(try fixture.report().verdict == .findings)
    }
}

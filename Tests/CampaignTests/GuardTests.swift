// Level paranoid in real programs: each touches a guard page in a process of its own, whose recording is then read.

import Foundation
import Glibc
import MempoolAnalysis
import MempoolRecording
import Testing

@Suite struct GuardTests {
    /// A program that ended at a guard page, and the finding in its recording.
    private struct Caught {
        var output: String
        var recording: Recording
        var finding: FindingRecord
        /// The innermost frame of the touch in the program's own sources, and the line it printed before.
        var site: Frame?
        var announcedLine: Int
        /// What a report calls a leak.
        var leaks: [Finding]

        init(_ name: String, level: String = "paranoid", in scratch: Scratch) throws {
            let path = scratch.file("recording-" + name)
            let end = try Program.run(
                ["zoo", "touch", name],
                environment: ["MEMPOOL_DEBUG": "\(level),recording=\(path)", "SWIFT_BACKTRACE": "enable=no"],
                in: scratch)
            #expect(end.status == 1_000 + SIGSEGV, "\(end)")
            output = end.output
            recording = try Recording(path: path)
            finding = try #require(recording.findings.first, "\(end.output)")
            #expect(recording.findings.count == 1)
            announcedLine = try #require(end.output.split(separator: "\n").first.flatMap { Int($0) }, "\(end.output)")
            leaks = try Analyzer.report(recordingAt: path, options: AnalysisOptions()).findings.filter {
                $0.kind == .leak
            }
            let words = try #require(recording.stack(finding.accessStack))
            let names = ElfSymbolizer().name(Set(words), in: recording.modules)
            site = words.lazy.compactMap { names.frames[$0]?.first { $0.file?.contains("Tests/Zoo/") == true } }.first
        }

        var kind: FindingKind? { FindingKind(rawValue: finding.kind) }
        var isRead: Bool { finding.flags & FindingRecord.readFlag != 0 }
        var isFault: Bool { finding.flags & FindingRecord.faultFlag != 0 }

        /// The functions of one of its stacks.
        func functions(_ stack: UInt32) -> [String] {
            let words = recording.stack(stack) ?? []
            let names = ElfSymbolizer().name(Set(words), in: recording.modules)
            return words.flatMap { names.frames[$0] ?? [] }.map(\.function)
        }
    }

    @Test(arguments: [
        ("read-after-put", true, 17), ("write-after-put", false, 17), ("copy-after-put", false, 0),
        ("late-write", false, 17),
        ("async-write", false, 17), ("thread-write", false, 17),
    ])
    func `A touch after the put is caught at its instruction`(name: String, isRead: Bool, offset: Int64) throws {
        let caught = try Caught(name, in: try Scratch())
        #expect(caught.kind == .useAfterPut && caught.isFault)
        #expect(caught.isRead == isRead)
        #expect(caught.finding.offset == offset)
        #expect(caught.site?.line == caught.announcedLine, "\(String(describing: caught.site))")
        #expect(caught.site?.file?.hasSuffix("Tests/Zoo/Touch.swift") == true)
        let get = caught.functions(caught.finding.getStack)
        let put = caught.functions(caught.finding.putStack)
        for stack in [get, put] { #expect(stack.contains { $0.contains("Touch.") }, "\(stack)") }
        #expect(get != put)
        #expect(
            caught.output.contains(
                "mempool: use after put: \(isRead ? "read" : "write") at offset \(offset) of a buffer of "))
        for line in ["touched in", "got in", "put in"] {
            #expect(caught.output.contains("mempool:   \(line) "), "\(line)")
        }
        #expect(caught.finding.reissues == (name == "late-write" ? 1 : 0))
        #expect((caught.finding.reissueStack > 0) == (name == "late-write"))
    }

    @Test(arguments: [("overrun", 128), ("large-overrun", 8192)])
    func `One byte behind a request that fills its room is caught at its instruction`(name: String, offset: Int64)
        throws
    {
        let caught = try Caught(name, in: try Scratch())
        #expect(caught.kind == .overrun && caught.isFault && !caught.isRead)
        #expect(caught.finding.offset == offset && caught.finding.putStack == 0)
        #expect(caught.site?.line == caught.announcedLine)
        #expect(caught.output.contains("mempool: overrun: write at offset \(offset) of a buffer of \(offset) bytes"))
        // It is no leak as well: nobody could put it any more.
        #expect(caught.leaks.isEmpty, "\(caught.leaks)")
    }

    @Test func `One byte before a buffer on a page is caught at its instruction`() throws {
        let caught = try Caught("underrun", in: try Scratch())
        #expect(caught.kind == .overrun && caught.isFault && caught.finding.offset == -1)
        #expect(caught.site?.line == caught.announcedLine)
        #expect(caught.output.contains("mempool: underrun: write at offset -1 of a buffer of 4096 bytes"))
    }

    @Test func `A fault elsewhere is none of the recorder's, and ends the program as it would have`() throws {
        let scratch = try Scratch()
        let path = scratch.file("recording")
        let end = try Program.run(
            ["zoo", "touch", "elsewhere"],
            environment: ["MEMPOOL_DEBUG": "paranoid,recording=\(path)", "SWIFT_BACKTRACE": "enable=no"], in: scratch)
        #expect(end.status == 1_000 + SIGSEGV)
        #expect(!end.output.contains("mempool:"), "\(end.output)")
        #expect(try Recording(path: path).findings.isEmpty)
    }

    @Test func `A handler that the program installs later and that calls the recorder's gets the finding made`() throws
    {
        let caught = try Caught("chained-write", in: try Scratch())
        #expect(caught.kind == .useAfterPut && caught.isFault && caught.finding.offset == 17)
        #expect(caught.output.split(separator: "\n").count { $0 == "handled" } == 1, "\(caught.output)")
        // It is called first; and afterwards the program ends, as its handler has no other one to call.
        let handled = try #require(caught.output.range(of: "handled"))
        let block = try #require(caught.output.range(of: "mempool: use after put"))
        #expect(handled.lowerBound < block.lowerBound)
    }

    @Test func `A handler that the program installs later meets a fault elsewhere as it would without the recorder`()
        throws
    {
        let scratch = try Scratch()
        let path = scratch.file("recording")
        let end = try Program.run(
            ["zoo", "touch", "chained-elsewhere"],
            environment: ["MEMPOOL_DEBUG": "paranoid,recording=\(path)", "SWIFT_BACKTRACE": "enable=no"], in: scratch)
        #expect(end.status == 1_000 + SIGSEGV)
        #expect(end.output.contains("handled\n") && !end.output.contains("mempool:"), "\(end.output)")
        #expect(try Recording(path: path).findings.isEmpty)
    }

    @Test(
        .enabled(if: hasBacktracer, "Swift's backtracer does not work here, without a recorder either"),
        arguments: ["write-after-put", "elsewhere"])
    func `Swift's own backtrace follows`(name: String) throws {
        let scratch = try Scratch()
        func run(_ attempt: Int) throws -> (status: Int32, output: String) {
            let recording = scratch.file("recording\(attempt)")
            return try Program.runWithBacktrace(
                ["zoo", "touch", name], debug: "paranoid,recording=\(recording)", in: scratch)
        }
        // The backtracer gives each thread some seconds to stop, which a busy machine does not always; a thread that takes no
        // signals, as the recorder's own must not be, never stops.
        var end = try run(0)
        for attempt in 1...2 where end.output.contains("failed to suspend") { end = try run(attempt) }
        #expect(end.status > 1_000, "\(end)")
        let output = end.output
        #expect(output.contains("Program crashed"), "\(output)")
        #expect(!output.contains("failed to suspend"), "\(output)")
        #expect(output.contains(name == "elsewhere" ? "elsewhere()" : "writeAfterPut()"), "\(output)")
        guard name != "elsewhere" else { return }
        let block = try #require(output.range(of: "mempool: use after put"))
        let backtrace = try #require(output.range(of: "Program crashed"))
        #expect(block.lowerBound < backtrace.lowerBound)
    }

    @Test func `The memory of put buffers stays out of reach for as long as the quarantine says`() throws {
        let scratch = try Scratch()
        func puts(_ quarantine: String) throws -> String {
            let end = try Program.run(
                ["zoo", "quarantine", "1000"],
                environment: ["MEMPOOL_DEBUG": "paranoid,quiet,quarantine=\(quarantine)"],
                in: scratch)
            #expect(end.status == 0)
            return end.output
        }
        // Each get takes what was put last of what has left the quarantine.
        #expect(try puts("0") == "1\n")
        #expect(try puts("400k") == "101\n")
        #expect(try puts("all") == "none\n")
    }

    @Test func `Where the kernel allows no more mappings, buffers have no guard pages, and the header counts them`()
        throws
    {
        let scratch = try Scratch()
        let path = scratch.file("recording")
        let end = try Program.run(
            ["zoo", "exhaust", "12000"], environment: ["MEMPOOL_DEBUG": "paranoid,quiet,recording=\(path)"], in: scratch
        )
        #expect(end.status == 0)
        let recording = try Recording(path: path)
        let limit = try String(contentsOfFile: "/proc/sys/vm/max_map_count", encoding: .utf8)
        let mappings = try #require(Int(limit.trimmingCharacters(in: .whitespacesAndNewlines)))
        let guarded = min(12_000, mappings / 8)
        #expect(recording.header.guardedGets == UInt64(guarded))
        #expect(recording.header.unguardedGets == UInt64(12_000 - guarded))
        #expect(recording.findings.isEmpty)
        var returned = 0
        _ = recording.forEachLedgerRecord { _, record in
            #expect(record.state == .returned && record.flags & LedgerFlags.guarded == 0)
            // What had guard pages is out of reach and not poisoned.
            returned += 1
        }
        #expect(returned == 12_000)
    }

    @Test func `A share of the gets has guard pages if less than all is asked for`() throws {
        let scratch = try Scratch()
        let path = scratch.file("recording")
        let end = try Program.run(
            ["zoo", "exhaust", "2000"], environment: ["MEMPOOL_DEBUG": "paranoid,quiet,guard=0.25,recording=\(path)"],
            in: scratch)
        #expect(end.status == 0)
        let header = try Recording(path: path).header
        // Six standard deviations.
        #expect((384...616).contains(header.guardedGets))
        #expect(header.unguardedGets == 0)
    }

    @Test func `Buffers between guard pages are found by their address, with their own ticket`() throws {
        let scratch = try Scratch()
        let path = scratch.file("recording")
        let end = try Program.run(
            ["zoo", "raw"], environment: ["MEMPOOL_DEBUG": "paranoid,quiet,recording=\(path)"], in: scratch)
        #expect(end.status == 0, "\(end)")
        let recording = try Recording(path: path)
        let kinds = recording.findings.map { FindingKind(rawValue: $0.kind) }
        #expect(kinds == [.doublePut, .doublePut, .wrongCapacity])
        #expect(recording.findings.map(\.reissues) == [0, 1, 0])
        var outstanding = 0
        _ = recording.forEachLedgerRecord { _, record in outstanding += record.state == .outstanding ? 1 : 0 }
        #expect(outstanding == 0)
    }

    @Test func `At level paranoid every known stack is compared with what the unwinder gives`() throws {
        let scratch = try Scratch()
        let path = scratch.file("recording")
        let end = try Program.run(
            ["zoo", "hoard", "500"], environment: ["MEMPOOL_DEBUG": "paranoid,quiet,recording=\(path)"], in: scratch)
        #expect(end.status == 0)
        let header = try Recording(path: path).header
        // 50 depths; each is new once or twice.
        #expect(header.captureChecks >= 350)
        #expect(header.captureMismatches == 0)
    }
}

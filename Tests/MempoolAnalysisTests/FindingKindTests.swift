// Tests of the findings about a buffer's bytes and about the time it is held: facts, stacks, sites, sentences.

import MempoolRecording
import TestSupport
import Testing

@testable import MempoolAnalysis

struct FindingKindTests {
    private var fixture = AnalysisFixture()
    private static let second = AnalysisFixture.second

    private func only(_ fixture: AnalysisFixture) throws -> Finding {
        let findings = try fixture.report().findings
        #expect(findings.count == 1)
        return try #require(findings.first)
    }

    // MARK: - Double put

    @Test func `A double put whose first owner is forgotten says so`() throws {
        for isLost in [true, false] {
            var fixture = fixture
            fixture.addFinding(.doublePut) {
                $0.reissues = 2000
                if isLost {
                    $0.getStack = 0
                    $0.firstPutStack = 0
                    $0.flags = FindingRecord.historyLostFlag
                }
            }
            let finding = try only(fixture)
            #expect(finding.historyLost == isLost)
            #expect(
                finding.happened.contains(" Its get and first put are older than the history kept.") == isLost,
                "\(finding.happened)")
            #expect((finding.stacks.get == nil) == isLost)
        }
    }

    // MARK: - Use after put

    @Test func `A write that poison found has the put as its site and its bytes in hexadecimal`() throws {
        var fixture = fixture
        fixture.addFinding(.useAfterPut) {
            $0.request = 4000
            $0.firstPutTime = 104 * Self.second
            $0.offset = 128
            $0.badBytes = 20
            $0.expected = 0x0E
            $0.found = (0x0102_0304, 0xFF)
            $0.foundCount = 16
        }
        let finding = try only(fixture)
        #expect(finding.kind == .useAfterPut)
        #expect(finding.site == AnalysisFixture.write)
        #expect(finding.stacks == FindingStacks(get: [AnalysisFixture.read], put: [AnalysisFixture.write]))
        #expect(finding.caughtBy == .poison)
        #expect(finding.access == .write)
        #expect(finding.offset == 128 && finding.badBytes == 20 && finding.request == 4000)
        #expect(finding.expectedByte == "0e")
        #expect(finding.foundBytes == "04 03 02 01 00 00 00 00 ff 00 00 00 00 00 00 00")
        #expect(finding.secondsAfterPut == 1)
        #expect(finding.events?.get == FindingEvent(thread: 4711, ageSeconds: 7))
        #expect(finding.events?.put == FindingEvent(thread: 4712, ageSeconds: 6))
        #expect(finding.events?.access == nil)
        #expect(finding.reissued == nil)
        #expect(finding.threads == [4712])
        #expect(
            finding.happened
                == "Somebody wrote into a buffer after its put: 20 bytes from offset 128 on. "
                + "Noticed 1 s after the put; who wrote is not known."
        )
        #expect(finding.advice.contains("MEMPOOL_DEBUG=paranoid"))
        #expect(
            Sentences.contents(finding)
                == "From offset 128 on: 04 03 02 01 00 00 00 00 ff 00 00 00 00 00 00 00 ..., should be 0e.")
    }

    @Test func `Found bytes that are text are shown as text`() throws {
        var fixture = fixture
        fixture.addFinding(.useAfterPut) {
            $0.badBytes = 4
            $0.found.0 = 0x2F20_5445
            $0.foundCount = 4
        }
        #expect(Sentences.contents(try only(fixture)) == "From offset 0 on: 45 54 20 2f \"ET /\", should be 00.")
    }

    @Test func `A touch that a function of the buffer noticed is the site, and who got the buffer since is told`()
        throws
    {
        var fixture = fixture
        let (touching, stopping) = (fixture.touching, fixture.stopping)
        fixture.addFinding(.useAfterPut) {
            $0.firstPutTime = 104 * Self.second
            $0.accessStack = touching
            $0.accessThread = 4713
            $0.reissueStack = stopping
            $0.reissues = 2
            $0.offset = 16
            $0.badBytes = 1
            $0.flags = FindingRecord.readFlag
        }
        let finding = try only(fixture)
        #expect(finding.site == AnalysisFixture.touch)
        #expect(finding.stacks.access == [AnalysisFixture.touch])
        #expect(finding.stacks.put == [AnalysisFixture.write])
        #expect(finding.stacks.get == [AnalysisFixture.read])
        #expect(finding.stacks.reissue == [AnalysisFixture.stop])
        #expect(finding.caughtBy == .accessor)
        #expect(finding.access == .read)
        #expect(finding.reissued == true && finding.reissues == 2)
        #expect(finding.expectedByte == nil && finding.foundBytes == nil)
        #expect(finding.events?.access == FindingEvent(thread: 4713, ageSeconds: 5))
        #expect(finding.threads == [4713])
        #expect(
            finding.happened.hasPrefix(
                "A buffer was read after its put, 1 s later: 1 byte at offset 16. The buffer's own check"))
        #expect(finding.happened.hasSuffix("so the bytes belonged to somebody else."))
    }

    @Test func `A touch that a guard page stopped says so`() throws {
        var fixture = fixture
        let touching = fixture.touching
        fixture.addFinding(.useAfterPut) {
            $0.accessStack = touching
            $0.offset = 5
            $0.flags = FindingRecord.faultFlag
        }
        let finding = try only(fixture)
        #expect(finding.site == AnalysisFixture.touch)
        #expect(finding.caughtBy == .guardPage)
        #expect(finding.access == .write)
        #expect(finding.badBytes == nil)
        #expect(
            finding.happened
                == "A buffer was written to after its put: at offset 5. A guard page stopped the program there.")
    }

    @Test func `A touch too soon after the put for the clock is called at once`() throws {
        var fixture = fixture
        for thread in [UInt32(0), 9] {
            fixture.addFinding(.useAfterPut) {
                $0.firstPutTime = $0.firstTime
                $0.accessThread = thread
                $0.offset = 5
            }
        }
        let happened = try fixture.report().findings.map(\.happened)
        #expect(happened.contains { $0.hasPrefix("A buffer was written to after its put, at once: at offset 5.") })
        #expect(happened.contains { $0.contains("Noticed right after the put;") })
    }

    // MARK: - Overrun

    @Test func `An overrun says how much was asked for and how much was written`() throws {
        var fixture = fixture
        fixture.addFinding(.overrun) {
            $0.request = 100
            $0.offset = 100
            $0.badBytes = 4
            $0.expected = 0xFD
            $0.found.0 = 0x04030201
            $0.foundCount = 4
        }
        let finding = try only(fixture)
        #expect(finding.site == AnalysisFixture.write)
        #expect(finding.caughtBy == .canary)
        #expect(
            finding.happened
                == "100 bytes were asked for, 104 were written. Noticed at the put.")
        #expect(Sentences.contents(finding) == "From offset 100 on: 01 02 03 04, should be fd.")
        #expect(
            finding.advice == "Ask for 104 bytes, or bound what is written by the buffer's count, 100.")
    }

    @Test func `An overrun with a gap does not claim that all bytes before were written`() throws {
        var fixture = fixture
        fixture.addFinding(.overrun) {
            $0.request = 100
            $0.offset = 120
            $0.badBytes = 1
        }
        #expect(
            try only(fixture).happened
                == "100 bytes were asked for, and bytes behind that were written: 1 byte at offset 120. Noticed at the put."
        )
    }

    @Test func `Below the first byte it is an underrun, apart from overruns of the same stacks`() throws {
        var fixture = fixture
        for offset in [Int64(100), -8] {
            fixture.addFinding(.overrun) {
                $0.request = 100
                $0.offset = offset
                $0.badBytes = 8
            }
        }
        let findings = try fixture.report().findings
        #expect(Set(findings.map(\.offset)) == [100, -8])
        let under = try #require(findings.first { ($0.offset ?? 0) < 0 })
        #expect(
            under.happened.hasPrefix("Memory before the first byte of a buffer was written: 8 bytes from offset -8 on.")
        )
        #expect(under.advice.contains("below the buffer's first byte"))
    }

    @Test func `An overrun that a guard page stopped has the touch as its site`() throws {
        var fixture = fixture
        let touching = fixture.touching
        fixture.addFinding(.overrun) {
            $0.request = 4096
            $0.putStack = 0
            $0.accessStack = touching
            $0.accessThread = 9
            $0.offset = 4096
            $0.flags = FindingRecord.faultFlag | FindingRecord.readFlag
        }
        let finding = try only(fixture)
        #expect(finding.site == AnalysisFixture.touch)
        #expect(finding.stacks.put == nil && finding.events?.put == nil)
        #expect(finding.threads == [9])
        #expect(
            finding.happened
                == "4,096 bytes were asked for, and more was read: at offset 4,096. A guard page stopped the program there."
        )
    }

    // MARK: - Pools and time

    @Test func `A destroyed pool has the gets as sites and the place of its end`() throws {
        var fixture = fixture
        let stopping = fixture.stopping
        fixture.addFinding(.poolDestroyed) {
            $0.putStack = stopping
            $0.count = 3
            $0.bytes = 12288
        }
        for _ in 0..<3 { fixture.builder.addSlot(stack: fixture.reading, flags: LedgerFlags.inFinding) }
        let finding = try only(fixture)
        #expect(finding.kind == .poolDestroyed)
        #expect(finding.site == AnalysisFixture.read)
        #expect(finding.stacks == FindingStacks(get: [AnalysisFixture.read], destroy: [AnalysisFixture.stop]))
        #expect(finding.events?.destroy == FindingEvent(thread: 4712, ageSeconds: 5))
        #expect(finding.count == 3)
        #expect(finding.happened.hasPrefix("3 buffers got here were outstanding when pool default was destroyed."))
    }

    @Test func `A buffer that came back late tells after what time`() throws {
        var fixture = fixture
        fixture.builder.header.heldLimit = 2 * Self.second
        fixture.addFinding(.heldTooLong) { $0.duration = 12 * Self.second }
        let finding = try only(fixture)
        #expect(finding.site == AnalysisFixture.read)
        #expect(finding.stacks.put == [AnalysisFixture.write])
        #expect(finding.heldSeconds == 12)
        #expect(finding.isStillHeld == false)
        #expect(finding.happened == "1 buffer got here came back after 12 s; the limit, held=, is 2 s.")
    }

    @Test func `While the program runs, what is held too long is no leak yet`() throws {
        var fixture = fixture
        fixture.becomeSnapshot()
        fixture.builder.header.heldLimit = 5 * Self.second
        fixture.builder.addSlot(stack: fixture.reading, getTime: 102 * Self.second)
        fixture.builder.addSlot(stack: fixture.reading, getTime: 103 * Self.second)
        fixture.builder.addSlot(stack: fixture.reading, getTime: 106 * Self.second)
        let report = try fixture.report()
        #expect(report.process?.ending == ProcessEnding(kind: .running, isSnapshot: true))
        #expect(report.findings.map(\.kind) == [.heldTooLong, .leak])
        #expect(report.findings.map(\.count) == [2, 1])
        let held = try #require(report.findings.first)
        #expect(held.isStillHeld == true)
        #expect(held.heldSeconds == 8)
        #expect(
            held.happened
                == "2 buffers got here have been held too long, the oldest for 8 s so far; the limit, held=, is 5 s.")
        #expect(report.recorder?.heldLimitSeconds == 5)
    }

    @Test func `After the end, what was held too long and is outstanding leaked`() throws {
        var fixture = fixture
        fixture.builder.header.heldLimit = 1
        fixture.builder.addSlot(stack: fixture.reading)
        #expect(try only(fixture).kind == .leak)
    }

    @Test func `Still held and came back are two findings`() throws {
        var fixture = fixture
        fixture.becomeSnapshot()
        fixture.builder.header.heldLimit = Self.second
        fixture.addFinding(.heldTooLong) { $0.putStack = 0 }
        fixture.builder.addSlot(stack: fixture.reading)
        #expect(Set(try fixture.report().findings.map(\.isStillHeld)) == [true, false])
    }

    // MARK: - Kept on purpose

    @Test func `What is kept on purpose is no leak and is listed by its place`() throws {
        var fixture = fixture
        for _ in 0..<2 { fixture.builder.addSlot(stack: fixture.reading, bucket: 0, flags: LedgerFlags.kept) }
        fixture.builder.addSlot(stack: fixture.writing, bucket: 1, flags: LedgerFlags.kept)
        // Marked, but given back.
        fixture.builder.addSlot(state: .returned, stack: fixture.writing, flags: LedgerFlags.kept)
        let report = try fixture.report()
        #expect(report.verdict == .healthy)
        #expect(
            report.verdictReason
                == "Every buffer that was got was put, once and whole, but for 3 that the program keeps on purpose.")
        let kept = try #require(report.pools.first?.kept)
        #expect(kept.count == 3 && kept.bytes == 5120)
        #expect(
            kept.sites == [
                KeptSite(site: AnalysisFixture.write, count: 1, bytes: 4096),
                KeptSite(site: AnalysisFixture.read, count: 2, bytes: 1024),
            ]
        )
    }

    // MARK: - Coverage

    @Test func `How much was checked is told`() throws {
        var fixture = fixture
        fixture.builder.header.poisonLimit = 1024
        fixture.builder.header.canaryLimit = .max
        fixture.builder.header.guardedGets = 90
        fixture.builder.header.unguardedGets = 10
        fixture.builder.header.unzonedBuffers = 11
        fixture.builder.header.failedNotes = 2
        fixture.builder.header.dropped.contexts = 7
        let recorder = try #require(try fixture.report().recorder)
        #expect(recorder.poison.bytes == 1024 && !recorder.poison.isWhole)
        #expect(recorder.canary.isWhole)
        #expect(recorder.guardedGets == 90 && recorder.unguardedGets == 10)
        #expect(recorder.unzonedBuffers == 11)
        #expect(recorder.failedNotes == 2 && recorder.dropped.contexts == 7)
        #expect(recorder.dropped.total == 7)
        #expect(recorder.heldLimitSeconds == nil)
    }

    @Test(arguments: [
        (
            1,
            "1 put of a signal handler was lost, as no more than 32 can wait for the call that they interrupt: "
                + "up to 1 outstanding buffer was put by the program."
        ),
        (
            8,
            "8 puts of signal handlers were lost, as no more than 32 can wait for the call that they interrupt: "
                + "up to 8 outstanding buffers were put by the program."
        ),
    ])
    func `Lost puts of handlers are told beside the leaks that come of them`(count: UInt64, note: String) throws {
        var fixture = fixture
        #expect(try !fixture.report().notes.contains { $0.contains("lost") })
        fixture.builder.header.lostPuts = count
        let report = try fixture.report()
        #expect(report.recorder?.lostPuts == Int(count))
        #expect(report.notes.contains(note), "\(report.notes)")
    }

    @Test func `Findings that found no room keep the verdict from being healthy`() throws {
        var fixture = fixture
        fixture.builder.header.dropped.findings = 1
        let report = try fixture.report()
        #expect(report.verdict == .inconclusive)
        #expect(report.verdictReason.hasPrefix("1 finding found no room"))
    }
}

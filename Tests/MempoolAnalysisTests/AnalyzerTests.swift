// Tests of Analyzer with recordings built for them: grouping, figures, verdicts, how the process ended.

import Foundation
import MempoolRecording
import TestSupport
import Testing

@testable import MempoolAnalysis

struct AnalyzerTests {
    private let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    private func report(
        _ builder: RecordingBuilder, options: AnalysisOptions = AnalysisOptions(), names: [UInt64: [Frame]] = [:]
    ) throws -> Report {
        let recording = try Recording(path: directory.write(builder.bytes()))
        return Analyzer.report(of: recording, options: options, symbolizer: TableSymbolizer(names))
    }

    private static let own = Frame(function: "BufferPool.get(_:)", file: "/p/Mempool/Get.swift", line: 3, isOwn: true)
    private static let read = Frame(function: "read()", file: "/app/main.swift", line: 12, column: 5)
    private static let write = Frame(function: "write()", file: "/app/main.swift", line: 30, column: 9)
    private static let main = Frame(function: "main", file: "/app/main.swift", line: 90, column: 1)
    private static let libc = Frame(function: "__libc_start_call_main", module: "libc.so.6", isSystem: true)
    private static let names: [UInt64: [Frame]] = [1: [own], 2: [read], 3: [write], 4: [main], 5: [libc], 22: [read]]

    /// A recording with one pool and the buckets 512, 4096 and 65536.
    private func builder() -> RecordingBuilder {
        var builder = RecordingBuilder()
        builder.addPool(name: "default")
        return builder
    }

    // MARK: - Leaks

    @Test func `Outstanding buffers are grouped by their stacks and the largest group comes first`() throws {
        var builder = builder()
        let small = builder.addStack([1, 2, 4, 5])
        let large = builder.addStack([1, 3, 4, 5])
        builder.addSlot(request: 500, stack: small, bucket: 0, thread: 7, getTime: 101 * RecordingBuilder.second)
        builder.addSlot(request: 512, stack: small, bucket: 0, thread: 8, getTime: 108 * RecordingBuilder.second)
        builder.addSlot(request: 4000, stack: large, bucket: 1)
        builder.addSlot(state: .returned, stack: large, bucket: 1)
        let report = try report(builder, names: Self.names)
        #expect(report.verdict == .findings)
        #expect(report.verdictReason == "3 buffers leaked.")
        #expect(report.findings.map(\.kind) == [.leak, .leak])
        #expect(report.findings.map(\.count) == [1, 2])
        #expect(report.findings.map(\.bytes) == [4096, 1024])
        #expect(report.findings.map(\.requestedBytes) == [4000, 1012])
        #expect(report.findings.map(\.site) == [Self.write, Self.read])
        #expect(report.findings.last?.stacks.get == [Self.read, Self.main, Self.libc])
        #expect(report.findings.last?.oldestAgeSeconds == 9)
        #expect(report.findings.last?.newestAgeSeconds == 2)
        #expect(report.findings.last?.threads == [7, 8])
        #expect(report.findings.last?.pool == "default")
    }

    @Test func `Stacks that look the same are one finding with summed counts`() throws {
        var builder = builder()
        let first = builder.addStack([1, 2, 4])
        // Another address of the same line.
        let second = builder.addStack([1, 22, 4])
        builder.addSlot(stack: first, thread: 1)
        builder.addSlot(stack: second, thread: 2)
        let report = try report(builder, names: Self.names)
        #expect(report.findings.map(\.count) == [2])
        #expect(report.findings.first?.bytes == 8192)
        #expect(report.findings.first?.threads == [1, 2])
    }

    @Test func `Buffers of two pools are two findings`() throws {
        var builder = builder()
        builder.addPool(name: "network")
        let stack = builder.addStack([1, 2])
        builder.addSlot(stack: stack, pool: 0)
        builder.addSlot(stack: stack, pool: 1)
        let findings = try report(builder, names: Self.names).findings
        #expect(findings.map(\.pool) == ["default", "network"])
        // The plain function would put the second one into a wrong pool.
        #expect(findings[0].advice.contains("defer { putBuffer(buffer) }"))
        #expect(findings[1].advice.contains("defer { pool.put(buffer) }"))
    }

    @Test func `An oversized buffer counts with its request`() throws {
        var builder = builder()
        builder.addSlot(request: 70_000, bucket: 3)
        #expect(try report(builder).findings.map(\.bytes) == [70_000])
    }

    @Test func `A buffer of a pool without counters is still found`() throws {
        var builder = builder()
        builder.addSlot(request: 100, pool: 65, bucket: 9)
        let report = try report(builder)
        #expect(report.findings.map(\.pool) == ["pool 65"])
        #expect(report.findings.map(\.bytes) == [100])
        #expect(report.notes.contains { $0.contains("1 outstanding buffer") })
    }

    @Test func `Without a stack there is no site, and the finding stays`() throws {
        var builder = builder()
        builder.addSlot(stack: 0)
        builder.addSlot(stack: 999)
        let report = try report(builder)
        #expect(report.findings.map(\.count) == [2])
        #expect(report.findings.first?.site == nil)
        #expect(report.recorder?.damage == ["1 stack could not be read."])
    }

    @Test func `A frame without a name is no site, as it may be the pool's own`() throws {
        var builder = builder()
        let stack = builder.addStack([0x5000, 0x6000])
        builder.addSlot(stack: stack)
        let finding = try #require(try report(builder).findings.first)
        #expect(finding.site == nil)
        #expect(finding.stacks.get?.map(\.function) == ["0x5000", "0x6000"])
    }

    @Test func `Thunks between frames of the pool go with them`() throws {
        var builder = builder()
        let stack = builder.addStack([10, 1, 10, 2])
        builder.addSlot(stack: stack)
        let thunk = Frame(function: "thunk for closure", isCompilerGenerated: true)
        let report = try report(builder, names: [1: [Self.own], 2: [Self.read], 10: [thunk]])
        #expect(report.findings.first?.stacks.get == [Self.read])
    }

    @Test func `The site is the first frame of the user's own code`() throws {
        var builder = builder()
        let stack = builder.addStack([1, 5, 2])
        builder.addSlot(stack: stack)
        let report = try report(builder, names: Self.names)
        #expect(report.findings.first?.site == Self.read)
        #expect(report.findings.first?.stacks.get == [Self.libc, Self.read])
    }

    // MARK: - Bad puts

    @Test func `A double put has its three stacks, and the second put is its site`() throws {
        var builder = builder()
        var finding = FindingRecord()
        finding.kind = FindingKind.doublePut.rawValue
        finding.count = 3
        finding.bytes = 12288
        finding.getStack = builder.addStack([1, 2, 4])
        finding.firstPutStack = builder.addStack([1, 3, 4])
        finding.putStack = builder.addStack([1, 4])
        finding.reissueStack = builder.addStack([1, 2, 5])
        finding.reissues = 2
        finding.putThread = 9
        finding.firstPutTime = 104 * RecordingBuilder.second
        finding.firstTime = 105 * RecordingBuilder.second
        finding.lastTime = 109 * RecordingBuilder.second
        builder.findings.append(finding)
        let report = try report(builder, names: Self.names)
        let found = try #require(report.findings.first)
        #expect(found.kind == .doublePut)
        #expect(found.site == Self.main)
        #expect(found.stacks.get == [Self.read, Self.main])
        #expect(found.stacks.put == [Self.write, Self.main])
        #expect(found.stacks.secondPut == [Self.main])
        #expect(found.stacks.reissue == [Self.read, Self.libc])
        #expect(found.reissued == true)
        #expect(found.reissues == 2)
        #expect(found.count == 3)
        #expect(found.secondsBetweenPuts == 1)
        #expect(found.oldestAgeSeconds == 5)
        #expect(found.newestAgeSeconds == 1)
        #expect(found.happened.contains("Re-issued in between: yes, 2 times"))
    }

    @Test func `A put of a slice tells where in the buffer it began`() throws {
        var builder = builder()
        builder.addSlot(state: .returned, address: 0x7000_0000)
        var finding = FindingRecord()
        finding.kind = FindingKind.wrongCapacity.rawValue
        finding.count = 1
        finding.givenCapacity = 4080
        finding.expectedCapacity = 4096
        finding.address = 0x7000_0010
        builder.findings.append(finding)
        // Without a slot the lengths tell.
        finding.slot = 99
        finding.givenCapacity = 4000
        builder.findings.append(finding)
        finding.putStack = builder.addStack([2])
        builder.findings[1].putStack = finding.putStack
        let report = try report(builder, names: Self.names)
        #expect(Set(report.findings.map(\.sliceOffset)) == [16, 96])
        #expect(report.findings.allSatisfy { $0.expectedCapacity == 4096 })
    }

    @Test func `Mistakes that touch foreign memory come before leaks`() throws {
        var builder = builder()
        builder.addPool(name: "network")
        for kind in [FindingKind.wrongCapacity, .foreignPut, .wrongPool, .doublePut] {
            var finding = FindingRecord()
            finding.kind = kind.rawValue
            finding.count = 1
            finding.issuingPool = 1
            builder.findings.append(finding)
        }
        builder.addSlot()
        let report = try report(builder)
        #expect(report.findings.map(\.kind) == [.doublePut, .wrongPool, .foreignPut, .wrongCapacity, .leak])
        #expect(report.findings.map(\.count) == [1, 1, 1, 1, 1])
        #expect(report.findings[1].issuingPool == "network")
        #expect(
            report.verdictReason
                == "1 double put, 1 put into a wrong pool, 1 foreign put, 1 put of a wrong capacity, 1 buffer leaked."
        )
    }

    // MARK: - Figures

    @Test func `The six counters are those of the pool`() throws {
        var builder = builder()
        builder.count(pool: 0, row: 0) {
            $0.gets = 10
            $0.puts = 6
            $0.inUse = 3
            $0.allocations = 4
            $0.wrongCapacityPuts = 1
            $0.requestedBytes = 2560
            $0.handedOutBytes = 5120
            $0.highWater = 5
            $0.trimmed = 2
        }
        builder.count(pool: 0, row: 1) {
            $0.gets = 5
            $0.puts = 5
            $0.doublePuts = 2
        }
        builder.count(pool: 0, row: 3) {
            $0.gets = 2
            $0.puts = 1
            $0.inUse = 1
            $0.allocations = 2
        }
        builder.pools[0].foreignPuts = 3
        builder.pools[0].wrongPoolPuts = 4
        let pool = try #require(try report(builder).pools.first)
        #expect(pool.stats.gets == 15)
        #expect(pool.stats.puts == 11)
        #expect(pool.stats.inUse == 3)
        #expect(pool.stats.oversized == 2)
        #expect(pool.stats.allocations == 6)
        #expect(pool.stats.discarded == 1 + 2 + 3 + 4 + 1)
        #expect(pool.discards.oversized == 1)
        #expect(pool.buckets.first?.hitPercent == 60)
        #expect(pool.buckets.first?.wastePercent == 50)
        #expect(pool.buckets.first?.highWater == 5)
        #expect(pool.buckets.first?.trimmed == 2)
        #expect(pool.buckets.last?.hitPercent == nil)
        #expect(pool.oversized.gets == 2)
    }

    @Test func `A waste that nobody measured is not shown`() throws {
        var builder = builder()
        builder.count(pool: 0, row: 0) { $0.gets = 100 }
        #expect(try report(builder).pools.first?.buckets.first?.wastePercent == nil)
    }

    @Test func `Requests are listed by size`() throws {
        var builder = builder()
        builder.countRequests(pool: 0, size: 5, count: 2)
        builder.countRequests(pool: 0, size: 1000, count: 7)
        #expect(
            try report(builder).pools.first?.requestSizes == [
                RequestSizeBin(from: 5, to: 5, count: 2), RequestSizeBin(from: 960, to: 1023, count: 7),
            ]
        )
    }

    @Test func `Counters that cannot be true do not bring the analysis down`() throws {
        var builder = builder()
        builder.histograms = builder.histograms.map { _ in .max }
        builder.counters = builder.counters.map { row in
            var row = row
            // In use, by difference: -2.
            row.gets = .max - 3
            row.puts = .max
            row.highWater = .max
            row.allocations = .max
            row.wrongCapacityPuts = .max
            return row
        }
        builder.addSlot(request: .max, bucket: 3)
        builder.addSlot(request: .max, bucket: 3, getTime: .max)
        builder.header.startRealtime = .max
        let report = try report(builder)
        #expect(report.pools.first?.stats.gets == .max)
        #expect(report.pools.first?.buckets.first?.inUse == -2)
        #expect(report.findings.first?.bytes == .max)
        #expect(report.process?.startedAt == "2554-07-21T23:34:33Z")
    }

    // MARK: - Verdict and process

    @Test func `A recording without findings is healthy`() throws {
        var builder = builder()
        builder.count(pool: 0, row: 3) {
            $0.gets = 1
            $0.puts = 1
        }
        let report = try report(builder)
        #expect(report.verdict == .healthy)
        #expect(report.verdictReason == "Every buffer that was got was put, once and whole.")
        #expect(report.process?.ending == ProcessEnding(kind: .exited, status: 0))
        #expect(report.process?.durationSeconds == 10)
        #expect(report.process?.startedAt == "2023-11-14T22:13:20Z")
    }

    @Test func `A program that got no buffer was not observed`() throws {
        var builder = builder()
        #expect(try report(builder).verdict == .inconclusive)
        #expect(try report(builder).verdictReason == "The program got no buffer, so nothing was observed.")
        #expect(try report(RecordingBuilder()).verdict == .inconclusive)
        // A get may have been recorded before it was counted.
        builder.addSlot(state: .returned)
        #expect(try report(builder).verdict == .healthy)
    }

    @Test func `Limits of the report are notes and no damage`() throws {
        var builder = builder()
        for index in 0..<5 { builder.addSlot(stack: builder.addStack([1, 2, UInt64(100 + index)])) }
        let recording = try Recording(path: directory.write(builder.bytes()))
        func report(_ limits: RecordedGroups.Limits) -> Report {
            Analyzer.report(
                of: recording, options: AnalysisOptions(), symbolizer: TableSymbolizer(Self.names), limits: limits)
        }
        let grouped = report(RecordedGroups.Limits(groups: 3))
        #expect(grouped.findings.map(\.count).sorted() == [1, 1, 1, 2])
        #expect(
            grouped.notes == [
                "More than 3 different stacks are outstanding; 2 buffers beyond are listed without theirs."
            ])
        #expect(grouped.recorder?.damage == [] && grouped.recorder?.partial == false)
        let named = report(RecordedGroups.Limits(names: 5))
        #expect(
            named.notes == ["The report names 3 frames, those of the worst findings; 4 more are left as addresses."])
        #expect(named.recorder?.frames == 7)
        // One of the three that were asked for is not in the table.
        #expect(named.recorder?.unnamedFrames == 5)
        #expect(report(RecordedGroups.Limits()).notes == [])
    }

    @Test func `Frames of all findings together are limited, and the worst findings keep theirs`() throws {
        var builder = builder()
        let words = (0..<20).map { UInt64(1000 + $0) }
        let worst = builder.addStack([1] + words)
        let next = builder.addStack([2] + words)
        let last = builder.addStack([3] + words)
        builder.addSlot(stack: worst, bucket: 2)
        // Shown twice, so it counts twice.
        builder.addSlot(stack: next, context: builder.addScope("one"))
        builder.addSlot(stack: next, context: builder.addScope("two"))
        builder.addSlot(stack: last, bucket: 0)
        let recording = try Recording(path: directory.write(builder.bytes()))
        func report(_ frames: Int) -> Report {
            Analyzer.report(
                of: recording, options: AnalysisOptions(), symbolizer: TableSymbolizer([:]),
                limits: RecordedGroups.Limits(frames: frames))
        }
        func counts(_ report: Report) -> [Int?] { report.findings.map { $0.stacks.get?.count } }
        #expect(counts(report(84)) == [21, 21, 21, 21] && report(84).notes == [])
        #expect(counts(report(83)) == [21, 21, 21, 8])
        #expect(counts(report(62)) == [21, 8, 8, 21])
        let none = report(0)
        #expect(counts(none) == [8, 8, 8, 8])
        #expect(
            none.notes == ["The report keeps to 0 frames: of 3 stacks it has the innermost 8."])
        #expect(none.recorder?.frames == 10 && none.recorder?.damage == [])
    }

    @Test func `Twenty thousand leaks at one line are sorted, shallow callers first`() throws {
        var builder = builder()
        let depth = 12
        for index in 0..<20_000 {
            let stack = [1, 2] + [UInt64](repeating: 4, count: depth) + [UInt64(1000 + index)]
            builder.addSlot(stack: builder.addStack(index == 7 ? [1, 2, 4] : stack))
        }
        let recording = try Recording(path: directory.write(builder.bytes()))
        let findings = Analyzer.report(
            of: recording, options: AnalysisOptions(), symbolizer: TableSymbolizer(Self.names),
            limits: RecordedGroups.Limits(frames: .max)
        ).findings
        #expect(findings.count == 20_000)
        #expect(findings.first?.stacks.get == [Self.read, Self.main])
        let last = findings.dropFirst().compactMap { $0.stacks.get?.last?.function }
        #expect(last == last.sorted())
    }

    @Test func `Files whose lines were given up are named in the notes, in order`() throws {
        let directory = try TemporaryDirectory()
        let recording = try Recording(path: directory.write(builder().bytes()))
        let symbolizer = TableSymbolizer(Self.names, unreadDebugFiles: ["/b/two.debug": 2, "/a/one": 1])
        let notes = Analyzer.report(of: recording, options: AnalysisOptions(), symbolizer: symbolizer).notes
        let told = notes.filter { $0.contains("no line:") }
        #expect(told.count == 2)
        #expect(
            told.first?.hasPrefix("1 frame has a function and no line: the debug information of /a/one takes") == true)
        #expect(
            told.last?.hasPrefix("2 frames have a function and no line: the debug information of /b/two.debug ") == true
        )
    }

    @Test func `What did not fit into the ledger makes health inconclusive`() throws {
        var builder = builder()
        builder.header.dropped.ledger = 12
        let report = try report(builder)
        #expect(report.verdict == .inconclusive)
        #expect(
            report.verdictReason.hasSuffix("12 gets did not fit into the recording. Raise max-ledger and run again."))
        #expect(report.recorder?.dropped.ledger == 12)
    }

    @Test func `A full disk is told from a full ledger by what else did not fit`() throws {
        var builder = builder()
        builder.header.dropped.ledger = 12
        builder.header.dropped.stacks = 24
        #expect(
            try report(builder).verdictReason.hasSuffix(
                "12 gets did not fit into the recording. Record to a larger disk and run again."))
    }

    @Test func `The time of an end that was seen counts, and not the last that was recorded`() throws {
        var builder = builder()
        builder.header.flags = 0
        builder.addSlot()
        let seconds = { (options: AnalysisOptions) in
            try report(builder, options: options).process?.durationSeconds ?? -1
        }
        var options = AnalysisOptions()
        let number = Int(builder.header.processID)
        options.observedEnds = [number: .killed(signal: 9)]
        let recorded = try seconds(options)
        options.observedEndTimes = [number: builder.header.startMonotonic + 3_600_000_000_000]
        #expect(try seconds(options) == 3600 && recorded < 3600)
        options.observedEndTimes = [number: builder.header.startMonotonic]
        #expect(try seconds(options) == recorded, "the clock of what was seen is coarse")
        builder.header.flags = RecordingHeader.cleanExitFlag
        options.observedEndTimes = [number: builder.header.startMonotonic + 3_600_000_000_000]
        #expect(try seconds(options) < 3600)
    }

    @Test func `A damaged recording without findings is inconclusive`() throws {
        var builder = builder()
        builder.header.commandLine = StringReference(offset: .max, length: 5)
        let report = try report(builder)
        #expect(report.verdict == .inconclusive)
        #expect(report.recorder?.partial == true)
        builder.addSlot()
        #expect(try self.report(builder).verdictReason.contains("The report is partial"))
    }

    @Test func `A recorder that was off says nothing about health`() throws {
        var builder = builder()
        builder.header.level = RecorderLevel.off.rawValue
        #expect(try report(builder).verdict == .inconclusive)
    }

    @Test func `A process without a clean exit that is gone has died`() throws {
        var builder = builder()
        builder.header.flags = 0
        builder.header.processID = UInt32(Int32.max)
        builder.addSlot(state: .inProgress)
        builder.addSlot(getTime: 115 * RecordingBuilder.second)
        let report = try report(builder)
        #expect(report.process?.ending == ProcessEnding(kind: .died))
        // The ledger was written after the header.
        #expect(report.process?.durationSeconds == 15)
        #expect(
            report.notes.contains {
                $0.hasPrefix("The program did not end in order, or this is a copy of the recording of one that runs;")
            })
        #expect(report.notes.contains { $0.hasPrefix("1 get or put had begun") })
        #expect(report.recorder?.inProgress == 1)
    }

    @Test func `Of a program that died only what it held then is said`() throws {
        var builder = builder()
        builder.header.flags = 0
        builder.header.processID = UInt32(Int32.max)
        builder.addSlot(state: .returned)
        #expect(try report(builder).verdictReason == "Nothing was outstanding when the program died.")
        for _ in 0..<2 { builder.addSlot(state: .inProgress) }
        builder.addSlot(flags: LedgerFlags.kept)
        let report = try report(builder)
        #expect(report.verdict == .healthy)
        #expect(
            report.verdictReason
                == "Nothing was outstanding when the program died but for 1 that it keeps on purpose; "
                + "2 gets or puts had begun and not ended.")
    }

    @Test func `A signal after the end is told beside it`() throws {
        var options = AnalysisOptions()
        let builder = builder()
        options.observedEnds = [Int(builder.header.processID): .killed(signal: 11)]
        let report = try report(builder, options: options)
        #expect(report.process?.ending == ProcessEnding(kind: .exited, status: 0, signal: 11))
    }

    @Test func `What the caller saw of the end is believed`() throws {
        var builder = builder()
        builder.header.flags = 0
        builder.header.processID = UInt32(getpid())
        var options = AnalysisOptions()
        options.observedEnds = [Int(getpid()): .killed(signal: 9)]
        #expect(try report(builder, options: options).process?.ending == ProcessEnding(kind: .died, signal: 9))
        options.observedEnds = [Int(getpid()): .exited(status: 3)]
        #expect(try report(builder, options: options).process?.ending == ProcessEnding(kind: .died, status: 3))
        options.observedEnds = [Int(getpid()): .replaced]
        let replaced = try report(builder, options: options)
        #expect(replaced.process?.ending == ProcessEnding(kind: .died, isReplaced: true))
        #expect(replaced.notes.contains { $0.hasPrefix("The process replaced this program by another one") })
    }

    @Test func `The end of another process is not taken for this one's`() throws {
        var builder = builder()
        builder.header.processID = UInt32(Int32.max)
        builder.header.exitStatus = 4
        var options = AnalysisOptions()
        options.observedEnds = [Int(getpid()): .exited(status: 3)]
        #expect(try report(builder, options: options).process?.ending == ProcessEnding(kind: .exited, status: 4))
        builder.header.flags = 0
        #expect(try report(builder, options: options).process?.ending == ProcessEnding(kind: .died))
    }

    @Test func `A process that has the recording mapped is running`() throws {
        var builder = builder()
        builder.header.flags = 0
        builder.header.processID = UInt32(getpid())
        builder.addSlot()
        let path = try directory.write(builder.bytes(), to: "live.mempool")
        let recording = try Recording(path: path)
        // Its number alone may belong to somebody else.
        #expect(ProcessState.ending(of: recording, options: AnalysisOptions()).kind == .died)
        let descriptor = open(path, O_RDONLY)
        let map = mmap(nil, 4096, PROT_READ, MAP_SHARED, descriptor, 0)
        defer {
            munmap(map, 4096)
            close(descriptor)
        }
        let report = Analyzer.report(of: recording, options: AnalysisOptions(), symbolizer: TableSymbolizer())
        #expect(report.process?.ending.kind == .running)
        #expect(report.verdict == .findings)
        #expect(
            report.verdictReason.hasSuffix("The program is still running: buffers in use now count as leaks so far."))
        #expect(
            report.findings.first?.happened == "1 buffer was got here and not yet put; the program is still running.")
    }

    @Test func `What still runs when nobody watches any more has no leaks and is not healthy`() throws {
        var builder = builder()
        builder.header.flags = 0
        builder.header.processID = UInt32(getpid())
        builder.addSlot(context: builder.addScope("open", hasEnded: false))
        let path = try directory.write(builder.bytes(), to: "live.mempool")
        let descriptor = open(path, O_RDONLY)
        var map = mmap(nil, 4096, PROT_READ, MAP_SHARED, descriptor, 0)
        defer { close(descriptor) }
        var options = AnalysisOptions()
        options.observationHasEnded = true
        let report = try Analyzer.report(recordingAt: path, options: options)
        #expect(report.verdict == .inconclusive && report.findings == [] && report.recordedNoGet == nil)
        #expect(report.verdictReason == Sentences.outlived(by: Int(getpid())))
        munmap(map, 4096)

        // What a scope left behind, and what was found as it happened, stays.
        builder.addSlot(request: 100, context: builder.addScope("ended"))
        builder.addFinding(.foreignPut)
        let second = try directory.write(builder.bytes(), to: "second.mempool")
        let other = open(second, O_RDONLY)
        map = mmap(nil, 4096, PROT_READ, MAP_SHARED, other, 0)
        defer {
            munmap(map, 4096)
            close(other)
        }
        let findings = try Analyzer.report(recordingAt: second, options: options)
        #expect(findings.findings.map(\.kind) == [.foreignPut, .leak])
        #expect(findings.findings.last?.scope == "ended")
        #expect(
            findings.verdictReason
                == "1 foreign put, 1 buffer leaked. The program is still running; buffers in use now are left out.")
        // Without the flag all of it counts.
        #expect(try Analyzer.report(recordingAt: second, options: AnalysisOptions()).findings.count == 3)
    }

    // MARK: - Any bytes, many records

    @Test func `No mutation of a recording brings the analysis down`() throws {
        let original = RecordingBuilder.sample().bytes()
        var generator = SeededGenerator(seed: 77)
        for _ in 0..<(runsLongTests ? 20_000 : 300) {
            var bytes = original
            for _ in 0..<Int.random(in: 1...6, using: &generator) {
                bytes[Int.random(in: 16..<bytes.count, using: &generator)] = UInt8.random(
                    in: 0...255, using: &generator)
                bytes[Int.random(in: 16..<400, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
            }
            guard let recording = try? Recording(path: directory.write(bytes)) else { continue }
            _ = Analyzer.report(of: recording, options: AnalysisOptions(), symbolizer: TableSymbolizer())
        }
    }

    @Test(.enabled(if: runsLongTests)) func `A million outstanding buffers are grouped in seconds and little memory`()
        throws
    {
        var builder = builder()
        let stacks = (0..<1000).map { builder.addStack([1, UInt64($0 + 100), 4]) }
        for slot in 0..<1_000_000 { builder.addSlot(stack: stacks[slot % 1000], thread: UInt32(slot % 50)) }
        let path = try directory.write(builder.bytes())
        let recording = try Recording(path: path)
        let clock = ContinuousClock()
        var report: Report?
        let time = clock.measure {
            report = Analyzer.report(of: recording, options: AnalysisOptions(), symbolizer: TableSymbolizer())
        }
        #expect(report?.findings.count == 1000)
        #expect(report?.findings.map(\.count).reduce(0, +) == 1_000_000)
        #if DEBUG
        #expect(time < .seconds(60))
        #else
        #expect(time < .seconds(2))
        #endif
    }
}

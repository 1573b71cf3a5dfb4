// Reports of recordings built for tests, so that their sentences are those of the analysis.

import MempoolAnalysis
import MempoolRecording
import TestSupport

/// A recording with stacks of one small program.
struct RecordedReport {
    var builder = RecordingBuilder()
    let get: UInt32
    let put: UInt32
    let touch: UInt32
    let other: UInt32
    let shutDown: UInt32

    private static let names: [UInt64: [Frame]] = [
        1: [Frame(function: "BufferPool.get(_:)", file: "/p/Mempool/Get.swift", line: 3, isOwn: true)],
        2: [SampleReports.read],
        3: [SampleReports.write],
        4: [SampleReports.main],
        9: [Frame(function: "_swift_release_dealloc", module: "libswiftCore.so", isSystem: true)],
        5: [SampleReports.start],
        6: [Frame(function: "Cache.fill(_:)", file: "/src/app/Sources/app/Cache.swift", line: 17, column: 21)],
        7: [Frame(function: "Server.stop()", file: "/src/app/Sources/app/Server.swift", line: 99, column: 3)],
        8: [
            Frame(function: "Checksum.update(with:)", file: "/src/app/Sources/app/Checksum.swift", line: 8, column: 30)
        ],
    ]

    /// A pool with the buckets 512 B, 4 KiB and 64 KiB.
    init() {
        builder.header.poisonLimit = 1024
        builder.header.canaryLimit = 256
        builder.addPool(name: "default")
        get = builder.addStack([1, 2, 4, 5])
        put = builder.addStack([1, 3, 4, 5])
        touch = builder.addStack([1, 8, 4, 5])
        other = builder.addStack([1, 6, 4, 5])
        shutDown = builder.addStack([1, 9, 7, 4, 5])
    }

    mutating func addFinding(_ kind: FindingKind, _ change: (inout FindingRecord) -> Void = { _ in }) {
        let (get, put) = (get, put)
        builder.addFinding(kind) {
            $0.getStack = get
            $0.putStack = put
            change(&$0)
        }
    }

    func report() throws -> Report {
        let directory = try TemporaryDirectory()
        let recording = try Recording(path: directory.write(builder.bytes()))
        var options = AnalysisOptions()
        options.sourceRoot = "/src/app"
        var report = Analyzer.report(of: recording, options: options, symbolizer: TableSymbolizer(Self.names))
        report.recorder?.recording = ""
        report.recorder?.fileBytes = 462_848
        return report
    }

    // MARK: - The reports that are compared in full

    /// Bytes that were touched by somebody who did not own them.
    static func bytes() throws -> Report {
        var sample = RecordedReport()
        let (touch, other) = (sample.touch, sample.other)
        let second = RecordingBuilder.second
        sample.addFinding(.useAfterPut) {
            $0.request = 4000
            $0.firstPutTime = 104 * second
            $0.offset = 128
            $0.badBytes = 40
            $0.expected = 0xDE
            $0.found = (UInt64(littleEndian: 0x2F20_5445_4720_3130), 0x2E31_2F50_5454_4820)
            $0.foundCount = 16
        }
        sample.addFinding(.useAfterPut) {
            $0.count = 3
            $0.bytes = 3 * 4096
            $0.request = 4000
            $0.firstPutTime = 105 * second - second / 250
            $0.accessStack = touch
            $0.accessThread = 4713
            $0.reissueStack = other
            $0.reissues = 1
            $0.offset = 16
            $0.badBytes = 8
            $0.flags = FindingRecord.readFlag
        }
        sample.addFinding(.overrun) {
            $0.request = 100
            $0.bytes = 512
            $0.expectedCapacity = 512
            $0.offset = 100
            $0.badBytes = 4
            $0.expected = 0xFD
            $0.found = (0x0000_0000, 0)
            $0.foundCount = 4
        }
        sample.addFinding(.overrun) {
            $0.request = 4000
            $0.offset = -8
            $0.badBytes = 8
            $0.expected = 0xFD
            $0.found = (0x0706_0504_0302_0100, 0)
            $0.foundCount = 8
        }
        sample.addFinding(.overrun) {
            $0.request = 4096
            $0.putStack = 0
            $0.putThread = 0
            $0.accessStack = touch
            $0.accessThread = 4713
            $0.offset = 4096
            $0.flags = FindingRecord.faultFlag
        }
        sample.builder.header.flags = 0
        return try sample.report()
    }

    /// Mistakes that were made often at one place, each time with other sizes.
    static func several() throws -> Report {
        var sample = RecordedReport()
        sample.addFinding(.overrun) {
            $0.count = 1000
            $0.request = 100
            $0.expectedCapacity = 512
            $0.offset = 100
            $0.badBytes = 4
            $0.expected = 0xFD
            $0.found = (0x0000_0000, 0)
            $0.foundCount = 4
        }
        sample.addFinding(.overrun) {
            $0.count = 2
            $0.request = 100
            $0.offset = 120
        }
        sample.addFinding(.foreignPut) {
            $0.count = 30
            $0.address = 0x7F3A_1C00_0010
            $0.givenCapacity = 100
            $0.getStack = 0
        }
        sample.builder.addPool(name: "network")
        sample.addFinding(.wrongPool) {
            $0.address = 0x7F3A_2000_0000
            $0.issuingPool = 1
        }
        sample.addFinding(.wrongCapacity) {
            $0.count = 4
            $0.givenCapacity = 496
            $0.expectedCapacity = 512
        }
        sample.addFinding(.doublePut) {
            $0.count = 2
            $0.reissues = 1
        }
        return try sample.report()
    }

    /// Buffers that did not come back, or came back late.
    static func holding() throws -> Report {
        var sample = RecordedReport()
        let shutDown = sample.shutDown
        let second = RecordingBuilder.second
        sample.builder.header.heldLimit = 2 * second
        let scope = sample.builder.addScope(
            "upload", outstanding: 4, lateReturns: 2, slowestReturn: second + second / 5)
        for request in 1...2 {
            let note = sample.builder.addNote("request \(request) of client 7", in: scope)
            sample.builder.addSlot(stack: sample.get, context: note)
        }
        sample.builder.addSlot(stack: sample.get)
        sample.builder.addSlot(request: 500, stack: sample.other, bucket: 0, flags: LedgerFlags.kept)
        sample.builder.addSlot(request: 500, stack: sample.other, bucket: 0, flags: LedgerFlags.kept)
        sample.builder.addSlot(stack: sample.get, flags: LedgerFlags.inFinding)
        sample.addFinding(.poolDestroyed) { $0.putStack = shutDown }
        sample.addFinding(.heldTooLong) {
            $0.duration = 12 * second
            $0.context = scope
        }
        return try sample.report()
    }

    /// A program that took a snapshot of itself.
    static func live() throws -> Report {
        var sample = RecordedReport()
        let second = RecordingBuilder.second
        sample.builder.header.flags = RecordingHeader.snapshotFlag
        sample.builder.header.heldLimit = 5 * second
        sample.builder.addSlot(stack: sample.get, getTime: 102 * second)
        sample.builder.addSlot(stack: sample.get, getTime: 103 * second)
        sample.builder.addSlot(stack: sample.get, getTime: 109 * second)
        return try sample.report()
    }

    /// Level sampled, one in 128.
    static func sampled() throws -> Report {
        var sample = RecordedReport()
        sample.builder.header.level = RecorderLevel.sampled.rawValue
        sample.builder.header.sampleInterval = 128
        for _ in 0..<3 { sample.builder.addSlot(stack: sample.get) }
        sample.builder.count(pool: 0, row: 1) {
            $0.gets = 100_000
            $0.puts = 99_600
            $0.allocations = 500
            $0.highWater = 480
        }
        return try sample.report()
    }

    /// Nothing wrong, much to improve.
    static func advice() throws -> Report {
        var sample = RecordedReport()
        sample.builder.count(pool: 0, row: 1) {
            $0.gets = 10_000
            $0.puts = 10_000
            $0.allocations = 4212
            $0.highWater = 12
            $0.trimmed = 4000
            $0.requestedBytes = 30_000_000
        }
        sample.builder.count(pool: 0, row: 2) {
            $0.gets = 20_000
            $0.puts = 20_000
            $0.allocations = 8000
            $0.highWater = 8000
            $0.requestedBytes = 1_000_000_000
        }
        sample.builder.count(pool: 0, row: 3) {
            $0.gets = 500
            $0.puts = 500
            $0.allocations = 500
            $0.highWater = 2
            $0.requestedBytes = 50_000_000
            $0.handedOutBytes = 50_000_000
        }
        sample.builder.countRequests(pool: 0, size: 3000, count: 10_000)
        sample.builder.countRequests(pool: 0, size: 50_000, count: 20_000)
        sample.builder.countRequests(pool: 0, size: 100_000, count: 500)
        for _ in 0..<9 { sample.builder.addSlot(state: .returned, stack: sample.get, bucket: 1) }
        for _ in 0..<3 { sample.builder.addSlot(state: .returned, stack: sample.other, bucket: 1) }
        for _ in 0..<2 { sample.builder.addSlot(state: .returned, stack: sample.other, bucket: 3) }
        sample.builder.addPool(name: "small")
        sample.builder.count(pool: 1, row: 0) {
            $0.gets = 40
            $0.puts = 40
            $0.allocations = 1
            $0.highWater = 1
            $0.requestedBytes = 20_480
        }
        return try sample.report()
    }
}

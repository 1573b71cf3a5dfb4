// Builds recordings byte by byte, so that the reader and the analysis can be tested without a recorder.

package import MempoolRecording

/// Collects records and lays them out as a recorder would.
package struct RecordingBuilder {
    package var header = RecordingHeader()
    package private(set) var strings: [UInt8] = []
    package var modules: [ModuleRecord] = []
    package var pools: [PoolRecord] = []
    package var counters: [BucketCounters] = []
    package var histograms: [UInt64] = []
    /// Whole `CounterShard`s.
    package private(set) var shardWords: [UInt64] = []
    /// Index 0 is never a context; see `addScope` and `addNote`.
    package var contexts: [ContextRecord] = []
    package var findings: [FindingRecord] = []
    /// Index 0 is never a stack.
    package private(set) var stackWords: [UInt64] = [0]
    package var ledger: [LedgerRecord] = []

    /// Nanoseconds of a second, for times.
    package static let second: UInt64 = 1_000_000_000

    /// A recording of level full that ended cleanly after ten seconds, without a pool.
    package init(commandLine: String = "app --serve", executable: String = "/nowhere/app") {
        header.magic = RecordingLayout.magic
        header.processID = 4711
        header.level = RecorderLevel.full.rawValue
        header.frameLimit = 64
        header.unwinder = UnwinderKind.libunwind.rawValue
        header.startRealtime = 1_700_000_000 * Self.second
        header.startMonotonic = 100 * Self.second
        header.lastMonotonic = 110 * Self.second
        header.endMonotonic = 110 * Self.second
        header.flags = RecordingHeader.cleanExitFlag
        header.recorderHeapBytes = 64 * 1024
        header.commandLine = addString(commandLine)
        header.executable = addString(executable)
    }

    package mutating func addString(_ text: String) -> StringReference {
        let reference = StringReference(offset: UInt32(strings.count), length: UInt32(text.utf8.count))
        strings += Array(text.utf8)
        return reference
    }

    package mutating func addModule(
        base: UInt64, start: UInt64, end: UInt64, path: String, buildID: [UInt8] = []
    ) {
        var record = ModuleRecord()
        record.base = base
        record.start = start
        record.end = end
        record.path = addString(path)
        record.buildIDLength = UInt32(buildID.count)
        withUnsafeMutableBytes(of: &record.buildID) { $0.copyBytes(from: buildID.prefix(20)) }
        modules.append(record)
    }

    /// Adds a pool with the given capacities; its counters are zero. Returns its number.
    @discardableResult
    package mutating func addPool(name: String, capacities: [UInt64] = [512, 4096, 65536]) -> Int {
        var record = PoolRecord()
        record.name = addString(name)
        record.bucketCount = UInt32(capacities.count)
        record.state = 1
        pools.append(record)
        var rows = [BucketCounters](repeating: BucketCounters(), count: RecordingLimits.bucketRowsPerPool)
        for (index, capacity) in capacities.enumerated() { rows[index].capacity = capacity }
        counters += rows
        histograms += [UInt64](repeating: 0, count: SizeHistogram.binCount)
        return pools.count - 1
    }

    /// Changes the counters of one bucket; `row` equal to the number of buckets is the oversized row.
    package mutating func count(pool: Int, row: Int, _ change: (inout BucketCounters) -> Void) {
        change(&counters[pool * RecordingLimits.bucketRowsPerPool + row])
    }

    /// Counts requests of one size.
    package mutating func countRequests(pool: Int, size: Int, count: UInt64) {
        histograms[pool * SizeHistogram.binCount + SizeHistogram.bin(of: size)] += count
    }

    /// Adds what one thread counted: gets and puts of one size in one row.
    package mutating func addShard(pool: Int, row: Int, gets: UInt64, puts: UInt64, size: Int) {
        var words = [UInt64](repeating: 0, count: CounterShard.wordCount)
        words[CounterShard.poolWord] = UInt64(pool) + 1
        let start = CounterShard.rowsWord + row * CounterShard.wordsPerRow
        words[start + CounterShard.getsWord] = gets
        words[start + CounterShard.putsWord] = puts
        words[start + CounterShard.requestedBytesWord] = gets * UInt64(size)
        words[CounterShard.histogramWord + SizeHistogram.bin(of: size)] = gets
        shardWords += words
    }

    /// Adds a stack, innermost first. Returns its identifier.
    package mutating func addStack(_ words: [UInt64]) -> UInt32 {
        let identifier = UInt32(stackWords.count)
        stackWords.append(UInt64(words.count))
        stackWords += words
        return identifier
    }

    /// Adds a scope that has ended, or is still open. Returns its number.
    package mutating func addScope(
        _ name: String, inside scope: UInt32 = 0, hasEnded: Bool = true, outstanding: UInt64 = 0,
        lateReturns: UInt64 = 0, slowestReturn: UInt64 = 0
    ) -> UInt32 {
        var record = ContextRecord()
        record.name = addString(name)
        record.scope = scope
        record.state = hasEnded ? 2 : 1
        record.outstandingAtEnd = outstanding
        record.lateReturns = lateReturns
        record.slowestReturn = slowestReturn
        return add(record)
    }

    /// Adds a note. Returns its number.
    package mutating func addNote(_ text: String, in scope: UInt32 = 0) -> UInt32 {
        var record = ContextRecord()
        record.note = addString(text)
        record.scope = scope
        record.state = 1
        return add(record)
    }

    private mutating func add(_ record: ContextRecord) -> UInt32 {
        if contexts.isEmpty { contexts.append(ContextRecord()) }
        contexts.append(record)
        return UInt32(contexts.count - 1)
    }

    /// Adds a finding of one case at 105 seconds, of a buffer of 4,096 bytes.
    package mutating func addFinding(_ kind: FindingKind, _ change: (inout FindingRecord) -> Void = { _ in }) {
        var record = FindingRecord()
        record.kind = kind.rawValue
        record.count = 1
        record.firstTime = 105 * Self.second
        record.lastTime = 105 * Self.second
        record.bytes = 4096
        record.expectedCapacity = 4096
        record.getTime = 103 * Self.second
        record.getThread = 4711
        record.putThread = 4712
        change(&record)
        findings.append(record)
    }

    /// Adds a slot to the ledger.
    package mutating func addSlot(
        state: LedgerState = .outstanding, generation: UInt64 = 1, request: UInt64 = 4000, stack: UInt32 = 0,
        pool: UInt16 = 0, bucket: UInt8 = 1, thread: UInt32 = 4711, getTime: UInt64 = 101 * second,
        address: UInt64 = 0x7F00_0000_0000, context: UInt32 = 0, flags: UInt8 = 0
    ) {
        var record = LedgerRecord()
        record.sequence = generation << 2 | state.rawValue
        record.request = request
        record.address = address
        record.getTime = getTime
        record.getStack = stack
        record.getThread = thread
        record.pool = pool
        record.bucket = bucket
        record.context = context
        record.flags = flags
        ledger.append(record)
    }

    /// The file. Each section has exactly the room that its records need.
    package func bytes() -> [UInt8] {
        var header = header
        var bytes = [UInt8](repeating: 0, count: RecordingLayout.headerBytes)
        func add<Record: BitwiseCopyable>(_ section: RecordingSection, _ records: [Record]) {
            var entry = SectionEntry()
            entry.offset = UInt64(bytes.count)
            let count = records.count * MemoryLayout<Record>.stride / section.recordBytes
            entry.capacity = UInt64(count)
            entry.published = UInt64(count)
            entry.recordBytes = UInt32(section.recordBytes)
            header[section] = entry
            records.withUnsafeBytes { bytes += $0 }
            let rest = bytes.count % RecordingLayout.pageBytes
            // The last section ends the file.
            if rest > 0, section != .ledger {
                bytes += [UInt8](repeating: 0, count: RecordingLayout.pageBytes - rest)
            }
        }
        add(.strings, strings)
        add(.modules, modules)
        add(.pools, pools)
        add(.counters, counters)
        add(.histograms, histograms)
        add(.shards, shardWords)
        add(.contexts, contexts)
        add(.findings, findings)
        add(.stacks, stackWords)
        add(.ledger, ledger)
        withUnsafeBytes(of: header) { bytes.replaceSubrange(0..<$0.count, with: $0) }
        return bytes
    }
}

extension RecordingBuilder {
    /// A recording with something in every section.
    package static func sample() -> RecordingBuilder {
        var builder = RecordingBuilder()
        builder.addModule(
            base: 0x1000_0000, start: 0x1000_1000, end: 0x1000_9000, path: "/bin/app", buildID: [1, 2, 3])
        builder.addPool(name: "default")
        builder.addShard(pool: 0, row: 1, gets: 10, puts: 8, size: 4000)
        let stack = builder.addStack([0x1000_1100, 0x1000_1200, 0x1000_1300 | StackWord.asyncBit])
        var finding = FindingRecord()
        finding.kind = FindingKind.doublePut.rawValue
        finding.count = 2
        finding.putStack = stack
        builder.findings.append(finding)
        let scope = builder.addScope("upload", outstanding: 2, lateReturns: 1, slowestReturn: second)
        builder.addSlot(stack: stack, context: builder.addNote("request 1", in: scope))
        builder.addSlot(state: .returned)
        builder.addSlot(state: .empty)
        builder.addSlot(state: .inProgress)
        return builder
    }
}

// The reader of recordings: opens a file that may be damaged, foreign or still being written, and hands out checked values.
// The ledger, which may be large, is in Recording+Ledger.swift.

/// A recording as its file tells it. Trusts no byte of it.
///
/// Counts are clamped to what the section, the limits and the file can hold; references that lead nowhere become empty;
/// everything of that kind is told in `damage`. A file that is still being written can be read at any time.
/// Thread-compatible: a value may be used by one thread at a time.
package struct Recording: Sendable {
    /// An ELF image of the recorded process, with its references resolved.
    package struct Module: Sendable, Equatable {
        /// Load bias: what was added to the addresses in the file.
        package var base: UInt64
        /// Executable range in memory, [start, end).
        package var start: UInt64
        package var end: UInt64
        package var path: String
        /// Bytes of the NT_GNU_BUILD_ID note; empty if the image had none.
        package var buildID: [UInt8]

        package init(base: UInt64, start: UInt64, end: UInt64, path: String, buildID: [UInt8]) {
            self.base = base
            self.start = start
            self.end = end
            self.path = path
            self.buildID = buildID
        }
    }

    /// A pool with its name, its rows of counters and its histogram.
    package struct Pool: Sendable {
        package var name: String
        package var record: PoolRecord
        /// One row per bucket and a last one for oversized buffers.
        package var rows: [BucketCounters]
        /// Requests by size; see `SizeHistogram`.
        package var histogram: [UInt64]

        /// Whether the entry is empty: no pool of this number was made.
        package var isUnused: Bool { record.state == 0 && name.isEmpty && rows.allSatisfy { $0.gets == 0 } }
    }

    /// A scope, or a note made at a get, with its references resolved.
    package struct Context: Sendable {
        /// Empty for a note.
        package var name: String
        /// Empty for a scope.
        package var note: String
        package var record: ContextRecord
    }

    package let header: RecordingHeader
    package let file: RecordingFile
    package let commandLine: String
    package let executable: String
    package private(set) var modules: [Module] = []
    package private(set) var pools: [Pool] = []
    /// Scopes and notes by number; the first entry is never used.
    package private(set) var contexts: [Context] = []
    /// Complete findings only; their kind is one of `FindingKind`.
    package private(set) var findings: [FindingRecord] = []
    /// What was wrong with the file and is therefore missing from this value: sentences, at most `damageLimit`.
    package private(set) var damage: [String] = []
    /// Ledger records that may be read.
    package let ledgerCount: Int

    /// More sentences than these help nobody; a damaged section says so once.
    package static let damageLimit = 16
    /// The most ledger records a reader looks at, 4 GiB of file. `max-ledger` has no use for more: each is an outstanding buffer.
    package static let ledgerReadLimit = 64 * 1024 * 1024

    /// Whether something in the file could not be used.
    package var isPartial: Bool { !damage.isEmpty }
    /// Whether the program reached a clean exit.
    package var isCleanExit: Bool { header.flags & RecordingHeader.cleanExitFlag != 0 }

    /// Opens a recording and reads all of it but the ledger and the stacks.
    ///
    /// - Throws: `RecordingError` when nothing of the file can be used.
    package init(path: String) throws(RecordingError) {
        file = try RecordingFile(path: path)
        header = try Self.readHeader(file)
        try Self.checkSectionTable(header, path: path)

        var damage = DamageList()
        // A program that lives uses the records and the texts of scopes again. Those that are the same before and after
        // have the texts that were read between.
        let mayChange = header.flags & RecordingHeader.cleanExitFlag == 0
        let earlier = !mayChange ? [] : Self.read(.contexts, as: ContextRecord.self, header, file, &damage)
        let strings = file.records(
            of: UInt8.self, count: Self.usable(.strings, header, file, &damage), at: Self.offset(.strings, header)
        )
        let text = StringSection(bytes: strings)
        let nameBytes = RecordingLimits.nameBytes
        let pathBytes = RecordingLimits.pathBytes
        let contextBytes = RecordingLimits.contextTextBytes
        commandLine = text.string(header.commandLine, "the command line", limit: nameBytes, &damage)
        executable = text.string(header.executable, "the path of the executable", limit: pathBytes, &damage)
        modules = Self.readModules(header, file, text, &damage)
        pools = Self.readPools(header, file, text, &damage)
        Self.addShards(to: &pools, header, file, &damage)
        Self.completeCounters(of: &pools)
        let records = Self.read(.contexts, as: ContextRecord.self, header, file, &damage)
        contexts = records.enumerated().map { number, record in
            let isSettled = !mayChange || number < earlier.count && record.isUnchanged(since: earlier[number])
            // State 0: to be ignored.
            guard isSettled else { return Context(name: "", note: "", record: ContextRecord()) }
            return Context(
                name: text.string(record.name, "a scope's name", limit: contextBytes, &damage),
                note: text.string(record.note, "a note", limit: contextBytes, &damage), record: record
            )
        }
        findings = Self.readFindings(header, file, &damage)
        _ = Self.usable(.stacks, header, file, &damage)
        ledgerCount = Self.usable(.ledger, header, file, &damage)
        self.damage = damage.sentences
    }

    /// The program counters of a stack, innermost first, as `StackWord` describes them.
    ///
    /// Returns nil for identifier 0, "no stack was captured", and for an identifier that leads nowhere. Costs one system call.
    package func stack(_ identifier: UInt32) -> [UInt64]? {
        let index = Int(identifier)
        guard index > 0 else { return nil }
        let entry = header[.stacks]
        let most = min(Self.clamp(entry.capacity), RecordingLimits.stackWords)
        // A live recording publishes stacks while it is read, so the count of the header at opening is no bound for it;
        // the head word has to prove itself in any case.
        let published = isCleanExit ? min(Self.clamp(entry.published), most) : most
        guard index < published else { return nil }
        let wanted = min(RecordingLimits.frames + 1, published - index)
        let words = file.records(
            of: UInt64.self, count: wanted, at: Self.offset(.stacks, header) + index * MemoryLayout<UInt64>.stride
        )
        guard let head = words.first, head > 0, head <= UInt64(RecordingLimits.frames) else { return nil }
        let count = Int(head)
        guard count < words.count else { return nil }
        return Array(words[1...count])
    }
}

// MARK: - Header

extension Recording {
    /// Byte offset of a section. `checkSectionTable` proved that it fits.
    static func offset(_ section: RecordingSection, _ header: RecordingHeader) -> Int {
        clamp(header[section].offset)
    }

    static func clamp(_ value: UInt64) -> Int { Int(clamping: value) }

    private static func readHeader(_ file: RecordingFile) throws(RecordingError) -> RecordingHeader {
        let path = file.path
        guard file.sizeBytes > 0 else {
            throw RecordingError(
                .empty, path: path,
                "\(path) is empty: the program was stopped before its recorder wrote anything. Run it again."
            )
        }
        let page = file.records(of: UInt8.self, count: RecordingLayout.headerBytes, at: 0)
        guard page.count >= 8 else { throw notARecording(path) }
        let magic = page.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
        guard magic == RecordingLayout.magic else {
            if page.starts(with: Array("MEMPOOL\r\n".utf8)) {
                throw RecordingError(
                    .notARecording, path: path,
                    "\(path) was a recording before a transfer in text mode changed its line ends. Copy it again in binary mode."
                )
            }
            if magic == 0, page.count == RecordingLayout.headerBytes {
                throw RecordingError(
                    .incomplete, path: path,
                    "\(path) has no complete header: the program was stopped while its recorder set the file up. Run it again."
                )
            }
            throw notARecording(path)
        }
        guard page.count >= 12 else { throw truncatedHeader(path, page.count) }
        let version = page.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 8, as: UInt32.self) }
        guard version == RecordingLayout.version else {
            throw RecordingError(
                .otherVersion, path: path,
                "\(path) is in recording format \(version), this mempool-doctor reads format \(RecordingLayout.version). "
                    + "Use the mempool-doctor of the mempool package that the program was built with."
            )
        }
        guard page.count == RecordingLayout.headerBytes else { throw truncatedHeader(path, page.count) }
        return page.withUnsafeBytes { $0.loadUnaligned(as: RecordingHeader.self) }
    }

    private static func notARecording(_ path: String) -> RecordingError {
        RecordingError(
            .notARecording, path: path,
            "\(path) is not a recording: it does not start with the word MEMPOOL. Name the file that the program's recorder wrote."
        )
    }

    private static func truncatedHeader(_ path: String, _ bytes: Int) -> RecordingError {
        RecordingError(
            .truncatedHeader, path: path,
            "\(path) ends after \(bytes) bytes, inside its header of \(RecordingLayout.headerBytes): it is a part of a recording. "
                + "Copy it again."
        )
    }

    /// Refuses a table whose sections have other record sizes, overlap, or lie at impossible offsets: nothing behind it can be trusted.
    private static func checkSectionTable(_ header: RecordingHeader, path: String) throws(RecordingError) {
        func damaged(_ what: String) -> RecordingError {
            RecordingError(
                .damaged, path: path,
                "\(path) is damaged: \(what). Nothing in it can be trusted; record again or copy it again."
            )
        }
        guard header.headerBytes == UInt32(RecordingLayout.headerBytes) else {
            throw damaged("its header claims \(header.headerBytes) bytes instead of \(RecordingLayout.headerBytes)")
        }
        var end = UInt64(RecordingLayout.headerBytes)
        for section in RecordingSection.allCases {
            let entry = header[section]
            guard entry.recordBytes == UInt32(section.recordBytes) else {
                throw damaged(
                    "its section \(section) has records of \(entry.recordBytes) bytes instead of \(section.recordBytes)"
                )
            }
            let size = entry.capacity.multipliedReportingOverflow(by: UInt64(entry.recordBytes))
            let next = entry.offset.addingReportingOverflow(size.partialValue)
            guard !size.overflow, !next.overflow, next.partialValue <= UInt64(Int64.max),
                entry.offset % UInt64(RecordingLayout.pageBytes) == 0, entry.offset >= end
            else {
                throw damaged(
                    "its section \(section) is said to lie at offset \(entry.offset) with room for \(entry.capacity) records"
                )
            }
            end = next.partialValue
        }
    }
}

// MARK: - Sections

/// Sentences about damage, bounded.
struct DamageList {
    private(set) var sentences: [String] = []

    mutating func note(_ sentence: String) {
        guard sentences.count < Recording.damageLimit, !sentences.contains(sentence) else { return }
        sentences.append(sentence)
    }
}

/// The bytes of the string section.
private struct StringSection {
    let bytes: [UInt8]

    /// The text of a reference; empty if it lies elsewhere, or is longer than a recorder writes it: many references to one long
    /// text would be many copies of it.
    func string(_ reference: StringReference, _ what: String, limit: Int, _ damage: inout DamageList) -> String {
        guard reference.length > 0 else { return "" }
        guard Int(reference.length) <= limit else {
            damage.note("The text of \(what) is longer than \(limit) bytes; it is not shown.")
            return ""
        }
        let end = Int(reference.offset) + Int(reference.length)
        guard end <= bytes.count else {
            damage.note("The text of \(what) is missing.")
            return ""
        }
        return String(decoding: bytes[Int(reference.offset)..<end], as: UTF8.self)
    }
}

extension Recording {
    /// How many records of a section can be read: published, and within capacity, limit and file.
    private static func usable(
        _ section: RecordingSection, _ header: RecordingHeader, _ file: RecordingFile, _ damage: inout DamageList
    ) -> Int {
        let entry = header[section]
        let published = clamp(entry.published)
        let most = min(clamp(entry.capacity), limit(section))
        var count = published
        if count > most {
            damage.note(
                "Section \(section) claims \(entry.published) records where \(most) fit; the rest is not shown.")
            count = most
        }
        let available = max(0, file.sizeBytes - offset(section, header)) / section.recordBytes
        if count > available {
            damage.note("The file ends inside section \(section): \(available) of \(count) records are there.")
            count = available
        }
        return count
    }

    private static func limit(_ section: RecordingSection) -> Int {
        switch section {
        case .strings: RecordingLimits.stringBytes
        case .modules: RecordingLimits.modules
        case .pools: RecordingLimits.pools
        case .counters: RecordingLimits.pools * RecordingLimits.bucketRowsPerPool
        case .histograms: RecordingLimits.pools * SizeHistogram.binCount
        case .shards: RecordingLimits.shards
        case .contexts: RecordingLimits.contexts
        case .findings: RecordingLimits.findings
        case .stacks: RecordingLimits.stackWords
        case .ledger: ledgerReadLimit
        }
    }

    private static func read<Record: BitwiseCopyable>(
        _ section: RecordingSection, as type: Record.Type,
        _ header: RecordingHeader, _ file: RecordingFile, _ damage: inout DamageList
    ) -> [Record] {
        let count = usable(section, header, file, &damage)
        let records = file.records(of: type, count: count, at: offset(section, header))
        if records.count < count {
            damage.note("Section \(section) could be read only in part: \(records.count) of \(count) records.")
        }
        return records
    }

    private static func readModules(
        _ header: RecordingHeader, _ file: RecordingFile, _ text: StringSection, _ damage: inout DamageList
    ) -> [Module] {
        read(.modules, as: ModuleRecord.self, header, file, &damage).compactMap { record in
            guard record.start < record.end, record.base <= record.start else {
                damage.note("A loaded module has an impossible address range; its frames stay unnamed.")
                return nil
            }
            return Module(
                base: record.base, start: record.start, end: record.end,
                path: text.string(record.path, "a module's path", limit: RecordingLimits.pathBytes, &damage),
                buildID: record.buildIDBytes
            )
        }
    }

    private static func readPools(
        _ header: RecordingHeader, _ file: RecordingFile, _ text: StringSection, _ damage: inout DamageList
    ) -> [Pool] {
        let rowsPerPool = RecordingLimits.bucketRowsPerPool
        let records = read(.pools, as: PoolRecord.self, header, file, &damage)
        let counters = read(.counters, as: BucketCounters.self, header, file, &damage)
        let histograms = read(.histograms, as: UInt64.self, header, file, &damage)
        return records.enumerated().map { index, record in
            var record = record
            if record.bucketCount >= UInt32(rowsPerPool) {
                damage.note("Pool \(index) claims \(record.bucketCount) buckets where \(rowsPerPool - 1) fit.")
                record.bucketCount = UInt32(rowsPerPool - 1)
            }
            // One more row than buckets: the oversized ones.
            let rows = counters.dropFirst(index * rowsPerPool).prefix(Int(record.bucketCount) + 1)
            let bins = histograms.dropFirst(index * SizeHistogram.binCount).prefix(SizeHistogram.binCount)
            if rows.count <= Int(record.bucketCount) { damage.note("Counters of pool \(index) are missing.") }
            return Pool(
                name: text.string(record.name, "a pool's name", limit: RecordingLimits.nameBytes, &damage),
                record: record,
                rows: Array(rows), histogram: Array(bins)
            )
        }
    }

    /// Adds what threads counted by themselves.
    private static func addShards(
        to pools: inout [Pool], _ header: RecordingHeader, _ file: RecordingFile, _ damage: inout DamageList
    ) {
        let count = usable(.shards, header, file, &damage)
        let words = file.records(
            of: UInt64.self, count: count * CounterShard.wordCount, at: offset(.shards, header)
        )
        for start in stride(from: 0, to: words.count - CounterShard.wordCount + 1, by: CounterShard.wordCount) {
            let owner = words[start + CounterShard.poolWord]
            guard owner > 0 else { continue }
            guard owner <= UInt64(pools.count) else {
                damage.note("Counters belong to pool \(owner - 1), which is not there; they are not shown.")
                continue
            }
            let pool = Int(owner) - 1
            for row in pools[pool].rows.indices {
                let at = start + CounterShard.rowsWord + row * CounterShard.wordsPerRow
                pools[pool].rows[row].gets &+= words[at + CounterShard.getsWord]
                pools[pool].rows[row].puts &+= words[at + CounterShard.putsWord]
                pools[pool].rows[row].requestedBytes &+= words[at + CounterShard.requestedBytesWord]
            }
            for bin in pools[pool].histogram.indices {
                pools[pool].histogram[bin] &+= words[start + CounterShard.histogramWord + bin]
            }
        }
    }

    /// What follows from other counters and is not counted.
    private static func completeCounters(of pools: inout [Pool]) {
        for pool in pools.indices {
            for index in pools[pool].rows.indices {
                var row = pools[pool].rows[index]
                if row.capacity > 0 { row.handedOutBytes = row.gets &* row.capacity }
                row.inUse = row.gets &- row.puts &- row.wrongCapacityPuts
                pools[pool].rows[index] = row
            }
        }
    }

    private static func readFindings(
        _ header: RecordingHeader, _ file: RecordingFile, _ damage: inout DamageList
    ) -> [FindingRecord] {
        read(.findings, as: FindingRecord.self, header, file, &damage).filter { record in
            // Kind 0: the program is writing it, or was killed while it did.
            guard record.kind != 0 else { return false }
            guard FindingKind(rawValue: record.kind) != nil else {
                damage.note("A finding has the unknown kind \(record.kind); it is not shown.")
                return false
            }
            return true
        }
    }
}

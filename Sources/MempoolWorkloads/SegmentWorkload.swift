// Workload `segment`: a real file becomes records of a log; the log is reopened, read back and compared, byte for byte.

internal import Glibc
internal import Mempool
internal import SegmentLog

enum SegmentWorkload {
    static func run(_ job: WorkloadJob) throws(WorkloadError) -> WorkloadSummary {
        // A file size limit is then an error of the write, with a file and a position, and not the end of the process.
        signal(SIGXFSZ, SIG_IGN)
        // Before anything is made: an input that cannot be used should leave no trace.
        let shape: InputShape? =
            if let path = job.options.input {
                try InputFile(path: path).shape(recordBytes: job.options.recordBytes, pool: job.pool)
            } else {
                nil
            }
        let directory = try WorkDirectory(in: job.options.directory)
        var places: [String] = []
        for thread in 0..<job.options.threads { places.append(try directory.makeSubdirectory("thread-\(thread)")) }
        let directories = places
        let tally = try withExtendedLifetime(directory) { () throws(WorkloadError) in
            try job.runThreads { thread, planter throws(WorkloadError) in
                let source = try source(job, shape: shape, thread: thread)
                var share = SegmentShare(source: source, directory: directories[thread], pool: job.pool)
                try share.write(seed: job.options.seed &+ UInt64(thread), planter: &planter)
                try share.reopen()
                try share.verify()
                return share.tally
            }
        }
        return job.summary(tally, lines: lines(job, shape: shape, tally))
    }

    private static func source(
        _ job: WorkloadJob,
        shape: InputShape?,
        thread: Int
    ) throws(WorkloadError) -> RecordSource {
        guard let path = job.options.input, let shape else {
            var generator = job.generator(forThread: thread)
            return .generated(
                seed: generator.next(),
                count: job.operations(ofThread: thread),
                recordBytes: job.options.recordBytes
            )
        }
        return .input(
            try InputFile(path: path),
            shape,
            thread: thread,
            threads: job.options.threads,
            limit: job.options.operations ?? .max
        )
    }

    private static func lines(_ job: WorkloadJob, shape: InputShape?, _ tally: Tally) -> [String] {
        let records = counted(tally["records"], "record")
        let bytes = counted(tally["bytes"], "byte")
        let origin =
            switch shape {
            case nil: "generated from seed \(job.options.seed)"
            case .lines: "one of each line of \(job.options.input ?? "")"
            case .blocks(let size) where job.options.recordBytes == nil:
                "blocks of \(grouped(size)) bytes of \(job.options.input ?? ""), which is binary (it has NUL bytes)"
            case .blocks(let size): "blocks of \(grouped(size)) bytes of \(job.options.input ?? "")"
            }
        var lines = ["wrote \(records), \(bytes), \(job.onThreads): \(origin)"]
        if tally["cutLines"] > 0 {
            let limit = grouped(InputFile.maximumLineBytes)
            lines.append(
                "lines above \(limit) bytes were cut; \(counted(tally["cutLines"], "further record")) hold their rest"
            )
        }
        lines.append(
            "appended \(counted(tally["singleAppends"], "record")) one by one and "
                + "\(grouped(tally["records"] - tally["singleAppends"])) in "
                + "\(counted(tally["batches"], "batch", plural: "batches")), "
                + "to \(counted(tally["segments"], "segment")) with \(counted(tally["indexEntries"], "index entry", plural: "index entries"))"
        )
        lines.append(
            "reopened, read back by offset and compared: \(counted(tally["verifiedRecords"], "record")), "
                + "\(counted(tally["verifiedBytes"], "byte")), all equal"
        )
        lines.append("searched by time: \(counted(tally["timeSearches"], "search", plural: "searches")), all right")
        return lines
    }
}

/// What one thread does: a store of its own, filled from a source and compared with it.
struct SegmentShare {
    private let source: RecordSource
    private let directory: String
    private let pool: BufferPool
    private let options: SegmentOptions
    private var store: SegmentStore?
    private var inputVersion: [Int] = []
    private(set) var tally = Tally()

    /// Records per batch; one means a single append.
    private static let recordsPerBatch = 2...64
    /// A batch is written when it has this many bytes, whatever the number of its records.
    private static let batchByteLimit = 1 << 20
    /// Time searches per thread, about: enough to hit every part of the index.
    private static let timeSearchSample = 500
    /// The first timestamp: 2023-11-14 22:13:20 UTC.
    private static let firstTimestamp: Int64 = 1_700_000_000_000

    init(source: RecordSource, directory: String, pool: BufferPool, options: SegmentOptions = SegmentOptions()) {
        self.source = source
        self.directory = directory
        self.pool = pool
        self.options = options
    }

    /// Three records share a timestamp, and between two timestamps are ten milliseconds.
    private static func timestamp(_ number: Int) -> Int64 { firstTimestamp + Int64(number / 3) * 10 }

    /// The number of the record, so that a record in the wrong place is noticed whatever its value.
    private static func key(_ number: Int) -> [UInt8] {
        withUnsafeBytes(of: UInt64(number).bigEndian) { Array($0) }
    }

    // MARK: - Writing

    /// Appends all records of the source, in an arbitrary but repeatable mix of single appends and batches.
    mutating func write(seed: UInt64, planter: inout FaultPlanter) throws(WorkloadError) {
        var store = try SegmentStore(directory: directory, options: options, pool: pool)
        var tally = Tally()
        var generator = SeededGenerator(seed: seed)
        var pending: [NewRecord] = []
        var pendingBytes = 0
        var wanted = 1
        inputVersion = source.version

        func flushPending() throws(WorkloadError) {
            guard !pending.isEmpty else { return }
            try store.append(pending)
            tally.count(pending.count == 1 ? "singleAppends" : "batches")
            pending.removeAll(keepingCapacity: true)
            pendingBytes = 0
            wanted = Bool.random(using: &generator) ? 1 : Int.random(in: Self.recordsPerBatch, using: &generator)
        }

        let remarks = try source.forEachValue(pool: pool) { value throws(WorkloadError) in
            let number = tally["records"]
            // Only what stays within the limit of a batch may share one.
            if pendingBytes + value.count > Self.batchByteLimit { try flushPending() }
            pending.append(
                NewRecord(timestamp: Self.timestamp(number), key: Self.key(number), value: Array(value))
            )
            pendingBytes += value.count
            if pending.count >= wanted { try flushPending() }
            tally.count("records")
            tally.count("operations")
            tally.count("bytes", value.count)
            planter.operationDone()
        }
        try flushPending()
        try store.flush()
        tally.count("cutLines", remarks.cutLines)
        self.tally = tally
        self.store = store
    }

    /// Closes all files and opens them again, which checks every record.
    mutating func reopen() throws(WorkloadError) {
        guard let written = store else { return }
        store = nil
        let reopened = try SegmentStore(
            directory: directory,
            baseOffsets: written.baseOffsets,
            options: options,
            pool: pool
        )
        guard reopened.isClean, reopened.recordCount == written.recordCount, reopened.logBytes == written.logBytes
        else {
            throw WorkloadError(
                "\(directory): the log was not complete when it was reopened: \(reopened.recordCount) of "
                    + "\(written.recordCount) records"
            )
        }
        tally.count("segments", reopened.segments.count)
        tally.count("indexEntries", reopened.indexEntryCount)
        store = reopened
    }

    // MARK: - Verifying

    /// Goes through the source again and compares every record; then searches a sample of timestamps.
    mutating func verify() throws(WorkloadError) {
        guard let store else { return }
        let count = tally["records"]
        var number = 0
        var bytes = 0
        try source.forEachValue(pool: pool) { value throws(WorkloadError) in
            // An input that grows meanwhile is no fault: what was written is compared.
            guard number < count else { return }
            let isEqual = try store.withRecord(at: UInt64(number)) { record in
                record.header.timestamp == Self.timestamp(number)
                    && record.key.isEqual(to: Self.key(number))
                    && record.value.isEqual(to: value)
            }
            guard isEqual else { throw mismatch("record \(number) differs from what was written") }
            number += 1
            bytes += value.count
        }
        guard number == count else { throw mismatch("\(count) records were written and \(number) came back") }
        tally.count("verifiedRecords", number)
        tally.count("verifiedBytes", bytes)
        try verifyTimes(store, count: count)
    }

    private mutating func verifyTimes(_ store: SegmentStore, count: Int) throws(WorkloadError) {
        for number in stride(from: 0, to: count, by: max(1, count / Self.timeSearchSample)) {
            // The time itself and the middle of the gap before it lead to the first of the three records.
            for timestamp in [Self.timestamp(number), Self.timestamp(number) - 5] {
                let found = try store.findOffset(byTimestamp: timestamp)
                guard found == UInt64(number / 3 * 3) else {
                    throw WorkloadError(
                        "\(directory): the search for time \(timestamp) found offset "
                            + "\(found.map(String.init) ?? "none") and should find \(number / 3 * 3)"
                    )
                }
                tally.count("timeSearches")
            }
        }
        guard count > 0 else { return }
        guard try store.findOffset(byTimestamp: Self.timestamp(count - 1) + 1) == nil else {
            throw WorkloadError("\(directory): the search for a time after the last record found one")
        }
        tally.count("timeSearches")
    }

    /// A mismatch is the fault of the input if that has changed meanwhile.
    private func mismatch(_ what: String) -> WorkloadError {
        if source.version != inputVersion, case .input(let file, _, _, _, _) = source {
            return WorkloadError("the input \(file.path) changed while it was read; \(what)")
        }
        return WorkloadError("\(directory): \(what)")
    }
}

extension RecordSource {
    /// Changes when the input changes; empty for generated records.
    var version: [Int] {
        guard case .input(let file, _, _, _, _) = self else { return [] }
        return file.version()
    }
}

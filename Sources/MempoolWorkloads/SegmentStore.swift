// A log of as many segments as it takes: when one is full, the next one begins.

internal import Mempool
internal import SegmentLog

/// Several segments in one directory. For one thread.
struct SegmentStore {
    private let directory: String
    private let options: SegmentOptions
    private let pool: BufferPool
    /// In ascending order of their offsets; never empty.
    private(set) var segments: [Segment]

    /// - Parameter baseOffsets: The segments to open; each is created if it is not there.
    init(
        directory: String,
        baseOffsets: [UInt64] = [0],
        options: SegmentOptions,
        pool: BufferPool
    ) throws(WorkloadError) {
        self.directory = directory
        self.options = options
        self.pool = pool
        segments = []
        for baseOffset in baseOffsets { segments.append(try open(baseOffset)) }
        precondition(!segments.isEmpty, "a store has at least one segment")
    }

    private func open(_ baseOffset: UInt64) throws(WorkloadError) -> Segment {
        try translate { () throws(SegmentError) in
            try Segment(directory: directory, baseOffset: baseOffset, options: options, pool: pool)
        }
    }

    var baseOffsets: [UInt64] { segments.map(\.baseOffset) }
    var recordCount: Int { segments.reduce(0) { $0 + $1.recordCount } }
    var logBytes: Int { segments.reduce(0) { $0 + $1.logBytes } }
    var indexEntryCount: Int { segments.reduce(0) { $0 + $1.indexEntryCount } }
    var isClean: Bool { segments.allSatisfy(\.recovery.isClean) }
    private var nextOffset: UInt64 { segments.last?.nextOffset ?? 0 }

    /// Appends one record by itself, or several as a batch.
    mutating func append(_ records: [NewRecord]) throws(WorkloadError) {
        do {
            try append(records, to: segments[segments.count - 1])
        } catch  where error.code == .segmentFull {
            segments.append(try open(nextOffset))
            try translate { () throws(SegmentError) in try append(records, to: segments[segments.count - 1]) }
        } catch {
            throw WorkloadError(error)
        }
    }

    private func append(_ records: [NewRecord], to segment: Segment) throws(SegmentError) {
        if let only = records.first, records.count == 1 {
            try segment.append(only)
        } else {
            try segment.appendBatch(records)
        }
    }

    func flush() throws(WorkloadError) {
        for segment in segments { try translate { () throws(SegmentError) in try segment.flush() } }
    }

    func withRecord<R>(at offset: UInt64, _ body: (RecordView) -> R) throws(WorkloadError) -> R {
        guard let segment = segments.last(where: { $0.baseOffset <= offset }) else {
            throw WorkloadError("no segment holds offset \(offset)")
        }
        return try translate { () throws(SegmentError) in try segment.withRecord(at: offset, body) }
    }

    func findOffset(byTimestamp timestamp: Int64) throws(WorkloadError) -> UInt64? {
        for segment in segments {
            let found = try translate { () throws(SegmentError) in try segment.findOffset(byTimestamp: timestamp) }
            if let found { return found }
        }
        return nil
    }
}

extension WorkloadError {
    /// The sentence of the segment, as part of a line.
    init(_ error: SegmentError) {
        let sentence = error.description.hasSuffix(".") ? String(error.description.dropLast()) : error.description
        self.init(error.code == .diskFull ? sentence + "; choose a place with more room with --directory" : sentence)
    }
}

private func translate<R>(_ body: () throws(SegmentError) -> R) throws(WorkloadError) -> R {
    do {
        return try body()
    } catch {
        throw WorkloadError(error)
    }
}

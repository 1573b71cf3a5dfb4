// What opening a segment does: read the whole log once, cut a torn tail, make the indexes fit.
// A complete record is never cut off without being asked for.

internal import Mempool

/// What opening does when complete records follow a damaged place, which no torn write leaves behind.
package enum RecoveryPolicy: Sendable {
    /// Throw ``SegmentError/Code/damagedMiddle`` and touch nothing.
    case refuseDamagedMiddle
    /// Keep the records before the damage and cut off the rest, complete records included.
    case cutAtFirstDamage
}

/// What opening a segment found and repaired.
package struct RecoveryReport: Equatable, Sendable {
    /// Complete records in the log.
    package var recordCount = 0
    /// Bytes that those records take, and where the log ends now.
    package var logBytes = 0
    /// Bytes cut off behind the last complete record.
    package var cutBytes = 0
    /// Why: what was found at the place of the cut; nil without a cut.
    package var cutReason: SegmentError?
    /// Entries of both indexes that were cut off because they did not fit the log; an entry that was not whole counts.
    package var indexEntriesCut = 0
    /// Entries of both indexes that were missing and have been written.
    package var indexEntriesAdded = 0

    package init() {}

    /// Whether nothing needed repair.
    package var isClean: Bool { cutBytes == 0 && indexEntriesCut == 0 && indexEntriesAdded == 0 }
}

extension Segment {
    /// Bytes read at a time; the capacity of a bucket.
    private static let recoveryWindowBytes = 64 << 10

    /// Brings the three files into agreement.
    static func recover(
        log: StoredFile,
        offsetIndex: inout OffsetIndex,
        timeIndex: inout TimeIndex,
        baseOffset: UInt64,
        options: SegmentOptions,
        pool: BufferPool
    ) throws(SegmentError) -> (Tail, RecoveryReport) {
        let fileBytes = try log.size()
        guard fileBytes <= Int(UInt32.max) else {
            throw SegmentError(
                .tooLarge,
                path: log.path,
                "\(fileBytes) bytes are too much for a segment; the limit is \(UInt32.max)"
            )
        }
        let window = pool.get(recoveryWindowBytes)
        defer { pool.put(window) }
        var scanner = LogScanner(file: log, endPosition: fileBytes, window: window)

        var report = RecoveryReport()
        var tail = Tail(nextOffset: baseOffset)
        var entries = NewEntries()
        var defect: RecordDefect?
        while defect == nil, tail.position < fileBytes {
            switch try scanner.checkedHeader(at: tail.position, expectedOffset: tail.nextOffset) {
            case .failure(let found):
                defect = found
            case .success(let header):
                tail.advance(
                    encodedBytes: header.encodedBytes,
                    timestamp: header.timestamp,
                    baseOffset: baseOffset,
                    indexIntervalBytes: options.indexIntervalBytes,
                    entries: &entries
                )
                report.recordCount += 1
            }
        }

        if let defect {
            let reason = defect.error(path: log.path, position: tail.position)
            if options.recovery == .refuseDamagedMiddle {
                try refuseDamagedMiddle(&scanner, tail: tail, defect: defect, reason: reason)
            }
            try log.truncate(to: tail.position)
            report.cutBytes = fileBytes - tail.position
            report.cutReason = reason
        }
        report.logBytes = tail.position
        try fit(&offsetIndex, to: entries.offsets, report: &report)
        try fit(&timeIndex, to: entries.times, report: &report)
        return (tail, report)
    }

    // MARK: - Steps

    /// Throws when complete records follow the damage, for then it is not the torn end of the last write.
    private static func refuseDamagedMiddle(
        _ scanner: inout LogScanner,
        tail: Tail,
        defect: RecordDefect,
        reason: SegmentError
    ) throws(SegmentError) {
        // A header without contradictions vouches for its own length: those bytes belong to the damaged record, even
        // where its value happens to hold a whole record (a log of a log, say).
        let searchStart: Int
        switch defect {
        case .truncated: return
        case .checksumMismatch(let encodedBytes, _, _):
            searchStart = tail.position + encodedBytes
        case .impossibleLength, .contradictingLengths:
            searchStart = tail.position + 1
        case .unexpectedOffset:
            // It may be whole itself, in a file that was renamed.
            searchStart = tail.position
        }
        guard let complete = try scanner.firstRecord(from: searchStart) else { return }
        throw SegmentError(
            .damagedMiddle,
            path: reason.path,
            position: tail.position,
            "damaged here (\(reason.code.rawValue)), but there is a complete record at byte \(complete), "
                + "so nothing was cut off"
        )
    }

    /// Makes an index hold exactly the given entries, and leaves the ones that are right in place.
    private static func fit<Entry>(
        _ index: inout IndexFile<Entry>,
        to expected: [Entry],
        report: inout RecoveryReport
    ) throws(SegmentError) {
        var right = 0
        while right < min(index.count, expected.count), try index.entry(at: right) == expected[right] { right += 1 }
        let strayBytes = try index.strayBytes()
        if index.count > right || strayBytes > 0 {
            report.indexEntriesCut += index.count - right + (strayBytes > 0 ? 1 : 0)
            try index.truncate(to: right)
        }
        report.indexEntriesAdded += expected.count - right
        try index.append(Array(expected[right...]))
    }
}

extension LogScanner {
    /// Reads the header at a position and checks the whole record.
    fileprivate mutating func checkedHeader(
        at position: Int,
        expectedOffset: UInt64
    ) throws(SegmentError) -> Result<RecordHeader, RecordDefect> {
        let found = try header(at: position, expectedOffset: expectedOffset)
        guard case .success(let header) = found else { return found }
        if let defect = try checksumDefect(of: header, at: position) { return .failure(defect) }
        return found
    }
}

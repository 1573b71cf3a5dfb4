// One segment of a log: a `.log` file with its `.index` and its `.timeindex`.
// This file: state, options, opening and closing. Appending, reading and recovery have files of their own.

internal import Glibc
package import Mempool

/// How a segment behaves. All sizes in bytes.
package struct SegmentOptions: Sendable {
    /// The log grows to this size at most; then ``SegmentError/Code/segmentFull``. At most 4 GiB − 1, for an index
    /// holds positions in 32 bits. Default: 1 GiB.
    package var maximumSegmentBytes = 1 << 30
    /// Log bytes between two index entries. Less makes reads faster and the indexes larger. Default: 4096.
    package var indexIntervalBytes = 4096
    /// What opening does with damage that is not a torn tail.
    package var recovery = RecoveryPolicy.refuseDamagedMiddle

    package init() {}
}

/// A part of a log: records with ascending offsets in one file, and two indexes to find them.
///
/// ```swift
/// let segment = try Segment(directory: "/var/lib/example", baseOffset: 0)
/// let offset = try segment.append(NewRecord(timestamp: 1_700_000_000_000, key: [], value: Array("hello".utf8)))
/// print(try segment.read(offset: offset).value)
/// ```
///
/// Every buffer comes from the pool and goes back to it before the call returns, also when the call throws: that is what
/// this library is an example of. An append that throws has changed nothing.
///
/// Not thread-safe: one thread at a time. Only one segment may have the same files open.
package final class Segment {
    /// Offset of the first record.
    package let baseOffset: UInt64
    package let options: SegmentOptions
    /// What opening the segment found and repaired.
    package let recovery: RecoveryReport

    let pool: BufferPool
    let log: StoredFile
    var offsetIndex: OffsetIndex
    var timeIndex: TimeIndex
    /// Where the next record goes. Replaced as a whole once an append has succeeded, never in between.
    var tail: Tail
    /// Whether a failed append may have left bytes behind the tail that could not be cut off then.
    var hasStrayBytes = false

    /// Opens the segment in a directory, creates its files if there are none, and recovers it if it was torn.
    ///
    /// The whole log is read and checked once: a log cut anywhere is whole again afterwards, up to its last complete
    /// record, and the indexes fit the log. ``recovery`` says what was cut.
    ///
    /// - Parameters:
    ///   - directory: Must exist.
    ///   - baseOffset: Offset of the first record; also the name of the files.
    ///   - pool: Where every buffer comes from.
    /// - Throws: ``SegmentError``; `damagedMiddle` leaves the files as they were.
    package init(
        directory: String,
        baseOffset: UInt64,
        options: SegmentOptions = SegmentOptions(),
        pool: BufferPool = .shared
    ) throws(SegmentError) {
        precondition(
            (1...Int(UInt32.max)).contains(options.maximumSegmentBytes),
            "maximumSegmentBytes must be 1 to \(UInt32.max)"
        )
        precondition(options.indexIntervalBytes > 0, "indexIntervalBytes must be positive")
        precondition(baseOffset <= UInt64.max - UInt64(UInt32.max), "baseOffset leaves no room for a segment")
        self.baseOffset = baseOffset
        self.options = options
        self.pool = pool
        let stem = directory + "/" + Self.stem(baseOffset: baseOffset)
        let log = try StoredFile(path: stem + ".log")
        var offsetIndex = try OffsetIndex(path: stem + ".index", pool: pool)
        var timeIndex = try TimeIndex(path: stem + ".timeindex", pool: pool)
        (tail, recovery) = try Self.recover(
            log: log,
            offsetIndex: &offsetIndex,
            timeIndex: &timeIndex,
            baseOffset: baseOffset,
            options: options,
            pool: pool
        )
        self.log = log
        self.offsetIndex = offsetIndex
        self.timeIndex = timeIndex
    }

    /// Offset that the next record will get.
    package var nextOffset: UInt64 { tail.nextOffset }
    /// Bytes of complete records in the log.
    package var logBytes: Int { tail.position }
    /// Records in the segment.
    package var recordCount: Int { Int(tail.nextOffset - baseOffset) }
    /// Entries in the `.index` file.
    package var indexEntryCount: Int { offsetIndex.count }
    package var logPath: String { log.path }

    /// Waits until everything appended so far is on the disk. Appends alone survive the process, not the machine.
    package func flush() throws(SegmentError) {
        try log.synchronize()
        try offsetIndex.synchronize()
        try timeIndex.synchronize()
    }

    /// The file name without extension: the base offset with leading zeros, so that names sort like offsets.
    package static func stem(baseOffset: UInt64) -> String {
        let digits = String(baseOffset)
        return String(repeating: "0", count: 20 - digits.count) + digits
    }
}

/// The end of a segment, and what the next index entry depends on.
struct Tail: Equatable {
    /// Bytes of complete records: where the next one starts.
    var position = 0
    /// Offset of the next record.
    var nextOffset: UInt64
    /// The greatest timestamp so far; nil without records.
    var maximumTimestamp: Int64?
    /// Where the last record with an index entry starts. The first record of a log counts as indexed.
    var indexedPosition = 0
}

/// The entries that appending one or more records adds to the indexes.
struct NewEntries {
    var offsets: [OffsetEntry] = []
    var times: [TimeEntry] = []
}

extension Tail {
    /// Moves behind one more record, and collects index entries where they are due.
    ///
    /// Appending and recovery both come through here, so they agree about every entry.
    mutating func advance(
        encodedBytes: Int,
        timestamp: Int64,
        baseOffset: UInt64,
        indexIntervalBytes: Int,
        entries: inout NewEntries
    ) {
        if let maximumTimestamp, position - indexedPosition >= indexIntervalBytes {
            // Both fit: a segment has less than 2^32 bytes, and so fewer records.
            let relativeOffset = UInt32(nextOffset - baseOffset)
            entries.offsets.append(OffsetEntry(relativeOffset: relativeOffset, position: UInt32(position)))
            entries.times.append(TimeEntry(timestamp: maximumTimestamp, relativeOffset: relativeOffset))
            indexedPosition = position
        }
        position += encodedBytes
        nextOffset += 1
        maximumTimestamp = max(maximumTimestamp ?? timestamp, timestamp)
    }
}

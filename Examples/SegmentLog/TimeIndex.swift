// The `.timeindex` file: timestamp → relative offset.
// Its entries ascend even when the timestamps of the records do not, because each holds a maximum.

internal import Mempool

/// Says that no record before `relativeOffset` is newer than `timestamp`.
///
/// So the first record at or after a time T is not before the last entry with `timestamp < T`, whatever order the
/// timestamps of the records come in.
struct TimeEntry: IndexEntry {
    /// The greatest timestamp of all records before ``relativeOffset``, milliseconds.
    var timestamp: Int64
    var relativeOffset: UInt32

    static let encodedBytes = 12

    init(timestamp: Int64, relativeOffset: UInt32) {
        self.timestamp = timestamp
        self.relativeOffset = relativeOffset
    }

    init(_ buffer: Buffer) {
        timestamp = buffer.loadBigEndian(at: 0)
        relativeOffset = buffer.loadBigEndian(at: 8)
    }

    func encode(into buffer: Buffer) {
        buffer.storeBigEndian(timestamp, at: 0)
        buffer.storeBigEndian(relativeOffset, at: 8)
    }
}

typealias TimeIndex = IndexFile<TimeEntry>

extension IndexFile<TimeEntry> {
    /// The relative offset at which a search for the first record at or after a time may start.
    func searchStart(forTimestamp timestamp: Int64) throws(SegmentError) -> UInt32 {
        try last { $0.timestamp < timestamp }?.relativeOffset ?? 0
    }
}

// The `.index` file: relative offset → position in the `.log` file.
// Sparse: an entry every so many bytes of log; the rest of the way is a short scan.

internal import Mempool

/// Says where in the log a record starts.
struct OffsetEntry: IndexEntry {
    /// Offset of the record, less the base offset of the segment.
    var relativeOffset: UInt32
    /// Bytes from the start of the log.
    var position: UInt32

    static let encodedBytes = 8

    init(relativeOffset: UInt32, position: UInt32) {
        self.relativeOffset = relativeOffset
        self.position = position
    }

    init(_ buffer: Buffer) {
        relativeOffset = buffer.loadBigEndian(at: 0)
        position = buffer.loadBigEndian(at: 4)
    }

    func encode(into buffer: Buffer) {
        buffer.storeBigEndian(relativeOffset, at: 0)
        buffer.storeBigEndian(position, at: 4)
    }
}

typealias OffsetIndex = IndexFile<OffsetEntry>

extension IndexFile<OffsetEntry> {
    /// The nearest indexed record at or before an offset; the first record of the log needs no entry.
    func nearest(notAfter relativeOffset: UInt32) throws(SegmentError) -> OffsetEntry {
        let found = try last { $0.relativeOffset <= relativeOffset }
        return found ?? OffsetEntry(relativeOffset: 0, position: 0)
    }
}

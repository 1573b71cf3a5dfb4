// Walks a log from record to record through one window, in bounded memory.
// Recovery, reading by offset and searching by time all walk the same way.

internal import Mempool

/// A walk over a log. The window, a pool buffer, belongs to the caller and must outlive the scanner.
struct LogScanner {
    let file: StoredFile
    /// Bytes of the log; what lies behind does not count.
    let endPosition: Int
    private let window: Buffer
    /// The part of the log that the window shows.
    private var shown = 0..<0

    /// The least a window must hold.
    static let minimumWindowBytes = RecordLayout.headerBytes

    init(file: StoredFile, endPosition: Int, window: Buffer) {
        precondition(window.count >= Self.minimumWindowBytes, "the window cannot hold a header")
        self.file = file
        self.endPosition = endPosition
        self.window = window
    }

    /// Reads the header at a position and judges it.
    ///
    /// - Throws: Only when the file cannot be read; a defect is a value, for the caller to judge.
    mutating func header(
        at position: Int,
        expectedOffset: UInt64?
    ) throws(SegmentError) -> Result<RecordHeader, RecordDefect> {
        let available = endPosition - position
        guard available >= RecordLayout.headerBytes else {
            return .failure(.truncated(needsBytes: RecordLayout.headerBytes, availableBytes: available))
        }
        let header = try withBytes(at: position, count: RecordLayout.headerBytes) { RecordHeader($0) }
        if let defect = header.defect(availableBytes: available, expectedOffset: expectedOffset) {
            return .failure(defect)
        }
        return .success(header)
    }

    /// Compares a record with its checksum, window by window, so that even the largest takes no more memory.
    ///
    /// - Parameter header: The header at `position`, without defect.
    mutating func checksumDefect(of header: RecordHeader, at position: Int) throws(SegmentError) -> RecordDefect? {
        var checksum = CRC32C()
        var next = position + RecordLayout.checksummedFrom
        let end = position + header.encodedBytes
        while next < end {
            let isShown = shown.contains(next)
            let count = min(end - next, isShown ? shown.upperBound - next : window.count)
            try withBytes(at: next, count: count) { checksum.update($0) }
            next += count
        }
        guard checksum.value != header.checksum else { return nil }
        return header.checksumMismatch(computed: checksum.value)
    }

    /// Finds the first complete record at or after a position, trying every position.
    mutating func firstRecord(from start: Int) throws(SegmentError) -> Int? {
        var position = start
        while endPosition - position >= RecordLayout.headerBytes {
            if case .success(let header) = try header(at: position, expectedOffset: nil),
                try checksumDefect(of: header, at: position) == nil
            {
                return position
            }
            position += 1
        }
        return nil
    }

    // MARK: - The window

    /// Lends some bytes of the log, at most as many as the window holds, all of them before ``endPosition``.
    private mutating func withBytes<R>(
        at position: Int,
        count: Int,
        _ body: (UnsafeRawBufferPointer) -> R
    ) throws(SegmentError) -> R {
        assert(count <= window.count && position >= 0 && position + count <= endPosition)
        if position < shown.lowerBound || position + count > shown.upperBound {
            let visible = window.prefix(min(window.count, endPosition - position))
            shown = 0..<0
            try file.readAll(into: visible, at: position)
            shown = position..<(position + visible.count)
        }
        return window.withUnsafeMutableBytes { bytes in
            let start = position - shown.lowerBound
            return body(UnsafeRawBufferPointer(rebasing: bytes[start..<(start + count)]))
        }
    }
}

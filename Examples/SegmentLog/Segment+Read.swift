// Reading records by offset, and finding them by time.
// Binary search in an index, a short scan in the log, one read of the record.

internal import Mempool

extension Segment {
    /// Reads the record with an offset.
    ///
    /// - Throws: ``SegmentError``: `noSuchOffset`, or what is wrong with the files.
    package func read(offset: UInt64) throws(SegmentError) -> Record {
        try withRecord(at: offset) { Record($0) }
    }

    /// Lends the record with an offset, in the pool buffer it was read into.
    ///
    /// - Parameter body: Must not keep the view.
    /// - Complexity: O(log n) small reads for n index entries, and a scan of one index interval.
    package func withRecord<R>(at offset: UInt64, _ body: (RecordView) -> R) throws(SegmentError) -> R {
        guard offset >= baseOffset, offset < tail.nextOffset else {
            throw SegmentError(
                .noSuchOffset,
                path: log.path,
                "there is no offset \(offset); the segment holds \(recordCount) records from \(baseOffset) on"
            )
        }
        let nearest = try offsetIndex.nearest(notAfter: UInt32(offset - baseOffset))
        let place = try walk(from: nearest) { $0.offset == offset }
        guard let (position, header) = place else {
            throw SegmentError(
                .corruptIndex,
                path: offsetIndex.path,
                "the entry for position \(nearest.position) does not lead to offset \(offset)"
            )
        }

        // The header has been judged, so this allocates no more than a record can need.
        let buffer = pool.get(header.encodedBytes)
        defer { pool.put(buffer) }
        try log.readAll(into: buffer, at: position)
        let result = buffer.withUnsafeBytes { bytes in
            decodeRecord(bytes, expectedOffset: offset).map(body)
        }
        switch result {
        case .success(let value): return value
        case .failure(let defect): throw defect.error(path: log.path, position: position)
        }
    }

    /// The first offset whose record is at or after a time; nil when all are before it.
    ///
    /// Right also when timestamps do not ascend.
    ///
    /// - Parameter timestamp: Milliseconds since the epoch.
    /// - Complexity: O(log n) small reads for n index entries, and a scan of one index interval.
    package func findOffset(byTimestamp timestamp: Int64) throws(SegmentError) -> UInt64? {
        guard let newest = tail.maximumTimestamp, newest >= timestamp else { return nil }
        let start = try timeIndex.searchStart(forTimestamp: timestamp)
        let nearest = try offsetIndex.nearest(notAfter: start)
        return try walk(from: nearest) { $0.timestamp >= timestamp }?.header.offset
    }

    // MARK: - Walking

    /// Walks from an indexed record to the first one that satisfies a condition.
    private func walk(
        from start: OffsetEntry,
        until isFound: (RecordHeader) -> Bool
    ) throws(SegmentError) -> (position: Int, header: RecordHeader)? {
        try pool.withBuffer(scanWindowBytes) { window throws(SegmentError) in
            var scanner = LogScanner(file: log, endPosition: tail.position, window: window)
            var position = Int(start.position)
            var offset = baseOffset + UInt64(start.relativeOffset)
            while position < tail.position {
                switch try scanner.header(at: position, expectedOffset: offset) {
                case .failure(let defect):
                    throw defect.error(path: log.path, position: position)
                case .success(let header):
                    if isFound(header) { return (position, header) }
                    position += header.encodedBytes
                    offset += 1
                }
            }
            return nil
        }
    }

    /// One index interval, as long as that is a reasonable buffer.
    private var scanWindowBytes: Int { min(max(options.indexIntervalBytes, 512), 64 << 10) }
}

// Appending one record, or several at once.
// An append happens whole or not at all, whatever the disk does.

internal import Mempool

extension Segment {
    /// Appends one record.
    ///
    /// - Returns: The offset it got.
    /// - Throws: ``SegmentError``: `tooLarge`, `segmentFull`, `diskFull`, `inputOutput`. Nothing is appended then, and
    ///   all earlier records are still there.
    @discardableResult
    package func append(_ record: NewRecord) throws(SegmentError) -> UInt64 {
        try checkSize(record.encodedBytes)
        let offset = tail.nextOffset
        let buffer = record.encoded(offset: offset, pool: pool)
        defer { pool.put(buffer) }

        var newTail = tail
        var entries = NewEntries()
        advance(&newTail, behind: record, entries: &entries)
        try commit(buffer, newTail: newTail, entries: entries)
        return offset
    }

    /// Appends several records with one write: all of them, or none.
    ///
    /// - Returns: The offsets they got; empty for no records.
    /// - Throws: As ``append(_:)``; `tooLarge` also for a batch above ``RecordLayout/maximumBatchBytes``.
    @discardableResult
    package func appendBatch(_ records: [NewRecord]) throws(SegmentError) -> Range<UInt64> {
        let first = tail.nextOffset
        guard !records.isEmpty else { return first..<first }
        let totalBytes = records.reduce(0) { $0 + $1.encodedBytes }
        try checkSize(totalBytes)
        let buffer = pool.get(totalBytes)
        defer { pool.put(buffer) }

        var newTail = tail
        var entries = NewEntries()
        for record in records {
            let start = newTail.position - tail.position
            record.encode(offset: newTail.nextOffset, into: buffer.dropFirst(start))
            advance(&newTail, behind: record, entries: &entries)
        }
        try commit(buffer, newTail: newTail, entries: entries)
        return first..<newTail.nextOffset
    }

    // MARK: - Whole or not at all

    /// Refuses what no buffer and no segment should hold, before anything is allocated.
    private func checkSize(_ encodedBytes: Int) throws(SegmentError) {
        guard encodedBytes <= RecordLayout.maximumBatchBytes else {
            throw SegmentError(
                .tooLarge,
                path: log.path,
                "\(encodedBytes) bytes are too much for one append; the limit is \(RecordLayout.maximumBatchBytes)"
            )
        }
        guard tail.position + encodedBytes <= options.maximumSegmentBytes else {
            throw SegmentError(
                .segmentFull,
                path: log.path,
                position: tail.position,
                "\(encodedBytes) more bytes would exceed the \(options.maximumSegmentBytes) bytes of a segment"
            )
        }
    }

    private func advance(_ tail: inout Tail, behind record: NewRecord, entries: inout NewEntries) {
        tail.advance(
            encodedBytes: record.encodedBytes,
            timestamp: record.timestamp,
            baseOffset: baseOffset,
            indexIntervalBytes: options.indexIntervalBytes,
            entries: &entries
        )
    }

    /// Writes encoded records and their index entries; on failure takes back whatever part of them was written.
    private func commit(_ encoded: Buffer, newTail: Tail, entries: NewEntries) throws(SegmentError) {
        if hasStrayBytes { try cutToTail() }
        let offsetEntryCount = offsetIndex.count
        let timeEntryCount = timeIndex.count
        do {
            try log.write(encoded, at: tail.position)
            try offsetIndex.append(entries.offsets)
            try timeIndex.append(entries.times)
        } catch {
            hasStrayBytes = true
            // Should cutting fail too, the next append tries again before it writes. The first error is the one to tell.
            try? offsetIndex.truncate(to: offsetEntryCount)
            try? timeIndex.truncate(to: timeEntryCount)
            try? cutToTail()
            throw error
        }
        tail = newTail
    }

    private func cutToTail() throws(SegmentError) {
        try log.truncate(to: tail.position)
        hasStrayBytes = false
    }
}

// The records of a log: as given to it, as read back, and as seen in place.
// How they look on disk is in RecordEncoding.swift.

/// A record that has no offset yet; the segment gives it one.
package struct NewRecord: Equatable, Sendable {
    /// Milliseconds since the epoch. Need not grow from record to record.
    package var timestamp: Int64
    /// May be empty.
    package var key: [UInt8]
    /// May be empty.
    package var value: [UInt8]

    package init(timestamp: Int64, key: [UInt8], value: [UInt8]) {
        self.timestamp = timestamp
        self.key = key
        self.value = value
    }
}

/// A record of a log, with memory of its own.
///
/// Where the copy is too much, ``Segment/withRecord(at:_:)`` lends a ``RecordView``.
package struct Record: Equatable, Sendable {
    /// The number of the record in its log.
    package var offset: UInt64
    /// Milliseconds since the epoch.
    package var timestamp: Int64
    package var key: [UInt8]
    package var value: [UInt8]

    package init(offset: UInt64, timestamp: Int64, key: [UInt8], value: [UInt8]) {
        self.offset = offset
        self.timestamp = timestamp
        self.key = key
        self.value = value
    }

    /// Copies a record out of the buffer it was decoded in.
    package init(_ view: RecordView) {
        self.init(
            offset: view.header.offset,
            timestamp: view.header.timestamp,
            key: Array(view.key),
            value: Array(view.value)
        )
    }
}

/// A record seen in the pool buffer it was read into.
///
/// The bytes belong to the pool again as soon as the closure that received the view returns, so a view must not be kept.
package struct RecordView {
    package let header: RecordHeader
    package let key: UnsafeRawBufferPointer
    package let value: UnsafeRawBufferPointer

    /// - Parameter encoded: A whole encoded record whose header has passed ``RecordHeader/defect(availableBytes:expectedOffset:)``.
    init(header: RecordHeader, encoded: UnsafeRawBufferPointer) {
        let keyEnd = RecordLayout.headerBytes + Int(header.keyBytes)
        self.header = header
        self.key = UnsafeRawBufferPointer(rebasing: encoded[RecordLayout.headerBytes..<keyEnd])
        self.value = UnsafeRawBufferPointer(rebasing: encoded[keyEnd..<header.encodedBytes])
    }
}

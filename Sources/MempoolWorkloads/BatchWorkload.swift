// Workload `batch`: many records in one large buffer.

internal import Mempool
internal import SegmentLog

enum BatchWorkload {
    private static let recordsPerBatch = 1...100

    static func run(_ job: WorkloadJob) throws(WorkloadError) -> WorkloadSummary {
        let tally = try job.runThreads { thread, planter throws(WorkloadError) in
            var generator = job.generator(forThread: thread)
            var records = RecordGenerator(generator.next())
            var tally = Tally()
            for operation in 0..<job.operations(ofThread: thread) {
                let batch = (0..<Int.random(in: recordsPerBatch, using: &generator)).map { _ in records.next() }
                guard processBatch(batch, pool: job.pool) else {
                    throw WorkloadError("batch \(operation) of thread \(thread + 1) changed in its buffer")
                }
                tally.count("operations")
                tally.count("records", batch.count)
                tally.count("bytes", batch.reduce(0) { $0 + $1.encodedBytes })
                planter.operationDone()
            }
            return tally
        }
        let operations = counted(tally["operations"], "batch", plural: "batches")
        let records = counted(tally["records"], "record")
        let bytes = counted(tally["bytes"], "byte")
        return job.summary(
            tally,
            lines: ["encoded \(operations) of \(records), \(bytes), \(job.onThreads): all read back equal"]
        )
    }

    /// Encodes all records into one buffer of the exact size and reads it back from end to end.
    private static func processBatch(_ batch: [NewRecord], pool: BufferPool) -> Bool {
        let buffer = pool.get(batch.reduce(0) { $0 + $1.encodedBytes })
        defer { pool.put(buffer) }
        var rest = buffer
        for (offset, record) in batch.enumerated() {
            record.encode(offset: UInt64(offset), into: rest)
            rest = rest.dropFirst(record.encodedBytes)
        }
        return buffer.withUnsafeBytes { bytes in
            var unread = bytes
            for (offset, record) in batch.enumerated() {
                guard let view = try? decodeRecord(unread, expectedOffset: UInt64(offset)).get(),
                    view.header.timestamp == record.timestamp,
                    view.key.isEqual(to: record.key), view.value.isEqual(to: record.value)
                else { return false }
                unread = UnsafeRawBufferPointer(rebasing: unread[view.header.encodedBytes...])
            }
            return unread.isEmpty
        }
    }
}

// Workload `encode-decode`: a function encodes into a buffer and returns it, the caller puts it.

internal import Mempool
internal import SegmentLog

enum EncodeDecodeWorkload {
    static func run(_ job: WorkloadJob) throws(WorkloadError) -> WorkloadSummary {
        let tally = try job.runThreads { thread, planter throws(WorkloadError) in
            var generator = job.generator(forThread: thread)
            var records = RecordGenerator(generator.next())
            var tally = Tally()
            for operation in 0..<job.operations(ofThread: thread) {
                let record = records.next()
                let offset = UInt64(operation)
                let encoded = record.encoded(offset: offset, pool: job.pool)
                defer { job.pool.put(encoded) }
                guard decode(encoded, pool: job.pool) == record, encoded.count == record.encodedBytes else {
                    throw WorkloadError("record \(operation) of thread \(thread + 1) changed on its way")
                }
                tally.count("operations")
                tally.count("bytes", encoded.count)
                planter.operationDone()
            }
            return tally
        }
        let operations = counted(tally["operations"], "record")
        let bytes = counted(tally["bytes"], "byte")
        return job.summary(
            tally,
            lines: ["encoded and decoded \(operations), \(bytes), \(job.onThreads): all came back equal"]
        )
    }

    /// Decodes by way of a buffer of its own, as a reader does that must not touch what it was given.
    private static func decode(_ encoded: Buffer, pool: BufferPool) -> NewRecord? {
        pool.withBuffer(encoded.count) { copy in
            encoded.withUnsafeMutableBytes { source in
                copy.withUnsafeMutableBytes { $0.copyMemory(from: UnsafeRawBufferPointer(source)) }
            }
            return copy.withUnsafeBytes { bytes in
                (try? decodeRecord(bytes).get()).map { view in
                    NewRecord(timestamp: view.header.timestamp, key: Array(view.key), value: Array(view.value))
                }
            }
        }
    }
}

/// Records with random sizes and contents; the same for the same seed.
struct RecordGenerator {
    private var generator: SeededGenerator
    /// Every value is a part of this, which is faster than drawing each byte.
    private let material: [UInt8]
    private var number: Int64 = 0

    init(_ seed: UInt64) {
        generator = SeededGenerator(seed: seed)
        material = generator.bytes(16_384)
    }

    mutating func next() -> NewRecord {
        number += 1
        return NewRecord(
            timestamp: number * 7, key: part(Int.random(in: 0...32, using: &generator)), value: nextValue())
    }

    mutating func nextValue() -> [UInt8] { part(SizeDistribution.values.next(using: &generator)) }

    private mutating func part(_ count: Int) -> [UInt8] {
        let start = Int.random(in: 0...(material.count - count), using: &generator)
        return Array(material[start..<(start + count)])
    }
}

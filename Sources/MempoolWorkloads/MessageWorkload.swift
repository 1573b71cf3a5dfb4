// Workload `message`: the basic pattern. Get, copy in, use, put, all in one function.

internal import Mempool

enum MessageWorkload {
    static func run(_ job: WorkloadJob) throws(WorkloadError) -> WorkloadSummary {
        let tally = try job.runThreads { thread, planter throws(WorkloadError) in
            var generator = job.generator(forThread: thread)
            let messages = generator.bytes(maximumBytes)
            var tally = Tally()
            for _ in 0..<job.operations(ofThread: thread) {
                let count = SizeDistribution.messages.next(using: &generator)
                let start = Int.random(in: 0...(messages.count - count), using: &generator)
                try processMessage(messages[start..<(start + count)], pool: job.pool)
                tally.count("operations")
                tally.count("bytes", count)
                planter.operationDone()
            }
            return tally
        }
        let operations = counted(tally["operations"], "message")
        return job.summary(
            tally,
            lines: ["copied \(operations), \(counted(tally["bytes"], "byte")), \(job.onThreads): all arrived unchanged"]
        )
    }

    /// The largest message of ``SizeDistribution/messages``.
    private static let maximumBytes = 262_144

    /// The seed of all uses: a buffer for the time of one call.
    private static func processMessage(_ message: ArraySlice<UInt8>, pool: BufferPool) throws(WorkloadError) {
        let buffer = pool.get(message.count)
        defer { pool.put(buffer) }
        let isUnchanged = message.withUnsafeBytes { source in
            buffer.withUnsafeMutableBytes { bytes in
                bytes.copyMemory(from: source)
                return UnsafeRawBufferPointer(bytes).isEqual(to: source)
            }
        }
        guard isUnchanged else { throw WorkloadError("a message of \(message.count) bytes changed in its buffer") }
    }
}

// Where the records of `segment` come from: a file, or a seed. Either can be gone through again to compare.

internal import Mempool

/// The values of the records of one thread, in order, as often as needed. For one thread.
enum RecordSource {
    /// Every `threads`-th record of a file, beginning with number `thread`; the numbers below `limit` only.
    case input(InputFile, InputShape, thread: Int, threads: Int, limit: Int)
    case generated(seed: UInt64, count: Int, recordBytes: Int?)

    /// Counts what makes an input remarkable.
    struct Remarks {
        var cutLines = 0
    }

    /// Calls a body with the value of every record; it must not keep the bytes.
    @discardableResult
    func forEachValue(
        pool: BufferPool,
        _ body: (UnsafeRawBufferPointer) throws(WorkloadError) -> Void
    ) throws(WorkloadError) -> Remarks {
        var remarks = Remarks()
        switch self {
        case .input(let file, let shape, let thread, let threads, let limit):
            var number = 0
            try file.forEachRecord(shape, pool: pool) { bytes, isContinuation throws(WorkloadError) in
                guard number < limit else { return false }
                if number % threads == thread {
                    if isContinuation { remarks.cutLines += 1 }
                    try body(bytes)
                }
                number += 1
                return true
            }
        case .generated(let seed, let count, let recordBytes):
            var records = RecordGenerator(seed)
            for number in 0..<count {
                if let recordBytes {
                    try pool.withBuffer(recordBytes) { buffer throws(WorkloadError) in
                        try buffer.withBytes { bytes throws(WorkloadError) in
                            bytes.initializeMemory(as: UInt8.self, repeating: UInt8(truncatingIfNeeded: number))
                            try body(UnsafeRawBufferPointer(bytes))
                        }
                    }
                } else {
                    let value = records.nextValue()
                    try Self.lend(value, to: body)
                }
            }
        }
        return remarks
    }

    private static func lend(
        _ value: [UInt8],
        to body: (UnsafeRawBufferPointer) throws(WorkloadError) -> Void
    ) throws(WorkloadError) {
        let result = value.withUnsafeBytes { bytes -> Result<Void, WorkloadError> in
            do throws(WorkloadError) {
                return .success(try body(bytes))
            } catch {
                return .failure(error)
            }
        }
        try result.get()
    }
}

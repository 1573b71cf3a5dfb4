// The pool's rules as a small model, the operations that test it, and running both side by side.

import Mempool

/// One call on one of several pools. A handle is the number of a get, and stands for the buffer it gave.
enum PoolOperation: Equatable, Sendable {
    case get(pool: Int, size: Int, handle: Int)
    case put(pool: Int, handle: Int)
    /// Puts the front part of that many bytes.
    case putPrefix(pool: Int, handle: Int, length: Int)
    /// Puts what is behind that many bytes, at least 1.
    case putSlice(pool: Int, handle: Int, offset: Int)
    /// Puts the address of a buffer that is outstanding.
    case putRaw(pool: Int, handle: Int)
    case putForeign(pool: Int, size: Int)
    case withBuffer(pool: Int, size: Int)
    case lease(pool: Int, size: Int)
    case trim(pool: Int)

    var pool: Int {
        switch self {
        case .get(let pool, _, _), .put(let pool, _), .putPrefix(let pool, _, _), .putSlice(let pool, _, _),
            .putRaw(let pool, _), .putForeign(let pool, _), .withBuffer(let pool, _), .lease(let pool, _),
            .trim(let pool):
            pool
        }
    }

    /// The buffer that an operation puts.
    var putHandle: Int? {
        switch self {
        case .put(_, let handle), .putPrefix(_, let handle, _), .putSlice(_, let handle, _), .putRaw(_, let handle):
            handle
        case .get, .putForeign, .withBuffer, .lease, .trim: nil
        }
    }

    /// The operation as a line of Swift.
    var source: String {
        switch self {
        case .get(let pool, let size, let handle): "let b\(handle) = pools[\(pool)].get(\(size))"
        case .put(let pool, let handle): "pools[\(pool)].put(b\(handle))"
        case .putPrefix(let pool, let handle, let length):
            "pools[\(pool)].put(b\(handle).prefix(\(length)))"
        case .putSlice(let pool, let handle, let offset):
            "pools[\(pool)].put(b\(handle).dropFirst(\(offset)))"
        case .putRaw(let pool, let handle):
            "pools[\(pool)].putRaw(b\(handle).withUnsafeMutableBytes { $0.baseAddress })"
        case .putForeign(let pool, let size):
            "pools[\(pool)].put(Buffer(wrapping: .allocate(byteCount: \(size), alignment: 64)))"
        case .withBuffer(let pool, let size): "pools[\(pool)].withBuffer(\(size)) { _ in }"
        case .lease(let pool, let size): "pools[\(pool)].lease(\(size)).put()"
        case .trim(let pool): "pools[\(pool)].trim()"
        }
    }
}

/// The pools by number: what can be configured must not change what is counted.
struct TestedPool: Sendable {
    var source: String
    var largestCapacity: Int
    var make: @Sendable () -> BufferPool

    static let all = [
        TestedPool(source: "BufferPool()", largestCapacity: 16 << 20) { BufferPool() },
        configured(
            "layout: .powersOfTwo, idleLimit: .bytes(65_536), zeroing: .onPut", largestCapacity: 16 << 20,
            PoolConfiguration(layout: .powersOfTwo, idleLimit: .bytes(65_536), zeroing: .onPut)
        ),
        configured(
            "layout: BucketLayout(capacities: [100, 5000]), zeroing: .onGet", largestCapacity: 5000,
            (try? BucketLayout(capacities: [100, 5000])).map { PoolConfiguration(layout: $0, zeroing: .onGet) }
        ),
    ]

    private static func configured(
        _ source: String, largestCapacity: Int, _ configuration: PoolConfiguration?
    ) -> TestedPool {
        TestedPool(
            source: "try BufferPool(configuration: PoolConfiguration(\(source)))", largestCapacity: largestCapacity
        ) {
            guard let configuration, let pool = try? BufferPool(configuration: configuration) else {
                fatalError("the configuration of a tested pool is refused")
            }
            return pool
        }
    }
}

/// What the pools must count, by the table in mempool(7).
struct PoolModel {
    /// Ways for the model to be wrong, to see that the tests notice.
    enum Mistake: CaseIterable, Sendable {
        case slicesCountAsPuts
        case secondPutsAreForgotten
        case wrongPoolsTakeTheBuffer
        case oversizedCountAsGets
        case foreignPutsGoUnseen
        case fourthBufferOfAPoolIsLost
    }

    struct Handle {
        var pool: Int
        var size: Int
        var isOutstanding: Bool
        var isOversized: Bool { size > TestedPool.all[pool].largestCapacity }
    }

    /// The counters that follow from the operations alone.
    struct Counts: Equatable {
        var gets: UInt64 = 0
        var puts: UInt64 = 0
        var inUse: Int64 = 0
        var oversized: UInt64 = 0
        var discards = DiscardCounts()

        init() {}

        init(_ stats: PoolStats) {
            gets = stats.gets
            puts = stats.puts
            inUse = stats.inUse
            oversized = stats.oversized
            discards = stats.discards
        }
    }

    var mistake: Mistake?
    private(set) var handles: [Int: Handle] = [:]
    private(set) var counts: [Counts]

    init(poolCount: Int, mistake: Mistake? = nil) {
        self.mistake = mistake
        counts = Array(repeating: Counts(), count: poolCount)
    }

    /// Whether an operation means anything: what it refers to may be missing from a shortened sequence.
    func accepts(_ operation: PoolOperation) -> Bool {
        guard let handle = operation.putHandle else { return true }
        guard let known = handles[handle] else { return false }
        switch operation {
        case .putRaw: return known.isOutstanding
        case .putPrefix(_, _, let length): return length <= known.size
        case .putSlice(_, _, let offset): return offset <= known.size
        default: return true
        }
    }

    mutating func apply(_ operation: PoolOperation) {
        switch operation {
        case .get(let pool, let size, let handle): get(pool, size, handle)
        case .put(let pool, let handle), .putPrefix(let pool, let handle, _), .putRaw(let pool, let handle):
            put(pool, handle, isSlice: false)
        case .putSlice(let pool, let handle, _): put(pool, handle, isSlice: true)
        case .putForeign(let pool, let size):
            if size > 0, mistake != .foreignPutsGoUnseen { counts[pool].discards.foreign += 1 }
        case .withBuffer(let pool, let size), .lease(let pool, let size):
            get(pool, size, -1)
            put(pool, -1, isSlice: false)
        case .trim: break
        }
    }

    private mutating func get(_ pool: Int, _ size: Int, _ handle: Int) {
        let new = Handle(pool: pool, size: size, isOutstanding: size > 0)
        handles[handle] = new
        guard size > 0 else { return }
        if new.isOversized { counts[pool].oversized += 1 }
        if !new.isOversized || mistake == .oversizedCountAsGets {
            counts[pool].gets += 1
            counts[pool].inUse += 1
        }
        if mistake == .fourthBufferOfAPoolIsLost, counts[pool].gets == 4 { counts[pool].inUse -= 1 }
    }

    private mutating func put(_ pool: Int, _ handle: Int, isSlice: Bool) {
        guard let known = handles[handle], known.size > 0 else { return }
        guard known.isOutstanding else {
            if mistake != .secondPutsAreForgotten { counts[pool].discards.doublePut += 1 }
            return
        }
        guard known.pool == pool || mistake == .wrongPoolsTakeTheBuffer else {
            counts[pool].discards.wrongPool += 1
            return
        }
        handles[handle]?.isOutstanding = false
        if known.isOversized {
            counts[pool].discards.oversized += 1
        } else {
            counts[pool].inUse -= 1
            if isSlice, mistake != .slicesCountAsPuts {
                counts[pool].discards.wrongCapacity += 1
            } else {
                counts[pool].puts += 1
            }
        }
    }
}

/// Runs operations on real pools and on the model, and compares them after every step.
struct ModelRun {
    /// The first difference.
    struct Failure: Error, CustomStringConvertible {
        /// The number of the operation, from 0.
        var step: Int
        var description: String
    }

    static func run(_ operations: [PoolOperation], poolCount: Int, mistake: PoolModel.Mistake? = nil) throws(Failure) {
        let run = ModelRun(poolCount: poolCount)
        var model = PoolModel(poolCount: poolCount, mistake: mistake)
        var buffers: [Int: Buffer] = [:]
        // Pools that end with buffers outstanding keep their number; a process has 1,024.
        defer {
            // A wrong model does not know what is outstanding.
            for (handle, known) in model.handles where handle >= 0 && (known.isOutstanding || mistake != nil) {
                if let buffer = buffers[handle] { run.pools[known.pool].put(buffer) }
            }
        }
        for (step, operation) in operations.enumerated() where model.accepts(operation) {
            if let handle = operation.putHandle, let known = model.handles[handle], known.isOutstanding,
                let buffer = buffers[handle], !run.isMarked(buffer, handle)
            {
                throw Failure(step: step, description: "b\(handle) does not hold what its owner wrote any more")
            }
            run.perform(operation, &buffers)
            model.apply(operation)
            for pool in Set(
                [operation.pool] + (operation.putHandle.flatMap { model.handles[$0]?.pool }.map { [$0] } ?? []))
            {
                try run.compare(pool, with: model.counts[pool], step: step)
            }
        }
    }

    private let pools: [BufferPool]

    private init(poolCount: Int) {
        pools = TestedPool.all.prefix(poolCount).map { $0.make() }
    }

    private func perform(_ operation: PoolOperation, _ buffers: inout [Int: Buffer]) {
        switch operation {
        case .get(let pool, let size, let handle):
            let buffer = pools[pool].get(size)
            mark(buffer, handle)
            buffers[handle] = buffer
        case .put(let pool, let handle):
            if let buffer = buffers[handle] { pools[pool].put(buffer) }
        case .putPrefix(let pool, let handle, let length):
            if let buffer = buffers[handle] { pools[pool].put(buffer.prefix(length)) }
        case .putSlice(let pool, let handle, let offset):
            if let buffer = buffers[handle] { pools[pool].put(buffer.dropFirst(offset)) }
        case .putRaw(let pool, let handle):
            pools[pool].putRaw(buffers[handle]?.withUnsafeMutableBytes { $0.baseAddress })
        case .putForeign(let pool, let size):
            let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 64)
            defer { memory.deallocate() }
            pools[pool].put(Buffer(wrapping: memory))
        case .withBuffer(let pool, let size):
            pools[pool].withBuffer(size) { mark($0, 77) }
        case .lease(let pool, let size):
            let lease = pools[pool].lease(size)
            mark(lease.buffer, 78)
            lease.put()
        case .trim(let pool):
            _ = pools[pool].trim()
        }
    }

    private func mark(_ buffer: Buffer, _ handle: Int) {
        guard buffer.count > 0 else { return }
        buffer[0] = UInt8(truncatingIfNeeded: handle)
        buffer[buffer.count - 1] = UInt8(truncatingIfNeeded: handle)
    }

    private func isMarked(_ buffer: Buffer, _ handle: Int) -> Bool {
        buffer.count == 0
            || buffer[0] == UInt8(truncatingIfNeeded: handle)
                && buffer[buffer.count - 1] == UInt8(truncatingIfNeeded: handle)
    }

    private func compare(_ pool: Int, with expected: PoolModel.Counts, step: Int) throws(Failure) {
        let stats = pools[pool].stats()
        let counts = PoolModel.Counts(stats)
        guard counts == expected else {
            throw Failure(step: step, description: "pools[\(pool)] counts \(counts); the model says \(expected)")
        }
        guard stats.discarded == stats.discards.total, stats.allocations >= stats.oversized,
            stats.allocations - stats.oversized <= stats.gets
        else {
            throw Failure(step: step, description: "pools[\(pool)] contradicts itself: \(stats)")
        }
        for bucket in pools[pool].bucketStats() {
            guard Int64(bucket.gets) == Int64(bucket.puts) + bucket.inUse + Int64(bucket.wrongCapacity) else {
                throw Failure(step: step, description: "the bucket does not balance: \(bucket)")
            }
        }
    }
}

// The columns of the zoo: the mistakes, each as one wrong get or one wrong put that a place then makes.
// What goes before and after the wrong call is done here; the call itself is in the place, on a marked line.

import Glibc
import Mempool

/// One mistake, ready to be made.
///
/// A place calls `get` or `put`, whichever the mistake is, on the line that the report must name.
struct Mistake: Sendable {
    /// The kinds, each a column of the table. `rawValue` is the name on the command line.
    enum Kind: String, CaseIterable, Sendable {
        case leak
        case doublePut = "double-put"
        case doublePutReissued = "double-put-reissued"
        case wrongCapacity = "wrong-capacity"
        case foreignPut = "foreign-put"
        case wrongPool = "wrong-pool"

        /// Whether the line to be named is a get; otherwise it is a put.
        var isGet: Bool { self == .leak }
    }

    let kind: Kind
    /// The pool to call.
    let pool: BufferPool
    /// Bytes to get.
    let size: Int
    /// What to put; empty if the mistake is a get.
    let buffer: Buffer
    /// Buffers that rightful owners have meanwhile, with their pools.
    private let others: [(buffer: Buffer, pool: BufferPool)]

    var isGet: Bool { kind.isGet }

    /// Bytes of every get, unless a place is about others.
    static let usualSize = 1_000
    /// More than a thread keeps at hand, so that a buffer comes round for certain.
    private static let reissueAttemptLimit = 1_024

    /// Does what comes before the wrong call.
    init(_ kind: Kind, pool: BufferPool, size: Int = usualSize) {
        self.kind = kind
        self.pool = pool
        self.size = size
        var others: [(Buffer, BufferPool)] = []
        switch kind {
        case .leak:
            buffer = Buffer(wrapping: UnsafeMutableRawBufferPointer(start: nil, count: 0))
        case .doublePut:
            buffer = pool.get(size)
            pool.put(buffer)
        case .doublePutReissued:
            buffer = pool.get(size)
            let address = buffer.address
            pool.put(buffer)
            repeat {
                others.append((pool.get(size), pool))
            } while others.count < Self.reissueAttemptLimit
                && others.last?.0.address != address
        case .wrongCapacity:
            buffer = pool.get(size).dropFirst(16)
        case .foreignPut:
            buffer = Buffer(wrapping: .allocate(byteCount: size, alignment: 16))
        case .wrongPool:
            buffer = Pools.other.get(size)
            others.append((buffer, Pools.other))
        }
        self.others = others
    }

    /// Uses a buffer that the mistake is never to put.
    @inline(never)
    func keep(_ buffer: Buffer) { buffer[0] = 1 }

    /// Does what comes after the wrong call.
    func finish() {
        for other in others { other.pool.put(other.buffer) }
        if kind == .foreignPut { buffer.withUnsafeMutableBytes { $0.deallocate() } }
    }
}

/// The pools of the specimens; they live as long as the process.
enum Pools {
    static let main = BufferPool()
    static let other = BufferPool()
}

extension Buffer {
    /// The address of the first byte.
    var address: UnsafeMutableRawPointer? { withUnsafeMutableBytes { $0.baseAddress } }
}

// The columns of the zoo: the mistakes, each as one get, put or touch that a place then makes.
// What goes before and after that line is done here; the line itself is in the place, with a mark.

import Glibc
import Mempool

/// One mistake, ready to be made.
///
/// A place gets, puts or touches, as `verb` says, on the line that the report must name.
struct Mistake: Sendable {
    /// What is done on the line to be named.
    enum Verb: String, Sendable {
        case get
        case put
        case touch
    }

    /// The kinds, each a column of the table. `rawValue` is the name on the command line.
    enum Kind: String, CaseIterable, Sendable {
        case leak
        case doublePut = "double-put"
        case doublePutReissued = "double-put-reissued"
        case wrongCapacity = "wrong-capacity"
        case foreignPut = "foreign-put"
        case wrongPool = "wrong-pool"
        /// A write through a pointer that was kept; the last owner's put is named.
        case useAfterPut = "use-after-put"
        /// A function of the buffer itself; the touch is named.
        case useAfterPutTouch = "use-after-put-touch"
        case useAfterPutTouchReissued = "use-after-put-touch-reissued"
        case overrun
        case underrun
        case poolDestroyed = "pool-destroyed"
        case heldTooLong = "held-too-long"

        /// What is done on the line to be named.
        var verb: Verb {
            switch self {
            case .leak, .poolDestroyed, .heldTooLong: .get
            case .useAfterPutTouch, .useAfterPutTouchReissued: .touch
            default: .put
            }
        }

        /// What MEMPOOL_DEBUG must say as well.
        var debugKeys: String { self == .heldTooLong ? "held=\(Mistake.heldLimitSeconds)" : "" }
    }

    let kind: Kind
    /// The pool to call.
    let pool: BufferPool
    /// Bytes to get.
    let size: Int
    /// What to put or to touch; empty if the mistake is a get.
    let buffer: Buffer
    /// Buffers that rightful owners have meanwhile, with their pools.
    private let others: [(buffer: Buffer, pool: BufferPool)]
    /// What `keep` was given, to be put late.
    private let held = Box<[Buffer]>([])

    var verb: Verb { kind.verb }

    /// Bytes of every get, unless a place is about others.
    static let usualSize = 1_000
    /// Seconds a buffer may be held in the specimens about it. Long for everything but what is held on purpose.
    static let heldLimitSeconds = 0.1
    /// More than a thread keeps at hand, so that a buffer comes round for certain.
    private static let reissueAttemptLimit = 1_024

    /// Does what comes before the line to be named.
    init(_ kind: Kind, pool: BufferPool, size: Int = usualSize) {
        // A pool of its own, which ends with the mistake.
        let pool = kind == .poolDestroyed ? BufferPool() : pool
        self.kind = kind
        self.pool = pool
        self.size = size
        var others: [(Buffer, BufferPool)] = []
        switch kind {
        case .leak, .poolDestroyed, .heldTooLong:
            buffer = Buffer(wrapping: UnsafeMutableRawBufferPointer(start: nil, count: 0))
        case .doublePut, .useAfterPutTouch:
            buffer = pool.get(size)
            pool.put(buffer)
        case .doublePutReissued, .useAfterPutTouchReissued:
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
        case .useAfterPut:
            buffer = pool.get(size)
        case .overrun:
            buffer = pool.get(size)
            buffer.address?.storeBytes(of: 7, toByteOffset: size, as: UInt8.self)
        case .underrun:
            buffer = pool.get(size)
            buffer.address.map { $0 - 1 }?.storeBytes(of: 7, as: UInt8.self)
        }
        self.others = others
        address = kind == .useAfterPut ? buffer.address : nil
    }

    /// Where a pointer that was kept leads to.
    private nonisolated(unsafe) let address: UnsafeMutableRawPointer?

    /// Uses a buffer that the mistake puts late or never.
    @inline(never)
    func keep(_ buffer: Buffer) {
        buffer[0] = 1
        if kind == .heldTooLong { held.with { $0.append(buffer) } }
    }

    /// Does what comes after the line to be named.
    func finish() {
        address?.storeBytes(of: 7, toByteOffset: 3, as: UInt8.self)
        for other in others { other.pool.put(other.buffer) }
        if kind == .foreignPut { buffer.withUnsafeMutableBytes { $0.deallocate() } }
        if kind == .heldTooLong {
            usleep(UInt32(Self.heldLimitSeconds * 1.2e6))
            for buffer in held.take([]) { pool.put(buffer) }
        }
    }
}

/// The pools of the specimens; they live as long as the process.
enum Pools {
    static let main = BufferPool()
    static let other = BufferPool()
    private static let made = Box<[BufferPool]>([])

    /// A new one.
    static func another() -> BufferPool {
        let pool = BufferPool()
        made.with { $0.append(pool) }
        return pool
    }
}

extension Buffer {
    /// The address of the first byte.
    var address: UnsafeMutableRawPointer? { withUnsafeMutableBytes { $0.baseAddress } }
}

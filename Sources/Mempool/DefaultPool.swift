// The free functions on the default pool.

public import CMempoolPlatform

/// Hands out a buffer of `size` bytes from the default pool; the same as ``BufferPool/get(_:)`` of
/// ``BufferPool/shared``.
///
/// - Parameter size: Bytes. 0 gives an empty buffer. Traps if negative or if the system has no memory.
@inlinable @inline(__always)
public func getBuffer(_ size: Int) -> Buffer {
    // Index 0 as a constant: the fast path does not even look at the pool.
    if let buffer = BufferPool.fastGet(size, pool: 0) { return buffer }
    let buffer = slowGetOfDefaultPool(size)
    // A function that ends with its get is the one to be named, not its caller.
    cmempool_keep_frame()
    return buffer
}

/// Takes a buffer back into the default pool; the same as ``BufferPool/put(_:)`` of ``BufferPool/shared``.
@inlinable @inline(__always)
public func putBuffer(_ buffer: Buffer) {
    if BufferPool.fastPut(buffer, pool: 0) { return }
    slowPutOfDefaultPool(buffer)
    cmempool_keep_frame()
}

/// Lends a buffer of the default pool to `body` and puts it when `body` ends; the same as
/// ``BufferPool/withBuffer(_:_:)`` of ``BufferPool/shared``.
@inlinable @inline(__always)
public func withBuffer<R, E: Error>(_ size: Int, _ body: (inout Buffer) throws(E) -> R) throws(E) -> R {
    let whole = getBuffer(size)
    defer { putBuffer(whole) }
    var buffer = whole
    return try body(&buffer)
}

/// Hands out a buffer of the default pool that goes back by itself; the same as ``BufferPool/lease(_:)`` of
/// ``BufferPool/shared``.
@inlinable @inline(__always)
public func leaseBuffer(_ size: Int) -> Lease { Lease(defaultPoolBuffer: getBuffer(size)) }

/// Reads the counters of the default pool; the same as ``BufferPool/stats()`` of ``BufferPool/shared``.
public func getStats() -> PoolStats { BufferPool.shared.stats() }

// No methods: the caller would have to ask for the type first, and each call whether the default pool has been made.

/// As `slowGet` of ``BufferPool/shared``.
@usableFromInline @inline(never)
func slowGetOfDefaultPool(_ size: Int) -> Buffer {
    if let buffer = unsampledGet(size, pool: 0) { return buffer }
    return slowestGetOfDefaultPool(size)
}

@inline(never)
private func slowestGetOfDefaultPool(_ size: Int) -> Buffer {
    let frame = cmempool_frame()
    if let buffer = PoolCore.watchedGet(size, pool: 0, frame) { return buffer }
    let buffer = anyGetOfDefaultPool(size, frame)
    cmempool_keep_frame()
    return buffer
}

@inline(never)
private func anyGetOfDefaultPool(_ size: Int, _ frame: UnsafeMutableRawPointer) -> Buffer {
    do {
        return try defaultCore._withUnsafeGuaranteedRef { try $0.get(size, from: frame) }
    } catch {
        fatalError("mempool: a get of \(size) bytes failed: \(error)")
    }
}

/// As `slowPut` of ``BufferPool/shared``.
@usableFromInline @inline(never)
func slowPutOfDefaultPool(_ buffer: Buffer) {
    let frame = cmempool_frame()
    if PoolCore.watchedPut(buffer, pool: 0, frame, core: defaultCore) { return }
    defaultCore._withUnsafeGuaranteedRef { $0.put(buffer, from: frame) }
    cmempool_keep_frame()
}

/// The core of the default pool. It lives as long as the process, so no reference need be counted.
@inline(__always)
private var defaultCore: Unmanaged<PoolCore> {
    if let core = cmempool_default_core() { return .fromOpaque(core) }
    return .passUnretained(BufferPool.shared.core)
}

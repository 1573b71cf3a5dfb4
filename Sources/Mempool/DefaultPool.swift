// The free functions on the default pool, for the usage patterns of the original.

public import CMempoolPlatform

/// Hands out a buffer of at least `size` bytes from the default pool; the same as ``BufferPool/get(_:)`` of
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
    BufferPool.shared.slowPut(buffer)
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

/// As `slowGet` of ``BufferPool/shared``, which is looked at only if it has to be. No method, as the caller would have
/// to ask for the type first.
@usableFromInline @inline(never)
func slowGetOfDefaultPool(_ size: Int) -> Buffer {
    if let buffer = unsampledGet(size, pool: 0) { return buffer }
    return slowestGetOfDefaultPool(size)
}

@inline(never)
private func slowestGetOfDefaultPool(_ size: Int) -> Buffer { BufferPool.shared.slowestGet(size) }

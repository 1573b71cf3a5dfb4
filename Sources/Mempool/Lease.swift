// `Lease`: a buffer that is put exactly once, checked by the compiler.

/// A buffer that goes back by itself at the end of its scope, or once by ``put()``.
///
/// A lease cannot be copied, so a second put or a use after the put does not compile.
///
/// ```swift
/// let lease = leaseBuffer(4096)
/// lease.buffer[0] = 1
/// lease.put()          // optional; without it the buffer goes back at the end of the scope
/// ```
///
/// It may be sent to another thread or task, which then puts it. What still can go wrong is keeping a copy of ``buffer`` beyond the
/// lease, or keeping the lease itself for ever. A lease of the default pool costs no more than a get and a put; one of
/// another pool keeps that pool alive, which is counting a reference on top.
public struct Lease: ~Copyable, @unchecked Sendable {
    // Unchecked: the reference is owned by this lease alone, and pools are thread-safe.
    /// The pool, retained; nil for the default pool, which lives as long as the process.
    @usableFromInline let pool: Unmanaged<BufferPool>?
    /// The buffer, for as long as the lease lasts.
    public let buffer: Buffer

    @inlinable @inline(__always)
    init(pool: BufferPool, buffer: Buffer) {
        self.pool = pool.index == 0 ? nil : Unmanaged.passRetained(pool)
        self.buffer = buffer
    }

    @inlinable @inline(__always)
    init(defaultPoolBuffer buffer: Buffer) {
        pool = nil
        self.buffer = buffer
    }

    /// The number of bytes asked for.
    @inlinable public var count: Int { buffer.count }

    /// Puts the buffer now instead of at the end of the scope.
    @inlinable @inline(__always)
    public consuming func put() {}

    @inlinable @inline(__always)
    deinit {
        if let pool {
            pool.takeRetainedValue().put(buffer)
        } else {
            putBuffer(buffer)
        }
    }
}

extension BufferPool {
    /// Hands out a buffer that goes back by itself.
    ///
    /// Costs a get and a put, and a reference to the pool that is counted up and down; ``leaseBuffer(_:)`` saves the reference.
    ///
    /// - Parameter size: Bytes, as in ``get(_:)``.
    @inlinable @inline(__always)
    public func lease(_ size: Int) -> Lease { Lease(pool: self, buffer: get(size)) }
}

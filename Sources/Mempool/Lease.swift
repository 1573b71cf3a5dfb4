// `Lease`: a buffer that is put exactly once, checked by the compiler.

/// A buffer that goes back by itself at the end of its scope, or once by ``put()``.
///
/// A lease cannot be copied, so a second put or a use after the put does not compile.
///
/// ```swift
/// let lease = BufferPool.shared.lease(4096)
/// lease.buffer[0] = 1
/// lease.put()          // optional; without it the buffer goes back at the end of the scope
/// ```
///
/// It may be sent to another thread or task, which then puts it. What still can go wrong is keeping a copy of ``buffer`` beyond the
/// lease, or keeping the lease itself for ever.
public struct Lease: ~Copyable, Sendable {
    private let pool: BufferPool
    /// The buffer, for as long as the lease lasts.
    public let buffer: Buffer

    init(pool: BufferPool, buffer: Buffer) {
        self.pool = pool
        self.buffer = buffer
    }

    /// The number of bytes asked for.
    public var count: Int { buffer.count }

    /// Puts the buffer now instead of at the end of the scope.
    public consuming func put() {}

    deinit {
        pool.put(buffer)
    }
}

extension BufferPool {
    /// Hands out a buffer that goes back by itself.
    ///
    /// - Parameter size: Bytes, as in ``get(_:)``.
    public func lease(_ size: Int) -> Lease { Lease(pool: self, buffer: get(size)) }
}

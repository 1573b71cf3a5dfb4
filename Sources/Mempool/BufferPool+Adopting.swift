// `BufferPool.adopt`: from a plain buffer to a lease.

extension BufferPool {
    /// Makes a lease of a buffer that was got from this pool, which is thereby put by the lease.
    ///
    /// Costs no more than a reference to the pool that is counted: nothing is looked up.
    ///
    /// - Parameter buffer: Outstanding, whole or a ``Buffer/prefix(_:)``. The put is the lease's from here on; putting the
    ///   buffer yourself as well is a double put.
    public func adopt(_ buffer: Buffer) -> Lease { Lease(pool: self, buffer: buffer) }
}

// The bytes of a lease, lent to a closure: as spans, which cannot outlive it, or as unsafe pointers.

extension Lease {
    #if compiler(>=6.2)
    // Closures rather than properties: a property that returns a span needs an experimental feature of the compiler.

    /// Lends the ``count`` bytes of the buffer for reading. The span cannot leave the closure: that does not compile.
    @inlinable
    public borrowing func withBytes<R: ~Copyable, E: Error>(_ body: (RawSpan) throws(E) -> R) throws(E) -> R {
        try body(RawSpan(_unsafeBytes: UnsafeRawBufferPointer(start: buffer.base, count: buffer.byteCount)))
    }

    /// Lends the ``count`` bytes of the buffer for reading and writing. Nobody else can use the lease meanwhile, and the
    /// span cannot leave the closure: neither compiles.
    @inlinable
    public mutating func withMutableBytes<R: ~Copyable, E: Error>(
        _ body: (inout MutableRawSpan) throws(E) -> R
    ) throws(E) -> R {
        let bytes = UnsafeMutableRawBufferPointer(start: buffer.base, count: buffer.byteCount)
        var span = MutableRawSpan(_unsafeBytes: bytes)
        return try body(&span)
    }
    #endif

    /// Calls the body with the ``count`` bytes of the buffer, for reading. The pointer must not leave the closure.
    @inlinable
    public borrowing func withUnsafeBytes<R, E: Error>(
        _ body: (UnsafeRawBufferPointer) throws(E) -> R
    ) throws(E) -> R {
        try buffer.withUnsafeBytes(body)
    }

    /// Calls the body with the ``count`` bytes of the buffer, for reading and writing. The pointer must not leave the
    /// closure.
    @inlinable
    public borrowing func withUnsafeMutableBytes<R, E: Error>(
        _ body: (UnsafeMutableRawBufferPointer) throws(E) -> R
    ) throws(E) -> R {
        try buffer.withUnsafeMutableBytes(body)
    }
}

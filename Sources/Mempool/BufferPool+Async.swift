// `BufferPool.withBuffer` for asynchronous work.

extension BufferPool {
    /// Lends a buffer to asynchronous work and puts it when that ends, also by throwing or by being cancelled.
    ///
    /// The closure runs where its caller runs: it may use an actor's state and values that are not `Sendable`. It need not
    /// end on the thread it began on.
    ///
    /// - Parameters:
    ///   - size: Bytes, as in ``get(_:)``.
    ///   - isolation: The caller's actor; the default is always right.
    ///   - body: What to do with the buffer; it must not keep it, nor leave a task behind that does.
    @inlinable
    public func withBuffer<R, E: Error>(
        _ size: Int,
        isolation: isolated (any Actor)? = #isolation,
        _ body: (inout Buffer) async throws(E) -> R
    ) async throws(E) -> R {
        let whole = get(size)
        // The body may narrow its own copy; what goes back is the whole buffer.
        defer { put(whole) }
        var buffer = whole
        return try await body(&buffer)
    }
}

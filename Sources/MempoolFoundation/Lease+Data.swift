// Leases as `Data` and `DispatchData` without a copy: the buffer goes back with the last reference to them.

public import Dispatch
public import Foundation
public import Mempool

extension Lease {
    /// Turns the lease into `Data` over the same memory. The buffer is put when the last `Data` that shares it is gone:
    /// the value itself, its copies and its slices; on whatever thread that happens.
    ///
    /// ```swift
    /// let lease = BufferPool.shared.lease(4096)
    /// let length = lease.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
    /// let message = lease.intoData().prefix(max(length, 0))
    /// ```
    ///
    /// - Returns: ``count`` bytes. Changing them changes the buffer, as long as no other `Data` shares it; if one does, the
    ///   changed one moves to ordinary memory first, as always. Growing always moves, and gives the buffer back unless it is
    ///   shared. Up to 14 bytes, `Data` keeps a copy inside itself, and the buffer goes back at once.
    /// - Complexity: O(1); two small allocations.
    public consuming func intoData() -> Data {
        guard !buffer.isEmpty else { return Data() }
        let buffer = buffer
        let owner = LeaseOwner(self)
        return buffer.withUnsafeMutableBytes { bytes in
            guard let address = bytes.baseAddress else { return Data() }
            // The lease goes back when `Data` releases the closure, which is after it has called it.
            return Data(
                bytesNoCopy: address, count: bytes.count,
                deallocator: .custom { _, _ in withExtendedLifetime(owner) {} }
            )
        }
    }

    /// Turns the lease into `DispatchData` over the same memory. The buffer is put when the last `DispatchData` that
    /// shares it is gone: the value itself, its copies, its subranges and what it was appended to.
    ///
    /// Read it with `withUnsafeBytes`, `copyBytes` or `enumerateBytes`. On Linux (Swift 6.3), Dispatch's own subscript and
    /// iteration keep a reference for ever, so that the buffer never comes back; the recorder shows it as a leak.
    ///
    /// - Parameter queue: Where the put happens, asynchronously; Dispatch's own choice if nil. A program that reads the pool's
    ///   stats right after letting go may still find the buffer in use.
    /// - Returns: ``count`` bytes, which cannot be changed.
    /// - Complexity: O(1); a few small allocations.
    public consuming func intoDispatchData(putOn queue: DispatchQueue? = nil) -> DispatchData {
        guard !buffer.isEmpty else { return .empty }
        let buffer = buffer
        let owner = LeaseOwner(self)
        return buffer.withUnsafeBytes { bytes in
            DispatchData(
                bytesNoCopy: bytes, deallocator: .custom(queue) { withExtendedLifetime(owner) {} }
            )
        }
    }
}

/// A lease that several references share; gone with the last of them.
private final class LeaseOwner: Sendable {
    private let lease: Lease

    init(_ lease: consuming Lease) { self.lease = lease }
}

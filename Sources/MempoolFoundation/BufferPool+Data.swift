// Buffers as `Data` and `DispatchData` without a copy, for code that works with the plain get and put.

public import Dispatch
public import Foundation
public import Mempool

extension BufferPool {
    /// Turns a buffer of this pool into `Data` over the same memory, which takes over the put.
    ///
    /// As ``Lease/intoData()``, from a plain buffer.
    ///
    /// - Parameter buffer: Outstanding, whole or a ``Buffer/prefix(_:)``. Its put is the `Data`'s from here on; putting it
    ///   yourself as well is a double put, and using it afterwards a use after put.
    /// - Returns: ``Buffer/count`` bytes.
    public func data(owning buffer: Buffer) -> Data {
        adopt(buffer).intoData()
    }

    /// Turns a buffer of this pool into `DispatchData` over the same memory, which takes over the put.
    ///
    /// As ``Lease/intoDispatchData(putOn:)``, from a plain buffer.
    ///
    /// - Parameters:
    ///   - buffer: Outstanding, whole or a ``Buffer/prefix(_:)``. Its put is the `DispatchData`'s from here on.
    ///   - queue: Where the put happens, asynchronously; Dispatch's own choice if nil.
    /// - Returns: ``Buffer/count`` bytes.
    public func dispatchData(owning buffer: Buffer, putOn queue: DispatchQueue? = nil) -> DispatchData {
        adopt(buffer).intoDispatchData(putOn: queue)
    }
}

// `ZeroingRequests`: how many bytes the owner of a buffer asked for, in pools that zero at the put.

internal import CMempoolPlatform
internal import Glibc

/// Requests by slot number.
///
/// 128 MiB of address space, of which only the pages of slots in such pools take memory. A slot's entry is its owner's.
enum ZeroingRequests {
    /// Reserves the room for them, which then stays. Throws what the system says if it refuses; the next pool asks again.
    static func reserve() throws(PoolAllocationError) {
        guard !cmempool_has_zeroing_requests() else { return }
        let byteCount = SlotTable.slotLimit * MemoryLayout<UInt64>.stride
        guard let requests = SystemMemory.reserve(UInt64.self, SlotTable.slotLimit) else {
            throw PoolAllocationError(byteCount: byteCount, errorNumber: errno)
        }
        // Another thread may have been faster.
        if !cmempool_set_zeroing_requests(requests) { SystemMemory.unmap(requests, byteCount) }
    }
}

// `ZeroingRequests`: how many bytes the owner of a buffer asked for, in pools that zero at the put.

internal import CMempoolPlatform
internal import Glibc

/// Requests by slot number.
///
/// 128 MiB of address space, of which only the pages of slots in such pools take memory. A slot's entry is its owner's.
enum ZeroingRequests {
    /// Whether there is room for them, which is reserved when this is first asked and then stays.
    static let isReserved: Bool = {
        let byteCount = SlotTable.slotLimit * MemoryLayout<UInt64>.stride
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
        guard let memory = mmap(nil, byteCount, PROT_READ | PROT_WRITE, flags, -1, 0), memory != MAP_FAILED else {
            return false
        }
        cmempool_set_zeroing_requests(memory.bindMemory(to: UInt64.self, capacity: SlotTable.slotLimit))
        return true
    }()
}

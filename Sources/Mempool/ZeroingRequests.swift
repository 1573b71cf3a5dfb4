// `ZeroingRequests`: how many bytes the owner of a buffer asked for, in pools that zero at the put.

internal import Glibc

/// Requests by slot number. A buffer's own count will not do: a prefix may be put in its place.
///
/// 128 MiB of address space, of which only the pages of slots in such pools take memory. A slot's entry is its owner's.
enum ZeroingRequests {
    nonisolated(unsafe) private static let requests: UnsafeMutablePointer<UInt64> = {
        let byteCount = SlotTable.slotLimit * MemoryLayout<UInt64>.stride
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
        guard let memory = mmap(nil, byteCount, PROT_READ | PROT_WRITE, flags, -1, 0), memory != MAP_FAILED else {
            fatalError("mempool: cannot reserve \(byteCount) bytes of address space for zeroing: \(systemError())")
        }
        return memory.bindMemory(to: UInt64.self, capacity: SlotTable.slotLimit)
    }()

    static func remember(_ request: Int, slot: Int) { requests[slot] = UInt64(request) }

    static func request(ofSlot slot: Int) -> Int { Int(requests[slot]) }
}

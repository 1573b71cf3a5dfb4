// `Slab`: consecutive slots whose memory was mapped together.

internal import Glibc

/// A mapped range cut into buffers of one bucket. Guarded by the bucket's lock.
struct Slab {
    let firstSlot: Int
    let slotCount: Int
    let base: UnsafeMutableRawPointer
    /// Bytes from one buffer to the next.
    let strideBytes: Int
    /// Mapped bytes before the first buffer.
    let shiftBytes: Int
    /// What counts as red zones of it.
    let redZoneBytes: Int
    /// Pairs that the slots' generations counted before the bucket had them. Kept here, so that it goes with them.
    let inheritedPairs: UInt64
    /// A bit per slot: set while the slot has no memory of its own.
    private var vacancy: [UInt64]

    private static let pageBytes = 4096

    init(
        firstSlot: Int, slotCount: Int, base: UnsafeMutableRawPointer, strideBytes: Int, shiftBytes: Int,
        redZoneBytes: Int
    ) {
        self.firstSlot = firstSlot
        self.slotCount = slotCount
        self.base = base
        self.strideBytes = strideBytes
        self.shiftBytes = shiftBytes
        self.redZoneBytes = redZoneBytes
        inheritedPairs = (firstSlot..<firstSlot + slotCount).reduce(0) { $0 + SlotTable.generation(of: $1) / 2 }
        vacancy = Array(repeating: .max, count: (slotCount + 63) / 64)
    }

    var slots: Range<Int> { firstSlot..<firstSlot + slotCount }
    var byteCount: Int { (slotCount * strideBytes + Self.pageBytes - 1) / Self.pageBytes * Self.pageBytes }

    private func isVacant(_ index: Int) -> Bool { vacancy[index / 64] >> UInt64(index % 64) & 1 == 1 }

    mutating func occupy(_ slot: Int) {
        let index = slot - firstSlot
        vacancy[index / 64] &= ~(1 << UInt64(index % 64))
    }

    mutating func vacate(_ slot: Int) {
        let index = slot - firstSlot
        vacancy[index / 64] |= 1 << UInt64(index % 64)
    }

    /// Gives back the pages around a slot that hold vacant slots only.
    func releasePages(around slot: Int) {
        let index = slot - firstSlot
        let first = index * strideBytes / Self.pageBytes * Self.pageBytes / strideBytes
        let last = min(
            slotCount - 1,
            ((index + 1) * strideBytes - 1) / Self.pageBytes * Self.pageBytes / strideBytes
                + max(1, Self.pageBytes / strideBytes) - 1)
        releaseRun(from: first, through: max(index, last))
    }

    /// Gives back every page that holds vacant slots only, in as few calls as there are runs.
    func releasePages() {
        var start = 0
        while start < slotCount {
            guard isVacant(start) else {
                start += 1
                continue
            }
            var end = start
            while end + 1 < slotCount, isVacant(end + 1) { end += 1 }
            release(from: start, through: end)
            start = end + 1
        }
    }

    /// As ``releasePages()``, for some slots.
    private func releaseRun(from first: Int, through last: Int) {
        guard (first...last).allSatisfy(isVacant) else { return }
        release(from: first, through: last)
    }

    private func release(from first: Int, through last: Int) {
        let pageBytes = Self.pageBytes
        let start = (first * strideBytes + pageBytes - 1) / pageBytes * pageBytes
        // What lies behind the last slot belongs to nobody.
        let end = last == slotCount - 1 ? byteCount : (last + 1) * strideBytes / pageBytes * pageBytes
        if end > start { SystemMemory.release(base + start, end - start) }
    }
}

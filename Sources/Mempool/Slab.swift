// `Slab`: consecutive slots whose memory was mapped together.

internal import CMempoolPlatform
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
    /// The low halves of these generations; empty if the slots are new.
    private let inheritedGenerations: [UInt32]
    /// A bit per slot: set while the slot has no memory of its own.
    private var vacancy: [UInt64]

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
        let slots = firstSlot..<firstSlot + slotCount
        inheritedPairs = slots.reduce(0) { $0 + SlotTable.generation(of: $1) / 2 }
        inheritedGenerations =
            inheritedPairs == 0 ? [] : slots.map { UInt32(truncatingIfNeeded: SlotTable.generation(of: $0)) }
        vacancy = Array(repeating: .max, count: (slotCount + 63) / 64)
    }

    /// What a slot's generation was when the slab was mapped, the low half: as long as it is that, the slab's buffer was nobody's.
    func inheritedGeneration(of slot: Int) -> UInt32 {
        inheritedGenerations.isEmpty ? 0 : inheritedGenerations[slot - firstSlot]
    }

    var slots: Range<Int> { firstSlot..<firstSlot + slotCount }
    var byteCount: Int { (slotCount * strideBytes + 4095) / 4096 * 4096 }

    /// A slot that was kept twice, as two threads put its buffer at the same instant, may be vacant and outstanding: see
    /// `PoolCore.isDuplicate(_:)`.
    private func isVacant(_ index: Int) -> Bool {
        vacancy[index / 64] >> UInt64(index % 64) & 1 == 1
            && SlotTable.generation(of: firstSlot + index) & 1 == 0
    }

    mutating func occupy(_ slot: Int) {
        let index = slot - firstSlot
        vacancy[index / 64] &= ~(1 << UInt64(index % 64))
    }

    mutating func vacate(_ slot: Int) {
        let index = slot - firstSlot
        vacancy[index / 64] |= 1 << UInt64(index % 64)
    }

    /// Gives back the pages in which a slot lies, as far as they hold vacant slots only.
    func releasePages(around slot: Int) {
        let index = slot - firstSlot
        let start = pageStart(index * strideBytes)
        let end = pageEnd((index + 1) * strideBytes)
        var first = index
        while first > max(0, start) / strideBytes, isVacant(first - 1) { first -= 1 }
        var last = index
        while last < min(slotCount - 1, (end - 1) / strideBytes), isVacant(last + 1) { last += 1 }
        release(from: first, through: last)
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

    private func release(from first: Int, through last: Int) {
        let start = pageEnd(first * strideBytes)
        // What lies behind the last slot belongs to nobody.
        let end = last == slotCount - 1 ? byteCount : pageStart((last + 1) * strideBytes)
        if end > start { SystemMemory.release(base + start, end - start) }
    }

    /// Where the page begins that an offset lies in, and where the one ends that the offset is the end of a part of; from the
    /// first buffer, as offsets are. That buffer begins on 4096 bytes, but not everywhere on a page.
    private func pageStart(_ offset: Int) -> Int { offset - (offset + leadBytes) % SystemMemory.pageBytes }
    private func pageEnd(_ offset: Int) -> Int { pageStart(offset + SystemMemory.pageBytes - 1) }
    private var leadBytes: Int { Int(bitPattern: base) & (SystemMemory.pageBytes - 1) }
}

// The bound of the memory between watched buffers.

import Testing

@testable import Mempool

/// Each test in a process of its own: the bound is one of all pools, and suites that run beside this one use it too.
@Suite struct RedZonesTests {
    @Test func `Slabs that are mapped beyond the bound have no red zones`() async {
        await #expect(processExitsWith: .success) {
            // Room for the 455 zones of one slab of 576 bytes each, and its first page, but not for two.
            let bucket = BucketCore(capacity: 512, redZoneBytes: 64, redZoneLimit: RedZones.usedBytes + 50_000)
            let taken = try slots(1200, of: bucket)
            let zoned = taken.filter { !RedZones.areMissing(ofSlot: $0) }
            #expect(zoned.count == 455)
            let bare = taken.filter { RedZones.areMissing(ofSlot: $0) }
            #expect(bare.count == 1200 - zoned.count)
            #expect(bytesToNext(try #require(zoned.min())) == 576)
            #expect(bytesToNext(try #require(bare.min())) == 512)
            #expect(Set(taken.compactMap { SlotTable.bases[$0] }).count == 1200)
        }
    }

    @Test func `A bucket that ends gives back what its red zones counted for`() async {
        await #expect(processExitsWith: .success) {
            let before = RedZones.usedBytes
            let bucket = BucketCore(capacity: 1 << 20, redZoneBytes: 64, redZoneLimit: .max)
            let taken = try slots(3, of: bucket)
            #expect(RedZones.usedBytes >= before + 3 * 8192)
            #expect(taken.allSatisfy { !RedZones.areMissing(ofSlot: $0) })
            #expect(bucket.destroy(budget: IdleBudget(.unlimited)) == 0)
            #expect(RedZones.usedBytes == before)
        }
    }
}

private func slots(_ count: Int, of bucket: borrowing BucketCore) throws -> [Int] {
    let budget = IdleBudget(.unlimited)
    return try (0..<count).map { _ in Ticket.slot(try bucket.take(nil, nil, budget: budget).ticket) }
}

private func bytesToNext(_ slot: Int) -> Int {
    guard let base = SlotTable.bases[slot], let next = SlotTable.bases[slot + 1] else { return 0 }
    return next - base
}

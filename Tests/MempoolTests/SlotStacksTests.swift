// The shelf and the vacant slots of a bucket, against two plain arrays.

import Testing

@testable import Mempool

@Suite struct SlotStacksTests {
    @Test(arguments: [1, 40, 3000]) func `Slots keep their order, whatever moves`(limit: Int) {
        var random = SplitMix64(state: UInt64(limit))
        var stacks = SlotStacks()
        var shelf: [UInt32] = []
        var vacant: [UInt32] = []
        var unused: [UInt32] = []
        var total = 0
        let room = UnsafeMutablePointer<UInt32>.allocate(capacity: limit)
        defer { room.deallocate() }
        for _ in 0..<5000 {
            switch Int.random(in: 0..<6, using: &random) {
            case 0 where total < limit:
                let more = Int.random(in: 1...min(16, limit - total), using: &random)
                let hasRoom = stacks.reserve(total + more)
                #expect(hasRoom)
                unused += (total..<total + more).map { UInt32($0) }
                total += more
            case 1 where !unused.isEmpty:
                let count = Int.random(in: 1...unused.count, using: &random)
                let slots = Array(unused.suffix(count))
                unused.removeLast(count)
                stacks.pushShelf(slots, count: count)
                shelf += slots
            case 2 where !unused.isEmpty:
                let slot = unused.removeLast()
                stacks.pushVacant(Int(slot))
                vacant.append(slot)
            case 3 where !shelf.isEmpty:
                let count = Int.random(in: 1...shelf.count, using: &random)
                stacks.popShelf(into: room, count: count)
                #expect((0..<count).map { room[$0] } == Array(shelf.suffix(count)))
                unused += shelf.suffix(count)
                shelf.removeLast(count)
            case 4 where !shelf.isEmpty:
                // As the decay does it: what has lain longest becomes vacant.
                let count = Int.random(in: 1...shelf.count, using: &random)
                stacks.popColdest(into: room, count: count)
                #expect((0..<count).map { room[$0] } == Array(shelf.prefix(count)))
                for slot in shelf.prefix(count) { stacks.pushVacant(Int(slot)) }
                vacant += shelf.prefix(count)
                shelf.removeFirst(count)
            case 5 where !vacant.isEmpty:
                let slot = vacant.removeLast()
                let popped = stacks.popVacant()
                #expect(popped == Int(slot))
                unused.append(slot)
            default: break
            }
            let counts = [stacks.shelfCount, stacks.vacantCount]
            #expect(counts == [shelf.count, vacant.count])
        }
    }
}

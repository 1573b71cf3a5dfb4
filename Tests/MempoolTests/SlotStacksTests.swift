// The shelf and the vacant slots of a bucket, against two plain arrays.

import Testing

@testable import Mempool

@Suite struct SlotStacksTests {
    @Test(arguments: [1, 40, 3000]) func `Slots keep their order, whatever moves`(limit: Int) {
        var random = SplitMix64(state: UInt64(limit))
        var stacks = SlotStacks()
        var shelf: [Int] = []
        var vacant: [Int] = []
        var unused: [Int] = []
        var total = 0
        // Each slot with the same generation all the time.
        func ticket(_ slot: Int) -> UInt64 { Ticket.word(slot, UInt32(2 * slot + 1)) }
        func slots(_ entries: UnsafePointer<UInt32>, _ count: Int) -> [Int] {
            (0..<count).map { index in
                let slot = ShelfEntry.slot(entries[index])
                #expect(entries[index] == ShelfEntry.word(ticket(slot)))
                return slot
            }
        }
        for _ in 0..<5000 {
            switch Int.random(in: 0..<6, using: &random) {
            case 0 where total < limit:
                let more = Int.random(in: 1...min(16, limit - total), using: &random)
                let hasRoom = stacks.reserve(total + more)
                #expect(hasRoom)
                unused += total..<total + more
                total += more
            case 1 where !unused.isEmpty:
                let count = Int.random(in: 1...unused.count, using: &random)
                let slots = Array(unused.suffix(count))
                unused.removeLast(count)
                stacks.pushShelf(slots.map(ticket), count: count)
                shelf += slots
            case 2 where !unused.isEmpty:
                let slot = unused.removeLast()
                stacks.pushVacant(slot)
                vacant.append(slot)
            case 3 where !shelf.isEmpty:
                let count = Int.random(in: 1...shelf.count, using: &random)
                let popped = slots(stacks.popShelf(count), count)
                #expect(popped == Array(shelf.suffix(count)))
                unused += shelf.suffix(count)
                shelf.removeLast(count)
            case 4 where !shelf.isEmpty:
                // As the decay does it: what has lain longest becomes vacant.
                let count = Int.random(in: 1...shelf.count, using: &random)
                let popped = slots(stacks.popColdest(count), count)
                #expect(popped == Array(shelf.prefix(count)))
                for slot in popped { stacks.pushVacant(slot) }
                vacant += shelf.prefix(count)
                shelf.removeFirst(count)
            case 5 where !vacant.isEmpty:
                let slot = vacant.removeLast()
                let popped = stacks.popVacant()
                #expect(popped == slot)
                unused.append(slot)
            default: break
            }
            let counts = [stacks.shelfCount, stacks.vacantCount]
            #expect(counts == [shelf.count, vacant.count])
        }
    }
}

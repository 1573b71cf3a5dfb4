// The generations of slots at the end of their low half, where a put carries.

@testable import Mempool
import Testing

@Suite("Generations")
struct GenerationTests {
    @Test("a put at the end of the low half carries, and old tickets stay refused")
    func carry() {
        let pool = BufferPool()
        let first = pool.get(100)
        pool.put(first)
        // As if 2^31 pairs had passed.
        SlotTable.generations[first.slotNumber] = .max - 1
        let last = pool.get(100)
        #expect(last.slotNumber == first.slotNumber && last.generation == .max)
        pool.put(last)
        #expect(SlotTable.generation(of: last.slotNumber) == 1 << 32)
        pool.put(last)
        #expect(pool.stats().discards.doublePut == 1)
        let next = pool.get(100)
        #expect(next.slotNumber == first.slotNumber && next.generation == 1)
        pool.put(last)
        #expect(pool.stats().discards.doublePut == 2 && pool.stats().inUse == 1)
        pool.put(next)
        #expect(pool.stats().inUse == 0)
    }
}

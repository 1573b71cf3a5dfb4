// Which idle slots a thread hands on together: those whose generations share a cache line.

import Glibc
import Synchronization
import Testing

@testable import Mempool

@Suite struct LineOrderTests {
    private func arranged(_ slots: [UInt32]) -> [UInt32] {
        [UInt32](unsafeUninitializedCapacity: slots.count) { ordered, count in
            slots.withUnsafeBufferPointer { slots in
                guard let source = slots.baseAddress, let target = ordered.baseAddress else { return }
                LineOrder.arrange(source, count: slots.count, into: target)
            }
            count = slots.count
        }
    }

    @Test func `Every slot stays, whatever the order was`() {
        var generator = SystemRandomNumberGenerator()
        for count in [1, 2, 15, 16, 17, 63, 64] {
            for range in [UInt32(1)..<70, 1..<5000, 1..<(1 << 24)] {
                var slots: Set<UInt32> = []
                while slots.count < count { slots.insert(UInt32.random(in: range, using: &generator)) }
                let shuffled = slots.shuffled(using: &generator)
                #expect(arranged(shuffled).sorted() == slots.sorted(), "\(shuffled)")
            }
        }
    }

    @Test func `The slots of the most complete line come first and lie together`() {
        // Three slots of one line, five of another, sixteen of a third, in turns.
        let some = (0..<3).map { UInt32(32 + $0) }
        let more = (0..<5).map { UInt32(64 + $0) }
        let all = (0..<16).map { UInt32(160 + $0) }
        var mixed: [UInt32] = []
        for index in 0..<16 {
            for line in [some, more, all] where index < line.count { mixed.append(line[index]) }
        }
        #expect(arranged(mixed) == all + more + some)
    }

    @Test func `Lines of one size do not mix`() {
        let lines = (1...4).map { line in (0..<16).map { UInt32(line * 16 + $0) } }
        let mixed = (0..<16).flatMap { index in lines.map { $0[index] } }
        #expect(arranged(mixed) == lines.flatMap { $0 })
    }

    @Test func `Buffers that one thread gets and another one puts stay together by lines`() throws {
        let pool = try BufferPool(configuration: PoolConfiguration(name: "hand-over"))
        let handed = Mutex<[[Buffer]]>([])
        let lines = Atomic<Int>(0)
        let turns = 2000
        onThreads(2) { thread in
            if thread == 0 {
                for _ in 0..<turns {
                    let buffers = (0..<32).map { _ in pool.get(512) }
                    while !handed.withLock({ if $0.count < 4 { $0.append(buffers); return true } else { return false } }
                    ) {
                        sched_yield()
                    }
                }
                return
            }
            var late: [Buffer] = []
            for turn in 0..<turns {
                var taken: [Buffer]?
                while taken == nil {
                    taken = handed.withLock { $0.isEmpty ? nil : $0.removeFirst() }
                    if taken == nil { sched_yield() }
                }
                guard var buffers = taken else { return }
                if turn >= turns / 2 {
                    let touched = Set(buffers.map { $0.slotNumber / SlotTable.slotsPerLine }).count
                    lines.add(touched, ordering: .relaxed)
                }
                // A few come back a turn later, as some requests take longer than others.
                let slow = Array(buffers[turn % 28..<turn % 28 + 3])
                buffers.removeSubrange(turn % 28..<turn % 28 + 3)
                for buffer in buffers + late { pool.put(buffer) }
                late = slow
            }
            for buffer in late { pool.put(buffer) }
        }
        let average = Double(lines.load(ordering: .relaxed)) / Double(turns / 2)
        // Two lines are 32 buffers if these lie together; taken as they come it is 14.
        #expect(average < 6, "32 buffers lie in \(average) lines")
        #expect(pool.stats().inUse == 0)
    }
}

// Buffers that live on as `Data`: no copy, one put, with the last reference.

import Foundation
import Mempool
import MempoolFoundation
import Testing

@Suite("Buffers as Data")
struct DataTests {
    let pool = BufferPool()

    /// A buffer whose byte at an index is that index.
    private func numbered(_ count: Int) -> Buffer {
        let buffer = pool.get(count)
        for index in 0..<count { buffer[index] = UInt8(truncatingIfNeeded: index) }
        return buffer
    }

    private func address(of buffer: Buffer) -> UnsafeRawPointer? { buffer.withUnsafeBytes { $0.baseAddress } }
    private func address(of data: Data) -> UnsafeRawPointer? { data.withUnsafeBytes { $0.baseAddress } }

    @Test("the bytes are the buffer's own, and the put comes once, at the end", arguments: [15, 600, 20_000_000])
    func onePut(count: Int) {
        let buffer = numbered(count)
        do {
            let data = pool.data(owning: buffer)
            #expect(data.count == count && data[count - 1] == UInt8(truncatingIfNeeded: count - 1))
            #expect(address(of: data) == address(of: buffer))
            #expect(pool.stats().puts == 0 && pool.stats().discarded == 0)
        }
        let stats = pool.stats()
        #expect(stats.inUse == 0)
        if count > 16 << 20 {
            #expect(stats.discards.oversized == 1 && stats.discarded == 1)
        } else {
            #expect(stats.puts == 1 && stats.discarded == 0)
        }
        pool.put(buffer)
        #expect(pool.stats().discards.doublePut == 1, "Data has put it")
    }

    @Test("Data of up to 14 bytes holds them itself, and the buffer goes back at once", arguments: [1, 14])
    func inlineData(count: Int) {
        let buffer = numbered(count)
        let data = pool.data(owning: buffer)
        #expect(data.elementsEqual((0..<count).map { UInt8($0) }))
        #expect(pool.stats().puts == 1 && pool.stats().inUse == 0 && pool.stats().discarded == 0)
    }

    @Test("a lease becomes Data and is put by it alone")
    func lease() {
        let lease = pool.lease(100)
        lease.buffer[99] = 7
        do {
            let data = lease.intoData()
            #expect(data.count == 100 && data[99] == 7)
            #expect(pool.stats().inUse == 1)
        }
        #expect(pool.stats().puts == 1 && pool.stats().discarded == 0)
    }

    @Test("an empty lease, and one of an empty prefix, go back at once")
    func empty() {
        #expect(pool.lease(0).intoData().isEmpty)
        #expect(pool.lease(0).intoDispatchData().isEmpty)
        #expect(pool.stats() == PoolStats())
        #expect(pool.data(owning: pool.get(10).prefix(0)).isEmpty)
        #expect(pool.dispatchData(owning: pool.get(10).prefix(0)).isEmpty)
        #expect(pool.stats().puts == 2 && pool.stats().inUse == 0 && pool.stats().discarded == 0)
    }

    @Test("copies and slices of Data keep the buffer")
    func slices() {
        var slice: Data?
        do {
            let data = pool.data(owning: numbered(1000))
            let copy = data
            slice = copy[500..<600].dropFirst(50)
        }
        #expect(pool.stats().inUse == 1)
        #expect(slice?.first == UInt8(truncatingIfNeeded: 550))
        slice = nil
        #expect(pool.stats().inUse == 0 && pool.stats().puts == 1)
    }

    @Test("a change to Data that nobody shares is made in the buffer")
    func mutationInPlace() {
        let buffer = numbered(1000)
        var data = pool.data(owning: buffer)
        data[3] = 200
        data.replaceSubrange(10..<12, with: [1, 1])
        #expect(buffer[3] == 200 && buffer[11] == 1)
        #expect(address(of: data) == address(of: buffer))
        data = Data()
        #expect(pool.stats().puts == 1)
    }

    @Test("a change to Data that is shared is made in a copy, and the buffer keeps its bytes")
    func mutationOfSharedData() {
        let buffer = numbered(1000)
        let original = pool.data(owning: buffer)
        var copy = original
        copy[3] = 200
        #expect(buffer[3] == 3 && original[3] == 3 && copy[3] == 200)
        #expect(address(of: original) == address(of: buffer) && address(of: copy) != address(of: buffer))
        #expect(pool.stats().inUse == 1)
        withExtendedLifetime(original) {}
    }

    @Test("Data that grows moves to memory of its own and gives the buffer back, once")
    func growth() {
        let buffer = numbered(1000)
        var data = pool.data(owning: buffer)
        data.append(contentsOf: [9, 9, 9])
        #expect(data.count == 1003 && data[999] == UInt8(truncatingIfNeeded: 999) && data[1002] == 9)
        #expect(pool.stats().puts == 1 && pool.stats().inUse == 0)
        data.append(contentsOf: [UInt8](repeating: 1, count: 100_000))
        data = Data()
        #expect(pool.stats().puts == 1 && pool.stats().discarded == 0)
    }

    @Test("Data never writes beyond the bytes that were asked for, though the buffer holds more")
    func slack() {
        // What a pool or a recorder writes into an idle buffer is what was asked for at most, 100 bytes here, and behind it only
        // while it is outstanding.
        let buffer = pool.get(512)
        let base = address(of: buffer)
        for index in 0..<512 { buffer[index] = 0x55 }
        pool.put(buffer)
        let short = pool.get(100)
        #expect(address(of: short) == base)
        let behind = short.withUnsafeBytes { bytes in
            (100..<512).map { bytes.baseAddress?.load(fromByteOffset: $0, as: UInt8.self) }
        }
        var data = pool.data(owning: short)
        data.append(0)
        data.append(contentsOf: [UInt8](repeating: 1, count: 50))
        // The same memory, handed out again.
        let next = pool.get(100)
        #expect(address(of: next) == base)
        #expect(
            next.withUnsafeBytes { bytes in
                (100..<512).map { bytes.baseAddress?.load(fromByteOffset: $0, as: UInt8.self) }
            } == behind)
        pool.put(next)
    }

    @Test("Data keeps its pool alive")
    func poolLifetime() {
        var own: BufferPool? = BufferPool()
        weak let observed = own
        var data = own?.lease(50).intoData()
        own = nil
        #expect(observed != nil && data?.count == 50)
        data = nil
        #expect(observed == nil)
    }
}

@Suite("Buffers as DispatchData")
struct DispatchDataTests {
    let pool = BufferPool()
    let queue = DispatchQueue(label: "puts")

    /// Dispatch calls the deallocator on the queue; a block behind it runs when it has.
    private func finishPuts() { queue.sync {} }

    @Test("the put comes once, when the last reference is gone", arguments: [1, 600, 20_000_000])
    func onePut(count: Int) {
        let buffer = pool.get(count)
        buffer[count - 1] = 42
        do {
            let data = pool.dispatchData(owning: buffer, putOn: queue)
            let copy = data
            #expect(data.count == count && copy.count == count)
            data.withUnsafeBytes { (pointer: UnsafePointer<UInt8>) in
                #expect(pointer[count - 1] == 42)
                #expect(UnsafeRawPointer(pointer) == buffer.withUnsafeBytes { $0.baseAddress })
            }
            finishPuts()
            #expect(pool.stats().puts == 0 && pool.stats().discarded == 0)
        }
        finishPuts()
        #expect(pool.stats().inUse == 0)
        #expect(pool.stats().puts + pool.stats().discards.oversized == 1)
        pool.put(buffer)
        #expect(pool.stats().discards.doublePut == 1)
    }

    @Test("subranges and concatenations keep the buffers")
    func subranges() {
        var kept: DispatchData? = nil
        do {
            var data = pool.lease(1000).intoDispatchData(putOn: queue)
            data.append(pool.lease(500).intoDispatchData(putOn: queue))
            #expect(data.count == 1500)
            kept = data.subdata(in: 900..<1100)
        }
        finishPuts()
        #expect(pool.stats().inUse == 2 && kept?.count == 200)
        kept = nil
        // The concatenation lets go of its parts on queues of its own; nothing says when.
        let deadline = Date().addingTimeInterval(60)
        while pool.stats().inUse > 0, Date() < deadline { sched_yield() }
        #expect(pool.stats().puts == 2 && pool.stats().discarded == 0)
    }

    @Test("Dispatch writes a buffer to a file and gives it back")
    func writing() throws {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("dispatch-\(UUID().uuidString)")
        try Data().write(to: url)
        defer { try? FileManager.default.removeItem(at: url) }
        let file = try FileHandle(forWritingTo: url)
        let lease = pool.lease(70_000)
        lease.withUnsafeMutableBytes { bytes in
            for index in bytes.indices { bytes[index] = UInt8(truncatingIfNeeded: index / 7) }
        }
        let expected = lease.withUnsafeBytes { Data($0) }
        let finished = DispatchSemaphore(value: 0)
        DispatchIO.write(
            toFileDescriptor: file.fileDescriptor, data: lease.intoDispatchData(putOn: queue), runningHandlerOn: queue
        ) { _, failure in
            #expect(failure == 0)
            finished.signal()
        }
        finished.wait()
        try file.close()
        #expect(try Data(contentsOf: url) == expected)
        let deadline = Date().addingTimeInterval(60)
        while pool.stats().inUse > 0, Date() < deadline { sched_yield() }
        #expect(pool.stats().puts == 1)
    }
}

@Suite("Concurrency of Data and DispatchData")
struct DataConcurrencyTests {
    @Test("eight threads share Data, change copies of it and let go: one put each", arguments: [1, 2, 4, 8])
    func threads(count: Int) {
        let pool = BufferPool()
        let rounds = 200
        for round in 0..<rounds {
            let lease = pool.lease(round * 7 + 1)
            lease.buffer[0] = UInt8(truncatingIfNeeded: round)
            let data = lease.intoData()
            DispatchQueue.concurrentPerform(iterations: count) { index in
                var copy = data
                #expect(copy[0] == UInt8(truncatingIfNeeded: round))
                copy[0] = UInt8(index)
                #expect(copy[0] == UInt8(index) && data[0] == UInt8(truncatingIfNeeded: round))
            }
        }
        #expect(pool.stats().puts == UInt64(rounds))
        #expect(pool.stats().inUse == 0 && pool.stats().discarded == 0)
    }

    @Test("Data passed from task to task is put once, by whichever task ends last")
    func tasks() async {
        let pool = BufferPool()
        await withTaskGroup(of: Int.self) { group in
            for index in 1...100 {
                group.addTask {
                    let data = pool.lease(index * 20).intoData()
                    async let first = Task.detached { data.prefix(index).count }.value
                    async let second = Task.detached { data.suffix(index).count }.value
                    return await first + second
                }
            }
            for await _ in group {}
        }
        // A detached task's closure may go a moment after its value is there.
        let deadline = ContinuousClock.now + .seconds(60)
        while pool.stats().inUse > 0, ContinuousClock.now < deadline { await Task.yield() }
        #expect(pool.stats().puts == 100 && pool.stats().inUse == 0 && pool.stats().discarded == 0)
    }
}

// Correct programs on one thread: the plain functions, slices that may be put, raw memory, leases and `Data`.

import Dispatch
import Foundation
import Mempool
import MempoolFoundation

extension Correct {
    static let plainUse: [Correct] = [
        Correct("no pool at all") {},
        Correct("get and put") { putBuffer(getBuffer(1_000)) },
        Correct("put in a defer") {
            let buffer = getBuffer(10)
            defer { putBuffer(buffer) }
            buffer[0] = 1
        },
        Correct("put while an error is thrown") {
            func fail() throws {
                let buffer = getBuffer(10)
                defer { putBuffer(buffer) }
                throw ZooError()
            }
            for _ in 0..<10 { try? fail() }
        },
        Correct("get nothing") {
            let buffer = getBuffer(0)
            putBuffer(buffer)
            putBuffer(buffer)
            _ = getBuffer(0)
        },
        Correct("sizes at the edges of all buckets") {
            for shift in 9...24 {
                for size in [(1 << shift) - 1, 1 << shift, (1 << shift) + 1] { putBuffer(getBuffer(size)) }
            }
        },
        Correct("all bytes of the request written") {
            for size in [1, 511, 512, 513, 4_095, 4_096, 100_000] {
                let buffer = getBuffer(size)
                buffer.withUnsafeMutableBytes { for index in $0.indices { $0[index] = 0xA5 } }
                putBuffer(buffer)
            }
        },
        Correct("oversized") {
            let buffer = getBuffer(20 << 20)
            buffer[buffer.count - 1] = 1
            putBuffer(buffer)
        },
        Correct("oversized, the prefix put") { putBuffer(getBuffer(17 << 20).prefix(5)) },
        Correct("a prefix put") { putBuffer(getBuffer(1_000).prefix(10)) },
        Correct("an empty prefix put") { putBuffer(getBuffer(1_000).prefix(0)) },
        Correct("a slice from 0 put") { putBuffer(getBuffer(1_000).slice(0..<7)) },
        Correct("dropFirst(0) put") { putBuffer(getBuffer(1_000).dropFirst(0)) },
        Correct("slices read, the whole put") {
            let buffer = getBuffer(1_000)
            for start in stride(from: 0, to: 1_000, by: 100) { buffer.slice(start..<(start + 100))[0] = 1 }
            putBuffer(buffer)
        },
        Correct("copies of the value, one put") {
            let buffer = getBuffer(100)
            let copies = Array(repeating: buffer, count: 10)
            putBuffer(copies[7])
        },
        Correct("put in reverse order") {
            let held = (1...200).map { getBuffer($0 * 10) }
            for buffer in held.reversed() { putBuffer(buffer) }
        },
        Correct("put in the order of the gets") {
            let held = (1...200).map { getBuffer($0 * 10) }
            for buffer in held { putBuffer(buffer) }
        },
        Correct("put in no order") { churn(.shared, rounds: 2_000, seed: 1) },
        Correct("many outstanding at a time") {
            let held = (0..<5_000).map { _ in getBuffer(64) }
            for buffer in held { putBuffer(buffer) }
        },
        Correct("tryGet") { BufferPool.shared.put(try BufferPool.shared.tryGet(5_000)) },
        Correct("a get that the system refuses") {
            let buffer = try? BufferPool.shared.tryGet(1 << 46)
            precondition(buffer == nil)
            putBuffer(getBuffer(10))
        },
        Correct("raw memory") {
            let bytes = BufferPool.shared.getRaw(3_000)
            bytes[0] = 1
            BufferPool.shared.putRaw(bytes.baseAddress)
            BufferPool.shared.putRaw(nil)
        },
        Correct("got as a buffer, put by address") {
            let buffers = (1...50).map { getBuffer($0 * 100) }
            for buffer in buffers { BufferPool.shared.putRaw(buffer.address) }
        },
        Correct("raw oversized memory") {
            BufferPool.shared.putRaw(BufferPool.shared.getRaw(30 << 20).baseAddress)
        },
        Correct("a buffer that grows") {
            var buffer = getBuffer(100)
            while buffer.count < 1_000_000 {
                let larger = getBuffer(buffer.count * 3)
                try larger.copyBytes(from: buffer)
                putBuffer(buffer)
                buffer = larger
            }
            putBuffer(buffer)
        },
        Correct("a writer") {
            let buffer = getBuffer(4_096)
            var writer = BufferWriter(buffer)
            for number in 0..<100 { try writer.append(UInt64(number)) }
            putBuffer(writer.written)
        },
        Correct("statistics are read meanwhile") {
            let buffer = getBuffer(10)
            precondition(getStats().inUse == 1)
            _ = BufferPool.shared.bucketStats()
            putBuffer(buffer)
        },
    ]

    static let safeForms: [Correct] = [
        Correct("withBuffer") { withBuffer(100) { $0[0] = 1 } },
        Correct("withBuffer, nested") {
            withBuffer(100) { outer in withBuffer(100) { inner in inner[0] = outer[0] } }
        },
        Correct("withBuffer that throws") {
            do { try withBuffer(100) { _ in throw ZooError() } } catch {}
        },
        Correct("withBuffer that narrows its buffer") {
            withBuffer(100) { $0 = $0.dropFirst(50) }
        },
        Correct("a lease to the end of its scope") {
            let lease = leaseBuffer(100)
            lease.buffer[0] = 1
        },
        Correct("a lease put early") {
            let lease = leaseBuffer(100)
            lease.put()
            putBuffer(getBuffer(100))
        },
        Correct("a lease handed on") {
            func make() -> Lease { leaseBuffer(100) }
            func take(_ lease: consuming Lease) { lease.put() }
            take(make())
        },
        Correct("a lease that is optional") {
            var lease: Lease? = leaseBuffer(100)
            if lease != nil { lease = nil }
            lease = leaseBuffer(200)
        },
        Correct("a lease in an object") {
            final class Owner {
                let lease = leaseBuffer(100)
            }
            let owners = (0..<10).map { _ in Owner() }
            owners[3].lease.buffer[0] = 1
        },
        Correct("a lease of a pool that nobody else keeps") {
            func make() -> Lease { BufferPool().lease(100) }
            make().put()
        },
        Correct("a buffer adopted by a lease") {
            BufferPool.shared.adopt(getBuffer(100)).put()
            BufferPool.shared.adopt(getBuffer(100).prefix(5)).put()
        },
        Correct("Data over a buffer") {
            let data = BufferPool.shared.data(owning: getBuffer(1_000))
            precondition(data.count == 1_000)
        },
        Correct("a slice of Data outlives the whole") {
            func make() -> Data { BufferPool.shared.lease(1_000).intoData()[10..<500] }
            precondition(make().count == 490)
        },
        Correct("Data changed while shared") {
            let data = leaseBuffer(1_000).intoData()
            var copy = data
            copy[0] = 1
            copy.append(2)
            precondition(data.count == 1_000 && copy.count == 1_001)
        },
        Correct("Data that is too small to own anything") {
            for size in 0...20 { precondition(leaseBuffer(size).intoData().count == size) }
        },
        Correct("DispatchData over a buffer") {
            dispatchData()
        },
    ]
}

private func dispatchData() {
    // The queue runs what is put on it in order: behind the puts, they have happened.
    let queue = DispatchQueue(label: "zoo")
    do {
        var data = BufferPool.shared.dispatchData(owning: getBuffer(1_000), putOn: queue)
        data.append(leaseBuffer(500).intoDispatchData(putOn: queue))
        precondition(data.count == 1_500)
    }
    let limit = DispatchTime.now() + .seconds(20)
    while getStats().inUse > 0, DispatchTime.now() < limit { queue.sync {} }
    queue.sync {}
}

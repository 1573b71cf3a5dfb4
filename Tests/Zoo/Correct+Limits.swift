// Correct programs that write to the last byte that is theirs, in buffers that come and go in every way: what lies next to it
// is watched, and nobody may be blamed for using what he has.

import Dispatch
import Foundation
import Glibc
import Mempool
import MempoolFoundation

extension Correct {
    /// Watches buffers as a whole and not only their ends.
    private static let watchesWhole = "poison=all,canary=all"

    static let limits: [Correct] = [
        Correct("every bucket's capacity, all bytes") { fillCapacities(.shared, .standard) },
        Correct("every bucket's capacity, all bytes, watched as a whole", debugKeys: watchesWhole) {
            fillCapacities(.shared, .standard)
        },
        Correct("odd capacities, all bytes") {
            let layout = try BucketLayout(capacities: [1, 63, 64, 65, 1_000, 4_095, 4_097, 10_000])
            fillCapacities(try BufferPool(configuration: PoolConfiguration(layout: layout)), layout)
        },
        Correct("neighbours at their capacity, all bytes") {
            let held = (0..<300).map { _ in getBuffer(512) }
            for round in 1...3 { for buffer in held { fill(buffer, UInt8(round)) } }
            for buffer in held { putBuffer(buffer) }
        },
        Correct("one byte, and that one written") {
            let held = (0..<300).map { _ in getBuffer(1) }
            for buffer in held { buffer[0] = 0 }
            for buffer in held { putBuffer(buffer) }
        },
        Correct("oversized, all bytes") {
            for size in [(16 << 20) + 1, 17 << 20, (20 << 20) - 1] {
                for _ in 0..<2 { fillOnce(.shared, size) }
            }
        },
        Correct("one buffer, many sizes") {
            for size in [1_000, 1, 1_024, 513, 1_023, 600] { fillOnce(.shared, size) }
        },
        Correct("one buffer, many sizes, watched as a whole", debugKeys: watchesWhole) {
            for size in [200_000, 70_000, 262_144, 262_143, 100_000] { fillOnce(.shared, size) }
        },
        Correct("what poison looks like, written by its owner") {
            // Whatever the recorder fills idle buffers with.
            for byte in UInt8.min...UInt8.max {
                let buffer = getBuffer(700)
                fill(buffer, byte)
                putBuffer(buffer)
            }
        },
        Correct("a prefix put, all bytes") {
            for _ in 0..<3 {
                let buffer = getBuffer(1_000)
                fill(buffer, 9)
                putBuffer(buffer.prefix(10))
            }
        },
        Correct("slices written to their last byte") {
            let buffer = getBuffer(4_000)
            for start in stride(from: 0, to: 4_000, by: 400) { fill(buffer.slice(start..<(start + 400)), 3) }
            fill(buffer.dropFirst(3_999), 4)
            putBuffer(buffer)
        },
        Correct("a writer to the last byte") {
            let buffer = getBuffer(1_024)
            var writer = BufferWriter(buffer)
            for number in 0..<128 { try writer.append(UInt64(number)) }
            putBuffer(writer.written)
        },
        Correct("zeroing at the put, all bytes") { fillZeroed(.onPut) },
        Correct("zeroing at the get, all bytes") { fillZeroed(.onGet) },
        Correct("zeroing at the put, watched as a whole", debugKeys: watchesWhole) { fillZeroed(.onPut) },
        Correct("passed among threads, each writes all") { passAround() },
        Correct("trimmed, then written again") {
            let held = (0..<50).map { getBuffer(512 * ($0 + 1)) }
            for round in 1...5 {
                for size in [512, 4_096, 65_536] { fillOnce(.shared, size) }
                BufferPool.shared.trim()
                for buffer in held { fill(buffer, UInt8(round)) }
            }
            for buffer in held { putBuffer(buffer) }
            BufferPool.shared.trim()
        },
        Correct("decayed, then written again") {
            let pool = try BufferPool(configuration: PoolConfiguration(decay: .after(seconds: 0.01)))
            let kept = pool.get(512)
            for round in 1...4 {
                for size in [512, 1_000, 16_384] { fillOnce(pool, size) }
                fill(kept, UInt8(round))
                usleep(20_000)
            }
            pool.put(kept)
        },
        Correct("pools destroyed with everything put") {
            for _ in 0..<20 {
                let pool = BufferPool()
                let held = [1, 512, 5_000, 1 << 20, 17 << 20].map { pool.get($0) }
                for buffer in held { fill(buffer, 5) }
                for buffer in held { pool.put(buffer) }
            }
        },
        Correct("a pool destroyed after other threads put") {
            for _ in 0..<10 {
                let pool = BufferPool()
                let held = (1...20).map { pool.get($0 * 50) }
                threads(2) { number in
                    for index in held.indices where index % 2 == number { pool.put(held[index]) }
                }
            }
        },
        Correct("leases and data longer than their pool is known") {
            func lease(_ size: Int) -> Lease { BufferPool().lease(size) }
            func data(_ size: Int) -> Data { BufferPool().lease(size).intoData() }
            for size in [512, 1_000, 4_096] {
                var lease = lease(size)
                var data = data(size)
                lease.withUnsafeMutableBytes { bytes in for index in bytes.indices { bytes[index] = 6 } }
                data[size - 1] = 7
                lease.put()
            }
        },
        Correct("held shorter than it may be", debugKeys: "held=30") {
            let held = (1...20).map { getBuffer($0 * 300) }
            usleep(50_000)
            for buffer in held { putBuffer(buffer) }
        },
        Correct("raw memory, all bytes") {
            for size in [1, 512, 1_024, 4_096, 100_000, 17 << 20] {
                let bytes = BufferPool.shared.getRaw(size)
                for index in stride(from: 0, to: size, by: max(1, size / 1_000)) { bytes[index] = 8 }
                bytes[size - 1] = 8
                BufferPool.shared.putRaw(bytes.baseAddress)
            }
        },
        Correct("parent and forked child write the same buffers") { shareWithChild() },
        Correct("a forked child that writes after its own puts, in its own copy") {
            let buffer = getBuffer(512)
            let address = buffer.address
            let child = rawFork()
            if child == 0 {
                putBuffer(buffer)
                address?.storeBytes(of: 1, as: UInt8.self)
                exit(0)
            }
            wait(for: child)
            fill(buffer, 2)
            putBuffer(buffer)
        },
        Correct("Data and DispatchData, all bytes") {
            for size in [512, 1_000, 1_024, 70_000] {
                let buffer = getBuffer(size)
                fill(buffer, 1)
                precondition(BufferPool.shared.data(owning: buffer).allSatisfy { $0 == 1 })
                let queue = DispatchQueue(label: "zoo")
                do {
                    let other = getBuffer(size)
                    fill(other, 2)
                    let data = BufferPool.shared.dispatchData(owning: other, putOn: queue)
                    // Not a subscript: those of DispatchData leak what they map.
                    var bytes = [UInt8](repeating: 0, count: size)
                    bytes.withUnsafeMutableBytes { data.copyBytes(to: $0, count: size) }
                    precondition(bytes.allSatisfy { $0 == 2 })
                }
                let limit = DispatchTime.now() + .seconds(20)
                while getStats().inUse > 0, DispatchTime.now() < limit { queue.sync {} }
                queue.sync {}
            }
        },
        Correct("a pointer kept past the put and not used") {
            let buffer = getBuffer(1_000)
            let address = buffer.address
            putBuffer(buffer)
            precondition(buffer.count == 1_000 && buffer.prefix(10).capacity == 1_024 && address != nil)
        },
    ]
}

/// Writes all bytes of the request.
func fill(_ buffer: Buffer, _ byte: UInt8) {
    buffer.withUnsafeMutableBytes { bytes in
        if let base = bytes.baseAddress { memset(base, CInt(byte), bytes.count) }
    }
}

/// Gets, writes all bytes, puts.
private func fillOnce(_ pool: BufferPool, _ size: Int) {
    let buffer = pool.get(size)
    fill(buffer, 0xFF)
    pool.put(buffer)
}

/// Twice, as the second time the buffers are used ones.
private func fillCapacities(_ pool: BufferPool, _ layout: BucketLayout) {
    for _ in 0..<2 {
        let held = layout.capacities.map { pool.get($0) }
        precondition(held.allSatisfy { $0.count == $0.capacity })
        for buffer in held { fill(buffer, 0xEE) }
        for buffer in held { pool.put(buffer) }
    }
}

private func fillZeroed(_ zeroing: Zeroing) {
    guard let pool = try? BufferPool(configuration: PoolConfiguration(zeroing: zeroing)) else { fatalError("no pool") }
    for size in [512, 1, 400, 1_024, 5_000, 16_384, 17 << 20] {
        for _ in 0..<2 {
            let buffer = pool.get(size)
            precondition(zeroing == .onPut || buffer.withUnsafeMutableBytes { $0.allSatisfy { $0 == 0 } })
            fill(buffer, 0xAB)
            pool.put(buffer)
        }
    }
}

private func passAround() {
    let hands = (0..<4).map { _ in (full: DispatchSemaphore(value: 0), buffers: Box<[Buffer]>([])) }
    threads(4) { number in
        for round in 0..<100 {
            let buffer: Buffer
            if number == 0 {
                buffer = getBuffer([512, 1_024, 700, 4_096][round % 4])
            } else {
                hands[number].full.wait()
                buffer = hands[number].buffers.with { $0.removeFirst() }
            }
            fill(buffer, UInt8(number))
            if number == 3 {
                putBuffer(buffer)
            } else {
                hands[number + 1].buffers.with { $0.append(buffer) }
                hands[number + 1].full.signal()
            }
        }
    }
}

private func shareWithChild() {
    let held = (1...20).map { getBuffer($0 * 512) }
    let child = rawFork()
    for buffer in held { fill(buffer, 1) }
    for _ in 0..<100 { fillOnce(.shared, 900) }
    for buffer in held { putBuffer(buffer) }
    if child == 0 { exit(0) }
    wait(for: child)
}

private func wait(for child: pid_t) {
    var status: CInt = 0
    waitpid(child, &status, 0)
    precondition(status == 0)
}

// Measures the pool beside SwiftNIO's ByteBufferAllocator, with the same loop and the same judgement of noise as
// `mempool-doctor bench`, and prints rows of the same form as its JSON.

import CBarriers
import Foundation
import Mempool
import NIOCore

/// The loops: get, touch the first byte, put.
enum Loop {
    static func mempool(_ size: Int, _ operations: Int) {
        for _ in 0..<operations {
            let buffer = getBuffer(cbench_hide(size))
            buffer.withUnsafeMutableBytes { if let base = $0.baseAddress { cbench_touch(base) } }
            putBuffer(buffer)
        }
    }

    /// The buffer is freed at the end of each turn: the allocator has no other way to put one.
    static func nio(_ size: Int, _ operations: Int) {
        let allocator = ByteBufferAllocator()
        for _ in 0..<operations {
            var buffer = allocator.buffer(capacity: cbench_hide(size))
            buffer.withUnsafeMutableWritableBytes { if let base = $0.baseAddress { cbench_touch(base) } }
        }
    }
}

/// One loop, and the samples taken of it.
struct Contender {
    var name: String
    var loop: (Int, Int) -> Void
    var operations = 1
    var samples: [(nanoseconds: Double, calibration: Double)] = []

    mutating func prepare(_ size: Int) {
        // Twice in a row: the first get of a process alone takes as long, and samples of one operation would say more of the clock.
        var isConfirmed = false
        while true {
            let start = cbench_now()
            loop(size, operations)
            let elapsed = cbench_now() - start
            if elapsed <= 400_000 {
                operations *= 2
                isConfirmed = false
            } else if isConfirmed {
                return
            } else {
                isConfirmed = true
            }
        }
    }

    mutating func sample(_ size: Int) {
        loop(size, operations / 16 + 1)
        let before = cbench_calibrate(8000)
        let start = cbench_now()
        loop(size, operations)
        let elapsed = cbench_now() - start
        let calibration = max(before, cbench_calibrate(8000))
        samples.append((Double(elapsed) / Double(operations), Double(calibration)))
    }
}

struct Row: Encodable {
    struct Entry: Encodable {
        var contender: String
        var nanoseconds: Double
        var low: Double
        var high: Double
        var samples: Int
        var quietSamples: Int
        var isEstimate: Bool
    }

    var group = "nio"
    var workload = "get, touch the first byte, put"
    var label: String
    var size: Int
    var threads = 1
    var measurements: [Entry]
    var fastestPeer: String
    var ratio: Double
}

struct Document: Encodable {
    var schemaVersion = 1
    var rows: [Row]
}

func quantile(_ values: [Double], _ fraction: Double) -> Double {
    let sorted = values.sorted()
    let position = fraction * Double(sorted.count - 1)
    let lower = Int(position)
    let upper = min(lower + 1, sorted.count - 1)
    return sorted[lower] + (sorted[upper] - sorted[lower]) * (position - Double(lower))
}

func row(_ size: Int) -> Row {
    var contenders = [
        Contender(name: "mempool", loop: Loop.mempool), Contender(name: "ByteBufferAllocator", loop: Loop.nio),
    ]
    for index in contenders.indices { contenders[index].prepare(size) }
    for round in 0..<101 {
        for turn in contenders.indices { contenders[(turn + round) % contenders.count].sample(size) }
    }
    // As in `mempool-doctor bench`: quiet is within 8 % of the fastest twentieth of the calibrations.
    let undisturbed = quantile(contenders.flatMap { $0.samples.map(\.calibration) }, 0.05)
    let entries = contenders.map { contender -> Row.Entry in
        let quiet = contender.samples.filter { $0.calibration <= undisturbed * 1.08 }.map(\.nanoseconds)
        let isEstimate = quiet.count < 5
        let times = isEstimate ? contender.samples.map(\.nanoseconds) : quiet
        return Row.Entry(
            contender: contender.name,
            nanoseconds: quantile(times, isEstimate ? 0.25 : 0.5),
            low: quantile(times, 0.1),
            high: quantile(times, 0.9),
            samples: contender.samples.count,
            quietSamples: quiet.count,
            isEstimate: isEstimate
        )
    }
    return Row(
        label: "\(size) B",
        size: size,
        measurements: entries,
        fastestPeer: entries[1].contender,
        ratio: entries[0].nanoseconds / entries[1].nanoseconds
    )
}

#if DEBUG
FileHandle.standardError.write(Data("nio-bench: this is a debug build: its figures say nothing about speed\n".utf8))
#endif
let sizes = [512, 1024, 4096, 16384, 65536, 262_144, 1_048_576, 4_194_304, 16_777_216]
let encoder = JSONEncoder()
encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
print(String(decoding: try encoder.encode(Document(rows: sizes.map(row))), as: UTF8.self))

// Correct programs: nothing may be reported about any of them.

import Glibc
import Mempool

/// A program without a mistake.
struct Correct: Sendable {
    let name: String
    /// What MEMPOOL_DEBUG must say as well.
    let debugKeys: String
    let run: @Sendable () async throws -> Void

    init(_ name: String, debugKeys: String = "", _ run: @escaping @Sendable () async throws -> Void) {
        self.name = name
        self.debugKeys = debugKeys
        self.run = run
    }

    static let all = plainUse + limits + safeForms + severalPools + acrossThreads + asynchronous + lateReturns + hosts
}

/// Deterministic numbers.
struct Numbers {
    private var state: UInt64

    init(seed: Int) { state = UInt64(seed) &* 2_654_435_769 &+ 1 }

    /// A number of `0..<limit`.
    mutating func next(below limit: Int) -> Int {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Int(state >> 33) % limit
    }
}

/// Gets and puts in no order, with a share of bytes written.
func churn(_ pool: BufferPool, rounds: Int, seed: Int, held limit: Int = 16, largest: Int = 20_000) {
    var numbers = Numbers(seed: seed)
    var held: [Buffer] = []
    for _ in 0..<rounds {
        if held.count < limit, numbers.next(below: 3) > 0 {
            let buffer = pool.get(1 + numbers.next(below: largest))
            buffer[buffer.count - 1] = 7
            held.append(buffer)
        } else if !held.isEmpty {
            pool.put(held.remove(at: numbers.next(below: held.count)))
        }
    }
    for buffer in held { pool.put(buffer) }
}

// Random operations on pools and on a model of them; a failure is shrunk to the shortest sequence that still shows it.
// MEMPOOL_TEST_SEED repeats a run; MEMPOOL_LONG_TESTS=1 makes a campaign of it.

import Foundation
import Mempool
import Testing

/// A random sequence of operations on one to three pools.
private struct OperationSequence {
    var poolCount: Int
    var operations: [PoolOperation] = []

    init(length: Int, using random: inout SplitMix64) {
        poolCount = Int.random(in: 1...3, using: &random)
        var outstanding: [Int] = []
        var sizes: [Int] = []
        for _ in 0..<length {
            let pool = Int.random(in: 0..<poolCount, using: &random)
            let choice = Int.random(in: 0..<100, using: &random)
            // Mostly a buffer that is outstanding, and sometimes any that ever was: a double put.
            var handle = outstanding.randomElement(using: &random)
            if !sizes.isEmpty, handle == nil || Int.random(in: 0..<4, using: &random) == 0 {
                handle = Int.random(in: 0..<sizes.count, using: &random)
            }
            switch (choice, handle) {
            case (0..<6, _): operations.append(.putForeign(pool: pool, size: Int.random(in: 0...2000, using: &random)))
            case (6..<10, _): operations.append(.withBuffer(pool: pool, size: Self.size(using: &random)))
            case (14..<16, _): operations.append(.trim(pool: pool))
            case (10..<14, _): operations.append(.lease(pool: pool, size: Self.size(using: &random)))
            case (16..<45, _), (_, nil):
                outstanding.append(sizes.count)
                sizes.append(Self.size(using: &random))
                operations.append(.get(pool: pool, size: sizes[sizes.count - 1], handle: sizes.count - 1))
            case (45..<75, let handle?):
                operations.append(.put(pool: pool, handle: handle))
                outstanding.removeAll { $0 == handle }
            case (75..<83, let handle?):
                let length = Int.random(in: 0...sizes[handle], using: &random)
                operations.append(.putPrefix(pool: pool, handle: handle, length: length))
            case (83..<91, let handle?):
                let offset = Int.random(in: 1...max(1, sizes[handle]), using: &random)
                operations.append(.putSlice(pool: pool, handle: handle, offset: offset))
            case (_, let handle?): operations.append(.putRaw(pool: pool, handle: handle))
            }
        }
    }

    /// The edges of the buckets, small sizes, nothing, and now and then something oversized.
    private static func size(using random: inout SplitMix64) -> Int {
        switch Int.random(in: 0..<20, using: &random) {
        case 0: 0
        case 1: (16 << 20) + Int.random(in: 1...10_000, using: &random)
        case 2..<8:
            (BucketLayout.standard.capacities.randomElement(using: &random) ?? 1)
                + Int.random(in: -1...0, using: &random)
        case 8..<10: (BucketLayout.standard.capacities.dropLast().randomElement(using: &random) ?? 1) + 1
        case 10: [100, 101, 5000, 5001].randomElement(using: &random) ?? 1
        default: Int.random(in: 1...5000, using: &random)
        }
    }
}

/// Makes a failing sequence smaller as long as it still fails.
private enum Shrinker {
    static func shrink(
        _ operations: [PoolOperation], while fails: ([PoolOperation]) -> Bool
    ) -> [PoolOperation] {
        var best = operations
        var isProgressing = true
        while isProgressing {
            isProgressing = removeChunks(&best, fails) || simplify(&best, fails)
        }
        let result = renumbered(best)
        return fails(result) ? result : best
    }

    /// Leaves out stretches of operations, long ones first.
    private static func removeChunks(_ best: inout [PoolOperation], _ fails: ([PoolOperation]) -> Bool) -> Bool {
        let before = best.count
        var length = best.count
        while length > 0 {
            var start = 0
            while start < best.count {
                var candidate = best
                candidate.removeSubrange(start..<min(start + length, best.count))
                if fails(candidate) { best = candidate } else { start += length }
            }
            length /= 2
        }
        return best.count < before
    }

    /// Replaces one operation at a time by a simpler one.
    private static func simplify(_ best: inout [PoolOperation], _ fails: ([PoolOperation]) -> Bool) -> Bool {
        var didChange = false
        for index in best.indices {
            for simpler in simplerForms(of: best[index]) where simpler != best[index] {
                var candidate = best
                candidate[index] = simpler
                if fails(candidate) {
                    best = candidate
                    didChange = true
                    break
                }
            }
        }
        return didChange
    }

    /// The simplest first. None is a form of another that leads back, so that shrinking ends.
    private static func simplerForms(of operation: PoolOperation) -> [PoolOperation] {
        switch operation {
        case .get(let pool, let size, let handle):
            // In the first pool any size is simpler than in another, as that one may be configured.
            (pool == 0 ? [] : [1, size, (16 << 20) + 1].map { .get(pool: 0, size: $0, handle: handle) })
                + [1, 512, (16 << 20) + 1].filter { $0 < size }.map { .get(pool: pool, size: $0, handle: handle) }
        case .put(let pool, let handle): pool == 0 ? [] : [.put(pool: 0, handle: handle)]
        case .putPrefix(let pool, let handle, _), .putRaw(let pool, let handle):
            [.put(pool: 0, handle: handle), .put(pool: pool, handle: handle)]
        case .putSlice(let pool, let handle, let offset):
            [.put(pool: 0, handle: handle), .put(pool: pool, handle: handle)]
                + [(0, 1), (0, offset), (pool, 1)].filter { $0 != (pool, offset) }
                .map { .putSlice(pool: $0.0, handle: handle, offset: $0.1) }
        case .putForeign(let pool, let size):
            [(0, 1), (0, size), (pool, 1)].filter { $0 != (pool, size) && $0.1 <= size }
                .map { .putForeign(pool: $0.0, size: $0.1) }
        case .withBuffer(let pool, let size), .lease(let pool, let size):
            [(0, 1), (0, size), (pool, 1)].filter { $0 != (pool, size) && $0.1 <= size }
                .map { .withBuffer(pool: $0.0, size: $0.1) }
        case .trim(let pool): pool == 0 ? [] : [.trim(pool: 0)]
        }
    }

    /// Counts the handles and the pools from 0 again, in the order they appear.
    private static func renumbered(_ operations: [PoolOperation]) -> [PoolOperation] {
        var handles: [Int: Int] = [:]
        var pools: [Int: Int] = [:]
        func number(_ value: Int, _ numbers: inout [Int: Int]) -> Int {
            if let known = numbers[value] { return known }
            numbers[value] = numbers.count
            return numbers.count - 1
        }
        return operations.map { operation in
            let pool = number(operation.pool, &pools)
            let handle = operation.putHandle.map { number($0, &handles) } ?? 0
            return switch operation {
            case .get(_, let size, let own): .get(pool: pool, size: size, handle: number(own, &handles))
            case .put: .put(pool: pool, handle: handle)
            case .putPrefix(_, _, let length): .putPrefix(pool: pool, handle: handle, length: length)
            case .putSlice(_, _, let offset): .putSlice(pool: pool, handle: handle, offset: offset)
            case .putRaw: .putRaw(pool: pool, handle: handle)
            case .putForeign(_, let size): .putForeign(pool: pool, size: size)
            case .withBuffer(_, let size): .withBuffer(pool: pool, size: size)
            case .lease(_, let size): .lease(pool: pool, size: size)
            case .trim: .trim(pool: pool)
            }
        }
    }
}

/// The first sequence that fails, shrunk; with what to say about it.
private struct Counterexample {
    var seed: UInt64
    var operations: [PoolOperation]
    var failure: ModelRun.Failure

    /// Tries sequences of seeds that follow one another.
    static func find(
        from seed: UInt64, sequences: Int, length: Int, mistake: PoolModel.Mistake? = nil
    ) -> Counterexample? {
        for number in 0..<UInt64(sequences) {
            let seed = seed &+ number
            var random = SplitMix64(state: seed)
            let sequence = OperationSequence(length: length, using: &random)
            guard failure(of: sequence.operations, sequence.poolCount, mistake) != nil else { continue }
            let shortest = Shrinker.shrink(sequence.operations) {
                failure(of: $0, sequence.poolCount, mistake) != nil
            }
            // A failure that does not come again is worth the whole sequence.
            let last = failure(of: shortest, sequence.poolCount, mistake)
            return Counterexample(
                seed: seed, operations: last == nil ? sequence.operations : shortest,
                failure: last ?? ModelRun.Failure(step: 0, description: "it fails only sometimes")
            )
        }
        return nil
    }

    private static func failure(
        of operations: [PoolOperation], _ poolCount: Int, _ mistake: PoolModel.Mistake?
    ) -> ModelRun.Failure? {
        do throws(ModelRun.Failure) {
            try ModelRun.run(operations, poolCount: poolCount, mistake: mistake)
            return nil
        } catch {
            return error
        }
    }

    /// The sequence as Swift.
    var reproduction: [String] {
        let poolCount = (operations.map(\.pool).max() ?? 0) + 1
        let pools = TestedPool.all.prefix(poolCount).map(\.source).joined(separator: ", ")
        return ["let pools = [\(pools)]"] + operations.map(\.source)
    }

    var description: String {
        """
        \(failure.description), after step \(failure.step + 1) of:

        \(reproduction.joined(separator: "\n"))

        To repeat it: MEMPOOL_TEST_SEED=\(seed)
        """
    }
}

private let isLong = ProcessInfo.processInfo.environment["MEMPOOL_LONG_TESTS"] == "1"
private let chosenSeed = ProcessInfo.processInfo.environment["MEMPOOL_TEST_SEED"].flatMap(UInt64.init)

@Suite("The pool against a model of it")
struct ModelTests {
    @Test("random operations count what the model says, and no owner's bytes change")
    func randomOperations() {
        let seed = chosenSeed ?? UInt64.random(in: 0 ... .max)
        print("model test: MEMPOOL_TEST_SEED=\(seed)")
        let found = Counterexample.find(from: seed, sequences: isLong ? 3000 : 100, length: isLong ? 200 : 80)
        if let found { Issue.record("\(found.description)") }
    }

    @Test("the same seed gives the same operations")
    func determinism() {
        func sequence(_ seed: UInt64) -> [PoolOperation] {
            var random = SplitMix64(state: seed)
            return OperationSequence(length: 100, using: &random).operations
        }
        #expect(sequence(5) == sequence(5))
        #expect(sequence(5) != sequence(6))
    }

    @Test(
        "a model that is wrong is found out, and the reproduction is as short as it can be",
        arguments: [
            (
                PoolModel.Mistake.slicesCountAsPuts,
                ["let b0 = pools[0].get(1)", "pools[0].put(b0.dropFirst(1))"]
            ),
            (.secondPutsAreForgotten, ["let b0 = pools[0].get(1)", "pools[0].put(b0)", "pools[0].put(b0)"]),
            (.wrongPoolsTakeTheBuffer, ["let b0 = pools[0].get(1)", "pools[1].put(b0)"]),
            (.oversizedCountAsGets, ["let b0 = pools[0].get(16777217)"]),
            (.foreignPutsGoUnseen, ["pools[0].put(Buffer(wrapping: .allocate(byteCount: 1, alignment: 64)))"]),
            (.fourthBufferOfAPoolIsLost, (0..<4).map { "let b\($0) = pools[0].get(1)" }),
        ])
    func shrinking(mistake: PoolModel.Mistake, expected: [String]) throws {
        let found = try #require(Counterexample.find(from: 1, sequences: 100, length: 60, mistake: mistake))
        let lines = Array(found.reproduction.dropFirst())
        #expect(lines == expected, "\(found.description)")
        #expect(found.description.contains("MEMPOOL_TEST_SEED=\(found.seed)"))
    }
}

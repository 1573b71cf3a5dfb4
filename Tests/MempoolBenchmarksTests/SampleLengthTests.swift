// How long samples are.

import Testing

@testable import MempoolBenchmarks

@Suite("Length of samples")
struct SampleLengthTests {
    /// What a contender takes whose operations take 5 ns, but for one of 600 µs.
    private func operations(slowOperation: Int) -> Int {
        var done = 0
        return SampleLength.operations(filling: 400_000) { count in
            defer { done += count }
            return (Double(count) * 5 + ((done..<done + count).contains(slowOperation) ? 600_000 : 0)) / Double(count)
        }
    }

    @Test(
        "what happens once makes no sample short, whenever it happens",
        arguments: [0, 1, 8, 60, 100, 500, 3_000, 20_000, 60_000])
    func slowOnce(operation: Int) {
        // At most twice too long or too short, as far as a sample that had the slow one in it may say.
        #expect((32_000...80_000).contains(operations(slowOperation: operation)))
    }

    @Test("an operation that is longer than a sample is one sample")
    func longOperations() {
        var calls = 0
        let operations = SampleLength.operations(filling: 400_000) { _ in
            calls += 1
            return 8_000_000
        }
        #expect(operations == 1 && calls == 2)
    }
}

// Random numbers that are the same for the same seed on every machine, and sizes drawn with them.

/// SplitMix64 (Steele, Lea and Flood, 2014). Not for secrets.
struct SeededGenerator: RandomNumberGenerator, Sendable {
    private var state: UInt64

    /// - Parameter stream: Generators of one seed and different streams are independent.
    init(seed: UInt64, stream: UInt64 = 0) {
        state = seed
        let scramble = next()
        state = scramble ^ (stream &* 0xD1B5_4A32_D192_ED03)
    }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

/// Sizes in bytes, drawn from weighted ranges.
struct SizeDistribution: Sendable {
    private let ranges: [(weight: Int, bytes: ClosedRange<Int>)]
    private let totalWeight: Int

    init(_ ranges: [(weight: Int, bytes: ClosedRange<Int>)]) {
        precondition(!ranges.isEmpty && ranges.allSatisfy { $0.weight > 0 }, "a distribution needs positive weights")
        self.ranges = ranges
        self.totalWeight = ranges.reduce(0) { $0 + $1.weight }
    }

    func next(using generator: inout SeededGenerator) -> Int {
        var ticket = Int.random(in: 0..<totalWeight, using: &generator)
        for range in ranges {
            if ticket < range.weight { return Int.random(in: range.bytes, using: &generator) }
            ticket -= range.weight
        }
        preconditionFailure("the weights do not add up")
    }

    /// Messages of a broker: mostly small, a few large; all buckets up to 256 KiB see some traffic.
    static let messages = SizeDistribution([
        (700, 1...512), (180, 513...4_096), (100, 4_097...16_384), (17, 16_385...65_536), (3, 65_537...262_144),
    ])

    /// Values of records: the small end of ``messages``.
    static let values = SizeDistribution([(60, 0...100), (30, 101...1_000), (10, 1_001...8_000)])
}

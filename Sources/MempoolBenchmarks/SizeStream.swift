// The streams of mixed sizes: the same ones on every machine.

internal import Glibc

/// Sizes in bytes, drawn once with a fixed seed, so that every contender sees the same sequence.
enum SizeStream {
    /// A power of two, and long enough that no branch predictor learns it.
    static let count = 65_536

    /// Requests of a server: median 2 KiB, deviation 1.6 of the logarithm (one in a hundred above 83 KB).
    static let lognormal: [UInt32] = {
        var random = RandomBits(state: 1)
        return (0..<count).map { _ in
            // Box and Muller, 1958. The first draw is above 0, or its logarithm would have no end.
            let radius = (-2 * log(1 - random.fraction())).squareRoot()
            let normal = radius * cos(2 * Double.pi * random.fraction())
            let size = 2048 * exp(1.6 * normal)
            return UInt32(min(max(size, 1), 16_777_216))
        }
    }()

    /// The nine capacities, the n-th smallest with weight 1/n.
    static let zipf: [UInt32] = {
        var random = RandomBits(state: 2)
        let sizes = BenchmarkSizes.all
        let total = (1...sizes.count).reduce(0) { $0 + 1 / Double($1) }
        return (0..<count).map { _ in
            var rest = random.fraction() * total
            for (index, size) in sizes.enumerated() {
                rest -= 1 / Double(index + 1)
                if rest < 0 { return UInt32(size) }
            }
            return UInt32(sizes[0])
        }
    }()
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
private struct RandomBits {
    var state: UInt64

    /// 0 to just below 1.
    mutating func fraction() -> Double {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return Double((mixed ^ (mixed >> 31)) >> 11) * 0x1p-53
    }
}

/// The sizes that rows are measured at.
package enum BenchmarkSizes {
    /// Those of the standard buckets, bytes.
    package static let all = [512, 1024, 4096, 16384, 65536, 262_144, 1_048_576, 4_194_304, 16_777_216]
    /// Small, medium and large, for a quick look.
    package static let quick = [512, 65536, 16_777_216]
}

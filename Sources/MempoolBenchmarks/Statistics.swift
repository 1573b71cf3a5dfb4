// Order statistics, and which samples were taken on an undisturbed machine.

/// One sample of one contender.
struct Sample: Sendable, Equatable {
    /// Nanoseconds per operation.
    var nanoseconds: Double
    /// What the calibration kernel took beside it, nanoseconds.
    var calibration: Double
}

/// Order statistics of unsorted values.
enum Statistics {
    /// The value below which the share `fraction` of the values lies, interpolated between neighbours.
    ///
    /// - Parameter fraction: 0 to 1; 0.5 is the median.
    /// - Returns: Nil without values.
    static func quantile(_ values: [Double], _ fraction: Double) -> Double? {
        guard !values.isEmpty else { return nil }
        let sorted = values.sorted()
        let position = fraction * Double(sorted.count - 1)
        let lower = Int(position)
        let upper = min(lower + 1, sorted.count - 1)
        return sorted[lower] + (sorted[upper] - sorted[lower]) * (position - Double(lower))
    }

    static func median(_ values: [Double]) -> Double? { quantile(values, 0.5) }
}

/// How disturbed the machine was, judged by a kernel that always does the same.
struct NoiseGauge: Sendable {
    /// A calibration within this factor of the undisturbed one counts as quiet: the kernel itself varies by a few percent.
    static let tolerance = 1.08
    /// Below this share of quiet samples the machine as a whole is called noisy.
    static let quietShare = 0.7

    private(set) var calibrations: [Double] = []

    mutating func add(_ calibration: Double) { calibrations.append(calibration) }

    /// What the kernel takes undisturbed: the fastest twentieth. Not the minimum, which may be an interval of unusually
    /// high clock rate that nobody else saw.
    var undisturbed: Double { Statistics.quantile(calibrations, 0.05) ?? 0 }

    func isQuiet(_ sample: Sample) -> Bool { sample.calibration <= undisturbed * Self.tolerance }

    /// Whether so many samples were quiet that their median is the figure.
    func hasEnough(_ samples: [Sample]) -> Bool {
        samples.count(where: isQuiet) >= min(BenchmarkMeasurement.enoughSamples, samples.count)
    }

    /// How many samples were quiet.
    var quietCount: Int {
        let limit = undisturbed * Self.tolerance
        return calibrations.count { $0 <= limit }
    }
}

extension BenchmarkMeasurement {
    /// Quiet samples that suffice for a median of raw times.
    static let enoughSamples = 5

    /// The median of the quiet samples. With too few of them, the lower quartile of all, and marked as an estimate.
    ///
    /// Not divided by how much slower the calibration was: a neighbour on the same core halves what the calibration gets
    /// done, but hardly slows a loop that waits for its own stores, and such a loop came out twice as fast as it is.
    ///
    /// - Parameter asEstimate: Whether to take it for one even so, as others that it is compared with are.
    init?(
        contender: String, limit: Double? = nil, samples: [Sample], gauge: NoiseGauge, asEstimate: Bool = false
    ) {
        let quiet = samples.filter(gauge.isQuiet)
        let isEstimate = asEstimate || !gauge.hasEnough(samples)
        let times = (isEstimate ? samples : quiet).map(\.nanoseconds)
        guard let typical = Statistics.quantile(times, isEstimate ? 0.25 : 0.5),
            let low = Statistics.quantile(times, 0.1),
            let high = Statistics.quantile(times, 0.9)
        else { return nil }
        self.init(
            contender: contender,
            nanoseconds: typical,
            low: low,
            high: high,
            samples: samples.count,
            quietSamples: quiet.count,
            isEstimate: isEstimate,
            limit: limit
        )
    }
}

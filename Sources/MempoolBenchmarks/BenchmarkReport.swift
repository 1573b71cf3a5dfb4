// `BenchmarkReport`: everything one run of the benchmarks found out; text and JSON are renderings of it.

/// What one contender needed in one row.
package struct BenchmarkMeasurement: Codable, Equatable, Sendable {
    package var contender: String
    /// Per operation: the median of the quiet samples, or an estimate.
    package var nanoseconds: Double
    /// A tenth of the samples was faster than this.
    package var low: Double
    /// A tenth of the samples was slower than this.
    package var high: Double
    package var samples: Int
    /// Those taken while the machine was undisturbed.
    package var quietSamples: Int
    /// Set if there were too few quiet samples: `nanoseconds` is then the lower quartile of all.
    package var isEstimate: Bool
    /// What the row's subject should cost at most, as a multiple of this one.
    package var limit: Double?
}

/// One line of the results: a subject and its peers, measured in turns.
package struct BenchmarkRow: Codable, Equatable, Sendable {
    package var group: BenchmarkGroup
    /// What was done, as `get, touch the first byte, put`.
    package var workload: String
    /// What sets the row apart in its section, as a size.
    package var label: String
    /// Bytes per get; nil for mixed sizes.
    package var size: Int?
    package var threads: Int
    /// The subject's first.
    package var measurements: [BenchmarkMeasurement]

    /// The fastest of the others; nil for `flatness`, where there are no others.
    package var fastestPeer: BenchmarkMeasurement? {
        group == .flatness ? nil : measurements.dropFirst().min { $0.nanoseconds < $1.nanoseconds }
    }

    /// The subject's time over that of the fastest peer; for `threads` its throughput over that with two threads, for `flatness` the
    /// slowest time over the fastest.
    package var ratio: Double? {
        if group == .flatness {
            let times = measurements.map(\.nanoseconds).filter { $0 > 0 }
            guard times.count > 1, let slowest = times.max(), let fastest = times.min() else { return nil }
            return slowest / fastest
        }
        guard let subject = measurements.first, let peer = fastestPeer, subject.nanoseconds > 0, peer.nanoseconds > 0
        else { return nil }
        return group == .threads
            ? peer.nanoseconds / subject.nanoseconds : subject.nanoseconds / peer.nanoseconds
    }

    /// The subject's time over that of this peer.
    package func ratio(to peer: BenchmarkMeasurement) -> Double? {
        guard let subject = measurements.first, subject.nanoseconds > 0, peer.nanoseconds > 0 else { return nil }
        return subject.nanoseconds / peer.nanoseconds
    }

    // The derived values belong into the file: a script should not have to know how they come about.
    private enum CodingKeys: String, CodingKey {
        case group, workload, label, size, threads, measurements, fastestPeer, ratio, ratios
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(group, forKey: .group)
        try container.encode(workload, forKey: .workload)
        try container.encode(label, forKey: .label)
        try container.encodeIfPresent(size, forKey: .size)
        try container.encode(threads, forKey: .threads)
        try container.encode(measurements, forKey: .measurements)
        try container.encodeIfPresent(fastestPeer?.contender, forKey: .fastestPeer)
        try container.encodeIfPresent(ratio, forKey: .ratio)
        if group == .recorder {
            let ratios = measurements.dropFirst().compactMap { peer in ratio(to: peer).map { (peer.contender, $0) } }
            try container.encode(Dictionary(ratios) { first, _ in first }, forKey: .ratios)
        }
    }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        group = try container.decode(BenchmarkGroup.self, forKey: .group)
        workload = try container.decode(String.self, forKey: .workload)
        label = try container.decode(String.self, forKey: .label)
        size = try container.decodeIfPresent(Int.self, forKey: .size)
        threads = try container.decode(Int.self, forKey: .threads)
        measurements = try container.decode([BenchmarkMeasurement].self, forKey: .measurements)
    }

    package init(
        group: BenchmarkGroup,
        workload: String,
        label: String,
        size: Int?,
        threads: Int,
        measurements: [BenchmarkMeasurement]
    ) {
        self.group = group
        self.workload = workload
        self.label = label
        self.size = size
        self.threads = threads
        self.measurements = measurements
    }
}

/// What the recorder costs besides the time of each get and put.
package struct RecorderCost: Codable, Equatable, Sendable {
    /// Of the first get of a process with the recorder at level full, which starts it. Median.
    package var firstGetNanoseconds: Double
    /// The same with the recorder asleep.
    package var firstGetAsleepNanoseconds: Double
    /// How many buffers were outstanding while memory was measured.
    package var buffers: Int
    /// Bytes of each.
    package var size: Int
    /// From how many different stacks they were got.
    package var stacks: Int
    /// Resident bytes beyond those of the same with the recorder asleep, the mapped recording and the red zones among them.
    package var residentBytes: Double
    /// Bytes of these on disk, in the recording.
    package var recordingBytes: Double
    /// Bytes of these for the red zones between buffers: what is saved by canary=0, which turns them off.
    package var redZoneBytes: Double
    /// What `mempool-doctor report` takes for that recording.
    package var reportSeconds: Double
    /// Resident at most, meanwhile.
    package var reportPeakBytes: Double

    /// What each of these should be at most.
    package enum Limits {
        static let firstGetNanoseconds = 3e6
        static let residentBytesPerBuffer = 120.0
        static let reportSeconds = 2.0
        static let reportPeakBytes = 300e6
    }
}

/// The results of one run.
package struct BenchmarkReport: Codable, Equatable, Sendable {
    /// The machine.
    package struct Machine: Codable, Equatable, Sendable {
        /// The processor's own name, or its architecture.
        package var processor: String
        /// Those the benchmark may run on.
        package var processors: Int
        package var kernel: String
    }

    /// How disturbed the machine was.
    package struct Noise: Codable, Equatable, Sendable {
        package var isQuiet: Bool
        /// Of all samples, 0 to 1.
        package var quietShare: Double
        package var samples: Int
        /// What the calibration kernel takes undisturbed.
        package var calibrationNanoseconds: Double
    }

    /// How even the times of the pool are over the sizes.
    package struct Flatness: Codable, Equatable, Sendable {
        package var threads: Int
        /// The slowest size over the fastest.
        package var ratio: Double
    }

    package var schemaVersion = 1
    /// `release` or `debug`; figures of a debug build mean nothing.
    package var configuration: String
    package var machine: Machine
    package var noise: Noise
    package var rows: [BenchmarkRow]
    package var memory: MemoryCurve?
    package var recorder: RecorderCost?
    /// The allocators that the user named, by the names that stand in the rows.
    package var peers: [Allocator] = []
    package var missing: [MissingPeer]
    /// What could not be measured, and why: one sentence each.
    package var failures: [String]

    /// One for each row of that group.
    package var flatness: [Flatness] {
        rows.filter { $0.group == .flatness }.compactMap { row in
            row.ratio.map { Flatness(threads: row.threads, ratio: $0) }
        }
    }

    /// The report and what follows from its rows.
    package struct Document: Encodable, Sendable {
        fileprivate var report: BenchmarkReport

        private enum Keys: String, CodingKey { case flatness }

        package func encode(to encoder: any Encoder) throws {
            try report.encode(to: encoder)
            var container = encoder.container(keyedBy: Keys.self)
            try container.encode(report.flatness, forKey: .flatness)
        }
    }

    /// What to encode for programs: a script should not have to know how the derived values come about.
    package var document: Document { Document(report: self) }
}

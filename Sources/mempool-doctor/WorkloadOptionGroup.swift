// The options of `run` that shape a workload.

import ArgumentParser
import MempoolWorkloads

/// What the workload is to do; the numbers are those of `WorkloadOptions`.
struct WorkloadOptionGroup: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Make the records of the workload segment from FILE, one of each line.",
            valueName: "file"
        )
    )
    var input: String?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Make records of N bytes each; with --input, from blocks of a binary file instead of lines.",
            valueName: "n"
        )
    )
    var recordBytes: Int?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Do N operations instead of the workload's own number; with --input, take N records at most.",
            valueName: "n"
        )
    )
    var operations: Int?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Seed of the random choices, 1 if not given; equal seeds make equal runs.",
            valueName: "n"
        )
    )
    var seed: UInt64?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Share the operations among N threads, 1 if not given.",
            valueName: "n"
        )
    )
    var threads: Int?

    @Option(
        help: ArgumentHelp(
            "Make the workload's files under DIR instead of a temporary directory; they are removed.",
            valueName: "dir"
        )
    )
    var directory: String?

    @Option(
        help: ArgumentHelp(
            "Plant a mistake, to see what its report looks like.",
            discussion: """
                leak, double-put, wrong-capacity, foreign-put, wrong-pool, use-after-put, overrun, pool-destroyed or \
                held-too-long; RATE is the share of the operations that make it, 0.001 if not given.
                """,
            valueName: "kind[:rate]"
        )
    )
    var plant: String?

    func validate() throws {
        let limits = [
            ("record-bytes", recordBytes, 1...WorkloadOptions.maximumRecordBytes),
            ("operations", operations, 1...Int.max),
            ("threads", threads, 1...WorkloadOptions.maximumThreads),
        ]
        for case (let flag, let value?, let limit) in limits where !limit.contains(value) {
            throw ValidationError("--\(flag) must be \(limit.lowerBound) to \(limit.upperBound), not \(value)")
        }
        _ = try workloadOptions()
    }

    /// Throws `ValidationError` if `--plant` is not understood.
    func workloadOptions() throws -> WorkloadOptions {
        var options = WorkloadOptions()
        options.input = input
        options.recordBytes = recordBytes
        options.operations = operations
        if let seed { options.seed = seed }
        if let threads { options.threads = threads }
        options.directory = directory
        if let plant {
            do {
                options.plant = try PlantedFault(parsing: plant)
            } catch {
                throw ValidationError("--plant: \(error.description)")
            }
        }
        return options
    }

    /// What the observed process must be told so that the planted mistake is one.
    func debugOptions(_ inherited: DebugOptions) throws -> DebugOptions {
        guard let plant = try workloadOptions().plant, plant.kind == .heldTooLong else { return inherited }
        return inherited.setting("held", to: "\(plant.heldSeconds * 0.9)")
    }
}

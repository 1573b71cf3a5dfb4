// `mempool-doctor bench [GROUP…]`.

import ArgumentParser
import FoundationEssentials
import Glibc
import MempoolBenchmarks
import MempoolReporters

extension BenchmarkGroup: ExpressibleByArgument {}

/// Measures the pool against general allocators.
struct BenchCommand: DoctorCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench",
        abstract: "Measure the pool against glibc and the other installed allocators.",
        discussion: """
            Each allocator runs as it would in production, in a process of its own, preloaded; samples of all take turns. \
            A ratio is the time of the pool divided by that of the fastest other, so below 1 the pool is faster. \
            Meaningful in a release build and on a quiet machine; both are said at the end.

            GROUPS
            \(BenchmarkGroup.allCases.map { "  \($0.rawValue)\(pad($0.rawValue))\($0.abstract)" }.joined(separator: "\n"))

            EXIT STATUS
            0 measured, 2 inconclusive: nothing could be measured, 64 usage, 70 internal error.

            EXAMPLES
              mempool-doctor bench
              mempool-doctor bench pair --sizes 512 64K 16M
              mempool-doctor bench recorder
              mempool-doctor bench pair --peer /opt/snmalloc/libsnmallocshim.so --format json
            """
    )

    @Argument(help: ArgumentHelp("Groups of rows to measure; all if none is named.", valueName: "group"))
    var groups: [BenchmarkGroup] = []

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp("The same as naming the groups without this option.", valueName: "group")
    )
    var only: [BenchmarkGroup] = []

    @Flag(help: "Take few short samples at three sizes: to see that everything works, not how fast.")
    var quick = false

    @Option(
        help: ArgumentHelp(
            "Take N samples of each contender, 51 if not given; up to four times as many on a noisy machine.",
            valueName: "n"
        )
    )
    var rounds: Int?

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp(
            "Measure at these sizes instead of those of the nine buckets: bytes, or with K or M after them.",
            valueName: "size"
        )
    )
    var sizes: [ByteSize] = []

    @Option(
        help: ArgumentHelp(
            "Measure against the preloadable allocator in the shared library FILE as well; may be repeated.",
            valueName: "file"
        )
    )
    var peer: [String] = []

    @OptionGroup(title: "Output options")
    var outputOptions: OutputOptions

    func validate() throws {
        if let rounds, !(1...100_000).contains(rounds) {
            throw ValidationError("--rounds must be 1 to 100000, not \(rounds)")
        }
    }

    func perform() throws -> Int32 {
        var output = try ReportOutput(outputOptions)
        let directory = try TemporaryDirectory()
        let name = CommandLine.arguments.first ?? "mempool-doctor"
        var benchmark = Benchmark(
            try options(directory: directory.path),
            workerCommand: [name, BenchPeerCommand.name],
            reportCommand: [name, ReportCommand.configuration.commandName ?? "report"]
        )
        if Benchmark.isDebugBuild {
            Message.note("this is a debug build: its figures say nothing about speed; build it with -c release")
        }
        var progress = Progress()
        // The directory holds the signals back.
        let report = benchmark.run(isInterrupted: HeldSignals.take) { share, label in
            progress.draw(share: share, label)
        }
        progress.clear()
        guard let report else { throw DoctorFailure("interrupted", status: DoctorStatus.inconclusive) }
        switch output.format {
        case .json: try output.write(JSONReporter.render(report.document))
        case .text:
            try output.write(
                BenchmarkText.render(report, unicode: output.style.unicode, color: output.style.color)
            )
        }
        guard report.rows.isEmpty, report.recorder == nil, report.memory == nil else {
            return DoctorStatus.healthy
        }
        throw DoctorFailure(
            "nothing could be measured: \(report.failures.first ?? "none of the groups has a row on this machine and at these sizes")",
            status: DoctorStatus.inconclusive
        )
    }

    /// - Parameter directory: For what has to be compiled or recorded.
    private func options(directory: String) throws -> BenchmarkOptions {
        var options = BenchmarkOptions()
        let chosen = groups + only
        if !chosen.isEmpty { options.groups = chosen }
        options.isQuick = quick
        if quick {
            options.sizes = BenchmarkSizes.quick
            options.rounds = 3
        }
        if !sizes.isEmpty { options.sizes = sizes.map(\.bytes) }
        if let rounds { options.rounds = rounds }
        let search = AllocatorSearch.onThisMachine()
        options.allocators = search.found
        options.missing = search.missing
        options.directory = directory
        if options.groups.contains(.recorder) {
            let instruments = InstrumentSearch(compilingIn: directory)
            options.instruments = instruments.found
            options.missing += instruments.missing
        }
        options.processors = BenchmarkOptions.availableProcessors
        do {
            options.peers = AllocatorSearch.distinct(
                try peer.map { path throws(WorkerFailure) in try AllocatorSearch.allocator(atPath: path) },
                from: search.found.map(\.name))
        } catch {
            throw DoctorFailure("--peer: \(error)", status: DoctorStatus.usage)
        }
        return options
    }

    private static func pad(_ name: String) -> String { String(repeating: " ", count: max(1, 10 - name.count)) }
}

/// A number of bytes as people type it.
struct ByteSize: ExpressibleByArgument {
    /// 1 to the largest bucket's capacity.
    var bytes: Int

    init?(argument: String) {
        let units: [Character: Int] = ["K": 1 << 10, "k": 1 << 10, "M": 1 << 20, "m": 1 << 20]
        let unit = argument.last.flatMap { units[$0] }
        guard let count = Int(unit == nil ? argument : String(argument.dropLast())), count > 0 else { return nil }
        let (product, overflow) = count.multipliedReportingOverflow(by: unit ?? 1)
        guard !overflow, product <= 16 << 20 else { return nil }
        bytes = product
    }
}

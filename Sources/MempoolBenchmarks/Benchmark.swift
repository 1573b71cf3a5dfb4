// `Benchmark`: takes the samples of all rows, the contenders of a row in turns.

internal import CMempoolBenchmarks
internal import Glibc

/// Measures the rows of a plan. One thread only.
package struct Benchmark {
    /// A sample is long beside reading the clock and waking up, and short beside a time slice of the scheduler, so that
    /// most of them are not interrupted.
    private static let sampleNanoseconds = 400_000.0
    /// Samples of more threads than cores span several time slices.
    private static let scalingSampleNanoseconds = 20_000_000.0
    /// On a noisy machine a row gets up to this many times its rounds, until enough samples were quiet.
    private static let patience = 4

    private let options: BenchmarkOptions
    private let plan: BenchmarkPlan
    /// The words that start a worker; its task follows.
    private let workerCommand: [String]
    private var gauge = NoiseGauge()
    private var failures: [String] = []

    /// - Parameter workerCommand: The command line, with the program's own name first, that calls ``Worker/serve(_:)``
    ///   with the words of ``WorkerTask/arguments`` that are appended.
    package init(_ options: BenchmarkOptions, workerCommand: [String]) {
        self.options = options
        self.workerCommand = workerCommand
        plan = BenchmarkPlan(options)
    }

    /// Measures everything.
    ///
    /// - Parameter progress: Called before each row with the share that is done, 0 to 1, and what comes next.
    package mutating func run(progress: (Double, String) -> Void) -> BenchmarkReport {
        // A first idea of what undisturbed means here, before any sample is judged by it.
        for _ in 0..<200 { gauge.add(Double(cbench_calibrate(8000))) }
        var measured: [(plan: RowPlan, samples: [[Sample]])] = []
        let steps = Double(
            plan.rows.count + (plan.measuresRecorderMemory ? 1 : 0) + (plan.burstMegabytes == nil ? 0 : 1)
        )
        for (number, row) in plan.rows.enumerated() {
            progress(Double(number) / steps, "\(row.group.rawValue) \(row.label)")
            measured.append((row, samples(of: row)))
        }
        var memory: RecorderMemory?
        if plan.measuresRecorderMemory {
            progress(Double(plan.rows.count) / steps, "memory of outstanding buffers")
            memory = recorderMemory()
        }
        var curve: MemoryCurve?
        if let megabytes = plan.burstMegabytes {
            progress((steps - 1) / steps, "memory after a burst")
            curve = memoryCurve(megabytes)
        }
        // Judged at the end, by everything that is known of the machine.
        let rows = measured.compactMap { row($0.plan, $0.samples) }
        return BenchmarkReport(
            configuration: Self.isDebugBuild ? "debug" : "release",
            machine: Machine.current,
            noise: BenchmarkReport.Noise(
                isQuiet: gauge.share >= NoiseGauge.quietShare,
                quietShare: gauge.share,
                samples: gauge.calibrations.count,
                calibrationNanoseconds: gauge.undisturbed
            ),
            rows: rows,
            memory: curve,
            recorderMemory: memory,
            missing: options.missing.map { BenchmarkReport.MissingAllocator(name: $0.name, package: $0.package) },
            failures: failures
        )
    }

    /// Whether this is a build whose figures mean nothing.
    package static var isDebugBuild: Bool {
        #if DEBUG
        true
        #else
        false
        #endif
    }

    private func row(_ plan: RowPlan, _ samples: [[Sample]]) -> BenchmarkRow? {
        let measurements = zip(plan.contenders, samples).map {
            BenchmarkMeasurement(contender: $0.name, samples: $1, gauge: gauge)
        }
        // Without its subject a row says nothing.
        guard let subject = measurements.first, subject != nil else { return nil }
        return BenchmarkRow(
            group: plan.group,
            workload: plan.workload,
            label: plan.label,
            size: plan.size,
            threads: plan.threads,
            measurements: measurements.compactMap { $0 }
        )
    }

    // MARK: - Samples

    /// A contender's worker during a row.
    private final class Runner {
        let index: Int
        var process: WorkerProcess
        var operations = 1
        var samples: [Sample] = []
        var failure: WorkerFailure?

        init(index: Int, process: consuming WorkerProcess) {
            self.index = index
            self.process = process
        }

        /// Finds how many operations fill a sample, which warms everything up as well.
        func prepare(sampleNanoseconds: Double) throws(WorkerFailure) {
            while true {
                let nanoseconds = max(try process.ask(operations)[0], 0.1)
                let wanted = max(1, Int(sampleNanoseconds / nanoseconds))
                // Not at once: the first operations are the slow ones, in particular for who has to map memory first.
                if wanted <= operations * 2 {
                    operations = wanted
                    break
                }
                operations = min(wanted, operations * 8)
            }
            for _ in 0..<3 { _ = try process.ask(operations) }
        }

        func sample() throws(WorkerFailure) -> Sample {
            let answer = try process.ask(operations)
            return Sample(nanoseconds: answer[0], calibration: answer[1])
        }
    }

    private mutating func samples(of row: RowPlan) -> [[Sample]] {
        var result = [[Sample]](repeating: [], count: row.contenders.count)
        let isScaling = row.group == .threads
        let length =
            (isScaling ? Self.scalingSampleNanoseconds : Self.sampleNanoseconds) / (options.isQuick ? 10 : 1)
        var runners: [Runner] = []
        for (index, contender) in row.contenders.enumerated() {
            do {
                let process = try WorkerProcess.start(
                    workerCommand + contender.task.arguments,
                    preload: contender.preload,
                    debug: contender.debug
                )
                let runner = Runner(index: index, process: process)
                try runner.prepare(sampleNanoseconds: length)
                runners.append(runner)
            } catch {
                failures.append("\(row.group.rawValue) \(row.label): \(contender.name): \(error)")
            }
        }
        // Long samples average the noise by themselves.
        let rounds = isScaling ? min(options.rounds, 15) : options.rounds
        let patience = options.isQuick || isScaling ? 1 : Self.patience
        var round = 0
        while round < rounds * patience, !runners.isEmpty {
            // Everybody is first, second, … equally often: who follows a large sample finds colder caches.
            for turn in runners.indices {
                let runner = runners[(turn + round) % runners.count]
                do {
                    let sample = try runner.sample()
                    gauge.add(sample.calibration)
                    runner.samples.append(sample)
                } catch {
                    runner.failure = error
                }
            }
            runners.removeAll { runner in
                guard let failure = runner.failure else { return false }
                let contender = row.contenders[runner.index].name
                failures.append("\(row.group.rawValue) \(row.label): \(contender): \(failure)")
                return true
            }
            for runner in runners { result[runner.index] = runner.samples }
            round += 1
            if round >= rounds, round % 8 == 0 || patience == 1, hasEnough(runners) { break }
        }
        return result
    }

    private func hasEnough(_ runners: [Runner]) -> Bool {
        runners.allSatisfy { runner in
            runner.samples.count(where: gauge.isQuiet)
                >= min(options.rounds / 2, BenchmarkMeasurement.enoughSamples * 3)
        }
    }

    // MARK: - Memory

    private mutating func recorderMemory() -> RecorderMemory? {
        do {
            let asleep = try outstandingBytes(debug: Contender.asleep)
            let full = try outstandingBytes(debug: Contender.recording)
            let count = Double(BenchmarkPlan.outstandingBuffers)
            return RecorderMemory(
                buffers: BenchmarkPlan.outstandingBuffers,
                heapBytesPerBuffer: max(0, full.heap - asleep.heap) / count,
                recordingBytesPerBuffer: full.recording / count
            )
        } catch {
            failures.append("recorder: memory of outstanding buffers: \(error)")
            return nil
        }
    }

    private mutating func memoryCurve(_ megabytes: Int) -> MemoryCurve? {
        do {
            let task = WorkerTask(subject: .plain, workload: .memory, size: 65_536, threads: 1)
            var process = try WorkerProcess.start(workerCommand + task.arguments, preload: nil, debug: Contender.asleep)
            guard let curve = MemoryCurve(words: try process.ask(megabytes)) else {
                throw WorkerFailure("the answer is not a curve")
            }
            return curve
        } catch {
            failures.append("memory: \(error)")
            return nil
        }
    }

    private func outstandingBytes(debug: String) throws(WorkerFailure) -> (heap: Double, recording: Double) {
        let task = WorkerTask(subject: .plain, workload: .outstanding, size: 512, threads: 1)
        var process = try WorkerProcess.start(workerCommand + task.arguments, preload: nil, debug: debug)
        let answer = try process.ask(BenchmarkPlan.outstandingBuffers)
        return (answer[0], answer[1])
    }
}

/// What is known of the machine.
enum Machine {
    static var current: BenchmarkReport.Machine {
        var name = utsname()
        uname(&name)
        let kernel = withUnsafeBytes(of: &name.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        let machine = withUnsafeBytes(of: &name.machine) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        return BenchmarkReport.Machine(
            processor: modelName ?? machine,
            processors: Int(cbench_processor_count()),
            kernel: kernel
        )
    }

    private static var modelName: String? {
        guard let file = fopen("/proc/cpuinfo", "r") else { return nil }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 1024)
        while fgets(&line, Int32(line.count), file) != nil {
            let bytes = line.prefix { $0 != 0 && $0 != 10 }.map { UInt8(bitPattern: $0) }
            let text = String(decoding: bytes, as: UTF8.self)
            guard text.hasPrefix("model name"), let colon = text.firstIndex(of: ":") else { continue }
            return text[text.index(after: colon)...].split(separator: " ").joined(separator: " ")
        }
        return nil
    }
}

extension BenchmarkOptions {
    /// Processors this process may use.
    package static var availableProcessors: Int { Int(cbench_processor_count()) }
}

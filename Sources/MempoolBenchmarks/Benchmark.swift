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
    /// Each contender of a row is started so many times, one after the other. Where a process has its code and its memory decides now
    /// and then how fast it is, all its life: one in thirty runs a loop half as fast as the others.
    private static let lives = 3
    /// On a noisy machine a row gets up to this many times its rounds, until enough samples were quiet.
    private static let patience = 4

    private let options: BenchmarkOptions
    private let plan: BenchmarkPlan
    /// The words that start a worker; its task follows.
    private let workerCommand: [String]
    /// The words that make a report; a recording follows.
    private let reportCommand: [String]
    /// One for each program that takes samples, by its path, the own one's under "": another compiler's calibration
    /// kernel has another undisturbed time.
    private var gauges = ["": NoiseGauge()]
    private var failures: [String] = []
    /// Set once somebody wants no more of it.
    private var wasInterrupted = false
    private var isInterrupted: () -> Bool = { false }

    /// - Parameter workerCommand: The command line, with the program's own name first, that calls ``Worker/serve(_:)``
    ///   with the words of ``WorkerTask/arguments`` that are appended.
    /// - Parameter reportCommand: The same for `report`; a recording's path is appended.
    package init(_ options: BenchmarkOptions, workerCommand: [String], reportCommand: [String]) {
        self.options = options
        self.workerCommand = workerCommand
        self.reportCommand = reportCommand
        plan = BenchmarkPlan(options)
    }

    /// Measures everything.
    ///
    /// - Parameters:
    ///   - isInterrupted: Asked between samples whether somebody wants no more of it.
    ///   - progress: Called before each row with the share that is done, 0 to 1, and what comes next.
    /// - Returns: Nil if it was interrupted.
    package mutating func run(
        isInterrupted: @escaping () -> Bool, progress: (Double, String) -> Void
    ) -> BenchmarkReport? {
        self.isInterrupted = isInterrupted
        // A first idea of what undisturbed means here, before any sample is judged by it.
        for _ in 0..<200 { gauges["", default: NoiseGauge()].add(Double(cbench_calibrate(8000))) }
        var measured: [(plan: RowPlan, samples: [[Sample]])] = []
        let steps = Double(
            plan.rows.count + (plan.measuresRecorder ? 1 : 0) + (plan.burstMegabytes == nil ? 0 : 1)
        )
        for (number, row) in plan.rows.enumerated() {
            if shouldStop() { return nil }
            progress(Double(number) / steps, "\(row.group.rawValue) \(row.label)")
            measured.append((row, samples(of: row)))
        }
        // Rows that stayed noisy get another chance when all others are done: neighbours go after a while.
        let noisy = measured.indices.filter { Self.isNoisy(measured[$0].plan, measured[$0].samples, gauges) }
        for (number, index) in noisy.enumerated() where !options.isQuick {
            if shouldStop() { return nil }
            let row = measured[index].plan
            progress(Double(number) / Double(noisy.count), "again, was noisy: \(row.group.rawValue) \(row.label)")
            for (contender, more) in samples(of: row).enumerated() { measured[index].samples[contender] += more }
        }
        var recorder: RecorderCost?
        if plan.measuresRecorder, !shouldStop() {
            progress(Double(plan.rows.count) / steps, "recorder start, memory and report")
            recorder = recorderCost()
        }
        var curve: MemoryCurve?
        if let megabytes = plan.burstMegabytes, !shouldStop() {
            progress((steps - 1) / steps, "memory after a burst")
            curve = memoryCurve(megabytes)
        }
        if shouldStop() { return nil }
        // Judged at the end, by everything that is known of the machine.
        let rows = measured.compactMap { row($0.plan, $0.samples) }
        let samples = gauges.values.reduce(0) { $0 + $1.calibrations.count }
        let quietShare = Double(gauges.values.reduce(0) { $0 + $1.quietCount }) / Double(max(1, samples))
        return BenchmarkReport(
            configuration: Self.isDebugBuild ? "debug" : "release",
            machine: Machine.current,
            noise: BenchmarkReport.Noise(
                isQuiet: quietShare >= NoiseGauge.quietShare,
                quietShare: quietShare,
                samples: samples,
                calibrationNanoseconds: gauge("").undisturbed
            ),
            rows: rows,
            memory: curve,
            recorder: recorder,
            peers: options.peers,
            missing: options.missing,
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

    /// Asks at most until the answer was yes.
    private mutating func shouldStop() -> Bool {
        if !wasInterrupted { wasInterrupted = isInterrupted() }
        return wasInterrupted
    }

    private func gauge(_ program: String) -> NoiseGauge { gauges[program] ?? NoiseGauge() }

    /// Whether some contender that could be measured has too few quiet samples. Long samples average by themselves.
    static func isNoisy(_ plan: RowPlan, _ samples: [[Sample]], _ gauges: [String: NoiseGauge]) -> Bool {
        plan.group != .threads
            && zip(plan.contenders, samples).contains { contender, samples in
                !samples.isEmpty && gauges[contender.program]?.hasEnough(samples) == false
            }
    }

    private func row(_ plan: RowPlan, _ samples: [[Sample]]) -> BenchmarkRow? {
        // All sizes alike: their times differ less than quiet ones from others.
        let isEstimate = plan.group == .flatness && Self.isNoisy(plan, samples, gauges)
        let measurements = zip(plan.contenders, samples).map {
            BenchmarkMeasurement(
                contender: $0.name, limit: $0.limit, samples: $1, gauge: gauge($0.program), asEstimate: isEstimate)
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
        let program: String
        var process: WorkerProcess
        var operations = 1
        var samples: [Sample] = []
        var failure: WorkerFailure?

        init(index: Int, program: String, process: consuming WorkerProcess) {
            self.index = index
            self.program = program
            self.process = process
        }

        /// Finds how many operations fill a sample, which warms everything up as well.
        func prepare(sampleNanoseconds: Double) throws(WorkerFailure) {
            operations = try SampleLength.operations(filling: sampleNanoseconds) { count throws(WorkerFailure) in
                try process.ask(count)[0]
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
        // Long samples average by themselves.
        let isScaling = row.group == .threads
        let lives = isScaling || options.isQuick ? 1 : Self.lives
        let rounds = ((isScaling ? min(options.rounds, 15) : options.rounds) + lives - 1) / lives
        for _ in 0..<lives where !shouldStop() {
            for (index, samples) in samplesOfOneLife(row, rounds: rounds, isScaling: isScaling).enumerated() {
                result[index] += samples
            }
        }
        return result
    }

    /// The samples of all contenders of a row from their start to their end.
    private mutating func samplesOfOneLife(_ row: RowPlan, rounds: Int, isScaling: Bool) -> [[Sample]] {
        var result = [[Sample]](repeating: [], count: row.contenders.count)
        let length =
            (isScaling ? Self.scalingSampleNanoseconds : Self.sampleNanoseconds) / (options.isQuick ? 10 : 1)
        var runners: [Runner] = []
        for (index, contender) in row.contenders.enumerated() {
            do {
                let runner = Runner(index: index, program: contender.program, process: try start(contender))
                try runner.prepare(sampleNanoseconds: length)
                runners.append(runner)
            } catch {
                didFail(row, contender.name, error)
            }
        }
        let patience = options.isQuick || isScaling ? 1 : Self.patience
        var round = 0
        while round < rounds * patience, !runners.isEmpty, !shouldStop() {
            // Everybody is first, second, … equally often: who follows a large sample finds colder caches.
            for turn in runners.indices {
                let runner = runners[(turn + round) % runners.count]
                do {
                    let sample = try runner.sample()
                    gauges[runner.program, default: NoiseGauge()].add(sample.calibration)
                    runner.samples.append(sample)
                } catch {
                    runner.failure = error
                }
            }
            runners.removeAll { runner in
                guard let failure = runner.failure else { return false }
                didFail(row, row.contenders[runner.index].name, failure)
                return true
            }
            for runner in runners { result[runner.index] = runner.samples }
            round += 1
            if round >= rounds, round % 8 == 0 || patience == 1, hasEnough(runners, of: rounds) { break }
        }
        return result
    }

    private mutating func didFail(_ row: RowPlan, _ contender: String, _ failure: WorkerFailure) {
        let line = "\(row.group.rawValue) \(row.label): \(contender): \(failure)"
        // Each of its lives may end like that.
        if !failures.contains(line) { failures.append(line) }
    }

    private func hasEnough(_ runners: [Runner], of rounds: Int) -> Bool {
        runners.allSatisfy { runner in
            runner.samples.count(where: gauge(runner.program).isQuiet)
                >= min(rounds / 2, BenchmarkMeasurement.enoughSamples)
        }
    }

    // MARK: - Memory

    private mutating func recorderCost() -> RecorderCost? {
        do {
            let recording = "\(options.directory)/outstanding.mempool"
            // Buffers that are never put are findings, so each of these recordings stays. Removed before, too: a run that was
            // broken off may have left them in a directory that is not removed.
            let bareRecording = "\(recording).bare"
            func removeRecordings() { for path in [recording, bareRecording] { unlink(path) } }
            removeRecordings()
            defer { removeRecordings() }
            let firstGet = try firstGetNanoseconds()
            let asleep = try outstandingBytes(debug: Contender.asleep)
            let bare = try outstandingBytes(debug: "\(Contender.recording),canary=0,recording=\(bareRecording)")
            let full = try outstandingBytes(debug: "\(Contender.recording),recording=\(recording)")
            let report = try ChildProcess.run(
                nil, reportCommand + [recording], environment: ProcessEnvironment.own(with: ["MEMPOOL_DEBUG=off"])
            )
            // 1: it has findings, since the buffers were never put.
            guard report.status == 1 else {
                throw WorkerFailure("the report of the recording ended with status \(report.status)")
            }
            return RecorderCost(
                firstGetNanoseconds: firstGet.full,
                firstGetAsleepNanoseconds: firstGet.asleep,
                buffers: plan.outstandingBuffers,
                size: BenchmarkPlan.recordedSize,
                stacks: BenchmarkPlan.outstandingStacks,
                residentBytes: max(0, full.resident - asleep.resident),
                recordingBytes: full.recording,
                redZoneBytes: max(0, full.resident - bare.resident),
                reportSeconds: report.seconds,
                reportPeakBytes: Double(report.peakBytes)
            )
        } catch {
            failures.append("recorder: start, memory and report: \(error)")
            return nil
        }
    }

    /// The medians of what the first get takes in fresh processes, one after the other with and without the recorder.
    private mutating func firstGetNanoseconds() throws(WorkerFailure) -> (full: Double, asleep: Double) {
        var full: [Double] = []
        var asleep: [Double] = []
        var contender = Contender(
            name: "first get",
            task: WorkerTask(subject: .plain, workload: .firstGet, size: BenchmarkPlan.recordedSize, threads: 1)
        )
        for _ in 0..<options.rounds {
            contender.debug = Contender.recording
            full.append(try answer(contender, to: 1)[0])
            contender.debug = Contender.asleep
            asleep.append(try answer(contender, to: 1)[0])
        }
        return (Statistics.median(full) ?? 0, Statistics.median(asleep) ?? 0)
    }

    private mutating func outstandingBytes(debug: String) throws(WorkerFailure) -> (resident: Double, recording: Double)
    {
        let task = WorkerTask(subject: .plain, workload: .outstanding, size: BenchmarkPlan.recordedSize, threads: 1)
        let contender = Contender(name: "outstanding", task: task, debug: debug)
        let answer = try answer(contender, to: plan.outstandingBuffers)
        return (answer[0], answer[1])
    }

    /// Starts a worker for one question; it has ended when this returns.
    private mutating func answer(_ contender: Contender, to number: Int) throws(WorkerFailure) -> [Double] {
        guard !shouldStop() else { throw WorkerFailure("interrupted") }
        var process = try start(contender)
        return try process.ask(number)
    }

    private func start(_ contender: Contender) throws(WorkerFailure) -> WorkerProcess {
        guard let instrument = contender.instrument else {
            return try WorkerProcess.start(
                workerCommand + contender.task.arguments,
                preload: contender.preload,
                environment: ["MEMPOOL_DEBUG=\(contender.debug)"]
            )
        }
        return try WorkerProcess.start(
            [instrument.program, "\(contender.task.size)", "\(contender.task.threads)"],
            program: instrument.program,
            preload: contender.preload,
            environment: instrument.environment
        )
    }

    private mutating func memoryCurve(_ megabytes: Int) -> MemoryCurve? {
        do {
            let task = WorkerTask(subject: .plain, workload: .memory, size: 65_536, threads: 1)
            let contender = Contender(name: "memory", task: task)
            guard let curve = MemoryCurve(words: try answer(contender, to: megabytes)) else {
                throw WorkerFailure("the answer is not a curve")
            }
            return curve
        } catch {
            failures.append("memory: \(error)")
            return nil
        }
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

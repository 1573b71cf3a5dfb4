// `Worker`: the measuring side, in a process of its own per contender.

internal import CMempoolBenchmarks
internal import Glibc
internal import Mempool

/// Serves one task over standard input and output.
///
/// It answers each line it reads with one line: first, unasked, `ready LIBRARY`, the file that malloc comes from; then to
/// a number of operations `NANOSECONDS CALIBRATION`, both per sample; at the end of its input it ends.
package enum Worker {
    /// Frames below a recorded get: as deep as a request handler sits in a server.
    static let recordedDepth = 16
    /// Buffers that are handed over together.
    private static let handoffBatch = 32
    /// The most a hand-over keeps outstanding, buffers and bytes.
    private static let handoffLimit = (buffers: 128, bytes: 64 << 20)
    /// Blocks outstanding at a time.
    private static let fifoDepth = 64
    private static let pagesDepth = 8

    /// Runs until standard input ends. False if the task could not be set up.
    package static func serve(_ task: WorkerTask) -> Bool {
        if task.workload == .outstanding { return serveOutstanding(task) }
        if task.workload == .firstGet { return serveFirstGet(task) }
        if task.workload == .memory {
            sayReady()
            while let line = readLine() {
                guard let megabytes = Int(line), megabytes > 0 else { return false }
                answer(MemoryCurve.measure(burstBytes: megabytes << 20).words)
            }
            return true
        }
        guard let crew = makeCrew(task) else { return false }
        sayReady()
        while let line = readLine() {
            guard let operations = Int(line), operations > 0 else { return false }
            let timing = crew.sample(operations)
            answer("\(timing.nanoseconds) \(timing.calibration)")
        }
        crew.finish()
        return true
    }

    private static func sayReady() {
        answer("ready \(cbench_malloc_library().map { String(cString: $0) } ?? "?")")
    }

    private static func answer(_ text: String) {
        // A pipe takes a line as a whole; if nobody reads any more, the input ends as well.
        let line = Array("\(text)\n".utf8)
        _ = write(STDOUT_FILENO, line, line.count)
    }

    /// Answers a number of buffers with `RESIDENT RECORDING`: the bytes that so many outstanding buffers, got from
    /// ``BenchmarkPlan/outstandingStacks`` stacks, added to this process and to its recording.
    ///
    /// They are never put: the recording is to have them.
    private static func serveOutstanding(_ task: WorkerTask) -> Bool {
        // The first use sets up what does not grow.
        putBuffer(getBuffer(task.size))
        sayReady()
        while let line = readLine() {
            guard let count = Int(line), count > 0 else { return false }
            let resident = MemoryCurve.residentBytes()
            let recording = ownRecordingBytes()
            let stacks = BenchmarkPlan.outstandingStacks
            for number in 0..<stacks {
                var share = Share(size: task.size, count: count * (number + 1) / stacks - count * number / stacks)
                cbench_from_stack(Int32(number), getShare, &share)
            }
            answer("\(max(0, MemoryCurve.residentBytes() - resident)) \(max(0, ownRecordingBytes() - recording))")
        }
        return true
    }

    /// What to get from one stack.
    private struct Share {
        var size: Int
        var count: Int
    }

    private static let getShare: @convention(c) (UnsafeMutableRawPointer?) -> Void = { context in
        guard let share = context?.load(as: Share.self) else { return }
        for _ in 0..<share.count {
            getBuffer(share.size).withUnsafeMutableBytes { if let base = $0.baseAddress { cbench_touch(base) } }
        }
    }

    /// Answers anything with the nanoseconds that the first get took.
    private static func serveFirstGet(_ task: WorkerTask) -> Bool {
        let start = cbench_now()
        let buffer = getBuffer(task.size)
        let end = cbench_now()
        putBuffer(buffer)
        sayReady()
        while readLine() != nil { answer("\(end - start) 0") }
        return true
    }

    /// Bytes on disk of the recording that this process has mapped; 0 without one.
    private static func ownRecordingBytes() -> Int {
        guard let maps = fopen("/proc/self/maps", "r") else { return 0 }
        defer { fclose(maps) }
        var line = [CChar](repeating: 0, count: 8192)
        while fgets(&line, Int32(line.count), maps) != nil {
            let bytes = line.prefix { $0 != 0 && $0 != 10 }.map { UInt8(bitPattern: $0) }
            let text = String(decoding: bytes, as: UTF8.self)
            guard text.hasSuffix(".mempool"), let slash = text.firstIndex(of: "/") else { continue }
            var information = stat()
            guard stat(String(text[slash...]), &information) == 0 else { continue }
            return Int(information.st_blocks) * 512
        }
        return 0
    }

    // MARK: - From names to code

    private static func makeCrew(_ task: WorkerTask) -> Crew? {
        switch task.subject {
        case .plain: crew(task, PlainSubject())
        case .instance: crew(task, InstanceSubject())
        case .zeroOnGet: crew(task, InstanceSubject(zeroing: .onGet))
        case .zeroOnPut: crew(task, InstanceSubject(zeroing: .onPut))
        case .memset: pairCrew(task, MemsetSubject())
        case .malloc: crew(task, MallocSubject())
        case .allocate: crew(task, AllocateSubject())
        case .array: crew(task, ArraySubject())
        case .fresh: crew(task, FreshSubject())
        case .withBuffer: pairCrew(task, WithBufferSubject())
        case .lease: pairCrew(task, LeaseSubject())
        }
    }

    @inline(__always)
    private static func crew<Subject: BlockSubject>(_ task: WorkerTask, _ subject: Subject) -> Crew? {
        let size = task.size
        switch task.workload {
        case .fifo, .pages:
            let isPages = task.workload == .pages
            return Crew(count: task.threads, clock: .perThread) { _ in
                let workload = FirstInFirstOutWorkload(
                    subject,
                    size: size,
                    depth: isPages ? pagesDepth : fifoDepth,
                    touchesPages: isPages
                )
                return Workload {
                    workload.run($0)
                } finish: {
                    workload.finish()
                }
            }
        case .handoff, .handoffSingly:
            var capacity = handoffLimit.buffers
            while capacity > 4, capacity * size > handoffLimit.bytes { capacity /= 2 }
            let ring = HandoffRing<Subject.Block>(
                capacity: capacity,
                batch: task.workload == .handoff ? min(handoffBatch, capacity / 4) : 1
            )
            return Crew(count: 2, clock: .together) { number in
                if number == 0 {
                    let workload = ProducerWorkload(subject, size: size, ring: ring)
                    return Workload { workload.run($0) }
                }
                let workload = ConsumerWorkload(subject, ring: ring)
                return Workload { workload.run($0) }
            }
        default: return pairCrew(task, subject)
        }
    }

    /// The workloads that any subject can run.
    @inline(__always)
    private static func pairCrew<Subject: PairSubject>(_ task: WorkerTask, _ subject: Subject) -> Crew? {
        let size = task.size
        switch task.workload {
        case .pair, .scaling:
            return Crew(count: task.threads, clock: task.workload == .pair ? .perThread : .throughput) { _ in
                let workload = PairWorkload(subject, size: size)
                return Workload { workload.run($0) }
            }
        case .recorded:
            return Crew(count: task.threads, clock: .perThread) { _ in
                let workload = DeepPairWorkload(subject, size: size, depth: recordedDepth)
                return Workload { workload.run($0) }
            }
        case .lognormal, .zipf:
            let sizes = task.workload == .zipf ? SizeStream.zipf : SizeStream.lognormal
            return Crew(count: task.threads, clock: .perThread) { _ in
                let workload = MixedWorkload(subject, sizes: sizes)
                return Workload { workload.run($0) }
            }
        case .fifo, .pages, .handoff, .handoffSingly, .firstGet, .outstanding, .memory: return nil
        }
    }
}

// `Crew`: the threads of a worker, started once, that run a workload each whenever a sample is taken.

internal import CMempoolBenchmarks
internal import Glibc
internal import Synchronization

/// One timed run.
struct Timing: Sendable, Equatable {
    /// Nanoseconds per operation.
    var nanoseconds: Double
    /// The slowest calibration around it, nanoseconds.
    var calibration: Double
}

/// How the times of several threads become one.
enum CrewClock {
    /// The mean of what each thread needed: what an operation costs its caller.
    case perThread
    /// From the first start to the last end, over the operations of one thread: both ends of a hand-over work on one.
    case together
    /// From the first start to the last end, over the operations of all threads: their total throughput.
    case throughput
}

/// Runs workloads on threads of their own, or a single one on the calling thread.
///
/// The threads live as long as the crew, as those of a server do: what an allocator keeps for each stays warm. A process
/// that measures one thread never starts another, since the C library takes no locks until then.
final class Crew: @unchecked Sendable {
    // Unchecked: `operations` and `samples` are written before the start barrier and read after it; each thread writes its own
    // element of `spans` before the end barrier, and the caller reads them after it.
    private struct Span {
        var start: UInt64 = 0
        var end: UInt64 = 0
        var calibration: UInt64 = 0
    }

    /// Iterations of the calibration kernel: about 10 µs, short beside a sample and long beside reading the clock.
    private static let calibrationIterations = 8000

    private let clock: CrewClock
    private let count: Int
    private let makeWorkload: @Sendable (Int) -> Workload
    private let soleWorkload: Workload?
    /// Start, end, and the last one before the clock starts if there are more threads than cores.
    private let barriers: UnsafeMutablePointer<pthread_barrier_t>
    /// Threads that were ever ready to be timed; where each has a core of its own they wait for each other by spinning,
    /// since waking up takes longer than a sample may err.
    private let ready = Atomic<Int>(0)
    private let hasCores: Bool
    private var samples = 0
    private let spans: UnsafeMutablePointer<Span>
    private var operations = 0
    private var threads: [pthread_t] = []

    /// - Parameters:
    ///   - count: Threads; 1 means the calling thread.
    ///   - makeWorkload: Called once on each thread with its number.
    /// - Returns: Nil if the system has no threads left.
    init?(count: Int, clock: CrewClock, makeWorkload: @escaping @Sendable (Int) -> Workload) {
        self.count = count
        self.clock = clock
        self.makeWorkload = makeWorkload
        hasCores = count <= Int(cbench_processor_count())
        barriers = .allocate(capacity: 3)
        spans = .allocate(capacity: count)
        spans.initialize(repeating: Span(), count: count)
        soleWorkload = count == 1 ? makeWorkload(0) : nil
        guard count > 1 else { return }
        pthread_barrier_init(barriers, nil, UInt32(count + 1))
        pthread_barrier_init(barriers + 1, nil, UInt32(count + 1))
        pthread_barrier_init(barriers + 2, nil, UInt32(count))
        for number in 0..<count {
            let context = Unmanaged.passRetained(Member(crew: self, number: number))
            var thread = pthread_t()
            let failure = pthread_create(
                &thread,
                nil,
                { context in
                    if let context { Unmanaged<Member>.fromOpaque(context).takeRetainedValue().main() }
                    return nil
                },
                context.toOpaque()
            )
            // The others wait at the barrier for ever; the worker says so and ends.
            guard failure == 0 else { return nil }
            threads.append(thread)
        }
    }

    private final class Member: Sendable {
        private let crew: Crew
        private let number: Int

        init(crew: Crew, number: Int) {
            self.crew = crew
            self.number = number
        }

        func main() { crew.work(number) }
    }

    private func work(_ number: Int) {
        // One thread per core where they suffice; otherwise where to run them is the scheduler's business.
        if hasCores { cbench_bind(Int32(number)) }
        let workload = makeWorkload(number)
        while true {
            pthread_barrier_wait(barriers)
            guard operations > 0 else { break }
            measure(workload, number)
            pthread_barrier_wait(barriers + 1)
        }
        workload.finish()
    }

    private func measure(_ workload: Workload, _ number: Int) {
        // The last sample is a while ago and others ran since: get the code and the data back into the caches. Both
        // ends of a hand-over have to do the same number.
        workload.run(max(1, operations / 16))
        // Of many threads only the first calibrate: the others would be timed as part of the whole.
        let calibrates = hasCores || number < Int(cbench_processor_count())
        let before = calibrates ? cbench_calibrate(Self.calibrationIterations) : 0
        meet()
        var span = Span(start: cbench_now())
        workload.run(operations)
        span.end = cbench_now()
        span.calibration = max(before, calibrates ? cbench_calibrate(Self.calibrationIterations) : 0)
        spans[number] = span
    }

    /// Waits until all threads are here.
    private func meet() {
        guard count > 1 else { return }
        guard hasCores else {
            pthread_barrier_wait(barriers + 2)
            return
        }
        ready.add(1, ordering: .acquiringAndReleasing)
        var spins = 0
        while ready.load(ordering: .acquiring) < samples * count {
            cbench_pause()
            spins += 1
            if spins % 1000 == 0 { sched_yield() }
        }
    }

    /// Takes a sample of so many operations per thread.
    func sample(_ operations: Int) -> Timing {
        self.operations = operations
        samples += 1
        if let soleWorkload {
            measure(soleWorkload, 0)
        } else {
            pthread_barrier_wait(barriers)
            pthread_barrier_wait(barriers + 1)
        }
        let all = UnsafeBufferPointer(start: spans, count: count)
        let calibration = all.map(\.calibration).max() ?? 0
        let start = all.map(\.start).min() ?? 0
        let end = all.map(\.end).max() ?? 0
        let nanoseconds: Double =
            switch clock {
            case .perThread: all.reduce(0) { $0 + Double($1.end - $1.start) } / Double(count * operations)
            case .together: Double(end - start) / Double(operations)
            case .throughput: Double(end - start) / Double(count * operations)
            }
        return Timing(nanoseconds: nanoseconds, calibration: Double(calibration))
    }

    /// Ends the threads and gives back what the workloads hold.
    func finish() {
        operations = 0
        soleWorkload?.finish()
        guard count > 1 else { return }
        pthread_barrier_wait(barriers)
        for thread in threads { pthread_join(thread, nil) }
    }
}

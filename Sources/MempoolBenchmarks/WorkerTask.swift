// `WorkerTask`: what one worker process is to measure, in the words of its command line.

/// The subjects a worker can measure, by the names of its command line.
package enum SubjectName: String, CaseIterable, Sendable {
    case plain
    case instance
    case zeroOnGet = "zero-on-get"
    case zeroOnPut = "zero-on-put"
    /// As `instance`, and the caller zeroes.
    case memset
    case withBuffer = "with-buffer"
    case lease
    case malloc
    case allocate
    case array
    case fresh
}

/// The loops a worker can run.
package enum WorkloadName: String, CaseIterable, Sendable {
    case pair
    case lognormal
    case zipf
    case fifo
    /// Got on one thread and put on another, handed over 32 at a time.
    case handoff
    /// The same, handed over one by one.
    case handoffSingly = "handoff-singly"
    case pages
    /// As `pair`, timed over all threads together.
    case scaling
    /// As `pair`, below a stack of 16 frames.
    case recorded
    /// The first get of the process, which starts the recorder.
    case firstGet = "first-get"
    /// Not timed: the memory that outstanding buffers cost.
    case outstanding
    /// Not timed: what stays in memory after a burst.
    case memory
}

/// What one worker process is to measure.
package struct WorkerTask: Sendable, Equatable {
    package var subject: SubjectName
    package var workload: WorkloadName
    /// Bytes per get; without meaning for mixed sizes.
    package var size: Int
    package var threads: Int

    package init(subject: SubjectName, workload: WorkloadName, size: Int, threads: Int) {
        self.subject = subject
        self.workload = workload
        self.size = size
        self.threads = threads
    }

    /// Four words for the worker's command line.
    package var arguments: [String] { [subject.rawValue, workload.rawValue, String(size), String(threads)] }

    /// Nil unless `arguments` are what another task's `arguments` gave.
    package init?(arguments: [String]) {
        guard arguments.count == 4, let subject = SubjectName(rawValue: arguments[0]),
            let workload = WorkloadName(rawValue: arguments[1]), let size = Int(arguments[2]), size > 0,
            let threads = Int(arguments[3]), (1...1024).contains(threads)
        else { return nil }
        self.init(subject: subject, workload: workload, size: size, threads: threads)
    }
}

// What a workload is asked to do, what it says it did, and why it could not.
// All of it is Codable, because the doctor hands it to a process of its own and back.

/// What a workload is asked to do. Which of it a workload uses is said in its ``WorkloadInfo``.
package struct WorkloadOptions: Sendable, Codable, Equatable {
    /// A regular file to take the records from; nil for generated ones. Only `segment` reads one.
    package var input: String?
    /// Bytes per record: blocks of this size instead of lines, and the size of generated values. Only `segment`.
    package var recordBytes: Int?
    /// How often the workload does its work; nil for its default. With an input: records taken from it at most.
    package var operations: Int?
    /// Two runs with the same seed, operations and threads do the same work.
    package var seed: UInt64 = 1
    /// Threads that share the operations, 1 to ``maximumThreads``.
    package var threads = 1
    /// Where to make the work directory; nil for the system's temporary directory.
    package var directory: String?
    /// A mistake to make on purpose.
    package var plant: PlantedFault?

    /// Enough for every machine a pool is tried on; each thread has a segment, a window and a stack of its own.
    package static let maximumThreads = 256
    /// The largest value a record may have in `segment`, less than a bucket so that key and header fit as well.
    package static let maximumRecordBytes = (16 << 20) - 64

    package init() {}

    /// Checks the numbers.
    func validate(for workload: WorkloadInfo) throws(WorkloadError) {
        if let operations, operations < 1 {
            throw WorkloadError(usage: "the number of operations must be at least 1, not \(operations)")
        }
        guard (1...Self.maximumThreads).contains(threads) else {
            throw WorkloadError(usage: "the number of threads must be 1 to \(Self.maximumThreads), not \(threads)")
        }
        if let recordBytes, !(1...Self.maximumRecordBytes).contains(recordBytes) {
            throw WorkloadError(
                usage: "the record size must be 1 to \(Self.maximumRecordBytes) bytes, not \(recordBytes)"
            )
        }
        if !workload.readsInput, input != nil || recordBytes != nil {
            throw WorkloadError(usage: "workload \(workload.name) takes no input and no record size; segment does")
        }
    }
}

/// A mistake that a workload makes on purpose, so that its report can be seen.
package struct PlantedFault: Sendable, Codable, Equatable {
    package enum Kind: String, Sendable, Codable, CaseIterable {
        case leak
        case doublePut = "double-put"
        case wrongCapacity = "wrong-capacity"
        case foreignPut = "foreign-put"
        case wrongPool = "wrong-pool"
        case useAfterPut = "use-after-put"
        case overrun
        case poolDestroyed = "pool-destroyed"
        case heldTooLong = "held-too-long"
    }

    package var kind: Kind
    /// Probability per operation, above 0 and up to 1. Whatever the rate, every form of the fault happens once at least.
    package var rate: Double
    /// How long a buffer is held, at the end of the run, that is held too long: longer than any other.
    package var heldSeconds = 3.0

    /// Destroyed pools with buffers outstanding keep their place in the process and in its recording, so there are only so
    /// many in a run, whatever the rate.
    package static let destroyedPoolLimit = 16

    /// A handful in a default run.
    package static let defaultRate = 0.001

    package init(kind: Kind, rate: Double = Self.defaultRate) {
        precondition(rate > 0 && rate <= 1, "a rate is above 0 and at most 1")
        self.kind = kind
        self.rate = rate
    }

    /// Reads `KIND` or `KIND:RATE`, as in `leak:0.01`.
    package init(parsing text: String) throws(WorkloadError) {
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        guard let first = parts.first, let kind = Kind(rawValue: String(first)) else {
            let kinds = Kind.allCases.map(\.rawValue).joined(separator: ", ")
            throw WorkloadError(usage: "no fault '\(parts.first ?? "")' can be planted; the kinds are \(kinds)")
        }
        var rate = Self.defaultRate
        if parts.count == 2 {
            guard let number = Double(parts[1]), number > 0, number <= 1 else {
                throw WorkloadError(
                    usage: "the rate '\(parts[1])' of \(kind.rawValue) is not a number above 0 and up to 1"
                )
            }
            rate = number
        }
        self.init(kind: kind, rate: rate)
    }
}

/// What a workload did.
package struct WorkloadSummary: Sendable, Codable, Equatable {
    package var name: String
    /// For people: what was done and verified, a sentence per line.
    package var lines: [String]
    /// For programs: the same as numbers. `operations`, `bytes`, `threads` and `plantedFaults` are always there.
    package var facts: [String: Int]

    package init(name: String, lines: [String], facts: [String: Int]) {
        self.name = name
        self.lines = lines
        self.facts = facts
    }
}

/// Why a workload could not do its work, in one line.
package struct WorkloadError: Error, Sendable, Codable, Equatable, CustomStringConvertible {
    /// One line without a full stop, ready to follow the name of a program and a colon.
    package var description: String
    /// Whether the request makes no sense, as opposed to work that failed.
    package var isUsage: Bool

    package init(_ description: String) {
        self.description = description
        self.isUsage = false
    }

    package init(usage description: String) {
        self.description = description
        self.isUsage = true
    }
}

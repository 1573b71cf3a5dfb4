// The workloads there are, by name.

package import Mempool

/// A workload that can be run.
package struct WorkloadInfo: Sendable, Equatable {
    package let name: String
    /// One line: what it does.
    package let abstract: String
    /// Operations when none are asked for.
    package let defaultOperations: Int
    /// Whether ``WorkloadOptions/input`` and ``WorkloadOptions/recordBytes`` mean something to it.
    package let readsInput: Bool
}

/// The list of workloads, and the way to run one.
package enum WorkloadCatalog {
    package static let all: [WorkloadInfo] = [
        WorkloadInfo(
            name: "message",
            abstract: "Copy messages of mixed sizes into buffers and process them (get, use, put in one function).",
            defaultOperations: 20_000,
            readsInput: false
        ),
        WorkloadInfo(
            name: "encode-decode",
            abstract: "Encode records into buffers that the caller puts, and decode them again.",
            defaultOperations: 10_000,
            readsInput: false
        ),
        WorkloadInfo(
            name: "batch",
            abstract: "Encode many records into one large buffer, and walk through it again.",
            defaultOperations: 500,
            readsInput: false
        ),
        WorkloadInfo(
            name: "segment",
            abstract: "Write records of a file to a log with indexes, reopen it, read all back and verify them.",
            defaultOperations: 5_000,
            readsInput: true
        ),
    ]

    /// What runs when no workload is named: all of them, in this order.
    package static let standardSet: [String] = all.map(\.name)

    /// The workload with a name.
    package static func info(_ name: String) throws(WorkloadError) -> WorkloadInfo {
        guard let info = all.first(where: { $0.name == name }) else {
            let names = all.map(\.name).joined(separator: ", ")
            throw WorkloadError(usage: "there is no workload '\(name)'; the workloads are \(names)")
        }
        return info
    }

    /// Runs a workload to its end on this thread and, if asked for, on further ones.
    ///
    /// When it returns or throws, every buffer is back in the pool, except those of a planted leak, and its work
    /// directory is gone.
    ///
    /// - Parameter pool: Where every buffer comes from.
    /// - Throws: ``WorkloadError``: the options make no sense, the input cannot be read, the disk is full, or the
    ///   verification failed.
    package static func run(
        _ name: String,
        _ options: WorkloadOptions = WorkloadOptions(),
        pool: BufferPool = .shared
    ) throws(WorkloadError) -> WorkloadSummary {
        let info = try info(name)
        try options.validate(for: info)
        let job = WorkloadJob(info: info, options: options, pool: pool)
        switch name {
        case "message": return try MessageWorkload.run(job)
        case "encode-decode": return try EncodeDecodeWorkload.run(job)
        case "batch": return try BatchWorkload.run(job)
        case "segment": return try SegmentWorkload.run(job)
        default: preconditionFailure("workload \(name) is listed but not implemented")
        }
    }
}

/// One run of a workload: what was asked for, and the pool to do it with.
struct WorkloadJob: Sendable {
    let info: WorkloadInfo
    let options: WorkloadOptions
    let pool: BufferPool

    var operations: Int { options.operations ?? info.defaultOperations }

    /// The share of a thread: as equal as possible, all shares together make ``operations``.
    func operations(ofThread thread: Int) -> Int { share(of: operations, thread) }

    private func share(of total: Int, _ thread: Int) -> Int {
        total / options.threads + (thread < total % options.threads ? 1 : 0)
    }

    private func plantingLimit(ofThread thread: Int) -> Int {
        options.plant?.kind == .poolDestroyed ? share(of: PlantedFault.destroyedPoolLimit, thread) : .max
    }

    func generator(forThread thread: Int) -> SeededGenerator {
        SeededGenerator(seed: options.seed, stream: UInt64(thread))
    }

    /// Runs the shares of all threads, plants the faults, and adds up.
    ///
    /// - Parameter share: Does the work of one thread; plants through the planter once per operation.
    func runThreads(
        _ share: @Sendable @escaping (_ thread: Int, _ planter: inout FaultPlanter) throws(WorkloadError) -> Tally
    ) throws(WorkloadError) -> Tally {
        let tallies = try WorkerThreads.run(options.threads) { thread throws(WorkloadError) in
            var planter = FaultPlanter(
                options.plant, pool: pool, seed: options.seed, thread: thread, limit: plantingLimit(ofThread: thread))
            var tally = try share(thread, &planter)
            tally.planted = planter.planted
            return tally
        }
        var total = tallies.reduce(into: Tally()) { $0.add($1) }
        if let plant = options.plant {
            FaultPlanter.plantMissingForms(of: plant, pool: pool, planted: &total.planted)
            PlantedFaults.putHeld(after: plant.heldSeconds)
        }
        return total
    }

    /// The summary of a workload, with the facts that all have.
    func summary(_ tally: Tally, lines: [String]) -> WorkloadSummary {
        var lines = lines
        var facts = tally.facts
        let planted = tally.planted.values.reduce(0, +)
        facts["threads"] = options.threads
        facts["plantedFaults"] = planted
        if let plant = options.plant {
            let places = PlantedFaults.sites(of: plant.kind).map(\.description).joined(separator: " and ")
            let often = planted == 1 ? "once" : "\(grouped(planted)) times"
            lines.append("planted on purpose: \(plant.kind.rawValue) \(often), at \(places)")
        }
        return WorkloadSummary(name: info.name, lines: lines, facts: facts)
    }

    /// "on 1 thread", "on 8 threads".
    var onThreads: String { options.threads == 1 ? "on 1 thread" : "on \(options.threads) threads" }
}

/// What one thread, or all of them together, did.
struct Tally: Sendable {
    var facts: [String: Int] = ["operations": 0, "bytes": 0]
    var planted: [PlantedFaults.Form: Int] = [:]

    mutating func count(_ fact: String, _ amount: Int = 1) { facts[fact, default: 0] += amount }

    mutating func add(_ other: Tally) {
        facts.merge(other.facts, uniquingKeysWith: +)
        planted.merge(other.planted, uniquingKeysWith: +)
    }

    subscript(_ fact: String) -> Int { facts[fact] ?? 0 }
}

/// A number with commas, as in 1,234,567.
func grouped(_ number: Int) -> String {
    let digits = Array(String(number.magnitude))
    var text = number < 0 ? "-" : ""
    for (index, digit) in digits.enumerated() {
        if index > 0, (digits.count - index) % 3 == 0 { text.append(",") }
        text.append(digit)
    }
    return text
}

/// "1 line", "2 lines".
func counted(_ number: Int, _ noun: String, plural: String? = nil) -> String {
    "\(grouped(number)) \(number == 1 ? noun : plural ?? noun + "s")"
}

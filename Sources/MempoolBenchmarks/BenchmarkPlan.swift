// What is measured against what: the groups, their rows, and the contenders of each row.

internal import MempoolRecorder
internal import MempoolRecording

/// A group of rows that can be asked for by name.
package enum BenchmarkGroup: String, CaseIterable, Codable, Sendable {
    case pair
    case flatness
    case mixed
    case fifo
    case handoff
    case pages
    case threads
    case forms
    case zeroing
    case swift
    case memory
    case recorder

    /// One line for lists and headings.
    package var abstract: String {
        switch self {
        case .pair: "get, touch the first byte, put"
        case .flatness: "the pool alone: get, touch the first byte, put, all sizes in turns"
        case .mixed: "pairs of mixed sizes"
        case .fifo: "64 outstanding: put the oldest, get another one"
        case .handoff: "producer to consumer: got on one thread, put on another"
        case .pages: "touch every page, 8 outstanding"
        case .threads: "total throughput of many threads"
        case .forms: "withBuffer, Lease and a pool of one's own"
        case .zeroing: "pools that zero what was asked for"
        case .swift: "what Swift has by itself"
        case .memory: "what stays in memory after a burst, after threads, at rest"
        case .recorder: "what the recorder costs, beside LeakSanitizer, AddressSanitizer and heaptrack"
        }
    }
}

/// What to measure.
package struct BenchmarkOptions: Sendable {
    package var groups: [BenchmarkGroup] = BenchmarkGroup.allCases
    /// Bytes per get, for the groups that are measured at several sizes.
    package var sizes: [Int] = BenchmarkSizes.all
    /// Samples of each contender.
    package var rounds = 51
    /// Short samples: to see that everything works, not how fast.
    package var isQuick = false
    /// The general allocators to measure against.
    package var allocators: [Allocator] = [.system]
    /// Those that the user named besides.
    package var peers: [Allocator] = []
    /// What watches malloc as the recorder watches the pool.
    package var instruments: [Instrument] = []
    /// Those of both that could not be found, for the report.
    package var missing: [MissingPeer] = []
    /// Absolute path of a directory for recordings, the caller's own.
    package var directory = "/tmp"
    /// Processors there are.
    package var processors = 1

    package init() {}
}

/// Somebody who takes part in a row.
struct Contender: Sendable, Equatable {
    var name: String
    var task: WorkerTask
    var preload: String?
    /// The worker's `MEMPOOL_DEBUG`.
    var debug = Self.asleep
    /// The tool that it runs under instead of being a worker of the pool.
    var instrument: Instrument?
    /// What the subject may cost at most, as a multiple of this.
    var limit: Double?
    /// What its samples are judged by: the path of the program that takes them, empty for a worker of the pool.
    var program: String { instrument?.program ?? "" }

    static let asleep = "off"
    /// As many frames as `Worker.recordedDepth`: the stack of a request handler.
    static let recording = "full,quiet,frames=16"
    /// Without the checks of what was written behind the request and after the put.
    static let unchecked = "poison=0,canary=0"
    static let sampled = "sampled,quiet,frames=16,sample=128"
}

/// One row to be measured.
struct RowPlan: Sendable, Equatable {
    var group: BenchmarkGroup
    var workload: String
    var label: String
    var size: Int?
    var threads: Int
    /// The subject first.
    var contenders: [Contender]
}

/// The rows to measure, in order.
struct BenchmarkPlan: Sendable, Equatable {
    var rows: [RowPlan] = []
    /// Whether to measure start, memory and report, which are no rows.
    var measuresRecorder = false
    /// How many buffers are outstanding while their memory is measured.
    var outstandingBuffers: Int
    /// The burst of the memory group, MiB; nil without the group.
    var burstMegabytes: Int?

    /// The size of rows that have only one: of a bucket in the middle.
    static let usualSize = 4096
    /// What is zeroed: less than the capacity of its bucket, of which the rest is nobody's business.
    static let zeroedSize = 3000
    static let threadCounts = [1, 2, 4, 8, 16, 64]
    /// Where the watched pairs are measured: a small request, so that touching its memory is not what takes time.
    static let recordedSize = 512
    /// From how many different stacks these are got: as many as `cbench_from_stack` has.
    static let outstandingStacks = 1000

    init(_ options: BenchmarkOptions) {
        outstandingBuffers = options.isQuick ? 10_000 : 1_000_000
        for group in BenchmarkGroup.allCases where options.groups.contains(group) {
            rows += Self.rows(of: group, options)
        }
        measuresRecorder = options.groups.contains(.recorder)
        if options.groups.contains(.memory) { burstMegabytes = options.isQuick ? 64 : 1024 }
    }

    private static func rows(of group: BenchmarkGroup, _ options: BenchmarkOptions) -> [RowPlan] {
        switch group {
        case .memory: return []
        case .pair:
            return [1, 2].filter { $0 <= options.processors }.flatMap { threads in
                options.sizes.map { allocatorRow(group, .pair, size: $0, threads: threads, options) }
            }
        case .flatness:
            guard options.sizes.count > 1 else { return [] }
            return [1, 2].filter { $0 <= options.processors }.map { flatnessRow(threads: $0, options) }
        case .mixed:
            return [WorkloadName.lognormal, .zipf].map { stream in
                var row = allocatorRow(group, stream, size: usualSize, threads: 1, options)
                row.size = nil
                row.label = stream.rawValue
                return row
            }
        case .fifo:
            return options.sizes.map { allocatorRow(group, .fifo, size: $0, threads: 1, options) }
        case .handoff:
            // On one core this would measure the scheduler.
            guard options.processors > 1 else { return [] }
            return [WorkloadName.handoff, .handoffSingly].flatMap { workload in
                options.sizes.map { size in
                    var row = allocatorRow(group, workload, size: size, threads: 2, options)
                    row.workload += workload == .handoff ? ", 32 at a time" : ", one by one"
                    return row
                }
            }
        case .pages:
            return options.sizes.filter { $0 >= 65_536 }.map { size in
                sizedRow(
                    group, .pages, size: size,
                    [
                        ("glibc", .malloc), ("[UInt8]", .array), ("fresh memory", .fresh),
                    ])
            }
        case .threads:
            return threadCounts.filter { $0 != 2 }.map(threadsRow)
        case .forms:
            let forms: [(String, SubjectName)] = [
                ("withBuffer", .withBuffer), ("Lease", .lease), ("own pool", .instance),
            ]
            return forms.map { formRow(group, $0.0, $0.1, size: usualSize, against: ("get and put", .plain)) }
        case .zeroing:
            let ways: [(String, SubjectName)] = [("zeroing on get", .zeroOnGet), ("zeroing on put", .zeroOnPut)]
            return ways.map { formRow(group, $0.0, $0.1, size: zeroedSize, against: ("memset by the caller", .memset)) }
        case .swift:
            return options.sizes.map { size in
                sizedRow(group, .pair, size: size, [("[UInt8](repeating:)", .array), ("allocate", .allocate)])
            }
        case .recorder:
            var rows = [1, 2].filter { $0 <= options.processors }.map { recorderRow(threads: $0, options) }
            if RecorderOptions.levels.contains(.sampled) { rows.append(sampledRow()) }
            return rows
        }
    }

    private static func contender(
        _ name: String,
        _ subject: SubjectName,
        _ workload: WorkloadName,
        size: Int,
        threads: Int = 1
    ) -> Contender {
        Contender(name: name, task: WorkerTask(subject: subject, workload: workload, size: size, threads: threads))
    }

    /// The pool against every allocator.
    private static func allocatorRow(
        _ group: BenchmarkGroup,
        _ workload: WorkloadName,
        size: Int,
        threads: Int,
        _ options: BenchmarkOptions
    ) -> RowPlan {
        var contenders = [contender("mempool", .plain, workload, size: size, threads: threads)]
        for allocator in options.allocators + options.peers {
            var peer = contender(allocator.name, .malloc, workload, size: size, threads: threads)
            peer.preload = allocator.path
            contenders.append(peer)
        }
        return RowPlan(
            group: group,
            workload: group.abstract,
            label: BenchmarkText.bytes(size),
            size: size,
            threads: threads,
            contenders: contenders
        )
    }

    /// The pool at one size against itself at the others.
    private static func flatnessRow(threads: Int, _ options: BenchmarkOptions) -> RowPlan {
        RowPlan(
            group: .flatness,
            workload: BenchmarkGroup.flatness.abstract,
            label: threads == 1 ? "1 thread" : "\(threads) threads",
            size: nil,
            threads: threads,
            contenders: options.sizes.map {
                contender(BenchmarkText.bytes($0), .plain, .pair, size: $0, threads: threads)
            }
        )
    }

    /// One way to use the pool against another.
    private static func formRow(
        _ group: BenchmarkGroup, _ name: String, _ subject: SubjectName, size: Int,
        against other: (name: String, subject: SubjectName)
    ) -> RowPlan {
        RowPlan(
            group: group,
            workload: group.abstract,
            label: name,
            size: size,
            threads: 1,
            contenders: [
                contender(name, subject, .pair, size: size),
                contender(other.name, other.subject, .pair, size: size),
            ]
        )
    }

    /// The pool against other ways to get memory, on one thread.
    private static func sizedRow(
        _ group: BenchmarkGroup,
        _ workload: WorkloadName,
        size: Int,
        _ peers: [(String, SubjectName)]
    ) -> RowPlan {
        RowPlan(
            group: group,
            workload: group.abstract,
            label: BenchmarkText.bytes(size),
            size: size,
            threads: 1,
            contenders: [contender("mempool", .plain, workload, size: size)]
                + peers.map { contender($0.0, $0.1, workload, size: size) }
        )
    }

    private static func threadsRow(_ threads: Int) -> RowPlan {
        let label = threads == 1 ? "1 thread" : "\(threads) threads"
        return RowPlan(
            group: .threads,
            workload: BenchmarkGroup.threads.abstract,
            label: label,
            size: usualSize,
            threads: threads,
            contenders: [
                contender(label, .plain, .scaling, size: usualSize, threads: threads),
                contender("2 threads", .plain, .scaling, size: usualSize, threads: 2),
            ]
        )
    }

    /// A watched pair against malloc and free under each instrument, then against itself with less to do.
    private static func recorderRow(threads: Int, _ options: BenchmarkOptions) -> RowPlan {
        func own(_ name: String, _ debug: String) -> Contender {
            var contender = contender(name, .plain, .recorded, size: recordedSize, threads: threads)
            contender.debug = debug
            return contender
        }
        let peers = options.instruments.map { instrument in
            var peer = contender(instrument.name, .malloc, .recorded, size: recordedSize, threads: threads)
            peer.preload = instrument.preload
            peer.instrument = instrument
            peer.limit = instrument.limit
            return peer
        }
        return RowPlan(
            group: .recorder,
            workload: "get and put at the end of 16 frames at level full; malloc and free under the tools",
            label: threads == 1 ? "1 thread" : "\(threads) threads",
            size: recordedSize,
            threads: threads,
            contenders: [own("full", Contender.recording)] + peers + [
                own("full,\(Contender.unchecked)", "\(Contender.recording),\(Contender.unchecked)"),
                own("asleep", Contender.asleep),
            ]
        )
    }

    private static func sampledRow() -> RowPlan {
        var sampled = contender("sampled", .plain, .recorded, size: recordedSize)
        sampled.debug = Contender.sampled
        var asleep = contender("asleep", .plain, .recorded, size: recordedSize)
        asleep.limit = 2
        return RowPlan(
            group: .recorder,
            workload: "get and put at level sampled, one get in 128",
            label: "1 thread",
            size: recordedSize,
            threads: 1,
            contenders: [sampled, asleep]
        )
    }
}

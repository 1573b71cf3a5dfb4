// Reads the ledger once and groups what is outstanding by pool and stack; collects the stacks that findings need.

internal import MempoolRecording

/// Outstanding buffers of one pool with one get stack.
struct LeakGroup {
    struct Key: Hashable {
        var pool: UInt16
        var stack: UInt32
    }

    var count = 0
    /// Capacities and requests, bytes in all.
    var bytes = 0
    var requestedBytes = 0
    /// Times of the first and the last get, on the recording's clock.
    var oldest: UInt64 = .max
    var newest: UInt64 = 0
    var threads: Set<UInt32> = []
}

/// What a recording holds, before names.
struct RecordedGroups {
    let recording: Recording
    let ending: ProcessEnding
    private(set) var leaks: [LeakGroup.Key: LeakGroup] = [:]
    /// Program counters by stack identifier, only those that findings refer to.
    private(set) var stacks: [UInt32: [UInt64]] = [:]
    /// The words to name: those of the worst findings first, at most `nameLimit`.
    private(set) var words: Set<UInt64> = []
    private(set) var scan = LedgerScan()
    private(set) var damage: [String] = []
    /// The last sign of life, on the recording's clock.
    private(set) var endTime: UInt64 = 0
    /// Outstanding buffers of pools without counters.
    private(set) var unknownPools = 0

    /// Distinct groups kept; a report of more is not read. What is beyond is put together without a stack.
    static let groupLimit = 64 * 1024
    /// Distinct addresses named, some milliseconds each at worst. A large program has some thousands in its pool calls.
    static let nameLimit = 64 * 1024
    /// More threads of a group than these are not told apart.
    static let threadLimit = 4096

    init(recording: Recording, ending: ProcessEnding) {
        self.recording = recording
        self.ending = ending
    }

    /// Capacity of a slot's buffer, bytes: that of its bucket, or the request if it is oversized.
    func capacity(of record: LedgerRecord) -> Int {
        let request = Int(clamping: record.request)
        guard Int(record.pool) < recording.pools.count else { return request }
        let pool = recording.pools[Int(record.pool)]
        guard Int(record.bucket) < Int(pool.record.bucketCount), Int(record.bucket) < pool.rows.count else {
            return request
        }
        return Int(clamping: pool.rows[Int(record.bucket)].capacity)
    }

    /// Walks the ledger and reads the stacks.
    mutating func collect() {
        var leaks: [LeakGroup.Key: LeakGroup] = [:]
        var latest: UInt64 = 0
        var unknownPools = 0
        var overflow = 0
        let poolCount = recording.pools.count
        scan = recording.forEachLedgerRecord { _, record in
            latest = max(latest, record.getTime, record.putTime)
            guard record.state == .outstanding else { return }
            if Int(record.pool) >= poolCount { unknownPools += 1 }
            var key = LeakGroup.Key(pool: record.pool, stack: record.getStack)
            if leaks.count >= Self.groupLimit, leaks[key] == nil {
                overflow += 1
                key.stack = 0
            }
            let capacity = capacity(of: record)
            leaks[key, default: LeakGroup()].add(record, capacity: capacity)
        }
        self.leaks = leaks
        self.unknownPools = unknownPools
        if overflow > 0 {
            damage.append(
                "More than \(Self.groupLimit) different stacks are outstanding; \(overflow) buffers are listed without theirs."
            )
        }
        if scan.missing > 0 {
            damage.append("The file ends inside section ledger: \(scan.missing) records are not there.")
        }
        endTime = endTime(latest: latest)
        collectStacks()
    }

    private func endTime(latest: UInt64) -> UInt64 {
        let header = recording.header
        switch ending.kind {
        case .exited where header.endMonotonic >= header.startMonotonic: return header.endMonotonic
        case .exited, .died: return max(header.lastMonotonic, latest, header.startMonotonic)
        case .running: return max(ProcessState.coarseMonotonicNow(), header.lastMonotonic, header.startMonotonic)
        }
    }

    private mutating func collectStacks() {
        // Bad puts are few and worst; then leaks, the largest first. Ties by key, so that the same file gives the same report.
        var identifiers = recording.findings.flatMap { [$0.putStack, $0.firstPutStack, $0.getStack, $0.reissueStack] }
        let sorted = leaks.sorted {
            ($1.value.bytes, $0.key.pool, $0.key.stack) < ($0.value.bytes, $1.key.pool, $1.key.stack)
        }
        identifiers += sorted.map(\.key.stack)
        var lost = 0
        for identifier in identifiers where identifier != 0 && stacks[identifier] == nil {
            guard let stack = recording.stack(identifier) else {
                stacks[identifier] = []
                lost += 1
                continue
            }
            stacks[identifier] = stack
            if words.count + stack.count <= Self.nameLimit { words.formUnion(stack) }
        }
        if lost > 0 { damage.append("\(Sentences.plural(lost, "stack")) could not be read.") }
    }
}

extension LeakGroup {
    fileprivate mutating func add(_ record: LedgerRecord, capacity: Int) {
        count += 1
        bytes = Counter.sum(bytes, capacity)
        requestedBytes = Counter.sum(requestedBytes, Int(clamping: record.request))
        oldest = min(oldest, record.getTime)
        newest = max(newest, record.getTime)
        if threads.count < RecordedGroups.threadLimit { threads.insert(record.getThread) }
    }
}

// Reads the ledger once and groups what is outstanding by pool, stack and scope; collects the stacks that a report needs.

internal import MempoolRecording

/// Outstanding buffers of one pool, with one get stack, of one scope.
struct LeakGroup {
    struct Key: Hashable {
        var pool: UInt16
        var stack: UInt32
        var place = ScopeTable.Place()
        /// Held longer than `held=` allows, by a program that still runs.
        var isHeld = false
    }

    var count = 0
    /// Capacities and requests, bytes in all.
    var bytes = 0
    var requestedBytes = 0
    /// The request of the oldest one, bytes.
    var request = 0
    /// Times of the first and the last get, on the recording's clock.
    var oldest: UInt64 = .max
    var newest: UInt64 = 0
    var threads: Set<UInt32> = []
    /// Numbers of the contexts that hold the notes made at these gets.
    var notes: Set<UInt32> = []
}

/// Buffers that were marked as kept for the life of the process, of one pool and with one get stack.
struct KeptGroup {
    struct Key: Hashable {
        var pool: UInt16
        var stack: UInt32
    }

    var count = 0
    var bytes = 0

    fileprivate mutating func add(_ capacity: Int) {
        count += 1
        bytes = Counter.sum(bytes, capacity)
    }
}

/// A row of a pool's counters.
struct PoolRow: Hashable {
    var pool: Int
    /// The number of buckets stands for the oversized buffers.
    var row: Int
}

/// What a recording holds, before names.
struct RecordedGroups {
    let recording: Recording
    let ending: ProcessEnding
    let scopes: ScopeTable
    /// Rows whose users are wanted for advice.
    let advisedRows: Set<PoolRow>
    private(set) var leaks: [LeakGroup.Key: LeakGroup] = [:]
    private(set) var kept: [KeptGroup.Key: KeptGroup] = [:]
    /// By advised row, the get stacks of the last owner of each of its buffers, with their number.
    private(set) var users: [PoolRow: [UInt32: Int]] = [:]
    /// Program counters by stack identifier, only those that findings refer to.
    private(set) var stacks: [UInt32: [UInt64]] = [:]
    /// The words to name: those of the worst findings first, at most `nameLimit`.
    private(set) var words: Set<UInt64> = []
    private(set) var scan = LedgerScan()
    private(set) var damage: [String] = []
    /// What the limits leave out: sentences.
    private(set) var notes: [String] = []
    /// Addresses in the stacks of the findings that are not in `words`, as these are full.
    private(set) var unaskedWords = 0
    /// The last sign of life, on the recording's clock.
    private(set) var endTime: UInt64 = 0
    /// Outstanding buffers of pools without counters.
    private(set) var unknownPools = 0

    /// What is read of a recording at most; tests lower it.
    struct Limits {
        /// Distinct groups kept; a report of more is not read. What is beyond is put together without a stack.
        var groups = 64 * 1024
        /// Distinct addresses named. A large program has some thousands in its pool calls.
        var names = 64 * 1024
        /// Frames of all findings together, counted as often as a finding shows them; of further stacks only the innermost
        /// `shortStackWords`. A thousand findings of 128 frames with both stacks fit. A frame takes about 500 bytes as JSON.
        var frames = 256 * 1024
    }

    /// Words of a stack that is cut: the pool's own frames and the next callers.
    static let shortStackWords = 8

    let limits: Limits
    /// More threads or notes of a group than these are not told apart.
    static let threadLimit = 4096
    /// Users of a row that advice names, those with the most buffers.
    static let userLimit = 3

    /// When the process ended, if somebody saw that.
    let observedEndTime: UInt64?

    init(
        recording: Recording, ending: ProcessEnding, observedEndTime: UInt64? = nil, advisedRows: Set<PoolRow> = [],
        limits: Limits = Limits()
    ) {
        self.recording = recording
        self.observedEndTime = observedEndTime
        self.limits = limits
        self.ending = ending
        self.advisedRows = advisedRows
        scopes = ScopeTable(recording.contexts)
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
        var walk = LedgerWalk(groups: self, now: endTime(latest: 0))
        scan = recording.forEachLedgerRecord { _, record in walk.add(record) }
        leaks = walk.leaks
        kept = walk.kept
        users = walk.users
        unknownPools = walk.unknownPools
        if walk.overflow > 0 {
            notes.append(
                "More than \(Sentences.grouped(limits.groups)) different stacks are outstanding; "
                    + "\(Sentences.plural(walk.overflow, "buffer")) beyond are listed without theirs."
            )
        }
        // A running program adds contexts while it is read.
        if walk.unknownContexts > 0, ending.kind != .running {
            damage.append(
                "The scopes of \(Sentences.plural(walk.unknownContexts, "outstanding buffer")) could not be read.")
        }
        if scan.missing > 0 {
            damage.append("The file ends inside section ledger: \(scan.missing) records are not there.")
        }
        endTime = endTime(latest: walk.latest)
        collectStacks()
    }

    private func endTime(latest: UInt64) -> UInt64 {
        let header = recording.header
        switch ending.kind {
        case .exited where header.endMonotonic >= header.startMonotonic: return header.endMonotonic
        case .exited, .died:
            return max(observedEndTime ?? 0, header.lastMonotonic, latest, header.startMonotonic)
        case .running where ending.isSnapshot: return max(header.lastMonotonic, latest, header.startMonotonic)
        case .running: return max(ProcessState.coarseMonotonicNow(), header.lastMonotonic, header.startMonotonic)
        }
    }

    private mutating func collectStacks() {
        // Bad puts are few and worst; then leaks, the largest first. Ties by key, so that the same file gives the same report.
        var identifiers = recording.findings.flatMap {
            [$0.putStack, $0.firstPutStack, $0.getStack, $0.reissueStack, $0.accessStack]
        }
        let sorted = leaks.sorted {
            ($1.value.bytes, $0.key.pool, $0.key.stack) < ($0.value.bytes, $1.key.pool, $1.key.stack)
        }
        // Those of one pool and stack may change places; that changes nothing here.
        identifiers += sorted.map(\.key.stack)
        identifiers += kept.sorted { ($1.value.bytes, $0.key.stack) < ($0.value.bytes, $1.key.stack) }.map(\.key.stack)
        for row in users.keys.sorted(by: { ($0.pool, $0.row) < ($1.pool, $1.row) }) {
            identifiers += mainUsers(of: row).map(\.stack)
        }
        var uses: [UInt32: Int] = [:]
        for identifier in identifiers { uses[identifier, default: 0] += 1 }
        var lost = 0
        var cut = 0
        var frames = 0
        var unasked: Set<UInt64> = []
        for identifier in identifiers where identifier != 0 && stacks[identifier] == nil {
            guard var stack = recording.stack(identifier) else {
                stacks[identifier] = []
                lost += 1
                continue
            }
            let shown = stack.count * (uses[identifier] ?? 1)
            if frames + shown <= limits.frames {
                frames += shown
            } else if stack.count > Self.shortStackWords {
                stack.removeSubrange(Self.shortStackWords...)
                cut += 1
            }
            stacks[identifier] = stack
            if words.count + stack.count <= limits.names { words.formUnion(stack) } else { unasked.formUnion(stack) }
        }
        unaskedWords = unasked.subtracting(words).count
        if unaskedWords > 0 {
            notes.append(
                "The report names \(Sentences.plural(words.count, "frame")), those of the worst findings; "
                    + "\(Sentences.grouped(unaskedWords)) more are left as addresses."
            )
        }
        if cut > 0 {
            notes.append(
                "The report keeps to \(Sentences.plural(limits.frames, "frame")): of \(Sentences.plural(cut, "stack")) it has the "
                    + "innermost \(Self.shortStackWords)."
            )
        }
        if lost > 0 { damage.append("\(Sentences.plural(lost, "stack")) could not be read.") }
    }

    /// The get stacks with the most buffers of a row.
    func mainUsers(of row: PoolRow) -> [(stack: UInt32, count: Int)] {
        (users[row] ?? [:]).filter { $0.key != 0 }
            .sorted { ($1.value, $0.key) < ($0.value, $1.key) }
            .prefix(Self.userLimit).map { (stack: $0.key, count: $0.value) }
    }
}

/// One pass over the ledger.
private struct LedgerWalk {
    let groups: RecordedGroups
    /// Gets before it are held too long; nil if no time is too long.
    let heldSince: UInt64?
    var leaks: [LeakGroup.Key: LeakGroup] = [:]
    var kept: [KeptGroup.Key: KeptGroup] = [:]
    var users: [PoolRow: [UInt32: Int]] = [:]
    var latest: UInt64 = 0
    var unknownPools = 0
    var unknownContexts = 0
    var overflow = 0

    /// `now`: on the recording's clock, if its program is running.
    init(groups: RecordedGroups, now: UInt64) {
        self.groups = groups
        let limit = groups.recording.header.heldLimit
        // Once the program has ended there is nothing to hold: what is outstanding leaked.
        heldSince = groups.ending.kind == .running && limit > 0 && now > limit ? now - limit : nil
    }

    mutating func add(_ record: LedgerRecord) {
        latest = max(latest, record.getTime, record.putTime)
        addUser(record)
        // Those of a destroyed pool and those next to a guard page that was touched are findings already.
        guard record.state == .outstanding, record.flags & LedgerFlags.inFinding == 0 else { return }
        let capacity = groups.capacity(of: record)
        guard record.flags & LedgerFlags.kept == 0 else {
            addKept(record, capacity: capacity)
            return
        }
        if Int(record.pool) >= groups.recording.pools.count { unknownPools += 1 }
        if !groups.scopes.isKnown(record.context) { unknownContexts += 1 }
        let place = groups.scopes.place(of: record.context)
        // What outlived its scope has leaked already.
        let isHeld = heldSince.map { record.getTime < $0 && !place.hasEnded } ?? false
        var key = LeakGroup.Key(pool: record.pool, stack: record.getStack, place: place, isHeld: isHeld)
        if leaks.count >= groups.limits.groups, leaks[key] == nil {
            overflow += 1
            key = LeakGroup.Key(pool: record.pool, stack: 0)
        }
        let hasNote = !groups.scopes.note(of: record.context).isEmpty
        leaks[key, default: LeakGroup()].add(record, capacity: capacity, hasNote: hasNote)
    }

    private mutating func addUser(_ record: LedgerRecord) {
        guard !groups.advisedRows.isEmpty else { return }
        let row = PoolRow(pool: Int(record.pool), row: Int(record.bucket))
        guard groups.advisedRows.contains(row) else { return }
        // Beyond the limit only stacks that are known are counted on.
        if let counts = users[row], counts.count >= groups.limits.groups, counts[record.getStack] == nil { return }
        users[row, default: [:]][record.getStack, default: 0] += 1
    }

    private mutating func addKept(_ record: LedgerRecord, capacity: Int) {
        var key = KeptGroup.Key(pool: record.pool, stack: record.getStack)
        if kept.count >= groups.limits.groups, kept[key] == nil { key.stack = 0 }
        kept[key, default: KeptGroup()].add(capacity)
    }
}

extension LeakGroup {
    fileprivate mutating func add(_ record: LedgerRecord, capacity: Int, hasNote: Bool) {
        count += 1
        bytes = Counter.sum(bytes, capacity)
        requestedBytes = Counter.sum(requestedBytes, Int(clamping: record.request))
        if record.getTime < oldest || count == 1 { request = Int(clamping: record.request) }
        oldest = min(oldest, record.getTime)
        newest = max(newest, record.getTime)
        if threads.count < RecordedGroups.threadLimit { threads.insert(record.getThread) }
        if hasNote, notes.count < RecordedGroups.threadLimit { notes.insert(record.context) }
    }
}

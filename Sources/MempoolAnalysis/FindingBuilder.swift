// Builds the findings of a report from grouped records and names, merges those that look alike, and sorts them.

internal import MempoolRecording

/// Makes findings out of what was recorded.
struct FindingBuilder {
    let recording: Recording
    let groups: RecordedGroups
    let stacks: NamedStacks
    let ending: ProcessEnding

    /// A finding with what only merging needs.
    private struct Draft {
        var finding: Finding
        var threads: Set<UInt32>
        var notes: Set<UInt32> = []
    }

    /// Two findings with equal identity are one: stacks that differ only inside a line look the same to a reader.
    private struct Identity: Hashable {
        var kind: Finding.Kind
        var isUnsampled: Bool?
        var pool: String
        var stacks: FindingStacks
        /// Of outstanding buffers: what was found as it happened is grouped by its stacks alone.
        var scope: String?
        var scopeEnded: Bool?
        var isStillHeld: Bool?
        /// What caught it and on which side of the buffer: the words differ.
        var caughtBy: Finding.Detector?
        var isUnderrun: Bool

        init(_ finding: Finding) {
            kind = finding.kind
            isUnsampled = finding.isUnsampled
            pool = finding.pool
            stacks = finding.stacks
            isStillHeld = finding.isStillHeld
            caughtBy = finding.caughtBy
            isUnderrun = finding.kind == .overrun && (finding.offset ?? 0) < 0
            if finding.kind == .leak || finding.isStillHeld == true {
                scope = finding.scope
                scopeEnded = finding.scopeEnded
            }
        }
    }

    /// All findings, worst first.
    func findings() -> [Finding] {
        var drafts: [Identity: Draft] = [:]
        for draft in recorded() + outstanding() + unsampled() {
            let identity = Identity(draft.finding)
            if let known = drafts[identity] {
                drafts[identity] = Self.merged(known, draft)
            } else {
                drafts[identity] = draft
            }
        }
        return Self.sorted(drafts.values.map(finished))
    }

    // MARK: - Outstanding buffers

    /// Leaks, and what a running program has held too long.
    private func outstanding() -> [Draft] {
        // In a fixed order, as merging keeps the values of the first.
        let sorted = groups.leaks.sorted {
            ($0.key.pool, $0.key.stack, $0.value.oldest) < ($1.key.pool, $1.key.stack, $1.value.oldest)
        }
        return sorted.map { key, group in
            var finding = Finding(
                kind: key.isHeld ? .heldTooLong : .leak, pool: poolName(UInt32(key.pool)), count: group.count,
                bytes: group.bytes, stacks: FindingStacks(get: stacks.frames(key.stack))
            )
            finding.requestedBytes = group.requestedBytes
            finding.oldestAgeSeconds = age(group.oldest)
            finding.newestAgeSeconds = age(group.newest)
            if key.isHeld {
                finding.isStillHeld = true
                finding.heldSeconds = finding.oldestAgeSeconds
                finding.request = group.request
            }
            if let scope = groups.scopes.name(of: key.place) {
                finding.scope = scope
                finding.scopeEnded = key.place.hasEnded
            } else if groups.scopes.isUsed {
                finding.isUnscoped = true
            }
            return Draft(finding: finding, threads: group.threads, notes: group.notes)
        }
    }

    /// Level sampled: what the exact counters miss of pools of which no outstanding buffer was watched.
    private func unsampled() -> [Draft] {
        let header = recording.header
        guard header.sampleInterval > 1, recording.isCleanExit,
            header.flags & RecordingHeader.estimatedCountersFlag == 0
        else { return [] }
        // What a destroyed pool left behind is told as that.
        let watched = Set(groups.leaks.keys.map { Int($0.pool) })
            .union(recording.findings.filter { $0.kind == FindingKind.poolDestroyed.rawValue }.map { Int($0.pool) })
        var missing: [(pool: Int, rows: [(count: Int, capacity: Int)])] = []
        for (number, pool) in recording.pools.enumerated() where !watched.contains(number) {
            let rows = pool.rows.map { (max(0, Int(truncatingIfNeeded: $0.inUse)), Int(clamping: $0.capacity)) }
            if rows.contains(where: { $0.0 > 0 }) { missing.append((number, rows)) }
        }
        let kept = Int(clamping: header.keptBuffers)
        guard kept > 0 else {
            return missing.map { number, rows in
                unsampled(kind(of: number), poolName(UInt32(number)), rows, kept: 0)
            }
        }
        // Nobody counted how many each pool keeps: any of these may be those.
        let rows = missing.flatMap(\.rows)
        guard rows.reduce(0, { Counter.sum($0, $1.count) }) > kept else { return [] }
        guard missing.count == 1 else { return [unsampled(.leak, "", rows, kept: kept)] }
        return [unsampled(kind(of: missing[0].pool), poolName(UInt32(missing[0].pool)), rows, kept: kept)]
    }

    /// What is missing in a pool leaked, or was outstanding when the pool ended.
    private func kind(of pool: Int) -> Finding.Kind {
        recording.pools[pool].record.state == PoolRecord.destroyed ? .poolDestroyed : .leak
    }

    /// The buffers of some rows less those that are kept, which are taken to be the largest: no more is claimed than is known.
    private func unsampled(
        _ kind: Finding.Kind, _ pool: String, _ rows: [(count: Int, capacity: Int)], kept: Int
    ) -> Draft {
        var kept = kept
        var count = 0
        var bytes = 0
        for row in rows.sorted(by: { $0.capacity > $1.capacity }) {
            let lost = row.count - min(kept, row.count)
            kept -= row.count - lost
            count = Counter.sum(count, lost)
            bytes = Counter.sum(bytes, Counter.product(lost, row.capacity))
        }
        var finding = Finding(kind: kind, pool: pool, count: count, bytes: bytes, stacks: FindingStacks())
        finding.isUnsampled = true
        return Draft(finding: finding, threads: [])
    }

    // MARK: - What was recorded as it happened

    private func recorded() -> [Draft] {
        recording.findings.compactMap { record in
            guard let kind = FindingKind(rawValue: record.kind) else { return nil }
            var finding = Finding(
                kind: Finding.Kind(kind), pool: poolName(record.pool), count: max(1, Int(clamping: record.count)),
                bytes: Int(clamping: record.bytes), stacks: FindingStacks(get: stacks.frames(record.getStack))
            )
            finding.oldestAgeSeconds = age(record.firstTime)
            finding.newestAgeSeconds = age(record.lastTime)
            var events = FindingEvents()
            events.get = event(record.getThread, record.getTime)
            var thread = record.putThread
            switch kind {
            case .doublePut, .wrongCapacity, .wrongPool, .foreignPut:
                addBadPut(kind, record, to: &finding, &events)
            case .useAfterPut:
                addUseAfterPut(record, to: &finding, &events)
                if finding.caughtBy != .poison { thread = record.accessThread }
            case .overrun:
                addOverrun(record, to: &finding, &events)
                if finding.caughtBy != .canary { thread = record.accessThread }
            case .poolDestroyed:
                finding.stacks.destroy = stacks.frames(record.putStack)
                events.destroy = event(record.putThread, record.firstTime)
            case .heldTooLong:
                finding.stacks.put = stacks.frames(record.putStack)
                events.put = event(record.putThread, record.firstTime)
                finding.isStillHeld = false
                finding.heldSeconds = Analyzer.seconds(from: 0, to: record.duration)
                finding.request = known(record.request)
                thread = record.getThread
            }
            finding.events = events
            if record.flags & FindingRecord.unsampledFlag != 0 { finding.isUnsampled = true }
            let place = groups.scopes.place(of: record.context)
            finding.scope = groups.scopes.name(of: place)
            if finding.scope != nil { finding.scopeEnded = place.hasEnded }
            let notes: Set<UInt32> = groups.scopes.note(of: record.context).isEmpty ? [] : [record.context]
            return Draft(finding: finding, threads: thread > 0 ? [thread] : [], notes: notes)
        }
    }

    private func addBadPut(
        _ kind: FindingKind, _ record: FindingRecord, to finding: inout Finding, _ events: inout FindingEvents
    ) {
        finding.address = address(record)
        finding.givenCapacity = Int(clamping: record.givenCapacity)
        let isHistoryLost = record.flags & FindingRecord.historyLostFlag != 0
        if kind != .foreignPut { finding.historyLost = isHistoryLost }
        let wrongPut = event(record.putThread, record.firstTime)
        guard kind == .doublePut else {
            finding.stacks.put = stacks.frames(record.putStack)
            events.put = wrongPut
            if kind == .wrongPool { finding.issuingPool = poolName(record.issuingPool) }
            if kind == .wrongCapacity {
                finding.expectedCapacity = Int(clamping: record.expectedCapacity)
                finding.sliceOffset = sliceOffset(record)
            }
            return
        }
        finding.stacks.put = stacks.frames(record.firstPutStack)
        finding.stacks.secondPut = stacks.frames(record.putStack)
        finding.stacks.reissue = stacks.frames(record.reissueStack)
        events.put = event(record.firstPutThread, record.firstPutTime)
        events.secondPut = wrongPut
        finding.expectedCapacity = Int(clamping: record.expectedCapacity)
        finding.reissued = record.reissues > 0
        finding.reissues = Int(clamping: record.reissues)
        if record.firstPutTime > 0, !isHistoryLost {
            finding.secondsBetweenPuts = Analyzer.seconds(from: record.firstPutTime, to: record.firstTime)
        }
    }

    private func addUseAfterPut(
        _ record: FindingRecord, to finding: inout Finding, _ events: inout FindingEvents
    ) {
        finding.stacks.put = stacks.frames(record.putStack)
        finding.stacks.reissue = stacks.frames(record.reissueStack)
        events.put = event(record.putThread, record.firstPutTime)
        if record.firstPutTime > 0 {
            finding.secondsAfterPut = Analyzer.seconds(from: record.firstPutTime, to: record.firstTime)
        }
        finding.historyLost = record.flags & FindingRecord.historyLostFlag != 0
        addBytes(record, detector: .poison, touched: .accessor, to: &finding, &events)
        if finding.caughtBy != .poison {
            finding.reissued = record.reissues > 0
            finding.reissues = Int(clamping: record.reissues)
        }
    }

    private func addOverrun(
        _ record: FindingRecord, to finding: inout Finding, _ events: inout FindingEvents
    ) {
        if let put = stacks.frames(record.putStack) {
            finding.stacks.put = put
            events.put = event(record.putThread, record.firstTime)
        }
        addBytes(record, detector: .canary, touched: .guardPage, to: &finding, &events)
    }

    /// What was touched, and what noticed it: `detector` after the fact, or `touched` at the touch unless the record says that it
    /// was a guard page.
    private func addBytes(
        _ record: FindingRecord, detector: Finding.Detector, touched: Finding.Detector, to finding: inout Finding,
        _ events: inout FindingEvents
    ) {
        finding.address = address(record)
        finding.request = known(record.request)
        finding.expectedCapacity = known(record.expectedCapacity)
        finding.offset = Int(clamping: record.offset)
        finding.badBytes = known(record.badBytes)
        let isFault = record.flags & FindingRecord.faultFlag != 0
        guard isFault || record.accessStack != 0 || record.accessThread != 0 else {
            finding.caughtBy = detector
            finding.access = .write
            finding.expectedByte = UInt8(exactly: record.expected).map(Self.hexadecimal)
            let found = withUnsafeBytes(of: record.found) { Array($0.prefix(Int(min(record.foundCount, 16)))) }
            if !found.isEmpty { finding.foundBytes = found.map(Self.hexadecimal).joined(separator: " ") }
            return
        }
        finding.caughtBy = isFault ? .guardPage : touched
        finding.access = record.flags & FindingRecord.readFlag != 0 ? .read : .write
        finding.stacks.access = stacks.frames(record.accessStack)
        events.access = event(record.accessThread, record.firstTime)
    }

    private static func hexadecimal(_ byte: UInt8) -> String {
        (byte < 16 ? "0" : "") + String(byte, radix: 16)
    }

    /// A figure that is 0 where it is not known.
    private func known(_ value: UInt64) -> Int? { value > 0 ? Int(clamping: value) : nil }

    private func address(_ record: FindingRecord) -> String? {
        record.address > 0 ? "0x" + String(record.address, radix: 16) : nil
    }

    private func event(_ thread: UInt32, _ time: UInt64) -> FindingEvent? {
        guard thread > 0 || time > 0 else { return nil }
        return FindingEvent(thread: thread > 0 ? Int(thread) : nil, ageSeconds: time > 0 ? age(time) : nil)
    }

    private func age(_ time: UInt64) -> Double { Analyzer.seconds(from: time, to: groups.endTime) }

    /// Where in its buffer a slice began: from the address the ledger knows, else from what the slice lacks at the front.
    private func sliceOffset(_ record: FindingRecord) -> Int? {
        if let slot = recording.ledgerRecord(slot: Int(record.slot)), slot.address > 0, record.address >= slot.address,
            record.address - slot.address < record.expectedCapacity
        {
            return Int(clamping: record.address - slot.address)
        }
        guard record.expectedCapacity > record.givenCapacity else { return nil }
        return Int(clamping: record.expectedCapacity - record.givenCapacity)
    }

    private func poolName(_ number: UInt32) -> String { recording.poolName(Int(number)) }

    // MARK: - Completion and order

    private static func merged(_ left: Draft, _ right: Draft) -> Draft {
        var draft = left
        draft.threads.formUnion(right.threads)
        draft.notes.formUnion(right.notes)
        draft.finding.count = Counter.sum(left.finding.count, right.finding.count)
        draft.finding.bytes = Counter.sum(left.finding.bytes, right.finding.bytes)
        if let requested = right.finding.requestedBytes {
            draft.finding.requestedBytes = Counter.sum(left.finding.requestedBytes ?? 0, requested)
        }
        if let reissues = right.finding.reissues {
            draft.finding.reissues = Counter.sum(left.finding.reissues ?? 0, reissues)
            draft.finding.reissued = (draft.finding.reissues ?? 0) > 0
        }
        if let held = right.finding.heldSeconds {
            draft.finding.heldSeconds = max(left.finding.heldSeconds ?? 0, held)
        }
        draft.finding.oldestAgeSeconds = max(left.finding.oldestAgeSeconds, right.finding.oldestAgeSeconds)
        draft.finding.newestAgeSeconds = min(left.finding.newestAgeSeconds, right.finding.newestAgeSeconds)
        return draft
    }

    private func finished(_ draft: Draft) -> Finding {
        var finding = draft.finding
        finding.site = NamedStacks.site(of: finding.wrongStack)
        finding.threads = draft.threads.sorted().prefix(Finding.threadLimit).map(Int.init)
        finding.threadCount = draft.threads.count
        addNotes(draft.notes, to: &finding)
        let interval = max(1, Int(clamping: recording.header.sampleInterval))
        switch finding.kind {
        case .leak, .heldTooLong, .poolDestroyed:
            guard interval > 1, finding.isUnsampled != true else { break }
            finding.estimatedCount = Counter.product(finding.count, interval)
            finding.estimatedBytes = Counter.product(finding.bytes, interval)
        // Seen at whatever was put or watched; what was not watched is not estimated.
        case .doublePut, .wrongPool, .foreignPut, .wrongCapacity, .useAfterPut, .overrun: break
        }
        let circumstances = Sentences.Circumstances(
            isRunning: ending.kind == .running, hasDied: ending.kind == .died, sampleInterval: interval,
            heldLimitSeconds: Analyzer.seconds(from: 0, to: recording.header.heldLimit)
        )
        finding.happened = Sentences.happened(finding, circumstances)
        finding.advice = Sentences.advice(finding)
        return finding
    }

    /// The texts in the order of their recording.
    private func addNotes(_ contexts: Set<UInt32>, to finding: inout Finding) {
        var seen: Set<String> = []
        for context in contexts.sorted() {
            let text = groups.scopes.note(of: context)
            guard !text.isEmpty, seen.insert(text).inserted else { continue }
            if finding.notes.count < Finding.noteLimit { finding.notes.append(text) }
        }
        finding.noteCount = seen.count
    }

    /// What findings are sorted by: kind as `Finding.Kind` declares, then bytes, then count; ties by place and text, so that the
    /// order never depends on chance.
    private struct SortKey: Comparable {
        var severity: [Int]
        var pool: String
        var file: String
        /// Line, column, then the numbers of the frames.
        var places: [Int]
        var text: String

        static func < (left: Self, right: Self) -> Bool {
            if left.severity != right.severity { return left.severity.lexicographicallyPrecedes(right.severity) }
            if left.pool != right.pool { return left.pool < right.pool }
            if left.file != right.file { return left.file < right.file }
            if left.places != right.places { return left.places.lexicographicallyPrecedes(right.places) }
            return left.text < right.text
        }
    }

    /// What a reader sees of a frame.
    private struct FrameText: Hashable, Comparable {
        var function: String
        var file: String
        var line: Int
        var column: Int

        init(_ frame: Frame) {
            function = frame.function
            file = frame.file ?? ""
            line = frame.line ?? 0
            column = frame.column ?? 0
        }

        static func < (left: Self, right: Self) -> Bool {
            (left.function, left.file, left.line, left.column) < (right.function, right.file, right.line, right.column)
        }
    }

    /// The findings, worst first.
    ///
    /// Frames are compared as numbers, each text only once: findings with one site differ in thousands of callers, far down.
    private static func sorted(_ findings: [Finding]) -> [Finding] {
        func stacks(_ finding: Finding) -> [[Frame]] {
            let stacks = finding.stacks
            return [stacks.access, stacks.secondPut, stacks.put, stacks.get, stacks.reissue, stacks.destroy].map {
                $0 ?? []
            }
        }
        let texts = Set(findings.lazy.flatMap { stacks($0).joined().map(FrameText.init) }).sorted()
        let numbers = Dictionary(uniqueKeysWithValues: zip(texts, 0...))
        let keys = findings.map { finding in
            var places = [finding.site?.line ?? 0, finding.site?.column ?? 0]
            for stack in stacks(finding) { places += stack.map { numbers[FrameText($0)] ?? 0 } + [-1] }
            return SortKey(
                severity: [rank(finding), -finding.bytes, -finding.count], pool: finding.pool,
                file: finding.site?.file ?? "", places: places, text: (finding.scope ?? "") + "\n" + finding.happened
            )
        }
        return keys.indices.sorted { keys[$0] < keys[$1] }.map { findings[$0] }
    }

    private static func rank(_ finding: Finding) -> Int {
        // While the program runs, what is out too long is a better hint than what is merely out.
        if finding.isStillHeld == true { return 2 * (Finding.Kind.allCases.firstIndex(of: .leak) ?? 0) - 1 }
        return 2 * (Finding.Kind.allCases.firstIndex(of: finding.kind) ?? 0)
    }
}

extension Finding {
    /// The stack in which the mistake lies; the site is in it.
    package var wrongStack: [Frame]? {
        switch kind {
        case .leak, .poolDestroyed, .heldTooLong: stacks.get
        case .doublePut: stacks.secondPut
        case .wrongPool, .foreignPut, .wrongCapacity: stacks.put
        case .useAfterPut, .overrun: stacks.access ?? stacks.put
        }
    }
}

extension Finding.Kind {
    init(_ kind: FindingKind) {
        switch kind {
        case .doublePut: self = .doublePut
        case .wrongCapacity: self = .wrongCapacity
        case .foreignPut: self = .foreignPut
        case .wrongPool: self = .wrongPool
        case .useAfterPut: self = .useAfterPut
        case .overrun: self = .overrun
        case .poolDestroyed: self = .poolDestroyed
        case .heldTooLong: self = .heldTooLong
        }
    }
}

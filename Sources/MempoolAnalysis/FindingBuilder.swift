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
        for draft in recorded() + outstanding() + unsampledLeaks() {
            let identity = Identity(draft.finding)
            if let known = drafts[identity] {
                drafts[identity] = Self.merged(known, draft)
            } else {
                drafts[identity] = draft
            }
        }
        return drafts.values.map(finished).sorted(by: Self.isWorse)
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

    /// Level sampled: what the exact counters miss of a pool of which no outstanding buffer was watched.
    private func unsampledLeaks() -> [Draft] {
        let header = recording.header
        guard header.sampleInterval > 1, recording.isCleanExit,
            header.flags & RecordingHeader.estimatedCountersFlag == 0
        else { return [] }
        var kept = Int(clamping: header.keptBuffers)
        let watched = Set(groups.leaks.keys.map { Int($0.pool) })
        var drafts: [Draft] = []
        for (number, pool) in recording.pools.enumerated() {
            var missing = 0
            var bytes = 0
            for row in pool.rows {
                let inUse = max(0, Int(truncatingIfNeeded: row.inUse))
                let lost = max(0, inUse - kept)
                kept -= min(kept, inUse)
                missing = Counter.sum(missing, lost)
                bytes = Counter.sum(bytes, Counter.product(lost, Int(clamping: row.capacity)))
            }
            guard missing > 0, !watched.contains(number) else { continue }
            var finding = Finding(
                kind: .leak, pool: poolName(UInt32(number)), count: missing, bytes: bytes, stacks: FindingStacks()
            )
            finding.isUnsampled = true
            drafts.append(Draft(finding: finding, threads: []))
        }
        return drafts
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
            isRunning: ending.kind == .running, sampleInterval: interval,
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

    /// By kind as `Finding.Kind` declares, then bytes, then count; ties by place and text, so that the order never depends on chance.
    private static func isWorse(_ left: Finding, _ right: Finding) -> Bool {
        let leftKind = rank(left)
        let rightKind = rank(right)
        guard (leftKind, -left.bytes, -left.count) == (rightKind, -right.bytes, -right.count) else {
            return (leftKind, -left.bytes, -left.count) < (rightKind, -right.bytes, -right.count)
        }
        let leftPlace = (left.pool, left.site?.file ?? "", left.site?.line ?? 0, left.site?.column ?? 0)
        let rightPlace = (right.pool, right.site?.file ?? "", right.site?.line ?? 0, right.site?.column ?? 0)
        guard leftPlace == rightPlace else { return leftPlace < rightPlace }
        let leftText = Self.text(left.stacks)
        let rightText = Self.text(right.stacks)
        guard leftText == rightText else { return leftText < rightText }
        return (left.scope ?? "", left.happened) < (right.scope ?? "", right.happened)
    }

    private static func rank(_ finding: Finding) -> Int {
        // While the program runs, what is out too long is a better hint than what is merely out.
        if finding.isStillHeld == true { return 2 * (Finding.Kind.allCases.firstIndex(of: .leak) ?? 0) - 1 }
        return 2 * (Finding.Kind.allCases.firstIndex(of: finding.kind) ?? 0)
    }

    private static func text(_ stacks: FindingStacks) -> String {
        [stacks.access, stacks.secondPut, stacks.put, stacks.get, stacks.reissue, stacks.destroy].map { stack in
            (stack ?? []).map { "\($0.function) \($0.file ?? "") \($0.line ?? 0) \($0.column ?? 0)" }
                .joined(separator: "\n")
        }.joined(separator: "\n\n")
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

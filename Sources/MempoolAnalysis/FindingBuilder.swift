// Builds the findings of a report from grouped records and names, merges those that look alike, and sorts them.

internal import MempoolRecording

/// Makes findings out of what was recorded.
struct FindingBuilder {
    let recording: Recording
    let groups: RecordedGroups
    let names: NamedAddresses
    let ending: ProcessEnding
    private let table: ModuleTable

    init(recording: Recording, groups: RecordedGroups, names: NamedAddresses, ending: ProcessEnding) {
        self.recording = recording
        self.groups = groups
        self.names = names
        self.ending = ending
        table = ModuleTable(recording.modules)
    }

    /// A finding with what only merging needs.
    private struct Draft {
        var finding: Finding
        var threads: Set<UInt32>
    }

    /// Two findings with equal identity are one: stacks that differ only inside a line look the same to a reader.
    private struct Identity: Hashable {
        var kind: Finding.Kind
        var pool: String
        var stacks: FindingStacks
    }

    /// All findings, worst first.
    func findings() -> [Finding] {
        var drafts: [Identity: Draft] = [:]
        for draft in badPuts() + leaks() {
            let identity = Identity(kind: draft.finding.kind, pool: draft.finding.pool, stacks: draft.finding.stacks)
            if let known = drafts[identity] {
                drafts[identity] = Self.merged(known, draft)
            } else {
                drafts[identity] = draft
            }
        }
        return drafts.values.map(finished).sorted(by: Self.isWorse)
    }

    // MARK: - Drafts

    private func leaks() -> [Draft] {
        // In a fixed order, as merging keeps the values of the first.
        let sorted = groups.leaks.sorted { ($0.key.pool, $0.key.stack) < ($1.key.pool, $1.key.stack) }
        return sorted.map { key, group in
            var finding = Finding(
                kind: .leak, pool: poolName(UInt32(key.pool)), count: group.count, bytes: group.bytes,
                stacks: FindingStacks(get: frames(key.stack))
            )
            finding.requestedBytes = group.requestedBytes
            finding.oldestAgeSeconds = Analyzer.seconds(from: group.oldest, to: groups.endTime)
            finding.newestAgeSeconds = Analyzer.seconds(from: group.newest, to: groups.endTime)
            return Draft(finding: finding, threads: group.threads)
        }
    }

    private func badPuts() -> [Draft] {
        recording.findings.compactMap { record in
            guard let kind = FindingKind(rawValue: record.kind) else { return nil }
            var stacks = FindingStacks(get: frames(record.getStack))
            if kind == .doublePut {
                stacks.put = frames(record.firstPutStack)
                stacks.secondPut = frames(record.putStack)
                stacks.reissue = frames(record.reissueStack)
            } else {
                stacks.put = frames(record.putStack)
            }
            var finding = Finding(
                kind: Finding.Kind(kind), pool: poolName(record.pool), count: max(1, Int(clamping: record.count)),
                bytes: Int(clamping: record.bytes), stacks: stacks
            )
            finding.oldestAgeSeconds = Analyzer.seconds(from: record.firstTime, to: groups.endTime)
            finding.newestAgeSeconds = Analyzer.seconds(from: record.lastTime, to: groups.endTime)
            finding.givenCapacity = Int(clamping: record.givenCapacity)
            let isHistoryLost = record.flags & FindingRecord.historyLostFlag != 0
            if kind != .foreignPut { finding.historyLost = isHistoryLost }
            switch kind {
            case .doublePut:
                finding.expectedCapacity = Int(clamping: record.expectedCapacity)
                finding.reissued = record.reissues > 0
                finding.reissues = Int(clamping: record.reissues)
                if record.firstPutTime > 0, !isHistoryLost {
                    finding.secondsBetweenPuts = Analyzer.seconds(from: record.firstPutTime, to: record.firstTime)
                }
            case .wrongCapacity:
                finding.expectedCapacity = Int(clamping: record.expectedCapacity)
                finding.sliceOffset = sliceOffset(record)
            case .wrongPool:
                finding.issuingPool = poolName(record.issuingPool)
            case .foreignPut, .useAfterPut, .overrun, .poolDestroyed, .heldTooLong: break
            }
            return Draft(finding: finding, threads: [record.putThread])
        }
    }

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

    private func poolName(_ number: UInt32) -> String {
        let index = Int(number)
        guard index < recording.pools.count, !recording.pools[index].name.isEmpty else { return "pool \(index)" }
        return recording.pools[index].name
    }

    // MARK: - Stacks

    /// The named frames of a stack from the first that is not the pool's own; nil if it was not captured.
    private func frames(_ identifier: UInt32) -> [Frame]? {
        guard let words = groups.stacks[identifier], !words.isEmpty else { return nil }
        let frames = words.flatMap { names.frames[$0] ?? [ModuleTable.unnamedFrame($0, in: table.module(of: $0))] }
        // Thunks between frames of the pool go with them.
        guard let lastOwn = frames.firstIndex(where: { !$0.isOwn && !$0.isCompilerGenerated }), lastOwn > 0,
            frames[..<lastOwn].contains(where: \.isOwn)
        else { return frames }
        return Array(frames[lastOwn...])
    }

    /// The first frame somebody can change; if there is none, the first that is not the pool's. Nil if that has no name: it may be
    /// the pool's own.
    static func site(of stack: [Frame]?) -> Frame? {
        guard let stack else { return nil }
        if let caller = callerOfAutoclosure(stack) { return caller }
        if let user = stack.first(where: \.isUserCode) { return user }
        guard let first = stack.first(where: { !$0.isOwn }) ?? stack.first, !first.isUnnamed else { return nil }
        return first
    }

    /// If the first frame is the argument of an autoclosure, which the compiler gives no line, the frame of the function in
    /// whose text the argument stands.
    private static func callerOfAutoclosure(_ stack: [Frame]) -> Frame? {
        guard let first = stack.first(where: { !$0.isOwn }), first.line == nil,
            first.function.hasPrefix("implicit closure #"), let context = first.function.range(of: " in ")
        else { return nil }
        let function = first.function[context.upperBound...]
        return stack.first { $0.isUserCode && $0.function == function }
    }

    // MARK: - Completion and order

    private static func merged(_ left: Draft, _ right: Draft) -> Draft {
        var draft = left
        draft.threads.formUnion(right.threads)
        draft.finding.count = Counter.sum(left.finding.count, right.finding.count)
        draft.finding.bytes = Counter.sum(left.finding.bytes, right.finding.bytes)
        if let requested = right.finding.requestedBytes {
            draft.finding.requestedBytes = Counter.sum(left.finding.requestedBytes ?? 0, requested)
        }
        if let reissues = right.finding.reissues {
            draft.finding.reissues = Counter.sum(left.finding.reissues ?? 0, reissues)
            draft.finding.reissued = (draft.finding.reissues ?? 0) > 0
        }
        draft.finding.oldestAgeSeconds = max(left.finding.oldestAgeSeconds, right.finding.oldestAgeSeconds)
        draft.finding.newestAgeSeconds = min(left.finding.newestAgeSeconds, right.finding.newestAgeSeconds)
        return draft
    }

    private func finished(_ draft: Draft) -> Finding {
        var finding = draft.finding
        let wrongStack: [Frame]? =
            switch finding.kind {
            case .leak, .poolDestroyed, .heldTooLong: finding.stacks.get
            case .doublePut: finding.stacks.secondPut
            case .wrongPool, .foreignPut, .wrongCapacity, .useAfterPut, .overrun: finding.stacks.put
            }
        finding.site = Self.site(of: wrongStack)
        finding.threads = draft.threads.sorted().prefix(Finding.threadLimit).map(Int.init)
        finding.threadCount = draft.threads.count
        finding.happened = Sentences.happened(finding, running: ending.kind == .running)
        finding.advice = Sentences.advice(finding)
        return finding
    }

    /// By kind as `Finding.Kind` declares, then bytes, then count; ties by place and text, so that the order never depends on chance.
    private static func isWorse(_ left: Finding, _ right: Finding) -> Bool {
        let leftKind = Finding.Kind.allCases.firstIndex(of: left.kind) ?? 0
        let rightKind = Finding.Kind.allCases.firstIndex(of: right.kind) ?? 0
        guard (leftKind, -left.bytes, -left.count) == (rightKind, -right.bytes, -right.count) else {
            return (leftKind, -left.bytes, -left.count) < (rightKind, -right.bytes, -right.count)
        }
        let leftPlace = (left.pool, left.site?.file ?? "", left.site?.line ?? 0, left.site?.column ?? 0)
        let rightPlace = (right.pool, right.site?.file ?? "", right.site?.line ?? 0, right.site?.column ?? 0)
        guard leftPlace == rightPlace else { return leftPlace < rightPlace }
        return Self.text(left.stacks) < Self.text(right.stacks)
    }

    private static func text(_ stacks: FindingStacks) -> String {
        [stacks.secondPut, stacks.put, stacks.get, stacks.reissue].map { stack in
            (stack ?? []).map { "\($0.function) \($0.file ?? "") \($0.line ?? 0) \($0.column ?? 0)" }
                .joined(separator: "\n")
        }.joined(separator: "\n\n")
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

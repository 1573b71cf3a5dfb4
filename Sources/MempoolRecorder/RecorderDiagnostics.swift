// `RecorderDiagnostics`: the recorder's answers to `Diagnostics`, and the part of gets and findings that belongs to them.

#if Recorder
internal import CMempoolPlatform
internal import Mempool
internal import MempoolRecording

/// What the recorder of this process knows; nothing in a forked child.
struct RecorderDiagnostics: DiagnosticsRecorder {
    /// Nil in a forked child, which has no recorder.
    private var recorder: Recorder? {
        cmempool_recorder_root().map { Unmanaged<Recorder>.fromOpaque($0).takeUnretainedValue() }
    }

    var level: Diagnostics.Level {
        guard let recorder else { return .off }
        return Diagnostics.Level(rawValue: recorder.options.level.name) ?? .off
    }

    func requireComplete(withScopes: Bool) throws(DiagnosticsError) {
        guard let recorder else { throw .forkedChild }
        guard recorder.options.level >= .full else { throw .sampled(interval: recorder.options.sampleInterval) }
        let header = recorder.file.header
        // Scopes and the names of images and pools make findings poorer, not fewer.
        var dropped = cmempool_load64(&header.pointee.dropped.ledger)
        dropped &+= cmempool_load64(&header.pointee.dropped.stacks)
        dropped &+= cmempool_load64(&header.pointee.dropped.findings)
        if withScopes { dropped &+= cmempool_load64(&header.pointee.dropped.contexts) }
        guard dropped == 0 else { throw .incomplete(dropped: Int(clamping: dropped)) }
    }

    func findings() -> [Diagnostics.Finding] {
        guard let recorder else { return [] }
        return recorder.mistakes() + recorder.leaks { _, _ in true }
    }

    func mark() -> Diagnostics.Mark {
        var mark = Diagnostics.Mark()
        recorder?.ledger.forEachOutstanding { slot, record in
            mark.slots.append(UInt32(slot))
            mark.generations.append(record.generation)
        }
        return mark
    }

    func outstanding(since mark: Diagnostics.Mark) -> [Diagnostics.Finding] {
        // Both go by ascending slot numbers.
        var position = 0
        return recorder?.leaks { slot, record in
            while position < mark.slots.count, mark.slots[position] < slot { position += 1 }
            return position == mark.slots.count || mark.slots[position] != slot
                || mark.generations[position] != record.generation
        } ?? []
    }

    func functions(ofStack stack: UInt32) -> [String] { recorder?.names(of: stack) ?? [] }

    func description(of finding: Diagnostics.Finding) -> String {
        guard let recorder else { return finding.kind.rawValue }
        let group = Recorder.Group(
            kind: FindingKind.allCases.first { $0.name == finding.kind.rawValue },
            count: UInt64(finding.count), bytes: UInt64(finding.bytes), stack: finding.stack
        )
        var text = Recorder.describe(group) + Recorder.place(recorder.names(of: finding.stack))
        if let scope = finding.scope { text += ", scope \(scope)" }
        if let note = finding.note { text += ", note \(note)" }
        return text
    }

    func beginScope(_ name: String, in parent: ScopeReference) -> ScopeReference {
        guard let recorder else { return .none }
        recorder.usual.pointee.attention.bitwiseOr(Attention.scopes, ordering: .relaxed)
        return recorder.scopes.begin(name, in: parent)
    }

    func endScope(_ scope: ScopeReference, listsOutstanding: Bool) -> [Diagnostics.Finding] {
        guard let recorder, scope.number != 0 else { return [] }
        guard listsOutstanding else {
            recorder.scopes.end(scope, list: nil)
            return []
        }
        var findings: [Diagnostics.Finding] = []
        recorder.scopes.end(scope) { number in
            // Contexts are few beside records.
            var isWithin: [UInt32: Bool] = [0: false]
            findings = recorder.leaks { _, record in
                if let known = isWithin[record.context] { return known }
                let found = recorder.scopes.isWithin(record.context, number)
                isWithin[record.context] = found
                return found
            }
        }
        return findings
    }

    func willUseNotes() { recorder?.usual.pointee.attention.bitwiseOr(Attention.notes, ordering: .relaxed) }

    func setHandler(_ handler: FindingDelivery.Handler?) -> FindingDelivery.Handler? {
        recorder?.delivery.setHandler(handler)
    }

    func keep(slot: Int, generation: UInt32) {
        guard let recorder, !recorder.ledger.keep(slot: slot, generation: generation) else { return }
        if recorder.options.level == .sampled { recorder.keepUnsampled(slot: slot) }
    }

    func snapshot(to path: String) throws(DiagnosticsError) {
        guard let recorder else { throw .forkedChild }
        try recorder.writeSnapshot(to: path)
    }
}

/// Why a get looks further than at its buffer; bits.
enum Attention {
    /// A scope was opened.
    static let scopes: UInt32 = 1
    /// A note was set.
    static let notes: UInt32 = 2
    /// Findings wait for the program's handler.
    static let pending: UInt32 = 4
}

extension Recorder {
    /// The context of a get that is going on, which counts as one of its buffers from here on.
    @inline(never)
    func context(_ attention: UInt32) -> UInt32 {
        if attention & Attention.pending != 0 { deliverPending() }
        let scope = Diagnostics.currentScope.get()
        if attention & Attention.notes != 0, let note = Diagnostics.currentNote.get() {
            do {
                return scopes.didGet(in: scope, note: try text(of: note))
            } catch {
                atomicAdd(&file.header.pointee.failedNotes, 1)
            }
        }
        return scopes.didGet(in: scope)
    }

    /// What a note says. It is asked as from outside of the pool, and only that.
    private func text(of note: () throws -> String) throws -> String {
        let wasInside = cmempool_step_out()
        defer { cmempool_step_in(wasInside) }
        // Without a note meanwhile: gets that the note makes would ask it again.
        return try Diagnostics.currentNote.withValue(nil) { try note() }
    }

    /// Counts a kept buffer whose get was not sampled. Its put is not seen: it counts to the end.
    func keepUnsampled(slot: Int) {
        unsampledKept.withLock { kept in
            guard kept.count < Self.unsampledKeptLimit else { return }
            if kept.insert(slot).inserted { atomicAdd(&file.header.pointee.keptBuffers, 1) }
        }
    }

    /// A program keeps few buffers for life; beyond, they count as leaks without a stack.
    private static let unsampledKeptLimit = 65_536

    /// Tells the program's handler of a finding that was just entered.
    func didFind(_ record: FindingRecord, isUnderLock: Bool) {
        guard delivery.hasHandler else { return }
        var record = record
        record.count = max(record.count, 1)
        let finding = finding(record)
        guard isUnderLock else {
            deliverPending()
            return delivery.deliver(finding)
        }
        delivery.postpone(finding)
        usual.pointee.attention.bitwiseOr(Attention.pending, ordering: .releasing)
    }

    /// Hands over what waits for a moment without locks.
    func deliverPending() {
        // What the handler itself causes must not take the others along: they wait for a call outside of it.
        guard usual.pointee.attention.load(ordering: .relaxed) & Attention.pending != 0, !Diagnostics.isInHandler.get()
        else {
            return
        }
        // First, so that what is added from here on asks for attention again.
        usual.pointee.attention.bitwiseAnd(~Attention.pending, ordering: .acquiringAndReleasing)
        delivery.deliverPending()
    }

    private func finding(_ record: FindingRecord) -> Diagnostics.Finding {
        let texts = scopes.texts(of: record.context)
        let kind = FindingKind(rawValue: record.kind).flatMap { Diagnostics.Finding.Kind(rawValue: $0.name) }
        return Diagnostics.Finding(
            kind: kind ?? .leak, count: Int(clamping: record.count), bytes: Int(clamping: record.bytes),
            scope: texts.scope, note: texts.note, stack: record.siteStack
        )
    }

    /// The mistakes so far, the larger ones first.
    func mistakes() -> [Diagnostics.Finding] {
        var records: [FindingRecord] = []
        cold.withLock { cold in cold.findings.forEach { records.append($0) } }
        return (records + idleMistakes()).map(finding).sorted(by: Self.isLarger)
    }

    /// What idle memory shows, by the stack of the put. It is entered only when somebody gets the memory, or at exit, so that
    /// it is counted once.
    private func idleMistakes() -> [FindingRecord] {
        // Tools that watch idle memory told of the touch itself, and to look would be one to them.
        guard !cmempool_has_tools() else { return [] }
        var groups: [UInt32: FindingRecord] = [:]
        forEachIdleDamage { slot, record, _ in
            var group = groups[record.putStack] ?? FindingRecord()
            group.kind = FindingKind.useAfterPut.rawValue
            group.count &+= 1
            group.bytes &+= capacity(of: record)
            group.putStack = record.putStack
            group.context = scopes.context(record.context, at: record.getTime)
            groups[record.putStack] = group
        }
        return Array(groups.values)
    }

    /// Outstanding buffers by stack, scope and note, the larger groups first.
    func leaks(where isWanted: (_ slot: Int, _ record: LedgerRecord) -> Bool) -> [Diagnostics.Finding] {
        struct Place: Hashable {
            var stack: UInt32
            var context: UInt32
        }
        struct Sum {
            var count = 0
            var bytes = 0
        }
        var byPlace: [Place: Sum] = [:]
        forEachLeak { slot, record in
            guard isWanted(slot, record) else { return }
            let place = Place(
                stack: record.getStack, context: scopes.context(record.context, at: record.getTime)
            )
            byPlace[place, default: Sum()].count += 1
            byPlace[place, default: Sum()].bytes &+= Int(clamping: capacity(of: record))
        }
        // Calls of one scope are different contexts with the same name.
        var groups: [Diagnostics.Finding: Sum] = [:]
        for (place, sum) in byPlace {
            let texts = scopes.texts(of: place.context)
            let group = Diagnostics.Finding(
                kind: .leak, count: 0, bytes: 0, scope: texts.scope, note: texts.note, stack: place.stack
            )
            groups[group, default: Sum()].count += sum.count
            groups[group, default: Sum()].bytes &+= sum.bytes
        }
        return groups.map { group, sum in
            Diagnostics.Finding(
                kind: .leak, count: sum.count, bytes: sum.bytes, scope: group.scope, note: group.note,
                stack: group.stack
            )
        }
        .sorted(by: Self.isLarger)
    }

    private static func isLarger(_ a: Diagnostics.Finding, _ b: Diagnostics.Finding) -> Bool {
        (a.bytes, a.count, b.stack, b.scope ?? "", b.note ?? "") > (
            b.bytes, b.count, a.stack, a.scope ?? "", a.note ?? ""
        )
    }

    /// Calls `body` for each outstanding record but those of buffers that are kept on purpose, or that are part of another
    /// finding.
    func forEachLeak(_ body: (_ slot: Int, _ record: LedgerRecord) -> Void) {
        ledger.forEachOutstanding { slot, record in
            if record.flags & (LedgerFlags.kept | LedgerFlags.inFinding) == 0 { body(slot, record) }
        }
    }
}

extension FindingRecord {
    /// The stack of the place that is to blame.
    var siteStack: UInt32 {
        if accessStack > 0 { return accessStack }
        switch FindingKind(rawValue: kind) {
        case .poolDestroyed, .heldTooLong: return getStack
        default: return putStack
        }
    }
}
#endif

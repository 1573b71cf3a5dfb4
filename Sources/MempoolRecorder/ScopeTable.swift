// `ScopeTable`: the scopes and notes of a recording, and how many buffers of each are outstanding.

#if Recorder
internal import CMempoolPlatform
internal import Glibc
internal import Mempool
internal import MempoolRecording

/// Opens and ends scopes, and counts the buffers that were got in them.
///
/// Each scope and each distinct note has a record, a *context*, as long as it is open, buffers of it are outstanding, other
/// contexts lie in it, or a finding names it. After that the record is used again, the one that was given up longest ago first,
/// and while there is room for more not before `reuseDelay` others were: whoever still holds its number, such as a ledger record of a returned buffer, finds
/// it as it was, or sees by its time that it is another one.
///
/// A get in a scope without a note, and its put, take no lock. Thread-safe.
final class ScopeTable: Sendable {
    /// Contexts given up before the first of them is used again: more than are begun within a tick of the recording's clock.
    private static let reuseDelay = 4096

    /// The state of a context that gets and puts need, in one word: buffers outstanding in the low half, then whether it is a
    /// scope that has not ended, and on top a serial number that grows when the record is used again.
    private enum Word {
        static let open: UInt64 = 1 << 32
        static let countMask: UInt64 = open - 1
        static let serialShift: UInt64 = 33
        static func serial(_ word: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: word >> serialShift) }
    }

    private struct NoteKey: Hashable {
        var scope: ScopeReference
        var text: [UInt8]

        static func == (a: Self, b: Self) -> Bool {
            a.scope.number == b.scope.number && a.scope.serial == b.scope.serial && a.text == b.text
        }
        func hash(into hasher: inout Hasher) {
            hasher.combine(scope.number)
            hasher.combine(scope.serial)
            hasher.combine(text)
        }
    }

    /// What is known of a context beside its record and its word.
    private struct Slot {
        /// Its part of the string section, of `RecordingLimits.contextTextBytes`; nil until it is used.
        var text: UInt32?
        /// Contexts directly in it, findings that name it, and calls that list it.
        var holders = 0
        /// Whether it waits for another use. It may be called back from there.
        var isFree = false
        var isQueued = false
        /// Of a note: under what it is found.
        var note: NoteKey?
    }

    private struct State: ~Copyable {
        /// By number; number 0 is never used.
        var slots = [Slot()]
        /// Contexts that were given up, oldest first from `firstFree` on.
        var free: [UInt32] = []
        var firstFree = 0
        var notes: [NoteKey: UInt32] = [:]
    }

    private let file: RecordingFile
    private nonisolated(unsafe) let records: UnsafeMutablePointer<ContextRecord>
    private nonisolated(unsafe) let texts: UnsafeMutablePointer<UInt8>
    private nonisolated(unsafe) let words: UnsafeMutablePointer<UInt64>
    private let state = Guarded(State())
    private let makeRoom: @Sendable (Int) -> UInt32?

    /// Private memory, bytes; pages that are used only.
    static let heapBytes = RecordingLimits.contexts * MemoryLayout<UInt64>.stride

    /// - Parameter makeRoom: Sets bytes of the string section aside; called with the table's lock held.
    init?(file: RecordingFile, makeRoom: @escaping @Sendable (Int) -> UInt32?) {
        guard let words = SystemMemory.reserve(UInt64.self, RecordingLimits.contexts) else { return nil }
        self.file = file
        self.makeRoom = makeRoom
        self.words = words
        records = file.records(.contexts, as: ContextRecord.self)
        texts = file.records(.strings, as: UInt8.self)
    }

    // MARK: - Scopes

    /// Opens a scope within another one or none; `none` if there is no room.
    func begin(_ name: String, in parent: ScopeReference) -> ScopeReference {
        state.withLock { state in
            let parent = isCurrent(parent) ? parent.number : 0
            guard let number = take(&state) else { return .none }
            var record = ContextRecord()
            record.name = write(Self.bytes(of: name.isEmpty ? "unnamed" : name), to: number, state)
            record.beginTime = cmempool_now()
            publish(record, 1, number, in: parent, isOpen: true, &state)
            return ScopeReference(number: number, serial: Word.serial(cmempool_load64(words + Int(number))))
        }
    }

    /// Ends a scope; calls `list` with its number, if it or what lies in it may hold buffers, while it cannot be used again.
    func end(_ scope: ScopeReference, list: ((UInt32) -> Void)?) {
        let number = scope.number
        let holdsBuffers = state.withLock { state -> Bool in
            let word = words + Int(number)
            records[Int(number)].endTime = cmempool_now()
            // Whoever finds the scope ended also finds when; and from here on nobody adds to the count.
            var old = cmempool_load64(word)
            while !cmempool_exchange64(word, old, old & ~Word.open) { old = cmempool_load64(word) }
            let count = old & Word.countMask
            records[Int(number)].outstandingAtEnd = count
            setState(2, number)
            if list != nil { state.slots[Int(number)].holders += 1 }
            let holdsBuffers = count > 0 || state.slots[Int(number)].holders > 1
            giveUpIfUnused(number, &state)
            return holdsBuffers
        }
        guard let list else { return }
        if holdsBuffers { list(number) }
        drop(number)
    }

    private func isCurrent(_ scope: ScopeReference) -> Bool {
        guard scope.number != 0 else { return false }
        let word = cmempool_load64(words + Int(scope.number))
        return Word.serial(word) == scope.serial && word & Word.open != 0
    }

    // MARK: - Gets and puts

    /// Counts a buffer of a scope. Returns the scope's number, or 0 if it has ended.
    func didGet(in scope: ScopeReference) -> UInt32 {
        guard scope.number != 0 else { return 0 }
        let word = words + Int(scope.number)
        while true {
            let old = cmempool_load64(word)
            guard Word.serial(old) == scope.serial, old & Word.open != 0 else { return 0 }
            if cmempool_exchange64(word, old, old + 1) { return scope.number }
        }
    }

    /// Counts a buffer that was got with a note. Returns the number of the note's context, or the scope's if there is no room.
    func didGet(in scope: ScopeReference, note: String) -> UInt32 {
        let number = didGet(in: scope)
        let text = Self.bytes(of: note)
        guard !text.isEmpty else { return number }
        return state.withLock { state in
            let key = NoteKey(scope: number == 0 ? .none : scope, text: text)
            if let known = state.notes[key] {
                // A note that nothing holds any more no longer holds its scope either.
                if state.slots[Int(known)].isFree {
                    state.slots[Int(known)].isFree = false
                    if number != 0 { state.slots[Int(number)].holders += 1 }
                }
                addOne(known)
                return known
            }
            guard let context = take(&state) else { return number }
            var record = ContextRecord()
            record.note = write(text, to: context, state)
            record.beginTime = cmempool_now()
            state.slots[Int(context)].note = key
            state.notes[key] = context
            publish(record, 1, context, in: number, isOpen: false, &state)
            addOne(context)
            return context
        }
    }

    /// Ends the count of a buffer that came back, or that found no room in the ledger.
    @inline(never)
    func didPut(_ context: UInt32) {
        guard Int(context) < RecordingLimits.contexts else { return }
        let record = records + Int(context)
        // Whole records of contexts in use do not change in these fields.
        if record.pointee.note.length > 0 {
            let scope = record.pointee.scope
            removeOne(context)
            if scope != 0 { removeOne(scope) }
        } else {
            removeOne(context)
        }
    }

    private func addOne(_ number: UInt32) { _ = cmempool_add64(words + Int(number), 1) }

    private func removeOne(_ number: UInt32) {
        let word = words + Int(number)
        var isLate = false
        while true {
            let old = cmempool_load64_acquire(word)
            guard old & Word.countMask > 0 else { return }
            if old & Word.open == 0, !isLate {
                // Before the count, which may be the last thing that holds the record.
                isLate = true
                countLateReturn(records + Int(number))
            }
            guard cmempool_exchange64(word, old, old - 1) else { continue }
            guard (old - 1) & (Word.countMask | Word.open) == 0 else { return }
            return state.withLock { giveUpIfUnused(number, &$0) }
        }
    }

    private func countLateReturn(_ record: UnsafeMutablePointer<ContextRecord>) {
        guard record.pointee.note.length == 0 else { return }
        _ = cmempool_add64(&record.pointee.lateReturns, 1)
        let duration = cmempool_now() &- record.pointee.endTime
        var slowest = cmempool_load64(&record.pointee.slowestReturn)
        while slowest < duration, !cmempool_exchange64(&record.pointee.slowestReturn, slowest, duration) {
            slowest = cmempool_load64(&record.pointee.slowestReturn)
        }
    }

    // MARK: - Records

    /// A number for a new context, with room for its text; nil, and counted, if there is none.
    private func take(_ state: inout State) -> UInt32? {
        if state.free.count - state.firstFree >= Self.reuseDelay, let number = takeFree(&state) { return number }
        let fresh = state.slots.count
        if file.reserve(.contexts, count: fresh + 1) != nil, let text = makeRoom(RecordingLimits.contextTextBytes) {
            state.slots.append(Slot(text: text))
            return UInt32(fresh)
        }
        if let number = takeFree(&state) { return number }
        file.countDropped(&file.header.pointee.dropped.contexts)
        return nil
    }

    private func takeFree(_ state: inout State) -> UInt32? {
        while state.firstFree < state.free.count {
            let number = state.free[state.firstFree]
            state.firstFree += 1
            if state.firstFree > state.free.count / 2, state.firstFree > Self.reuseDelay {
                state.free.removeFirst(state.firstFree)
                state.firstFree = 0
            }
            state.slots[Int(number)].isQueued = false
            // It may have been called back since it was given up.
            guard state.slots[Int(number)].isFree else { continue }
            if let note = state.slots[Int(number)].note { state.notes[note] = nil }
            let text = state.slots[Int(number)].text
            state.slots[Int(number)] = Slot(text: text)
            return number
        }
        return nil
    }

    private func write(_ text: [UInt8], to number: UInt32, _ state: borrowing State) -> StringReference {
        // A live reader ignores the record while its text changes.
        setState(0, number)
        guard let offset = state.slots[Int(number)].text, !text.isEmpty else { return StringReference() }
        (texts + Int(offset)).update(from: text, count: text.count)
        return StringReference(offset: offset, length: UInt32(text.count))
    }

    private func publish(
        _ record: ContextRecord, _ newState: UInt32, _ number: UInt32, in scope: UInt32, isOpen: Bool,
        _ state: inout State
    ) {
        var record = record
        record.scope = scope
        if scope != 0 { state.slots[Int(scope)].holders += 1 }
        records[Int(number)] = record
        setState(newState, number)
        let serial = UInt64(Word.serial(cmempool_load64(words + Int(number))) &+ 1) & 0x7FFF_FFFF
        cmempool_store64_release(words + Int(number), serial << Word.serialShift | (isOpen ? Word.open : 0))
        let published = file.published(.contexts)
        if UInt64(number) >= cmempool_load64(published) { cmempool_store64_release(published, UInt64(number) + 1) }
    }

    private func setState(_ value: UInt32, _ number: UInt32) {
        cmempool_store32_release(&records[Int(number)].state, value)
    }

    /// Queues a context for another use if nothing holds it, and lets go of the one around it.
    private func giveUpIfUnused(_ number: UInt32, _ state: inout State) {
        var number = number
        while number != 0 {
            let word = cmempool_load64(words + Int(number))
            guard word & (Word.open | Word.countMask) == 0, state.slots[Int(number)].holders == 0,
                !state.slots[Int(number)].isFree
            else { return }
            state.slots[Int(number)].isFree = true
            if !state.slots[Int(number)].isQueued {
                state.slots[Int(number)].isQueued = true
                state.free.append(number)
            }
            let scope = records[Int(number)].scope
            if scope != 0 { state.slots[Int(scope)].holders -= 1 }
            number = scope
        }
    }

    /// Lets go of a context that was held.
    private func drop(_ number: UInt32) {
        state.withLock { state in
            state.slots[Int(number)].holders -= 1
            giveUpIfUnused(number, &state)
        }
    }

    /// The UTF-8 bytes of a text, cut behind a character if there are too many.
    private static func bytes(of text: String) -> [UInt8] {
        let limit = RecordingLimits.contextTextBytes
        guard text.utf8.count > limit else { return Array(text.utf8) }
        var bytes: [UInt8] = []
        for character in text {
            let next = character.utf8
            guard bytes.count + next.count <= limit else { break }
            bytes += next
        }
        return bytes
    }

    // MARK: - Findings

    /// The context of a buffer that was got at a time, or 0 if its record has been used again since.
    func context(_ number: UInt32, at getTime: UInt64) -> UInt32 {
        guard number != 0, Int(number) < RecordingLimits.contexts else { return 0 }
        return state.withLock { _ in records[Int(number)].beginTime <= getTime ? number : 0 }
    }

    /// Keeps a context for good, as a finding names it.
    func pin(_ number: UInt32) {
        guard number != 0 else { return }
        state.withLock { state in
            state.slots[Int(number)].holders += 1
            guard state.slots[Int(number)].isFree else { return }
            state.slots[Int(number)].isFree = false
            let scope = records[Int(number)].scope
            if scope != 0 { pinAround(scope, &state) }
        }
    }

    private func pinAround(_ number: UInt32, _ state: inout State) {
        state.slots[Int(number)].holders += 1
        guard state.slots[Int(number)].isFree else { return }
        state.slots[Int(number)].isFree = false
        let scope = records[Int(number)].scope
        if scope != 0 { pinAround(scope, &state) }
    }

    /// The name of a context's scope, and its note.
    func texts(of number: UInt32) -> (scope: String?, note: String?) {
        guard number != 0 else { return (nil, nil) }
        return state.withLock { _ in
            let record = records[Int(number)]
            guard record.note.length > 0 else { return (text(record.name), nil) }
            let scope = record.scope == 0 ? nil : text(records[Int(record.scope)].name)
            return (scope, text(record.note))
        }
    }

    private func text(_ reference: StringReference) -> String {
        let bytes = UnsafeBufferPointer(start: texts + Int(reference.offset), count: Int(reference.length))
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Whether a context is a scope, or lies in it.
    func isWithin(_ number: UInt32, _ scope: UInt32) -> Bool {
        state.withLock { _ in
            var number = number
            // Scopes begin before what lies in them, but their numbers are used again: so bounded.
            for _ in 0..<RecordingLimits.contexts where number != 0 {
                if number == scope { return true }
                number = records[Int(number)].scope
            }
            return false
        }
    }
}
#endif

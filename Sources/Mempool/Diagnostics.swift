// `Diagnostics`: how a program asks the recorder what it has found so far.

internal import CMempoolPlatform

/// What the recorder knows, while the program runs.
///
/// Where no recorder works (release builds without `MEMPOOL_DEBUG`, level off, a build without the package trait `Recorder`,
/// a forked child) everything here does nothing, at the cost of a test, but for what promises an answer: ``check()``,
/// ``outstanding(since:)``, ``snapshot(to:)`` and ``withCheckedScope(_:_:)`` throw a ``DiagnosticsError``, so that a test
/// that relies on them cannot pass by accident.
///
/// ```swift
/// let before = Diagnostics.mark()
/// try await server.handle(request)
/// for finding in try Diagnostics.outstanding(since: before) { print(finding) }
/// ```
///
/// Thread-safe, all of it. None of it may be called in a signal handler.
public enum Diagnostics {
    /// How much the recorder does; see `level` in mempool-doctor(1).
    public enum Level: String, Sendable, CaseIterable {
        /// Nothing is recorded; bad puts are refused and counted.
        case off
        /// One get in many carries a stack; bad puts are all found.
        case sampled
        /// Every get and put carries a stack, and bytes are checked at the put and before the next get.
        case full
        /// As full, with guard pages and a quarantine, so that a touch where none belongs faults at its instruction.
        case paranoid
    }

    /// How much the recorder does in this process. Starts the recorder, if no pool has been used yet.
    public static var level: Level { recorder?.level ?? .off }

    /// Whether a recorder works in this process.
    public static var isRecording: Bool { level != .off }

    // MARK: - What was found

    /// All findings so far: mistakes, and every outstanding buffer as a leak, grouped by their stacks. Mistakes come first, then
    /// the larger groups.
    ///
    /// To be asked where nothing should be outstanding, such as at the end of a test. Buffers marked by ``keepForLife(_:)`` are
    /// no leaks. Takes milliseconds per 100,000 slots in use; other threads go on meanwhile.
    /// - Throws: ``DiagnosticsError`` if not every get and put is known: the recorder is off, samples, or had to drop records.
    public static func check() throws(DiagnosticsError) -> [Finding] {
        let recorder = try completeRecorder()
        return InterruptedCalls.around { recorder.findings() }
    }

    /// Remembers which buffers are outstanding now: 12 bytes for each.
    ///
    /// For programs that hold buffers already, or leak some that nobody can mend yet: what ``outstanding(since:)`` lists is new.
    /// Takes milliseconds per 100,000 slots in use, as ``check()``; other threads go on meanwhile.
    public static func mark() -> Mark {
        guard let recorder else { return Mark() }
        return InterruptedCalls.around { recorder.mark() }
    }

    /// The buffers that became outstanding since a mark and still are, as leaks grouped by their stacks.
    ///
    /// - Throws: ``DiagnosticsError`` as ``check()`` does.
    public static func outstanding(since mark: Mark) throws(DiagnosticsError) -> [Finding] {
        let recorder = try completeRecorder()
        return InterruptedCalls.around { recorder.outstanding(since: mark) }
    }

    /// Has a function called for each mistake that is found from now on; it replaces the one before, nil removes it.
    ///
    /// It is called for each occurrence, with a count of 1, on the thread whose call was or noticed the mistake, in the middle of that
    /// call and with no lock held. It may use pools. For mistakes that are made in it, it is not called. What is noticed while
    /// memory goes back to the system is delivered with the next get or finding, on the thread of that. Leaks are
    /// not delivered, as nobody makes them at any one moment.
    public static func onFinding(_ handler: (@Sendable (Finding) -> Void)?) {
        guard let recorder else { return }
        // What the one before held ends outside, where it may use pools.
        _ = InterruptedCalls.around { recorder.setHandler(handler) }
    }

    /// Writes a recording of this moment into a new file, which `mempool-doctor report` reads like any other.
    ///
    /// Other threads go on meanwhile; what they do is in the file wholly or not at all, buffer by buffer.
    /// - Parameter path: Where no file may be yet; it gets mode 0600.
    /// - Throws: ``DiagnosticsError`` if there is no recorder or the file cannot be written; none is left behind then.
    public static func snapshot(to path: String) throws(DiagnosticsError) {
        guard let recorder else { throw DiagnosticsError.withoutRecorder }
        try InterruptedCalls.around { () throws(DiagnosticsError) in try recorder.snapshot(to: path) }
    }

    // MARK: - Kept on purpose

    /// Says that an outstanding buffer is kept for the life of the process: it is no leak. Its put, if it comes, ends that.
    ///
    /// To be called by the buffer's owner. A buffer that is not outstanding is left alone.
    public static func keepForLife(_ buffer: borrowing Buffer) {
        guard buffer.ticket != 0, let recorder,
            SlotTable.isOutstanding(buffer.ticket)
        else { return }
        let slot = buffer.slotNumber
        let generation = buffer.generation
        InterruptedCalls.around { recorder.keep(slot: slot, generation: generation) }
    }

    // MARK: - The recorder

    /// The recorder, started if no pool has been used yet.
    static var recorder: (any DiagnosticsRecorder)? {
        PoolHook.startRecorder
        return PoolHook.installed?.diagnostics
    }

    static func completeRecorder(withScopes: Bool = false) throws(DiagnosticsError) -> any DiagnosticsRecorder {
        guard let recorder else { throw DiagnosticsError.withoutRecorder }
        try recorder.requireComplete(withScopes: withScopes)
        return recorder
    }
}

// Scopes and notes: by which part of a program a buffer was got.

extension Diagnostics {
    /// The innermost scope of the running task; on a thread without a task, of the calls below.
    package static let currentScope = TaskLocal(wrappedValue: ScopeReference.none)
    package static let currentNote = TaskLocal<(@Sendable () throws -> String)?>(wrappedValue: nil)
    /// Whether this is the program's handler of findings, or something it called.
    package static let isInHandler = TaskLocal(wrappedValue: false)

    /// Runs the body as a scope: findings about buffers that were got in it carry its name.
    ///
    /// Buffers that child tasks get belong to the scope as well, and those that `Task { }` gets until the scope ends. Detached
    /// tasks and other threads are outside. Of nested scopes the innermost counts. As with every task-local value, a task
    /// group must not begin outside the body and get children in it.
    /// - Parameter name: Shown in findings; of long names the first 200 bytes.
    public static func withScope<R, E: Error>(_ name: String, _ body: () throws(E) -> R) throws(E) -> R {
        let scope = beginScope(name)
        defer { endScope(scope) }
        return try inScope(scope, body).get()
    }

    /// Runs asynchronous work as a scope, as the synchronous form does.
    public static func withScope<R, E: Error>(
        _ name: String,
        isolation: isolated (any Actor)? = #isolation,
        _ body: () async throws(E) -> R
    ) async throws(E) -> R {
        let scope = beginScope(name)
        defer { endScope(scope) }
        return try await inScope(scope, body).get()
    }

    /// Runs the body as a scope and throws if buffers got in it, or in scopes within, are outstanding at its end.
    ///
    /// ```swift
    /// try Diagnostics.withCheckedScope("upload") { try upload(file) }
    /// ```
    ///
    /// - Throws: What the body throws, whatever is outstanding then; ``OutstandingBuffersError``; or ``DiagnosticsError`` if the
    ///   recorder is off, samples, or had to drop records, in the first two cases before the body runs.
    public static func withCheckedScope<R>(_ name: String, _ body: () throws -> R) throws -> R {
        let recorder = try completeRecorder(withScopes: true)
        let scope = beginScope(name)
        let result = inScope(scope, body)
        return try check(scope, name, recorder, result)
    }

    /// Runs asynchronous work as a scope and throws if buffers are outstanding at its end, as the synchronous form does.
    public static func withCheckedScope<R>(
        _ name: String,
        isolation: isolated (any Actor)? = #isolation,
        _ body: () async throws -> R
    ) async throws -> R {
        let recorder = try completeRecorder(withScopes: true)
        let scope = beginScope(name)
        let result = await inScope(scope, body)
        return try check(scope, name, recorder, result)
    }

    /// Runs the body with a note: findings about buffers that were got in it carry what the note says.
    ///
    /// ```swift
    /// Diagnostics.withNote({ "route=\(request.route)" }) { handle(request) }
    /// ```
    ///
    /// - Parameters:
    ///   - note: Called at each get in the body, on the thread of the get, while the recorder works, so it should be short. Of its
    ///     text the first 200 bytes are kept. If it throws, the buffer is recorded without a note. Gets of its own have none.
    ///   - body: Whose gets to note, with those of its child tasks; the innermost note counts.
    public static func withNote<R, E: Error>(
        _ note: @escaping @Sendable () throws -> String, _ body: () throws(E) -> R
    ) throws(E) -> R {
        guard willUseNotes() else { return try body() }
        return try currentNote.withValue(note) { Result(catching: body) }.get()
    }

    /// Runs asynchronous work with a note, as the synchronous form does.
    public static func withNote<R, E: Error>(
        _ note: @escaping @Sendable () throws -> String,
        isolation: isolated (any Actor)? = #isolation,
        _ body: () async throws(E) -> R
    ) async throws(E) -> R {
        guard willUseNotes() else { return try await body() }
        return try await currentNote.withValue(note) { await result(of: body) }.get()
    }

    // MARK: - The parts

    private static func willUseNotes() -> Bool {
        guard let recorder, recorder.level != .off else { return false }
        recorder.willUseNotes()
        return true
    }

    private static func beginScope(_ name: String) -> ScopeReference {
        guard let recorder else { return .none }
        return InterruptedCalls.around { recorder.beginScope(name, in: currentScope.get()) }
    }

    private static func endScope(_ scope: ScopeReference) {
        guard scope.number != 0, let recorder else { return }
        _ = InterruptedCalls.around { recorder.endScope(scope, listsOutstanding: false) }
    }

    /// Runs the body with a scope in place of the present one; if it is none, gets are unscoped.
    private static func inScope<R, E: Error>(_ scope: ScopeReference, _ body: () throws(E) -> R) -> Result<R, E> {
        guard isUsed(scope) else { return Result(catching: body) }
        return currentScope.withValue(scope) { Result(catching: body) }
    }

    private static func inScope<R, E: Error>(
        _ scope: ScopeReference, isolation: isolated (any Actor)? = #isolation, _ body: () async throws(E) -> R
    ) async -> Result<R, E> {
        guard isUsed(scope) else { return await result(of: body) }
        return await currentScope.withValue(scope) { await result(of: body) }
    }

    /// Whether there is anything to set: a scope, or one around that must not count.
    private static func isUsed(_ scope: ScopeReference) -> Bool {
        scope.number != 0 || currentScope.get().number != 0
    }

    private static func result<R, E: Error>(
        isolation: isolated (any Actor)? = #isolation, of body: () async throws(E) -> R
    ) async -> Result<R, E> {
        do throws(E) {
            return .success(try await body())
        } catch {
            return .failure(error)
        }
    }

    private static func check<R>(
        _ scope: ScopeReference, _ name: String, _ recorder: any DiagnosticsRecorder, _ result: Result<R, any Error>
    ) throws -> R {
        let findings = InterruptedCalls.around { recorder.endScope(scope, listsOutstanding: true) }
        let value = try result.get()
        guard findings.isEmpty else { throw OutstandingBuffersError(scope: name, findings: findings) }
        try recorder.requireComplete(withScopes: true)
        return value
    }
}

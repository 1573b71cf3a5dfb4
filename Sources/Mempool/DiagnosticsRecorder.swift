// `DiagnosticsRecorder`: what `Diagnostics` asks of the recorder, and `ScopeReference`, how a task knows its scope.

/// One call of `withScope`, as the tasks in it know it.
package struct ScopeReference: Sendable, BitwiseCopyable {
    /// The number of the scope's record; 0 for "unscoped".
    package var number: UInt32
    /// Tells this scope from later ones that use the same record.
    package var serial: UInt32

    package init(number: UInt32, serial: UInt32) {
        self.number = number
        self.serial = serial
    }

    package static let none = ScopeReference(number: 0, serial: 0)
}

/// The part of a recorder that programs talk to through ``Diagnostics``. Thread-safe.
///
/// In a forked child, which has no recorder, the level is off and nothing happens.
package protocol DiagnosticsRecorder: Sendable {
    var level: Diagnostics.Level { get }
    /// Throws unless every get and put so far is known; with scopes, also unless every scope is.
    func requireComplete(withScopes: Bool) throws(DiagnosticsError)

    func findings() -> [Diagnostics.Finding]
    func mark() -> Diagnostics.Mark
    func outstanding(since mark: Diagnostics.Mark) -> [Diagnostics.Finding]
    func functions(ofStack stack: UInt32) -> [String]
    func description(of finding: Diagnostics.Finding) -> String

    /// Opens a scope; `none` if there is no room for one more.
    func beginScope(_ name: String, in parent: ScopeReference) -> ScopeReference
    /// Ends a scope. Lists what is outstanding of it and of the scopes within it, if asked to.
    func endScope(_ scope: ScopeReference, listsOutstanding: Bool) -> [Diagnostics.Finding]
    /// To be called before the first note: gets look for notes only from then on.
    func willUseNotes()

    /// Sets the handler and gives the one before. The caller lets go of that outside of the pool.
    func setHandler(
        _ handler: (@Sendable (Diagnostics.Finding) -> Void)?
    ) -> (@Sendable (Diagnostics.Finding) -> Void)?
    /// Marks an outstanding buffer as kept.
    func keep(slot: Int, generation: UInt32)
    func snapshot(to path: String) throws(DiagnosticsError)
}

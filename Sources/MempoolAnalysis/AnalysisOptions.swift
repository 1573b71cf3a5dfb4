// What the caller of the analysis knows and wants.

/// What to take into account when a recording is analysed.
package struct AnalysisOptions: Sendable {
    /// Paths below it are shown relative to it.
    package var sourceRoot: String?
    /// How the process ended, if the caller saw it: its exit status.
    package var exitedStatus: Int?
    /// How the process ended, if the caller saw it: the signal that killed it.
    package var killedBySignal: Int?

    package init() {}
}

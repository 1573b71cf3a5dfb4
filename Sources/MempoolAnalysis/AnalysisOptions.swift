// What the caller of the analysis knows and wants.

/// How a process ended, seen from outside of it.
package enum ObservedEnd: Sendable, Equatable {
    /// By itself, with this status.
    case exited(status: Int)
    /// By this signal.
    case killed(signal: Int)
    /// Not at all: it went on as another program (`execve`), which records for itself.
    case replaced
}

/// What to take into account when a recording is analysed.
package struct AnalysisOptions: Sendable {
    /// Paths below it are shown relative to it.
    package var sourceRoot: String?
    /// How processes ended, by their number, as far as the caller saw it. Only the end of the process that wrote the recording
    /// counts; a recording may be that of somebody else's child.
    package var observedEnds: [Int: ObservedEnd] = [:]
    /// When they ended, nanoseconds of the clock that recordings use. A program that was killed has recorded only when it used the
    /// pool last, which may be hours before.
    package var observedEndTimes: [Int: UInt64] = [:]
    /// Whether the caller watches no longer. What a process that still runs has in use is then no leak, and nothing found is not
    /// healthy: else the verdict would depend on the moment.
    package var observationHasEnded = false

    package init() {}

    /// What time it is on the clock that recordings use, nanoseconds.
    package static func now() -> UInt64 { ProcessState.coarseMonotonicNow() }
}

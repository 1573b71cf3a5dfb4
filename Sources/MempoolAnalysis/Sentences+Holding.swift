// The words for buffers that did not come back, or came back late: leaks, long holds, scopes.

extension Sentences {
    /// `3 buffers`, or what they stand for: `about 384 buffers (sampled 1 in 128: 3 seen)`.
    static func amount(_ finding: Finding, _ circumstances: Circumstances) -> String {
        guard let estimate = finding.estimatedCount else { return plural(finding.count, "buffer") }
        return "About \(plural(estimate, "buffer")) (sampled 1 in \(grouped(circumstances.sampleInterval)): "
            + "\(grouped(finding.count)) seen)"
    }

    private static func isOne(_ finding: Finding) -> Bool { (finding.estimatedCount ?? finding.count) == 1 }

    static func leaked(_ finding: Finding, _ circumstances: Circumstances) -> String {
        let buffers = amount(finding, circumstances)
        let was = isOne(finding) ? "was" : "were"
        if finding.isUnsampled == true {
            return "\(buffers) \(was) got and never put. \(unwatched)"
        }
        guard let scope = finding.scope else {
            if circumstances.isRunning {
                return "\(buffers) \(was) got here and not yet put; the program is still running."
            }
            return circumstances.hasDied
                ? "\(buffers) \(was) got here and still outstanding when the recording ended."
                : "\(buffers) \(was) got here and never put."
        }
        if finding.scopeEnded == true {
            return "\(buffers) got here \(was) outstanding when scope '\(scope)' ended, and "
                + (isOne(finding) ? "has" : "have") + " not come back."
        }
        if circumstances.isRunning {
            return "\(buffers) \(was) got here in scope '\(scope)', which is still open, and not yet put."
        }
        return circumstances.hasDied
            ? "\(buffers) \(was) got here in scope '\(scope)' and still outstanding when the recording ended."
            : "\(buffers) \(was) got here in scope '\(scope)' and never put; the scope was still open at the end."
    }

    static func heldTooLong(_ finding: Finding, _ circumstances: Circumstances) -> String {
        let buffers = amount(finding, circumstances)
        let time = finding.heldSeconds.map(Units.duration) ?? "an unknown time"
        let limit =
            circumstances.heldLimitSeconds > 0
            ? "; the limit, held=, is \(Units.duration(circumstances.heldLimitSeconds))." : "."
        if finding.isStillHeld == true {
            return isOne(finding)
                ? "\(buffers) got here has been held for \(time) so far\(limit)"
                : "\(buffers) got here have been held too long, the oldest for \(time) so far\(limit)"
        }
        return isOne(finding)
            ? "\(buffers) got here came back after \(time)\(limit)"
            : "\(buffers) got here came back late, the latest after \(time)\(limit)"
    }

    /// What came back after its scope had ended: a leak that turned out to be none, or less of one.
    static func lateReturn(_ late: LateReturns) -> String {
        let ended =
            "Scope '\(late.scope)' ended with \(plural(late.outstanding, "buffer")) outstanding"
            + (late.calls > 1 ? " in \(plural(late.calls, "call"))" : "")
        let slowest = Units.duration(late.slowestSeconds) + " after the end"
        guard late.count < late.outstanding else {
            return late.count == 1
                ? "\(ended); it came back later, \(slowest)."
                : "\(ended); all of them came back later, the last one \(slowest)."
        }
        return late.count == 1
            ? "\(ended); 1 came back later, \(slowest)."
            : "\(ended); \(grouped(late.count)) came back later, the last one \(slowest)."
    }
}

// `FindingDelivery`: hands findings to the program's own handler as they are made.

#if Recorder
internal import CMempoolPlatform
internal import Mempool
internal import MempoolRecording
internal import Synchronization

/// The program's handler of findings, and those that could not be handed over where they were made. Thread-safe.
final class FindingDelivery: Sendable {
    typealias Handler = @Sendable (Diagnostics.Finding) -> Void

    /// Findings that wait for a get at most; what comes on top is in the recording only.
    private static let pendingLimit = 1024

    private let handler = Guarded<Handler?>(nil)
    private let pending = Guarded<[Diagnostics.Finding]>([])
    private let isUsed = Atomic(false)

    /// Whether there is a handler.
    var hasHandler: Bool { isUsed.load(ordering: .relaxed) }

    /// Sets the handler and gives the one before, for the caller to let go of without a lock: objects may end with it.
    func setHandler(_ new: Handler?) -> Handler? {
        defer { isUsed.store(new != nil, ordering: .relaxed) }
        return handler.withLock { handler in
            defer { handler = new }
            return handler
        }
    }

    /// Keeps a finding for the next `deliverPending`. Takes no lock but its own.
    func postpone(_ finding: Diagnostics.Finding) {
        pending.withLock { if $0.count < Self.pendingLimit { $0.append(finding) } }
    }

    /// Hands over what was postponed. The caller holds no lock and is not in the handler.
    func deliverPending() {
        let findings = pending.withLock { pending in
            defer { pending = [] }
            return pending
        }
        findings.forEach(deliver)
    }

    /// Calls the handler, unless the caller is in it. The caller holds no lock.
    func deliver(_ finding: Diagnostics.Finding) {
        guard !Diagnostics.isInHandler.get(), let handler = handler.withLock({ $0 }) else { return }
        // The finding is one of a get or put that goes on: the handler uses the pool as from outside.
        let wasInside = cmempool_step_out()
        defer { cmempool_step_in(wasInside) }
        Diagnostics.isInHandler.withValue(true) { handler(finding) }
    }
}
#endif

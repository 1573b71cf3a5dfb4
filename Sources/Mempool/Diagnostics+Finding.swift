// What `Diagnostics` answers: `Finding`, `Mark`, and the errors.

extension Diagnostics {
    /// One diagnosed mistake, or equal ones: the same kind at the same place.
    public struct Finding: Sendable, Hashable, CustomStringConvertible {
        /// The kinds of mistakes; mempool(7) explains the words.
        public enum Kind: String, Sendable, CaseIterable {
            /// Buffers that are outstanding.
            case leak
            /// A buffer was put that its owner had put before.
            case doublePut = "double-put"
            /// A slice was put whose start is not the buffer's.
            case wrongCapacity = "wrong-capacity"
            /// Memory was put that no pool issued.
            case foreignPut = "foreign-put"
            /// A buffer was put into another pool than its own.
            case wrongPool = "wrong-pool"
            /// A buffer was touched after its put.
            case useAfterPut = "use-after-put"
            /// Bytes behind the request, or before the first one, were written.
            case overrun
            /// A pool ended while buffers of it were outstanding.
            case poolDestroyed = "pool-destroyed"
            /// A buffer was outstanding for longer than `held=` allows.
            case heldTooLong = "held-too-long"
        }

        /// What was done wrong.
        public let kind: Kind
        /// How often, or how many buffers.
        public let count: Int
        /// The sum of the buffers' capacities.
        public let bytes: Int
        /// The innermost scope that the buffers were got in; nil if none, or if that is no longer known.
        public let scope: String?
        /// The note that was made at the get; see ``Diagnostics/withNote(_:_:)``.
        public let note: String?
        package let stack: UInt32

        package init(kind: Kind, count: Int, bytes: Int, scope: String?, note: String?, stack: UInt32) {
            self.kind = kind
            self.count = count
            self.bytes = bytes
            self.scope = scope
            self.note = note
            self.stack = stack
        }

        /// The functions at the place, innermost first, at most three and without the pool's own: where a leaked buffer was got,
        /// where a wrong put was made. Looked up at each call, about 0.1 ms; lines are what `mempool-doctor` is for.
        public var functions: [String] { Diagnostics.recorder?.functions(ofStack: stack) ?? [] }

        /// One line: kind, count, bytes, functions, scope and note.
        public var description: String { Diagnostics.recorder?.description(of: self) ?? kind.rawValue }
    }

    /// Which buffers were outstanding at a moment.
    public struct Mark: Sendable {
        /// Ascending slot numbers, and the generation of each slot's owner.
        package var slots: [UInt32] = []
        package var generations: [UInt64] = []

        package init() {}
    }
}

/// Why the recorder cannot answer.
public enum DiagnosticsError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The program was built without the package trait `Recorder`.
    case removed
    /// The recorder is off, or is not linked in.
    case off
    /// A forked child is not recorded.
    case forkedChild
    /// Level sampled: one get in so many is known.
    case sampled(interval: Int)
    /// So many records found no room.
    case incomplete(dropped: Int)
    /// The system refused the file.
    case cannotWrite(path: String, errorNumber: Int32)

    static var withoutRecorder: DiagnosticsError {
        #if Recorder
        .off
        #else
        .removed
        #endif
    }

    /// One sentence with the reason and what to do.
    public var description: String {
        switch self {
        case .removed: "the recorder is not there: this was built without the package trait Recorder"
        case .off: "the recorder is off: set MEMPOOL_DEBUG=level=full"
        case .forkedChild: "this process was forked from a recorded one and is not recorded itself"
        case .sampled(let interval):
            "the recorder samples one get in \(interval), so it does not know every buffer: set MEMPOOL_DEBUG=level=full"
        case .incomplete(let dropped):
            "\(dropped) records found no room in the recording, so not every buffer is known:"
                + " raise max-ledger in MEMPOOL_DEBUG or give the recording more disk space"
        case .cannotWrite(let path, let errorNumber): "cannot write \(path): \(SystemMemory.text(of: errorNumber))"
        }
    }
}

/// Buffers that were got in a scope and were outstanding when it ended.
public struct OutstandingBuffersError: Error, Sendable, CustomStringConvertible {
    /// The name of the scope.
    public let scope: String
    /// What is outstanding, grouped by stack.
    public let findings: [Diagnostics.Finding]

    /// A line for the scope and one for each group.
    public var description: String {
        let count = findings.reduce(0) { $0 + $1.count }
        let head = "\(count) buffer\(count == 1 ? "" : "s") outstanding at the end of scope \(scope)"
        return ([head] + findings.map { "  \($0)" }).joined(separator: "\n")
    }
}

// `ScopeTable`: in which scope a buffer was got, what was noted at the get, and what came back after its scope had ended.

internal import MempoolRecording

/// The scopes and notes of a recording, with damaged references resolved to "none".
struct ScopeTable {
    /// Where buffers were got, as far as reports tell it apart: scopes of one name are one.
    struct Place: Hashable {
        /// Of the scope's name in the table; 0 outside of all scopes.
        var nameNumber = 0
        var hasEnded = false
    }

    /// Values of `ContextRecord.state`: of an entry that is not in use, and of a scope that has ended.
    private static let freeState: UInt32 = 0
    private static let endedState: UInt32 = 2

    /// A note inside scopes leads to its scope in one step; a damaged chain may lead anywhere.
    private static let stepLimit = 64

    /// By context number.
    private let places: [Place]
    private let contexts: [Recording.Context]
    /// Distinct names; the first is that of no scope.
    private let names: [String]

    /// Whether the program used scopes at all.
    var isUsed: Bool { names.count > 1 }

    init(_ contexts: [Recording.Context]) {
        self.contexts = contexts
        var names = [""]
        var numbers = ["": 0]
        for context in contexts.dropFirst() where numbers[context.name] == nil {
            numbers[context.name] = names.count
            names.append(context.name)
        }
        self.names = names
        places = contexts.indices.map { index in
            guard let scope = Self.scope(of: index, in: contexts) else { return Place() }
            return Place(
                nameNumber: numbers[scope.name] ?? 0, hasEnded: scope.record.state == Self.endedState
            )
        }
    }

    private static func scope(of context: Int, in contexts: [Recording.Context]) -> Recording.Context? {
        var number = context
        for _ in 0..<stepLimit {
            guard number > 0, number < contexts.count else { return nil }
            guard contexts[number].record.state != freeState else { return nil }
            if !contexts[number].name.isEmpty { return contexts[number] }
            number = Int(contexts[number].record.scope)
        }
        return nil
    }

    /// Whether a context number means anything.
    func isKnown(_ context: UInt32) -> Bool { Int(context) < max(1, places.count) }

    /// Where the gets of a context lie.
    func place(of context: UInt32) -> Place {
        Int(context) < places.count ? places[Int(context)] : Place()
    }

    /// The name of a place's scope; nil outside of all scopes.
    func name(of place: Place) -> String? {
        place.nameNumber > 0 && place.nameNumber < names.count ? names[place.nameNumber] : nil
    }

    /// What was noted, or an empty text.
    func note(of context: UInt32) -> String {
        guard context > 0, Int(context) < contexts.count, contexts[Int(context)].record.state != Self.freeState else {
            return ""
        }
        return contexts[Int(context)].note
    }

    /// The scopes that ended with buffers outstanding of which some came back later, by name.
    func lateReturns() -> [LateReturns] {
        var byName: [String: LateReturns] = [:]
        for context in contexts.dropFirst() where !context.name.isEmpty {
            let record = context.record
            guard record.state == Self.endedState, record.lateReturns > 0 else { continue }
            var sum = byName[context.name] ?? LateReturns(scope: context.name)
            sum.calls += 1
            let late = Int(clamping: record.lateReturns)
            sum.count = Counter.sum(sum.count, late)
            // Damage apart, no more can come back than were outstanding.
            sum.outstanding = Counter.sum(sum.outstanding, max(late, Int(clamping: record.outstandingAtEnd)))
            sum.slowestSeconds = max(sum.slowestSeconds, Analyzer.seconds(from: 0, to: record.slowestReturn))
            byName[context.name] = sum
        }
        return byName.values.sorted { $0.scope < $1.scope }
    }
}

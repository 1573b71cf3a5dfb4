// `LateReturns`: buffers that came back after the scope they were got in had ended.

/// What came back late from the scopes of one name: no leak after all.
package struct LateReturns: Codable, Equatable, Sendable {
    package var scope: String
    /// Calls of the scope that ended with buffers outstanding of which some came back.
    package var calls = 0
    /// Buffers outstanding at the end of these calls, and how many of them came back.
    package var outstanding = 0
    package var count = 0
    /// The longest time from the end of the scope to the put, seconds.
    package var slowestSeconds = 0.0

    package init(scope: String) { self.scope = scope }
}

// How a text report is to look.

/// What the place where a text report is shown can do.
package struct TextStyle: Sendable, Equatable {
    /// Whether escape sequences for colour may be used.
    package var color: Bool
    /// Columns; lines are kept below where their content allows it.
    package var width: Int
    /// Whether characters beyond ASCII may be used.
    package var unicode: Bool
    /// How many findings are shown in full; nil shows all.
    package var maximumFindings: Int?

    /// Ten findings are more than anybody repairs in one go.
    package static let defaultMaximumFindings = 10

    package init(
        color: Bool = false, width: Int = 80, unicode: Bool = true,
        maximumFindings: Int? = TextStyle.defaultMaximumFindings
    ) {
        self.color = color
        self.width = max(40, width)
        self.unicode = unicode
        self.maximumFindings = maximumFindings
    }
}

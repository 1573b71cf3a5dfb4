// Text that came from elsewhere, made fit to be shown on a terminal.

/// Text of the recorded program, of paths and of the system.
package enum PlainText {
    /// The text without what could command a terminal or turn the direction of what follows: a question mark stands for each
    /// control character, line feeds among them.
    package static func clean(_ text: String) -> String {
        String(
            String.UnicodeScalarView(
                text.unicodeScalars.map { scalar in
                    let isControl = scalar.value < 0x20 || (0x7F..<0xA0).contains(scalar.value)
                    // Marks that turn the direction of text.
                    let isDirection =
                        (0x202A...0x202E).contains(scalar.value) || (0x2066...0x2069).contains(scalar.value)
                    return isControl || isDirection ? "?" : scalar
                }
            )
        )
    }
}

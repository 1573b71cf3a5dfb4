// The progress line on stderr.

import Glibc
import MempoolReporters

/// One line on stderr that says what is going on, redrawn in place and wiped before anything else is printed.
///
/// Draws nothing unless stderr is a terminal. One thread only.
struct Progress {
    private static let unicodeFrames = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"]
    private static let plainFrames = ["|", "/", "-", "\\"]

    private let isActive: Bool
    private let frames: [String]
    private var frame = 0
    private var isDrawn = false

    /// - Parameter isWanted: false keeps it silent, as while a user's program owns the terminal.
    init(isWanted: Bool = true) {
        isActive = isWanted && Terminal.isCapable(STDERR_FILENO)
        frames = Terminal.isUnicode ? Self.unicodeFrames : Self.plainFrames
    }

    /// Draws the next frame with `label`.
    mutating func draw(_ label: String) {
        guard isActive else { return }
        // Return to column 1, draw, and erase what is left of a longer line.
        try? Descriptor.write(
            "\r\(frames[frame % frames.count]) \(PlainText.clean(label))\u{1B}[K", to: STDERR_FILENO)
        frame += 1
        isDrawn = true
    }

    /// Draws a bar that is filled to `share`, 0 to 1, and `label` behind it.
    mutating func draw(share: Double, _ label: String) {
        let width = 24
        let filled = Int((min(max(share, 0), 1) * Double(width)).rounded(.down))
        let (full, empty) = Terminal.isUnicode ? ("█", "░") : ("#", ".")
        let bar = String(repeating: full, count: filled) + String(repeating: empty, count: width - filled)
        draw("\(bar) \(Int(share * 100)) %  \(label)")
    }

    /// Wipes the line.
    mutating func clear() {
        guard isDrawn else { return }
        try? Descriptor.write("\r\u{1B}[K", to: STDERR_FILENO)
        isDrawn = false
    }
}

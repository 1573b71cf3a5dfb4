// `TableSymbolizer`: names of addresses for tests, so that no program is needed to have stacks.

package import MempoolAnalysis
package import MempoolRecording

/// Names addresses from a table; what is not in it stays unnamed.
package struct TableSymbolizer: Symbolizer {
    private let frames: [UInt64: [Frame]]
    private let unreadDebugFiles: [String: Int]

    package init(_ frames: [UInt64: [Frame]] = [:], unreadDebugFiles: [String: Int] = [:]) {
        self.frames = frames
        self.unreadDebugFiles = unreadDebugFiles
    }

    package func name(_ words: Set<UInt64>, in modules: [Recording.Module]) -> NamedAddresses {
        var result = NamedAddresses()
        result.frames = frames.filter { words.contains($0.key) }
        result.unreadDebugFiles = unreadDebugFiles
        return result
    }
}

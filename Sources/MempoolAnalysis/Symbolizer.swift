// What the analysis asks of something that can name addresses, and how it finds the module of an address.
// The one that uses the toolchain is `RuntimeSymbolizer`.

package import MempoolRecording

/// Names program counters.
package protocol Symbolizer {
    /// Names all the words at once.
    ///
    /// - Parameters:
    ///   - words: words of the stack table: addresses, with `StackWord.asyncBit` for async parents.
    ///   - modules: the images of the process.
    /// - Returns: for each word its frames, innermost first: several if calls were inlined, never none.
    func name(_ words: Set<UInt64>, in modules: [Recording.Module]) -> NamedAddresses
}

/// The result of naming.
package struct NamedAddresses: Sendable {
    /// Frames of each word, innermost first.
    package var frames: [UInt64: [Frame]] = [:]
    /// Modules that were asked for and withheld; the count of frames is 0 here.
    package var unnamedModules: [UnnamedModule] = []

    package init() {}
}

/// Finds the module of an address.
struct ModuleTable {
    /// Sorted by start.
    private let modules: [Recording.Module]

    init(_ modules: [Recording.Module]) {
        self.modules = modules.sorted { ($0.start, $0.end) < ($1.start, $1.end) }
    }

    /// The module in whose executable range the address lies. A return address may lie one byte behind it.
    func module(of word: UInt64) -> Recording.Module? {
        let isAsync = word & StackWord.asyncBit != 0
        let address = word & ~StackWord.asyncBit
        guard address > 0 else { return nil }
        let call = isAsync ? address : address - 1
        var low = 0
        var high = modules.count
        while low < high {
            let middle = (low + high) / 2
            if modules[middle].start <= call { low = middle + 1 } else { high = middle }
        }
        guard low > 0, call < modules[low - 1].end else { return nil }
        return modules[low - 1]
    }

    /// The frame of an address without a name: `module+0xoffset`, stable from run to run.
    static func unnamedFrame(_ word: UInt64, in module: Recording.Module?) -> Frame {
        let address = word & ~StackWord.asyncBit
        let isAsync = word & StackWord.asyncBit != 0
        guard let module else {
            return Frame(function: "0x" + String(address, radix: 16), async: isAsync)
        }
        let name = fileName(module.path)
        return Frame(
            function: "\(name)+0x" + String(address &- module.base, radix: 16), async: isAsync, module: name,
            isSystem: FrameOwnership.isSystemImage(module.path)
        )
    }

    static func fileName(_ path: String) -> String {
        path.split(separator: "/").last.map(String.init) ?? "?"
    }
}

/// Names nothing: for callers that only want offsets.
package struct OffsetSymbolizer: Symbolizer {
    package init() {}

    package func name(_ words: Set<UInt64>, in modules: [Recording.Module]) -> NamedAddresses {
        let table = ModuleTable(modules)
        var result = NamedAddresses()
        for word in words { result.frames[word] = [ModuleTable.unnamedFrame(word, in: table.module(of: word))] }
        return result
    }
}

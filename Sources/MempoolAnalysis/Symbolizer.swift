// What the analysis asks of something that can name addresses, and how it finds the module of an address.
// The one that reads files is `ElfSymbolizer`.

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
    /// Why words have no names, by module.
    package var unnamedModules: [UnnamedModule] = []
    /// Names of functions that are left as their files have them, as their readable forms have no bounds.
    package var refusedNames = 0
    /// Files of debug information that took more steps to read than their sizes explain, with the frames that have no lines for
    /// that, by path.
    package var unreadDebugFiles: [String: Int] = [:]

    package init() {}
}

/// Finds the module of an address.
struct ModuleTable {
    /// Whose an address is.
    enum Owner {
        case nobody
        case one(Recording.Module)
        /// A module was unloaded and another one loaded where it had been: which of them it was nobody knows.
        case several(Recording.Module, Recording.Module)

        var module: Recording.Module? { if case .one(let module) = self { module } else { nil } }
    }

    /// Where ranges begin or end, ascending, and whose the addresses from there to the next are.
    private var starts: [UInt64] = []
    private var owners: [Owner] = []

    init(_ modules: [Recording.Module]) {
        let modules = modules.sorted { ($0.start, $0.end) < ($1.start, $1.end) }
        starts = Set(modules.flatMap { [$0.start, $0.end] }).sorted()
        var open: [Recording.Module] = []
        var next = 0
        for start in starts {
            open.removeAll { $0.end <= start }
            while next < modules.count, modules[next].start == start {
                open.append(modules[next])
                next += 1
            }
            guard let first = open.first else {
                owners.append(.nobody)
                continue
            }
            // A module that came back to its place is no other one.
            let other = open.first { ($0.base, $0.path, $0.buildID) != (first.base, first.path, first.buildID) }
            owners.append(other.map { .several(first, $0) } ?? .one(first))
        }
    }

    /// In whose executable range the address lies. A return address may lie one byte behind it.
    func owner(of word: UInt64) -> Owner {
        let isAsync = word & StackWord.asyncBit != 0
        let address = word & ~StackWord.asyncBit
        guard address > 0 else { return .nobody }
        let call = isAsync ? address : address - 1
        let position = starts.firstPosition { $0 > call }
        return position > 0 ? owners[position - 1] : .nobody
    }

    /// The one module whose the address is; nil also where there were several.
    func module(of word: UInt64) -> Recording.Module? { owner(of: word).module }

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

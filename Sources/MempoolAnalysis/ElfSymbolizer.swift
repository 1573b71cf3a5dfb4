// Names addresses from the files of the process's images, after proving that the files on disk are those that ran.

package import MempoolRecording
internal import Runtime

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// The symbolizer that reports use: functions, source lines, inlined and async frames.
///
/// A recording names the files that are read, so nothing in them is trusted. Of the toolchain's Runtime module only the demangler
/// is used: its reader of ELF files ends the process at a damaged one.
package struct ElfSymbolizer: Symbolizer {
    package init() {}

    /// What proves that two modules are the same file.
    private struct Identity: Hashable {
        var path: String
        var buildID: [UInt8]
    }

    /// A word of the stack table, and its address as its file states it.
    private struct Place {
        var word: UInt64
        var address: UInt64
    }

    package func name(_ words: Set<UInt64>, in modules: [Recording.Module]) -> NamedAddresses {
        let table = ModuleTable(modules)
        var result = NamedAddresses()
        var places: [Identity: (module: Recording.Module, places: [Place])] = [:]
        var shared: [String: Int] = [:]
        for word in words {
            let owner = table.owner(of: word)
            result.frames[word] = [ModuleTable.unnamedFrame(word, in: owner.module)]
            switch owner {
            case .nobody: break
            case .several(let first, let second):
                for path in Set([first.path, second.path]) { shared[path, default: 0] += 1 }
            case .one(let module):
                let address = (word & ~StackWord.asyncBit) &- module.base
                // A return address may be the first of another line or function: the call lies before it.
                let isAsync = word & StackWord.asyncBit != 0
                let place = Place(word: word, address: isAsync ? address : address &- 1)
                let identity = Identity(path: module.path, buildID: module.buildID)
                places[identity, default: (module, [])].places.append(place)
            }
        }
        // One file after the other, so that memory holds one at a time.
        for (module, places) in places.values {
            switch ModuleVerdict(of: module) {
            case .withheld(let reason, let explanation):
                result.unnamedModules.append(
                    UnnamedModule(
                        path: module.path, reason: reason, explanation: explanation, frames: places.count))
            case .trusted(let file):
                let unnamed = Self.name(places, in: module, file, &result)
                // Nobody strips or links the libraries of the system.
                guard unnamed > 0, !FrameOwnership.isSystemImage(module.path) else { continue }
                result.unnamedModules.append(.stripped(path: module.path, frames: unnamed))
            }
        }
        result.unnamedModules += shared.map { .shared(path: $0, frames: $1) }
        // The same recording gives the same report.
        result.unnamedModules.sort { ($0.path, $0.reason.rawValue) < ($1.path, $1.reason.rawValue) }
        return result
    }

    /// Names the places in one module. Returns how many have no name.
    private static func name(
        _ places: [Place], in module: Recording.Module, _ file: RecordingFile, _ result: inout NamedAddresses
    ) -> Int {
        let files = [file] + DebugFiles.of(file, buildID: module.buildID)
        let addresses = Set(places.map(\.address))
        let functions =
            files.lazy.compactMap { ElfSections($0, of: ElfSymbols.sectionNames) }
            .compactMap { ElfSymbols($0) }.first?.functions(at: addresses) ?? [:]
        let locations = files.lazy.compactMap { DwarfImage($0) }.first?.locations(of: Set(functions.keys)) ?? [:]
        var unnamed = 0
        for place in places {
            guard let function = functions[place.address] else {
                unnamed += 1
                continue
            }
            result.frames[place.word] = frames(place.word, function, locations[place.address], path: module.path)
        }
        return unnamed
    }

    // MARK: - Frames

    /// The frames of a word, innermost first: what was inlined, each at its own line, then the function in memory.
    private static func frames(
        _ word: UInt64, _ function: String, _ location: DwarfLocation?, path: String
    ) -> [Frame] {
        var place = location?.place
        var frames: [Frame] = []
        for call in location?.inlined ?? [] {
            frames.append(frame(word, call.name, place, isInlined: true, path: path))
            place = call.call
        }
        frames.append(frame(word, function, place, isInlined: false, path: path))
        return frames
    }

    private static func frame(
        _ word: UInt64, _ linkageName: String, _ place: DwarfPlace?, isInlined: Bool, path: String
    ) -> Frame {
        let symbol = SymbolicatedBacktrace.Symbol(
            imageIndex: 0, imageName: "", rawName: linkageName, offset: 0, sourceLocation: nil
        )
        let isGenerated = place?.file.hasSuffix("<compiler-generated>") ?? false
        // Line 0 says that nobody wrote the code; the function may still be the user's.
        let place = place.flatMap { $0.line > 0 && !isGenerated && !$0.file.isEmpty ? $0 : nil }
        let demangled = Demangler.demangle(symbol.rawName)
        let module = demangled.flatMap(FrameOwnership.swiftModule)
        let isWritten = demangled.map(FrameOwnership.isWritten) ?? false
        let isOwn =
            module.map(FrameOwnership.ownModules.contains) ?? symbol.rawName.hasPrefix(FrameOwnership.ownPrefix)
        let isSystem =
            !isOwn
            && (module.map(FrameOwnership.systemModules.contains) ?? false || FrameOwnership.isSystemImage(path)
                || FrameOwnership.isStartup(symbol.rawName))
        return Frame(
            function: FrameOwnership.readable(symbol.name, rawName: symbol.rawName, file: place?.file),
            file: place?.file,
            line: place?.line,
            column: place.flatMap { $0.column > 0 ? $0.column : nil },
            inlined: isInlined, async: word & StackWord.asyncBit != 0, module: ModuleTable.fileName(path),
            isOwn: isOwn, isSystem: isSystem, isCompilerGenerated: !isWritten && (isGenerated || symbol.isSwiftThunk)
        )
    }
}

/// Whether the file of a module may be used to name its frames.
enum ModuleVerdict {
    /// It is the file that ran.
    case trusted(RecordingFile)
    case withheld(UnnamedModule.Reason, explanation: String)

    /// Compares the build-id of the file on disk with that of the image that ran.
    init(of module: Recording.Module) {
        let name = module.path.isEmpty ? "A module without a path" : module.path
        guard let file = try? RecordingFile(path: module.path), let buildID = ElfBuildID.read(file) else {
            self = .withheld(
                .missing,
                explanation:
                    "\(name) is gone or cannot be read, so its frames have no names. Put the file back, then run the report again."
            )
            return
        }
        guard !module.buildID.isEmpty else {
            self = .withheld(
                .noBuildID,
                explanation: "\(name) ran without a build-id, so nothing proves that the file on disk is the same. "
                    + "Names and lines are withheld; link with --build-id."
            )
            return
        }
        guard buildID == module.buildID else {
            self = .withheld(
                .changed,
                explanation:
                    "\(name) has changed since the recording: it ran with build-id \(Self.hexadecimal(module.buildID)), "
                    + "the file has \(buildID.isEmpty ? "none" : Self.hexadecimal(buildID)). "
                    + "Names and lines are withheld; put the old file back or record again."
            )
            return
        }
        self = .trusted(file)
    }

    private static func hexadecimal(_ bytes: [UInt8]) -> String {
        // Enough to tell two builds apart.
        bytes.prefix(6).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() + (bytes.count > 6 ? "..." : "")
    }
}

extension UnnamedModule {
    /// A module that is what ran, but does not name all of its functions.
    fileprivate static func stripped(path: String, frames: Int) -> UnnamedModule {
        UnnamedModule(
            path: path, reason: .noSymbols,
            explanation:
                "\(path) is stripped, so its functions have no names. Link it without -s, or report on a machine "
                + "where the unstripped file of the same build-id has its path.",
            frames: frames
        )
    }

    /// A module at whose addresses was another one, too.
    fileprivate static func shared(path: String, frames: Int) -> UnnamedModule {
        UnnamedModule(
            path: path, reason: .shared,
            explanation:
                "\(path.isEmpty ? "A module without a path" : path) and another library were at the same addresses, one "
                + "after the other, so frames there have no names. Run without dlclose to see them.",
            frames: frames
        )
    }
}

/// Full demangling, which the Runtime module has no public call for.
enum Demangler {
    /// The full demangled form of a Swift symbol, nil for others.
    static func demangle(_ name: String) -> String? {
        guard name.hasPrefix("$s") || name.hasPrefix("$S") || name.hasPrefix("_T") || name.hasPrefix("$e") else {
            return nil
        }
        var name = name
        let text = name.withUTF8 { bytes in
            bytes.withMemoryRebound(to: CChar.self) { demangleSymbol($0.baseAddress, UInt($0.count), nil, nil, 0) }
        }
        guard let text else { return nil }
        defer { free(text) }
        return String(cString: text)
    }
}

/// Exported by libswiftCore for tools. All arguments are words, so that the Swift and the C convention agree.
@_silgen_name("swift_demangle")
private func demangleSymbol(
    _ name: UnsafePointer<CChar>?, _ length: UInt, _ output: UnsafeMutablePointer<CChar>?,
    _ outputSize: UnsafeMutablePointer<UInt>?, _ flags: UInt32
) -> UnsafeMutablePointer<CChar>?

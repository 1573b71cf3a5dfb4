// Names addresses from the files of the process's images, after proving that the files on disk are those that ran.

package import MempoolRecording

/// The symbolizer that reports use: functions, source lines, inlined and async frames.
///
/// A recording names the files that are read, so nothing in them is trusted. Of the toolchain's Runtime module only the demangler
/// is used, by `LinkageNames`: its reader of ELF files ends the process at a damaged one.
package struct ElfSymbolizer: Symbolizer {
    /// What may be done to read the lines of one file; nil for what its size explains.
    private let lineSteps: Int?

    package init() { self.init(lineSteps: nil) }

    /// For tests.
    init(lineSteps: Int?) { self.lineSteps = lineSteps }

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

    /// What a file says of a word.
    private struct KnownPlace {
        var word: UInt64
        var path: String
        /// The function in memory.
        var function: String
        var location: DwarfLocation?
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
        var found: [KnownPlace] = []
        // One file after the other, so that memory holds one at a time.
        for (module, places) in places.values {
            switch ModuleVerdict(of: module) {
            case .withheld(let reason, let explanation):
                result.unnamedModules.append(
                    UnnamedModule(
                        path: module.path, reason: reason, explanation: explanation, frames: places.count))
            case .trusted(let file):
                let ofModule = find(places, in: module, file, &result)
                found += ofModule
                let unnamed = places.count - ofModule.count
                // Nobody strips or links the libraries of the system.
                guard unnamed > 0, !FrameOwnership.isSystemImage(module.path) else { continue }
                result.unnamedModules.append(.stripped(path: module.path, frames: unnamed))
            }
        }
        let names = LinkageNames(Set(found.flatMap { [$0.function] + ($0.location?.inlined.map(\.name) ?? []) }))
        result.refusedNames = names.refused
        for known in found { result.frames[known.word] = Self.frames(known, names) }
        result.unnamedModules += shared.map { .shared(path: $0, frames: $1) }
        // The same recording gives the same report.
        result.unnamedModules.sort { ($0.path, $0.reason.rawValue) < ($1.path, $1.reason.rawValue) }
        return result
    }

    /// What the file of one module says of places in it, but for those of which it has no function.
    private func find(
        _ places: [Place], in module: Recording.Module, _ file: RecordingFile, _ result: inout NamedAddresses
    ) -> [KnownPlace] {
        let files = [file] + DebugFiles.of(file, buildID: module.buildID)
        let addresses = Set(places.map(\.address))
        let functions =
            Self.first(of: files) { ElfSections($0, of: ElfSymbols.sectionNames).flatMap { ElfSymbols($0) } }?
            .functions(at: addresses) ?? [:]
        var exhausted: String?
        let locations =
            Self.first(of: files) { file -> [UInt64: DwarfLocation]? in
                var isExhausted = false
                let image = DwarfImage(
                    file, budget: lineSteps.map { DwarfBudget(steps: $0) }, isExhausted: &isExhausted)
                let locations = image?.locations(of: Set(functions.keys))
                if isExhausted || image?.budget.isExhausted == true { exhausted = file.path }
                return locations
            } ?? [:]
        if let exhausted {
            let lost = places.count { functions[$0.address] != nil && locations[$0.address]?.place == nil }
            if lost > 0 { result.unreadDebugFiles[exhausted, default: 0] += lost }
        }
        return places.compactMap { place in
            functions[place.address].map {
                KnownPlace(word: place.word, path: module.path, function: $0, location: locations[place.address])
            }
        }
    }

    /// What the first file that can be read so has; a lazy `compactMap` would read that file twice.
    private static func first<Content>(of files: [RecordingFile], _ read: (RecordingFile) -> Content?) -> Content? {
        for file in files { if let content = read(file) { return content } }
        return nil
    }

    // MARK: - Frames

    /// The frames of a word, innermost first: what was inlined, each at its own line, then the function in memory.
    private static func frames(_ known: KnownPlace, _ names: LinkageNames) -> [Frame] {
        var place = known.location?.place
        var frames: [Frame] = []
        for call in known.location?.inlined ?? [] {
            frames.append(frame(known, call.name, names, place, declaredIn: call.declaredIn, isInlined: true))
            place = call.call
        }
        let declaredIn = known.location?.declaredIn
        frames.append(frame(known, known.function, names, place, declaredIn: declaredIn, isInlined: false))
        return frames
    }

    private static let generatedFile = "<compiler-generated>"

    private static func frame(
        _ known: KnownPlace, _ linkageName: String, _ names: LinkageNames, _ place: DwarfPlace?,
        declaredIn declaringFile: String?, isInlined: Bool
    ) -> Frame {
        let name = names[linkageName]
        // Line 0 and the compiler's file say that nobody wrote the code; the function may still be the user's, as one that releases
        // the last reference to an object. Which line that belongs to is not known: the code before it may be of any.
        let isGenerated = place?.file.hasSuffix(generatedFile) ?? false
        let place = place.flatMap { $0.line > 0 && !isGenerated && !$0.file.isEmpty ? $0 : nil }
        let declaration = declaringFile.flatMap { file in
            file.isEmpty || file.hasSuffix(generatedFile)
                || FrameOwnership.isGenerated(name.full ?? linkageName, declaredIn: file) ? nil : file
        }
        let module = name.full.flatMap(FrameOwnership.swiftModule)
        let isWritten = name.full.map(FrameOwnership.isWritten) ?? false
        let isOwn =
            module.map(FrameOwnership.ownModules.contains) ?? linkageName.hasPrefix(FrameOwnership.ownPrefix)
        let isSystem =
            !isOwn
            && (module.map(FrameOwnership.systemModules.contains) ?? false || FrameOwnership.isSystemImage(known.path)
                || FrameOwnership.isStartup(linkageName))
        return Frame(
            function: FrameOwnership.readable(name.readable, rawName: linkageName, file: place?.file ?? declaration),
            file: place?.file ?? declaration,
            line: place?.line,
            column: place.flatMap { $0.column > 0 ? $0.column : nil },
            inlined: isInlined, async: known.word & StackWord.asyncBit != 0,
            module: ModuleTable.fileName(known.path),
            isOwn: isOwn, isSystem: isSystem,
            isCompilerGenerated: !isWritten && (isGenerated && declaration == nil || name.isThunk)
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

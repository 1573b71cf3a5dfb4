// Names addresses with the Runtime module of the Swift toolchain, after proving that the files on disk are those that ran.

internal import Foundation
package import MempoolRecording
internal import Runtime

/// The symbolizer that reports use: functions, source lines, inlined and async frames.
package struct RuntimeSymbolizer: Symbolizer {
    package init() {}

    package func name(_ words: Set<UInt64>, in modules: [Recording.Module]) -> NamedAddresses {
        let table = ModuleTable(modules)
        var result = NamedAddresses()
        // Sorted, so that the same recording gives the same report.
        let sorted = words.sorted()
        var images: [UInt64: CompactBacktrace.Image] = [:]
        var verdicts: [String: ModuleVerdict] = [:]
        var nameable: [UInt64] = []
        for word in sorted {
            let module = table.module(of: word)
            result.frames[word] = [ModuleTable.unnamedFrame(word, in: module)]
            guard let module else { continue }
            let verdict = verdicts[module.path] ?? ModuleVerdict(of: module)
            verdicts[module.path] = verdict
            guard case .trusted(let lowestAddress) = verdict else { continue }
            nameable.append(word)
            let base = module.base &+ lowestAddress
            let end = max(images[base]?.endOfText ?? 0, module.end)
            images[base] = CompactBacktrace.Image(
                base: base, endOfText: end, buildID: module.buildID, path: module.path)
        }
        for (path, verdict) in verdicts.sorted(by: { $0.key < $1.key }) {
            if case .withheld(let reason, let explanation) = verdict {
                result.unnamedModules.append(
                    UnnamedModule(path: path, reason: reason, explanation: explanation, frames: 0)
                )
            }
        }
        let located = Self.locate(nameable, table)
        // The Runtime module names the functions that really are in memory; lines are asked of it only where its own reader
        // of debug information may know more than ours.
        let ours = nameable.filter { located[$0] != nil }
        let others = nameable.filter { located[$0] == nil }
        let all = Array(images.values)
        let symbols = Self.symbols(of: ours, all, options: [.useSymbolCache])
            .merging(Self.symbols(of: others, all, options: [.useSymbolCache, .showSourceLocations])) { first, _ in
                first
            }
        for word in nameable {
            guard let symbol = symbols[word], let module = table.module(of: word) else { continue }
            result.frames[word] = Self.frames(word, symbol, located[word], path: module.path)
        }
        return result
    }

    // MARK: - Debug information

    /// Lines and inlined functions of the words whose modules have debug information.
    private static func locate(_ words: [UInt64], _ table: ModuleTable) -> [UInt64: DwarfLocation] {
        var wordsByPath: [String: [(word: UInt64, address: UInt64)]] = [:]
        for word in words {
            guard let module = table.module(of: word) else { continue }
            let address = (word & ~StackWord.asyncBit) &- module.base
            // A return address may be the first of another line or function: the call lies before it.
            let isAsync = word & StackWord.asyncBit != 0
            wordsByPath[module.path, default: []].append((word, isAsync ? address : address &- 1))
        }
        var result: [UInt64: DwarfLocation] = [:]
        for (path, pairs) in wordsByPath {
            guard let image = DwarfImage(path: path) else { continue }
            let locations = image.locations(of: Set(pairs.map(\.address)))
            for pair in pairs { result[pair.word] = locations[pair.address] }
        }
        return result
    }

    // MARK: - The Runtime module

    private struct EncodedBacktrace: Encodable {
        var architecture: String
        var backtrace: String
    }

    #if arch(arm64)
    private static let architecture = "arm64"
    #else
    private static let architecture = "x86_64"
    #endif

    /// The symbol of each word. All words at once, as the Runtime module reads the symbols of each image once per call.
    private static func symbols(
        of words: [UInt64], _ images: [CompactBacktrace.Image], options: Backtrace.SymbolicationOptions
    ) -> [UInt64: SymbolicatedBacktrace.Symbol] {
        guard !words.isEmpty else { return [:] }
        let encoder = JSONEncoder()
        let decoder = JSONDecoder()
        let compact = EncodedBacktrace(
            architecture: architecture, backtrace: Data(CompactBacktrace.backtrace(words)).base64EncodedString()
        )
        let map = Data(CompactBacktrace.imageMap(images)).base64EncodedString()
        guard let backtraceData = try? encoder.encode(compact), let mapData = try? encoder.encode(map),
            let backtrace = try? decoder.decode(Backtrace.self, from: backtraceData),
            let imageMap = try? decoder.decode(ImageMap.self, from: mapData),
            let named = backtrace.symbolicated(with: imageMap, options: options)
        else { return [:] }
        var result: [UInt64: SymbolicatedBacktrace.Symbol] = [:]
        for frame in named.frames {
            let word: UInt64
            switch frame.captured {
            case .returnAddress(let address): word = UInt64(address) ?? 0
            case .asyncResumePoint(let address): word = (UInt64(address) ?? 0) | StackWord.asyncBit
            default: continue
            }
            guard let symbol = frame.symbol, symbol.rawName != "<unknown>", !symbol.rawName.isEmpty else { continue }
            result[word] = symbol
        }
        return result
    }

    // MARK: - Frames

    /// The frames of a word, innermost first: what was inlined, each at its own line, then the function in memory.
    private static func frames(
        _ word: UInt64, _ symbol: SymbolicatedBacktrace.Symbol, _ location: DwarfLocation?, path: String
    ) -> [Frame] {
        var place = location?.place
        if location == nil, let source = symbol.sourceLocation {
            place = DwarfPlace(file: source.path, line: source.line, column: source.column)
        }
        var frames: [Frame] = []
        for call in location?.inlined ?? [] {
            let inlined = SymbolicatedBacktrace.Symbol(
                imageIndex: symbol.imageIndex, imageName: symbol.imageName, rawName: call.name, offset: 0,
                sourceLocation: nil
            )
            frames.append(frame(word, inlined, place, isInlined: true, path: path))
            place = call.call
        }
        frames.append(frame(word, symbol, place, isInlined: false, path: path))
        return frames
    }

    private static func frame(
        _ word: UInt64, _ symbol: SymbolicatedBacktrace.Symbol, _ place: DwarfPlace?, isInlined: Bool, path: String
    ) -> Frame {
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
enum ModuleVerdict: Equatable {
    /// It is the file that ran. Its lowest address as linked.
    case trusted(lowestAddress: UInt64)
    case withheld(UnnamedModule.Reason, explanation: String)

    /// Compares the build-id of the file on disk with that of the image that ran.
    init(of module: Recording.Module) {
        let name = module.path.isEmpty ? "A module without a path" : module.path
        guard let image = ElfImage(path: module.path) else {
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
        guard image.buildID == module.buildID else {
            self = .withheld(
                .changed,
                explanation:
                    "\(name) has changed since the recording: it ran with build-id \(Self.hexadecimal(module.buildID)), "
                    + "the file has \(image.buildID.isEmpty ? "none" : Self.hexadecimal(image.buildID)). "
                    + "Names and lines are withheld; put the old file back or record again."
            )
            return
        }
        self = .trusted(lowestAddress: image.lowestAddress)
    }

    private static func hexadecimal(_ bytes: [UInt8]) -> String {
        // Enough to tell two builds apart.
        bytes.prefix(6).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() + (bytes.count > 6 ? "..." : "")
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

// `LinkageNames`: the readable forms of the names that symbols and debug information have.
// Files choose their names, and one of 90 bytes can stand for a gigabyte of text, so names are tried before they are read.

internal import CMempoolAnalysis
internal import Runtime

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Demangled names, each demangled once.
struct LinkageNames {
    /// A name as a reader knows it.
    struct Name {
        /// As a backtrace shows it.
        var readable: String
        /// The full demangled form of a Swift symbol, nil for others.
        var full: String?
        var isThunk = false
    }

    /// Names that are left as they are, as their readable forms would be too large or take too long.
    private(set) var refused = 0
    private var names: [String: Name] = [:]

    /// What demangling may take. The longest form of the 186,000 names in the toolchain's libraries has 2,647
    /// bytes; all of them together take 0.6 s.
    private static let limits = canalysis_limits(
        output_bytes: 64 * 1024, all_output_bytes: 64 << 20, memory_bytes: 256 << 20,
        name_milliseconds: 100, all_milliseconds: 4000, offenders: 16)

    /// - Parameter names: Linkage names of any kind, or plain ones.
    init(_ names: Set<String>) {
        // All manglings begin with one of these; everything else is readable.
        let mangled = names.filter { $0.hasPrefix("$") || $0.hasPrefix("_") || $0.hasPrefix("@") }.sorted()
        for (name, fits) in zip(mangled, Self.fits(mangled)) {
            guard fits else {
                refused += 1
                continue
            }
            let symbol = SymbolicatedBacktrace.Symbol(
                imageIndex: 0, imageName: "", rawName: name, offset: 0, sourceLocation: nil)
            self.names[name] = Name(
                readable: symbol.name, full: Demangler.demangle(name), isThunk: symbol.isSwiftThunk)
        }
    }

    subscript(name: String) -> Name { names[name] ?? Name(readable: name) }

    /// Which of the names can be demangled within the limits.
    private static func fits(_ names: [String]) -> [Bool] {
        guard !names.isEmpty else { return [] }
        let copies = names.map { strdup($0) }
        defer { for copy in copies { free(copy) } }
        let texts = copies.map { UnsafePointer($0) }
        let lengths = texts.map { $0.map(strlen) ?? 0 }
        return [Bool](unsafeUninitializedCapacity: names.count) { fits, count in
            withUnsafePointer(to: limits) { limits in
                canalysis_try_names(texts, lengths, names.count, limits, fits.baseAddress)
            }
            count = names.count
        }
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

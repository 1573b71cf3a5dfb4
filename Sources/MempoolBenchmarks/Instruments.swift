// The tools that watch every malloc as the recorder watches every get, and how to build a worker that runs under each.

internal import Glibc

/// A tool that keeps the stack of every malloc, and the worker that runs under it.
package struct Instrument: Sendable, Equatable {
    /// `LeakSanitizer (gcc)`.
    package var name: String
    /// Absolute path of the compiled worker.
    var program: String
    /// The library of a tool that is not compiled in.
    var preload: String?
    /// `NAME=VALUE` each.
    var environment: [String] = []
    /// What a recorded pair may cost at most, as a multiple of malloc and free under the tool.
    var limit: Double
}

/// A program or library that would take part if it were installed.
package struct MissingPeer: Codable, Equatable, Sendable {
    package var name: String
    /// The Debian package that has it.
    package var package: String
}

/// A C compiler of this machine.
struct Compiler: Sendable, Equatable {
    var name: String
    var path: String
}

/// What was built of the known instruments.
///
/// A sanitizer is measured once for each compiler that has it: they come with libraries of their own, which differ
/// severalfold in what they cost.
package struct InstrumentSearch: Sendable {
    package private(set) var found: [Instrument] = []
    package private(set) var missing: [MissingPeer] = []

    /// Compiles the workers.
    ///
    /// - Parameter directory: Absolute; keeps them, and what the tools write, for as long as they are used.
    package init(compilingIn directory: String) {
        let path = ProcessEnvironment.variable("PATH") ?? ""
        self.init(directory: directory, compilers: Self.compilers(path), heaptrack: Self.heaptrackLibrary(path))
    }

    /// - Parameter heaptrack: Its library, nil if it is not installed.
    init(directory: String, compilers: [Compiler], heaptrack: String?) {
        let source = "\(directory)/instrumented.c"
        let isWritten = Self.write(PackageResources.instrumented_c, to: source)
        /// The compiled worker, nil if the compiler cannot.
        func compile(_ compiler: Compiler, _ sanitizer: String?) -> String? {
            let program = "\(directory)/\(sanitizer ?? "plain") \(compiler.name)"
            let arguments =
                [compiler.path, "-std=gnu17", "-O2", "-fno-omit-frame-pointer", "-pthread", source, "-o", program]
                + (sanitizer.map { ["-fsanitize=\($0)"] } ?? []) + ["-ldl"]
            let usage = try? ChildProcess.run(compiler.path, arguments, environment: ProcessEnvironment.own(with: []))
            return isWritten && usage?.status == 0 ? program : nil
        }
        for sanitizer in Self.sanitizers {
            let workers = compilers.compactMap { compiler in
                compile(compiler, sanitizer.option).map { program in
                    Instrument(
                        name: "\(sanitizer.name) (\(compiler.name))",
                        program: program,
                        // As deep as what the recorder keeps.
                        environment: ["\(sanitizer.variable)=malloc_context_size=\(Worker.recordedDepth)"],
                        limit: sanitizer.limit
                    )
                }
            }
            found += workers
            if workers.isEmpty { missing.append(MissingPeer(name: sanitizer.name, package: "gcc")) }
        }
        var plain: String?
        for compiler in compilers where heaptrack != nil && plain == nil { plain = compile(compiler, nil) }
        if let heaptrack, let plain {
            found.append(
                Instrument(
                    name: "heaptrack",
                    program: plain,
                    preload: heaptrack,
                    // It replaces the dollars with the process identifier.
                    environment: ["DUMP_HEAPTRACK_OUTPUT=\(directory)/heaptrack.$$"],
                    limit: 0.25
                )
            )
        } else {
            missing.append(MissingPeer(name: "heaptrack", package: heaptrack == nil ? "heaptrack" : "gcc"))
        }
    }

    private static let sanitizers: [(name: String, option: String, variable: String, limit: Double)] = [
        ("LeakSanitizer", "leak", "LSAN_OPTIONS", 1), ("AddressSanitizer", "address", "ASAN_OPTIONS", 0.25),
    ]

    // MARK: - What is installed

    /// The clang of the path, that of the Swift toolchain, and gcc; without any of them whatever cc is.
    ///
    /// - Parameter path: Directories, separated by colons.
    static func compilers(_ path: String) -> [Compiler] {
        var result: [Compiler] = []
        var files: Set<String> = []
        func add(_ name: String, _ candidate: String?) {
            guard let candidate, access(candidate, X_OK) == 0, let file = resolved(candidate),
                files.insert(file).inserted
            else { return }
            result.append(Compiler(name: name, path: candidate))
        }
        add("clang", executable("clang", path))
        let toolchain = executable("swift", path).flatMap(resolved)?.split(separator: "/").dropLast()
        let hasClang = !result.isEmpty
        add(hasClang ? "clang of Swift" : "clang", toolchain.map { "/" + $0.joined(separator: "/") + "/clang" })
        add("gcc", executable("gcc", path))
        if result.isEmpty { add("cc", executable("cc", path)) }
        return result
    }

    /// The library that the command heaptrack would preload.
    static func heaptrackLibrary(_ path: String) -> String? {
        guard let command = executable("heaptrack", path).flatMap(resolved) else { return nil }
        let prefix = "/" + command.split(separator: "/").dropLast(2).joined(separator: "/")
        let library = "\(prefix)/lib/heaptrack/libheaptrack_preload.so"
        return LibraryPaths.header(of: library) == LibraryPaths.header(of: "/proc/self/exe") ? library : nil
    }

    private static func executable(_ name: String, _ path: String) -> String? {
        path.split(separator: ":").filter { $0.hasPrefix("/") }.map { "\($0)/\(name)" }.first { access($0, X_OK) == 0 }
    }

    /// The file itself, without links.
    private static func resolved(_ path: String) -> String? {
        guard let file = realpath(path, nil) else { return nil }
        defer { free(file) }
        return String(cString: file)
    }

    private static func write(_ bytes: [UInt8], to path: String) -> Bool {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        return Glibc.write(descriptor, bytes, bytes.count) == bytes.count
    }
}

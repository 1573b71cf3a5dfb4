// Decides whose code a frame is: the pool's own, the system's or the user's. Judged by the symbol, not by the file.

/// Whose code a symbol is.
enum FrameOwnership {
    /// Swift modules of the pool, its bridges and its recorder. Their frames are cut from the top of every stack.
    static let ownModules: Set<String> = ["Mempool", "MempoolFoundation", "MempoolRecorder", "MempoolRecording"]
    /// C symbols of the pool and its recorder.
    static let ownPrefix = "cmempool_"
    /// Swift modules of the toolchain; their code may be specialized into the user's binary.
    static let systemModules: Set<String> = [
        "Swift", "_Concurrency", "_StringProcessing", "_RegexParser", "Synchronization", "Observation", "Distributed",
        "Foundation", "FoundationEssentials", "FoundationInternationalization", "FoundationNetworking", "FoundationXML",
        "Dispatch", "Glibc", "Musl", "Runtime", "XCTest", "Testing", "__C",
    ]

    /// The Swift module that holds the code of a demangled symbol.
    ///
    /// An extension belongs to the module that declares it; a closure, a specialization, a coroutine part or an accessor to what it
    /// is part of. Nil for C symbols and for code that has no place in a module.
    static func swiftModule(ofDemangled name: String) -> String? {
        let entity = innermostEntity(Substring(name))
        if entity.hasPrefix("(extension in ") {
            let module = entity.dropFirst("(extension in ".count).prefix { $0 != ")" }
            return module.isEmpty ? nil : String(module)
        }
        let module = entity.prefix { $0.isLetter || $0.isNumber || $0 == "_" }
        guard !module.isEmpty, module.endIndex < entity.endIndex, entity[module.endIndex] == "." else { return nil }
        return String(module)
    }

    /// Whether an image belongs to the system or the toolchain, by its path.
    static func isSystemImage(_ path: String) -> Bool {
        let name = ModuleTable.fileName(path)
        guard name.contains(".so") else { return path.hasPrefix("[") || path.hasPrefix("linux-vdso") }
        let systemDirectories = ["/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/"]
        if systemDirectories.contains(where: path.hasPrefix) { return true }
        let systemNames = [
            "libswift", "lib_Foundation", "libFoundation", "libdispatch", "libBlocksRuntime", "libXCTest", "libTesting",
            "lib_Testing", "libc.", "libm.", "libpthread", "libstdc++", "libgcc_s", "ld-linux", "ld-musl",
        ]
        return systemNames.contains(where: name.hasPrefix)
    }

    /// Whether a C symbol is part of what starts a program rather than of the program.
    static func isStartup(_ rawName: String) -> Bool {
        ["_start", "__libc_start_main", "__libc_start_call_main", "start_thread", "clone", "clone3"].contains(rawName)
    }

    /// Whether somebody wrote the code although the runtime counts its kind among the thunks: the initializer of a value
    /// type, which has the mangling of a class's allocating one, and the closure around an autoclosure's argument.
    static func isWritten(demangled name: String) -> Bool {
        if name.hasPrefix("implicit closure #") { return true }
        guard let initializer = name.range(of: ".init(") else { return false }
        let before = name[..<initializer.lowerBound]
        return !before.contains("thunk ")
            && !["partial apply", "protocol witness", "merged "].contains(where: before.hasPrefix)
    }

    /// Whether nobody wrote the function although debug information says where: what frees an object after its `deinit`, and what
    /// calls the main function of a type.
    ///
    /// - Parameter name: the demangled name of a Swift symbol, else the linkage name.
    static func isGenerated(_ name: String, declaredIn file: String) -> Bool {
        name.hasSuffix("deallocating_deinit") || (name == "main" && !file.hasSuffix("/main.swift"))
    }

    /// A function name as a reader knows it: parts of the top-level code are `main`, whatever the build calls them.
    static func readable(_ name: String, rawName: String, file: String?) -> String {
        let isTopLevel =
            rawName.hasPrefix("async_Main") || (rawName.hasSuffix("_main") && file?.hasSuffix("/main.swift") == true)
        if isTopLevel { return "main" }
        return name.isEmpty ? "inlined code" : name
    }

    // MARK: - Demangled text

    /// What precedes the entity that a piece of code belongs to, as the demangler writes it.
    private static let prefixes = [
        "merged ", "static ", "class ", "@objc ", "@nonobjc ", "dispatch thunk of ", "partial apply forwarder for ",
        "partial apply for ",
        "protocol witness for ", "reabstraction thunk helper for ", "variable initialization expression of ",
        "property wrapper backing initializer of ", "one-time initialization function for ",
        "async function pointer to ",
        "distributed thunk ", "key path getter for ", "key path setter for ", "vtable thunk for ",
        "method descriptor for ",
        "implicit ", "override ", "curry thunk of ", "back deployment thunk for ", "back deployment fallback for ",
        "(outlined) ",
    ]

    /// The text from the outermost context of the code on: `Module.Type.function…` or `(extension in Module):…`.
    private static func innermostEntity(_ name: Substring) -> Substring {
        var rest = name
        // Every turn takes something off the front, so it ends.
        while true {
            if let prefix = prefixes.first(where: { rest.hasPrefix($0) }) {
                rest = rest.dropFirst(prefix.count)
                continue
            }
            // "generic specialization <…> of X", "function signature specialization <…> of X", "default argument 0 of X"
            let specializations = [
                "generic ", "function signature ", "inlined generic ", "default argument ", "outlined ",
            ]
            if specializations.contains(where: { rest.hasPrefix($0) }),
                let tail = after(" of ", in: rest, last: false, anglesOnly: true)
            {
                rest = tail
                continue
            }
            // "(1) suspend resume partial function for X", "(2) await resume partial function for X"
            if rest.hasPrefix("("), !rest.hasPrefix("(extension in "),
                let tail = after(" partial function for ", in: rest, last: false)
            {
                rest = tail
                continue
            }
            // "closure #1 (A) -> B in X", "local #1 () -> () in X": the context comes last. "X in conformance Y" does not match.
            if !rest.hasPrefix("(extension in "), let head = rest.firstIndex(of: " "),
                rest[rest.index(after: head)...].hasPrefix("#"), let tail = after(" in ", in: rest, last: true)
            {
                rest = tail
                continue
            }
            return rest
        }
    }

    /// The text after a separator that lies outside of all brackets.
    ///
    /// - Parameter anglesOnly: whether other brackets do not count: the demangler leaves one open where a closure was specialized.
    private static func after(
        _ separator: String, in text: Substring, last: Bool, anglesOnly: Bool = false
    ) -> Substring? {
        var depth = 0
        var found: Substring?
        var index = text.startIndex
        var previous: Character = " "
        while index < text.endIndex {
            let character = text[index]
            switch character {
            case "<": depth += 1
            case "(" where !anglesOnly, "[" where !anglesOnly: depth += 1
            case ")" where !anglesOnly, "]" where !anglesOnly: depth -= 1
            // Not of "->".
            case ">" where previous != "-": depth -= 1
            case " " where depth == 0 && text[index...].hasPrefix(separator):
                found = text[index...].dropFirst(separator.count)
                if !last { return found }
            default: break
            }
            previous = character
            index = text.index(after: index)
        }
        return found
    }
}

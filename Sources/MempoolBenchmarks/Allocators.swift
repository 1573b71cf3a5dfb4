// The allocators to measure against, and how to find the installed ones.

internal import Glibc

/// An allocator that can be preloaded.
package struct Allocator: Sendable, Equatable, Codable {
    package var name: String
    /// Absolute path of its library; nil for the C library's own.
    package var path: String?

    package init(name: String, path: String?) {
        self.name = name
        self.path = path
    }

    /// The allocator of the C library, which every process has.
    package static let system = Allocator(name: "glibc", path: nil)
}

/// An allocator that the benchmark knows of, installed or not.
struct KnownAllocator: Sendable {
    var name: String
    /// File names of its library, the preferred one first.
    var libraries: [String]
    /// The package of Debian and Ubuntu that has it.
    var package: String

    static let all = [
        KnownAllocator(name: "jemalloc", libraries: ["libjemalloc.so.2"], package: "libjemalloc2"),
        KnownAllocator(
            name: "mimalloc",
            libraries: ["libmimalloc.so.2", "libmimalloc.so.3", "libmimalloc.so.2.0"],
            package: "libmimalloc2.0"
        ),
        KnownAllocator(
            name: "tcmalloc",
            libraries: ["libtcmalloc_minimal.so.4", "libtcmalloc.so.4"],
            package: "libtcmalloc-minimal4"
        ),
    ]
}

/// What was found of the known allocators.
package struct AllocatorSearch: Sendable {
    package var found: [Allocator] = [.system]
    package var missing: [MissingPeer] = []

    /// Looks in the places where the dynamic linker looks.
    package static func onThisMachine() -> AllocatorSearch {
        AllocatorSearch(libraries: LibraryPaths.all(), own: LibraryPaths.header(of: "/proc/self/exe"))
    }

    /// - Parameters:
    ///   - libraries: Paths of libraries, the preferred ones first.
    ///   - own: The machine-dependent start of this executable's file; libraries for another machine do not count.
    init(libraries: [String], own: [UInt8]) {
        for known in KnownAllocator.all {
            let candidates = known.libraries.flatMap { name in libraries.filter { $0.hasSuffix("/" + name) } }
            if let path = candidates.first(where: { LibraryPaths.header(of: $0) == own }) {
                found.append(Allocator(name: known.name, path: path))
            } else {
                missing.append(MissingPeer(name: known.name, package: known.package))
            }
        }
    }

    /// The allocator in a library that the user named.
    ///
    /// - Throws: `WorkerFailure` if the file is no library that this executable could load.
    package static func allocator(atPath path: String) throws(WorkerFailure) -> Allocator {
        guard let resolved = realpath(path, nil) else {
            throw WorkerFailure("cannot read \(path): \(String(cString: strerror(errno)))")
        }
        defer { free(resolved) }
        let absolute = String(cString: resolved)
        guard LibraryPaths.header(of: absolute) == LibraryPaths.header(of: "/proc/self/exe") else {
            throw WorkerFailure("\(path) is not a shared library for this machine")
        }
        // The dynamic linker takes blanks and colons for separators, and results show the name on a terminal.
        guard !absolute.contains(where: { $0 == ":" || $0 == " " }),
            !(path + absolute).unicodeScalars.contains(where: { $0.properties.generalCategory == .control })
        else {
            throw WorkerFailure(
                "\(path): a library with a blank, a colon or a control character in its path cannot be preloaded")
        }
        return Allocator(name: name(ofLibrary: path), path: absolute)
    }

    /// The allocators with names of their own, as results tell them apart by name: `jemalloc (2)` beside an installed jemalloc.
    ///
    /// - Parameter others: Names that are taken.
    package static func distinct(_ allocators: [Allocator], from others: [String]) -> [Allocator] {
        // The pool takes part under its own name.
        var taken = Set(others + ["mempool"])
        return allocators.map { allocator in
            var named = allocator
            var number = 1
            while !taken.insert(named.name).inserted {
                number += 1
                named.name = "\(allocator.name) (\(number))"
            }
            return named
        }
    }

    /// `libsnmallocshim.so.1` → `snmallocshim`.
    static func name(ofLibrary path: String) -> String {
        var name = path.split(separator: "/").last.map(String.init) ?? path
        if let suffix = name.firstRange(of: ".so") { name = String(name[..<suffix.lowerBound]) }
        return name.hasPrefix("lib") && name.count > 3 ? String(name.dropFirst(3)) : name
    }
}

/// Files that the dynamic linker would find.
enum LibraryPaths {
    /// Libraries named in the linker's cache, then those of the usual directories, which a container without a cache has.
    static func all() -> [String] {
        cached() + directories().flatMap { directory in entries(of: directory).map { directory + "/" + $0 } }
    }

    /// The paths in the linker's cache. Its strings end with a zero byte each; what stands before them is not needed.
    private static func cached() -> [String] {
        strings(in: contents(of: "/etc/ld.so.cache", limit: 16 << 20))
    }

    /// The absolute paths among zero-terminated strings; binary data in between is skipped.
    static func strings(in bytes: [UInt8]) -> [String] {
        bytes.split(separator: 0).filter { $0.first == UInt8(ascii: "/") }.map { String(decoding: $0, as: UTF8.self) }
    }

    private static func directories() -> [String] {
        var name = utsname()
        guard uname(&name) == 0 else { return [] }
        let machine = withUnsafeBytes(of: &name.machine) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        let triplet = "\(machine)-linux-gnu"
        return ["/usr/lib/\(triplet)", "/lib/\(triplet)", "/usr/lib64", "/usr/local/lib", "/usr/lib"]
    }

    private static func entries(of directory: String) -> [String] {
        guard let stream = opendir(directory) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            names.append(
                withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            )
        }
        return names.sorted()
    }

    /// What an ELF file must have in common with another one to be loaded into it: class, byte order and machine. Empty
    /// if it is no ELF file.
    static func header(of path: String) -> [UInt8] {
        let bytes = contents(of: path, limit: 20)
        guard bytes.count == 20, bytes.starts(with: [0x7F, 0x45, 0x4C, 0x46]) else { return [] }
        return Array(bytes[4...5] + bytes[18...19])
    }

    private static func contents(of path: String, limit: Int) -> [UInt8] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return [] }
        defer { close(descriptor) }
        var result: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: min(limit, 65_536))
        while result.count < limit {
            let count = read(descriptor, &chunk, chunk.count)
            guard count > 0 else { break }
            result += chunk[..<count]
        }
        return Array(result.prefix(limit))
    }
}

// Tests of the search for allocators, on made-up files.

import Foundation
import Testing

@testable import MempoolBenchmarks

struct AllocatorTests {
    /// Runs `body` with a folder that is removed afterwards.
    private func withFolder(_ body: (URL) throws -> Void) throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        try body(folder)
    }

    /// The first bytes of an ELF file for a machine.
    private func elf(machine: UInt8) -> Data {
        Data([0x7F, 0x45, 0x4C, 0x46, 2, 1, 1] + [UInt8](repeating: 0, count: 9) + [3, 0, machine, 0])
    }

    @Test func `Installed allocators are found and the others named with their package`() throws {
        try withFolder { folder in
            let library = folder.appendingPathComponent("libjemalloc.so.2")
            try elf(machine: 62).write(to: library)
            let search = AllocatorSearch(libraries: [library.path], own: [2, 1, 62, 0])
            #expect(search.found == [.system, Allocator(name: "jemalloc", path: library.path)])
            #expect(search.missing.map(\.package) == ["libmimalloc2.0", "libtcmalloc-minimal4"])
        }
    }

    @Test func `A library for another machine is not an installed allocator`() throws {
        try withFolder { folder in
            let library = folder.appendingPathComponent("libjemalloc.so.2")
            try elf(machine: 3).write(to: library)
            let search = AllocatorSearch(libraries: [library.path], own: [2, 1, 62, 0])
            #expect(search.found == [.system])
            #expect(search.missing.count == 3)
        }
    }

    @Test func `The preferred library of an allocator wins, wherever it stands`() throws {
        try withFolder { folder in
            let names = ["libtcmalloc.so.4", "libtcmalloc_minimal.so.4", "libtcmalloc_minimal_debug.so.4"]
            let paths = try names.map { name in
                let file = folder.appendingPathComponent(name)
                try elf(machine: 62).write(to: file)
                return file.path
            }
            let search = AllocatorSearch(libraries: paths, own: [2, 1, 62, 0])
            #expect(search.found.last == Allocator(name: "tcmalloc", path: paths[1]))
        }
    }

    @Test func `Allocators of one name are told apart`() {
        let same = [1, 2].map { Allocator(name: "jemalloc", path: "/\($0)") }
        let others = [Allocator(name: "snmalloc", path: "/3"), Allocator(name: "mempool", path: "/4")]
        let named = AllocatorSearch.distinct(same + others, from: ["glibc", "jemalloc"])
        #expect(named.map(\.name) == ["jemalloc (2)", "jemalloc (3)", "snmalloc", "mempool (2)"])
        #expect(named.map(\.path) == ["/1", "/2", "/3", "/4"])
    }

    @Test func `The linker's cache is read for the paths in it`() {
        let text = "glibc-ld.so.cache1.1\0\u{1}\u{2}\0libm.so.6\0/lib/libm.so.6\0/usr/lib/libjemalloc.so.2\0"
        #expect(LibraryPaths.strings(in: Array(text.utf8)) == ["/lib/libm.so.6", "/usr/lib/libjemalloc.so.2"])
    }

    @Test(arguments: [
        ("/opt/libsnmallocshim.so", "snmallocshim"), ("librpmalloc.so.1.2", "rpmalloc"), ("mine", "mine"),
        ("lib.so", "lib"),
    ])
    func `A library that the user names is called by its file name`(path: String, name: String) {
        #expect(AllocatorSearch.name(ofLibrary: path) == name)
    }

    @Test func `A file that is no library is refused in words`() throws {
        try withFolder { folder in
            let text = folder.appendingPathComponent("text.so")
            try Data("hello".utf8).write(to: text)
            #expect(throws: WorkerFailure("\(text.path) is not a shared library for this machine")) {
                try AllocatorSearch.allocator(atPath: text.path)
            }
            let absent = folder.path + "/absent.so"
            #expect(throws: WorkerFailure("cannot read \(absent): No such file or directory")) {
                try AllocatorSearch.allocator(atPath: absent)
            }
        }
    }
}

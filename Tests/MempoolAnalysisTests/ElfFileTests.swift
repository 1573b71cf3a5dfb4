// Tests of what is read of executables: stripped, split, packed and damaged ones, and some that are made to exhaust the reader.

import Foundation
import MempoolRecording
import TestSupport
import Testing

@testable import MempoolAnalysis

/// Files of a real program, changed as programs are.
@Suite struct ElfFileTests {
    private let program: SampleProgram
    private let directory: TemporaryDirectory

    init() throws {
        program = try SampleProgram.shared()
        directory = try TemporaryDirectory()
    }

    @Test func `Inlined functions are named from the inside out, each with its own line`() throws {
        #expect(program.names(inFile: program.path).frames == SampleProgram.names)
    }

    @Test(.enabled(if: SampleProgram.has("objcopy"), "binutils are not installed"))
    func `A stripped program says so, and is named by what was split off`() throws {
        let (file, debug) = (directory.path + "/app", directory.path + "/app.debug")
        try SampleProgram.run("objcopy", "--only-keep-debug", program.path, debug)
        try SampleProgram.run("objcopy", "--strip-all", program.path, file)
        let stripped = program.names(inFile: file)
        #expect(stripped.frames.first?.hasPrefix("app+0x") == true)
        let module = try #require(stripped.unnamed.first { $0.path == file })
        #expect(module.reason == .noSymbols)
        #expect(module.frames > 1)
        #expect(module.explanation.hasPrefix("\(file) is stripped, so its functions have no names. Link it without -s"))
        try SampleProgram.run("objcopy", "--add-gnu-debuglink=" + debug, file)
        let split = program.names(inFile: file)
        #expect(split.frames == SampleProgram.names)
        #expect(!split.unnamed.contains { $0.path == file })
        // A debug file of another program has the same name, not the same build-id.
        try SampleProgram.run("cp", "/proc/self/exe", debug)
        #expect(program.names(inFile: file).frames == stripped.frames)
    }

    @Test(.enabled(if: SampleProgram.has("objcopy"), "binutils are not installed"), arguments: ["zlib", "zstd"])
    func `Compressed debug information is unpacked`(kind: String) throws {
        let file = directory.path + "/packed"
        // Not every objcopy knows each kind.
        guard (try? SampleProgram.run("objcopy", "--compress-debug-sections=" + kind, program.path, file)) != nil else {
            return
        }
        let sections = try #require(ElfSections(RecordingFile(path: file), of: [".debug_info", ".debug_line"]))
        let original = try #require(ElfSections(RecordingFile(path: program.path), of: [".debug_info", ".debug_line"]))
        for name in [".debug_info", ".debug_line"] {
            #expect(sections.bytes(of: name) == original.bytes(of: name))
            #expect(sections.bytes(of: name)?.isEmpty == false)
        }
        #expect(program.names(inFile: file).frames == SampleProgram.names)
    }

    @Test func `A packed section that lies about its size is not unpacked`() {
        func section(kind: UInt8, size: UInt64, _ packed: [UInt8]) -> [UInt8] {
            [kind, 0, 0, 0, 0, 0, 0, 0] + (0..<8).map { UInt8(truncatingIfNeeded: size >> (8 * $0)) }
                + [UInt8](repeating: 0, count: 8) + packed
        }
        // Three bytes, "abc".
        let packed: [UInt8] = [0x78, 0x9C, 0x4B, 0x4C, 0x4A, 0x06, 0x00, 0x02, 0x4D, 0x01, 0x27]
        func unpacked(_ size: UInt64, kind: UInt8 = 1, _ bytes: [UInt8]? = nil) -> [UInt8]? {
            SectionCompression.unpacked(section(kind: kind, size: size, bytes ?? packed), limitBytes: 1 << 20)
        }
        #expect(unpacked(3) == Array("abc".utf8))
        #expect(unpacked(2) == nil)
        #expect(unpacked(4) == nil)
        #expect(unpacked(1 << 20) == nil)
        #expect(unpacked(.max) == nil)
        #expect(unpacked(3, kind: 9) == nil)
        #expect(unpacked(3, kind: 2) == nil)
        #expect(unpacked(3, [1, 2, 3]) == nil)
        #expect(SectionCompression.unpacked([1, 2], limitBytes: 10) == nil)
    }

    /// Where a section's bytes and its entry in the table of sections lie in the program's file.
    private func section(_ wanted: String, in bytes: [UInt8]) throws -> (content: Int, entry: Int) {
        func number(_ offset: Int, _ count: Int) -> Int {
            (0..<count).reduce(0) { $0 | Int(bytes[offset + $1]) << (8 * $1) }
        }
        let (table, names) = (number(40, 8), number(62, 2))
        let strings = number(table + names * 64 + 24, 8)
        for index in 0..<number(60, 2) {
            let entry = table + index * 64
            let name = bytes[(strings + number(entry, 4))...].prefix { $0 != 0 }
            if String(decoding: name, as: UTF8.self) == wanted { return (number(entry + 24, 8), entry) }
        }
        throw CocoaError(.fileReadCorruptFile)
    }

    @Test func `A line program that divides by zero costs its lines only`() throws {
        var bytes = try program.bytes()
        let lines = try section(".debug_line", in: bytes).content
        // Of version 4: length, version, header's length, shortest instruction, operations, default, base, range.
        #expect(bytes[lines + 4] == 4 && bytes[lines + 14] == 14)
        bytes[lines + 14] = 0
        let names = program.names(inFile: try directory.write(bytes, to: "zero"))
        #expect(names.frames.first == "leaf() 0 false")
    }

    @Test(arguments: [".symtab", ".strtab", ".debug_info", ".shstrtab"])
    func `A section that lies nowhere is not there`(name: String) throws {
        var bytes = try program.bytes()
        let entry = try section(name, in: bytes).entry
        for index in 24..<32 { bytes[entry + index] = 0xFF }
        let names = program.names(inFile: try directory.write(bytes, to: "nowhere"))
        #expect(names.frames.first?.hasPrefix(name == ".debug_info" ? "leaf() 0" : "nowhere+0x") == true)
    }

    @Test func `No mutation of an executable brings the symbolizer down`() throws {
        let original = try program.bytes()
        let addresses = Set((0..<200).map { UInt64(0x1800 + $0 * 16) })
        #expect(try DwarfImage(RecordingFile(path: program.path))?.locations(of: addresses).isEmpty == false)
        var module = try #require(program.modules.first { $0.path == program.path })
        var generator = SeededGenerator(seed: 4)
        var named = 0
        // The build-id is in the first quarter, debug information in the second half, the section table at the end.
        for _ in 0..<(runsLongTests ? 3000 : 150) {
            var bytes = original
            for _ in 0..<Int.random(in: 1...40, using: &generator) {
                let tail = Bool.random(using: &generator) ? bytes.count / 4 : bytes.count - 4096
                let position = Int.random(in: tail..<bytes.count, using: &generator)
                bytes[position] = Bool.random(using: &generator) ? 0xFF : UInt8.random(in: 0...255, using: &generator)
            }
            module.path = try directory.write(bytes, to: "mutant")
            _ = DwarfImage(try RecordingFile(path: module.path))?.locations(of: addresses)
            let names = ElfSymbolizer().name(Set(addresses.map { $0 + module.base }), in: [module])
            #expect(!names.unnamedModules.contains { $0.reason == .changed })
            if names.frames.values.contains(where: { $0.first?.isUnnamed == false }) { named += 1 }
        }
        // Otherwise most of the reader would not have been tried.
        #expect(named > 50)
    }
}

/// Files that nobody's tools make: small, and made to cost much.
struct HostileElfTests {
    /// Bytes of an ELF file with some sections.
    private static func file(_ sections: [(name: String, content: [UInt8])]) -> [UInt8] {
        func little(_ value: Int, _ count: Int) -> [UInt8] {
            (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
        }
        var bytes = [UInt8](repeating: 0, count: 64)
        var names: [UInt8] = [0]
        var table = [UInt8](repeating: 0, count: 64)
        for (name, content) in sections + [(".shstrtab", [])] {
            let nameOffset = names.count
            names += Array(name.utf8) + [0]
            let content = name == ".shstrtab" ? names : content
            table += little(nameOffset, 4) + little(1, 4) + little(0, 16) + little(bytes.count, 8)
            table += little(content.count, 8) + little(0, 24)
            bytes += content
        }
        let header =
            [0x7F, 0x45, 0x4C, 0x46, 2, 1] + [UInt8](repeating: 0, count: 34) + little(bytes.count, 8)
            + little(0, 10) + little(64, 2) + little(sections.count + 2, 2) + little(sections.count + 1, 2)
        bytes.replaceSubrange(0..<64, with: header)
        return bytes + table
    }

    private static func word(_ value: Int, _ count: Int = 4) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }

    /// A unit with one function at 0x1000 to 0x1100, and a line program of `rows` files all of which are the same text.
    static func lines(rows: Int, text: [UInt8], before: [(String, [UInt8])] = []) -> [UInt8] {
        // A unit with a line program; a function with an address and a size. Forms: section offset, address, 4 bytes.
        let abbreviations: [UInt8] = [1, 0x11, 1, 0x10, 0x17, 0, 0, 2, 0x2E, 0, 0x11, 0x01, 0x12, 0x06, 0, 0, 0]
        let entries: [UInt8] = [1] + word(0) + [2] + word(0x1000, 8) + word(0x100) + [0]
        let unit = word(5, 2) + [1, 8] + word(0) + entries
        // No directories; files of one column, a path in the line strings.
        let tables: [UInt8] = [0, 0, 1, 1, 0x1F] + leb(rows) + (0..<rows).flatMap { _ in word(0) }
        // The twelve standard instructions with the counts of their operands.
        let head: [UInt8] = [1, 1, 1, 0xFB, 14, 13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1] + tables
        // The address, file 1, a row; 0x100 on, the end.
        let program: [UInt8] = [0, 9, 2] + word(0x1000, 8) + [4, 1, 1, 2, 0x80, 2, 0, 1, 1]
        let body = word(5, 2) + [8, 0] + word(head.count) + head + program
        return file(
            before + [
                (".debug_info", word(unit.count) + unit), (".debug_abbrev", abbreviations),
                (".debug_line", word(body.count) + body), (".debug_line_str", text + [0]),
            ])
    }

    private static func leb(_ value: Int) -> [UInt8] {
        var value = value
        var bytes: [UInt8] = []
        repeat {
            bytes.append(UInt8(value & 0x7F) | (value > 0x7F ? 0x80 : 0))
            value >>= 7
        } while value > 0
        return bytes
    }

    /// 10,000 units, each with another part of one table of abbreviations.
    static func abbreviations() -> [UInt8] {
        var table: [UInt8] = []
        for code in 0..<14_600 {
            // Three bytes each, so that all are told apart.
            table += [UInt8(code & 0x7F) | 0x80, UInt8(code >> 7 & 0x7F) | 0x80, 1, 0x2E, 0, 0, 0]
        }
        let units: [UInt8] = (0..<10_000).flatMap { (number: Int) -> [UInt8] in
            word(8) + word(4, 2) + word(number * 7) + [8, 0]
        }
        return file([(".debug_info", units), (".debug_abbrev", table + [0])])
    }

    private static func location(_ bytes: [UInt8]) throws -> DwarfLocation? {
        let directory = try TemporaryDirectory()
        return DwarfImage(try RecordingFile(path: directory.write(bytes)))?.locations(of: [0x1010])[0x1010]
    }

    /// The most memory that this process has had, bytes.
    private static func peakBytes() -> Int {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        return usage.ru_maxrss * 1024
    }

    /// Lets a file be read and ends the process in order if that took less than 100 MB beyond what making the file took.
    private static func read(_ bytes: [UInt8]) throws {
        // So that a failure is the failure of this process and not of the machine.
        var limit = rlimit(rlim_cur: 8 << 30, rlim_max: 8 << 30)
        setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit)
        let before = peakBytes()
        _ = try location(bytes)
        exit(peakBytes() - before < 100 << 20 ? 0 : 3)
    }

    @Test func `What the files below are made of is sound`() throws {
        let location = try #require(try Self.location(Self.lines(rows: 3, text: Array("/a/b.c".utf8))))
        #expect(location.place?.file == "/a/b.c")
    }

    @Test func `Many tables of abbreviations in one do not take the memory of all`() async {
        await #expect(processExitsWith: .success) { try Self.read(Self.abbreviations()) }
    }

    @Test func `Many files of one long name do not take the memory of all`() async {
        await #expect(processExitsWith: .success) {
            try Self.read(Self.lines(rows: 65_000, text: [UInt8](repeating: 0x41, count: 60_000)))
        }
        await #expect(processExitsWith: .success) {
            try Self.read(Self.lines(rows: 65_000, text: [UInt8](repeating: 0x41, count: 1_000_000)))
        }
    }

    @Test func `The first section of a name counts, and all together are no larger than the file`() throws {
        let text = Array("/a/b.c".utf8)
        let second = [(".debug_info", [UInt8](repeating: 0, count: 50))]
        #expect(try Self.location(Self.lines(rows: 3, text: text, before: second)) == nil)
        let others = (0..<1000).map { _ in (".debug_macro", [UInt8](repeating: 1, count: 100)) }
        #expect(try Self.location(Self.lines(rows: 3, text: text, before: others))?.place?.file == "/a/b.c")
        // All entries of the table lead to the whole file.
        var bytes = Self.lines(rows: 3, text: text)
        let table = bytes.count - 6 * 64
        for entry in 1..<5 {
            bytes.replaceSubrange((table + entry * 64 + 24)..<(table + entry * 64 + 32), with: Self.word(0, 8))
            bytes.replaceSubrange(
                (table + entry * 64 + 32)..<(table + entry * 64 + 40), with: Self.word(bytes.count, 8))
        }
        let directory = try TemporaryDirectory()
        let names: Set<String> = [".debug_info", ".debug_abbrev", ".debug_line", ".debug_line_str"]
        let sections = try #require(ElfSections(RecordingFile(path: directory.write(bytes)), of: names))
        #expect(names.count { sections.bytes(of: $0) != nil } == 1)
    }
}

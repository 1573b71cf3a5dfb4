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
    ///
    /// - Parameter packed: which of them are marked as compressed.
    private static func file(_ sections: [(name: String, content: [UInt8])], packed: Set<String> = []) -> [UInt8] {
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
            table += little(nameOffset, 4) + little(1, 4) + little(packed.contains(name) ? 0x800 : 0, 8)
            table += little(0, 8) + little(bytes.count, 8)
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
    ///
    /// - Parameters:
    ///   - before: sections to begin with.
    ///   - instructions: of the line program, to begin with; number 13 has 200 operands.
    ///   - pack: what to do to the section with the unit.
    static func lines(
        rows: Int, text: [UInt8], before: [(String, [UInt8])] = [], instructions: [UInt8] = [],
        pack: (([UInt8]) -> [UInt8])? = nil
    ) -> [UInt8] {
        // A unit with a line program; a function with an address and a size. Forms: section offset, address, 4 bytes.
        let abbreviations: [UInt8] = [1, 0x11, 1, 0x10, 0x17, 0, 0, 2, 0x2E, 0, 0x11, 0x01, 0x12, 0x06, 0, 0, 0]
        let entries: [UInt8] = [1] + word(0) + [2] + word(0x1000, 8) + word(0x100) + [0]
        let unit = word(5, 2) + [1, 8] + word(0) + entries
        // No directories; files of one column, a path in the line strings.
        let tables: [UInt8] = [0, 0, 1, 1, 0x1F] + leb(rows) + (0..<rows).flatMap { _ in word(0) }
        // The twelve standard instructions with the counts of their operands, and another one.
        let head: [UInt8] = [1, 1, 1, 0xFB, 14, 14, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 200] + tables
        // The address, file 1, a row; 0x100 on, the end.
        let program: [UInt8] = instructions + [0, 9, 2] + word(0x1000, 8) + [4, 1, 1, 2, 0x80, 2, 0, 1, 1]
        let body = word(5, 2) + [8, 0] + word(head.count) + head + program
        let info = word(unit.count) + unit
        return file(
            before + [
                (".debug_info", pack?(info) ?? info), (".debug_abbrev", abbreviations),
                (".debug_line", word(body.count) + body), (".debug_line_str", text + [0]),
            ], packed: pack == nil ? [] : [".debug_info"])
    }

    /// A unit with `count` equal entries.
    private static func entries(
        _ count: Int, tag: UInt8, attributes: [UInt8], values: [UInt8] = [], end: [UInt8] = [0]
    ) -> [UInt8] {
        let abbreviations: [UInt8] = [1, 0x11, 1, 0, 0, 2, tag, 0] + attributes + [0, 0, 0]
        let unit = word(4, 2) + word(0) + [8, 1] + (0..<count).flatMap { _ in [2] + values } + end
        return file([(".debug_info", word(unit.count) + unit), (".debug_abbrev", abbreviations)])
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

    private static func location(_ bytes: [UInt8], _ budget: DwarfBudget? = nil) throws -> DwarfLocation? {
        let directory = try TemporaryDirectory()
        let file = try RecordingFile(path: directory.write(bytes))
        return DwarfImage(file, budget: budget)?.locations(of: [0x1010])[0x1010]
    }

    /// How many of a million steps it takes to read a file and look an address up.
    private static func steps(_ bytes: [UInt8]) throws -> Int {
        let budget = DwarfBudget(steps: 1_000_000)
        _ = try location(bytes, budget)
        return 1_000_000 - budget.steps
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

    @Test(arguments: [UInt8(0x2E), 0x1D, 0x34])
    func `Attributes that take no bytes are paid for`(tag: UInt8) throws {
        // Of form 0x19, whose value is its presence.
        let attributes: [UInt8] = (0..<250).flatMap { [UInt8($0 % 100 + 1), 0x19] }
        let few = try Self.steps(Self.entries(100, tag: tag, attributes: Array(attributes.prefix(20))))
        let many = try Self.steps(Self.entries(100, tag: tag, attributes: attributes))
        #expect(many - few == 100 * 240)
    }

    @Test func `Texts between the entries are paid for`() throws {
        let short = try Self.steps(Self.entries(1, tag: 0x34, attributes: [3, 8], values: [0x41, 0]))
        let text = [UInt8](repeating: 0x41, count: 10_001)
        #expect(try Self.steps(Self.entries(1, tag: 0x34, attributes: [3, 8], values: text + [0])) - short == 10_000)
        // One that does not end is read all the same.
        let endless = Self.entries(1, tag: 0x34, attributes: [3, 8], values: text, end: [])
        #expect(try Self.steps(endless) - short >= 9_999)
    }

    @Test func `Operands of a line program are paid for`() throws {
        let text = Array("/a/b.c".utf8)
        let plain = try Self.steps(Self.lines(rows: 3, text: text))
        let instruction: [UInt8] = [13] + [UInt8](repeating: 0, count: 200)
        let bytes = Self.lines(rows: 3, text: text, instructions: (0..<50).flatMap { _ in instruction })
        #expect(try Self.steps(bytes) - plain == 50 * 201)
        #expect(try Self.location(bytes)?.place?.file == "/a/b.c")
    }

    @Test func `A number longer than any is damage`() throws {
        for bytes in [15, 16] {
            let padded = [UInt8](repeating: 0x80, count: bytes) + [0]
            var (unsigned, signed) = (try DwarfCursor(padded), try DwarfCursor(padded))
            #expect((try? unsigned.unsigned()) == (bytes == 15 ? 0 : nil))
            #expect((try? signed.signed()) == (bytes == 15 ? 0 : nil))
        }
        var lowest = try DwarfCursor([UInt8](repeating: 0x80, count: 9) + [0x7F])
        #expect(try lowest.signed() == .min)
        var negative = try DwarfCursor([0xFF, 0x7E])
        #expect(try negative.signed() == -129)
    }

    @Test func `Units are paid for, and no more are read than a program can have`() throws {
        func units(_ count: Int) -> [UInt8] {
            let unit = Self.word(7) + Self.word(4, 2) + Self.word(0) + [8]
            return Self.file([
                (".debug_info", (0..<count).flatMap { _ in unit }), (".debug_abbrev", [0]),
            ])
        }
        let directory = try TemporaryDirectory()
        let file = try RecordingFile(path: directory.write(units(2000)))
        #expect(DwarfImage(file, budget: DwarfBudget(steps: 2000))?.units.count == 2000)
        #expect(DwarfImage(file, budget: DwarfBudget(steps: 1999)) == nil)
        let most = try RecordingFile(path: directory.write(units(DwarfImage.unitLimit + 1)))
        #expect(DwarfImage(most)?.units.count == DwarfImage.unitLimit)
    }

    @Test func `What may be done with a file is explained by its size, and has an end`() {
        func steps(_ fileBytes: Int, _ unpackedBytes: Int) -> Int {
            DwarfBudget(fileBytes: fileBytes, unpackedBytes: unpackedBytes).steps
        }
        let base = steps(0, 0)
        #expect(steps(1000, 500) - base == 2000)
        #expect(steps(1000, 8000) - base == 32_000)
        #expect(steps(1000, 8001) - base == 32_000)
        #expect(steps(.max, .max) - base == 1 << 29)
    }

    @Test(.enabled(if: dlopen("libz.so.1", RTLD_NOW) != nil, "zlib is not installed"))
    func `Sections that unpack to more than their file explains are not there`() throws {
        typealias Compress =
            @convention(c) (
                UnsafeMutablePointer<UInt8>?, UnsafeMutablePointer<UInt>?, UnsafePointer<UInt8>?, UInt
            ) -> Int32
        let symbol = try #require(dlsym(dlopen("libz.so.1", RTLD_NOW), "compress"))
        let compress = unsafeBitCast(symbol, to: Compress.self)
        let directory = try TemporaryDirectory()
        /// A file with so many zeros behind its unit, in another one of no version.
        func file(zeros: Int) throws -> RecordingFile {
            let bytes = Self.lines(rows: 3, text: Array("/a/b.c".utf8)) { info in
                let content = info + Self.word(zeros) + [UInt8](repeating: 0, count: zeros)
                var size = UInt(content.count / 2 + 1000)
                var packed = [UInt8](repeating: 0, count: Int(size))
                #expect(compress(&packed, &size, content, UInt(content.count)) == 0)
                return Self.word(1, 8) + Self.word(content.count, 8) + Self.word(1, 8) + packed.prefix(Int(size))
            }
            return try RecordingFile(path: directory.write(bytes, to: "\(zeros)"))
        }
        let sound = try file(zeros: 30_000)
        let image = try #require(DwarfImage(sound))
        #expect(image.locations(of: [0x1010])[0x1010]?.place?.file == "/a/b.c")
        // By what it is on disk, and not by what it unpacks to.
        #expect(image.budget.steps <= DwarfBudget(fileBytes: sound.sizeBytes, unpackedBytes: .max).steps)
        #expect(sound.sizeBytes < 2000)
        let hostile = try file(zeros: 1_000_000)
        #expect(hostile.sizeBytes < 4000)
        #expect(DwarfImage(hostile) == nil)
        #expect(ElfSections(hostile, of: [".debug_info"])?.bytes(of: ".debug_info") == nil)
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

// The sections of an ELF file on disk, found by name and read in whole, unpacked if they are compressed.
// Bounds-checked: the file may be anything.

internal import MempoolRecording

/// Some sections of a 64-bit little-endian ELF file.
struct ElfSections {
    private struct Entry {
        var offset: Int
        /// Bytes in the file.
        var size: Int
        var isCompressed: Bool
        /// Bytes in memory; for a compressed section what it claims, and no other size is accepted.
        var unpackedSize: Int
    }

    private let file: RecordingFile
    private var entries: [String: Entry] = [:]

    /// More bytes than these, unpacked, are not read of one file: a program of that kind needs another tool.
    static let limitBytes = 1 << 30
    /// How many bytes are unpacked for each of the file. Debug files of programs unpack to two or three times their size, a table
    /// of one function in many variants to thirteen times, a run of zeros to a thousand times.
    static let mostUnpackedPerByte = 64
    /// Executables have some tens of sections.
    private static let sectionCountLimit = 4096

    /// Finds sections by name. Nil if the file has no table of sections that can be used.
    ///
    /// The first of several with one name counts. One that does not lie in the file is not there, and neither is one
    /// that makes the found ones larger than the file, as sections do not overlap, or larger than it explains, unpacked.
    init?(_ file: RecordingFile, of names: Set<String>) {
        self.file = file
        let header = file.records(of: UInt8.self, count: 64, at: 0)
        guard header.count == 64, header.starts(with: [0x7F, 0x45, 0x4C, 0x46, 2, 1]) else { return nil }
        let tableOffset = Self.number(header, 40, 8)
        let count = min(Self.number(header, 60, 2), Self.sectionCountLimit)
        let nameIndex = Self.number(header, 62, 2)
        guard Self.number(header, 58, 2) == 64, tableOffset < file.sizeBytes, nameIndex < count else { return nil }
        let table = file.records(of: UInt8.self, count: count * 64, at: tableOffset)
        guard table.count == count * 64, let nameEntry = Self.entry(table, nameIndex, file),
            let nameBytes = Self.read(nameEntry, file)
        else { return nil }
        var rest = min(file.sizeBytes, Self.limitBytes)
        var unpackedRest = Self.mostUnpackedPerByte * min(file.sizeBytes, Self.limitBytes / Self.mostUnpackedPerByte)
        let longest = names.map(\.utf8.count).max() ?? 0
        for index in 0..<count {
            // No more than can matter: all sections may have one long name.
            let bytes = nameBytes.dropFirst(Self.number(table, index * 64, 4)).prefix(longest + 1)
            let name = String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            guard names.contains(name), entries[name] == nil, let entry = Self.entry(table, index, file),
                entry.size <= rest, entry.unpackedSize <= unpackedRest
            else { continue }
            rest -= entry.size
            unpackedRest -= entry.unpackedSize
            entries[name] = entry
        }
    }

    /// The bytes of a section; nil if it is not there, cannot be read or cannot be unpacked.
    func bytes(of name: String) -> [UInt8]? {
        guard let entry = entries[name], let bytes = Self.read(entry, file) else { return nil }
        return entry.isCompressed ? SectionCompression.unpacked(bytes, limitBytes: entry.unpackedSize) : bytes
    }

    /// Where a section lies; nil if that is not in the file.
    private static func entry(_ table: [UInt8], _ index: Int, _ file: RecordingFile) -> Entry? {
        let start = index * 64
        var entry = Entry(
            offset: number(table, start + 24, 8), size: number(table, start + 32, 8),
            isCompressed: number(table, start + 8, 8) & 0x800 != 0, unpackedSize: 0
        )
        // Type 8 has no bytes in the file.
        guard number(table, start + 4, 4) != 8, entry.size <= limitBytes, entry.offset <= file.sizeBytes,
            entry.size <= file.sizeBytes - entry.offset
        else { return nil }
        entry.unpackedSize = entry.size
        if entry.isCompressed {
            let head = file.records(
                of: UInt8.self, count: min(entry.size, SectionCompression.headBytes), at: entry.offset)
            guard let size = SectionCompression.claimedSize(head) else { return nil }
            entry.unpackedSize = size
        }
        return entry
    }

    private static func read(_ entry: Entry, _ file: RecordingFile) -> [UInt8]? {
        let bytes = file.records(of: UInt8.self, count: entry.size, at: entry.offset)
        return bytes.count == entry.size ? bytes : nil
    }

    private static func number(_ bytes: [UInt8], _ offset: Int, _ count: Int) -> Int {
        var value: UInt64 = 0
        for index in 0..<count { value |= UInt64(bytes[offset + index]) << UInt64(8 * index) }
        return Int(clamping: value)
    }
}

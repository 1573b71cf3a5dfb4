// The sections of an ELF file on disk, found by name and read in whole, unpacked if they are compressed.
// Bounds-checked: the file may be anything.

internal import MempoolRecording

/// Some sections of a 64-bit little-endian ELF file.
struct ElfSections {
    private struct Entry {
        var offset: Int
        var size: Int
        var isCompressed: Bool
    }

    private let file: RecordingFile
    private var entries: [String: Entry] = [:]

    /// More bytes than these, unpacked, are not read of one file: a program of that kind needs another tool.
    private static let limitBytes = 1 << 30
    /// Executables have some tens of sections.
    private static let sectionCountLimit = 4096

    /// Finds sections by name. Nil if the file has no table of sections that can be used.
    ///
    /// The first of several with one name counts. One that does not lie in the file is not there, and neither is one
    /// that makes the found ones larger than the file: sections do not overlap.
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
        for index in 0..<count {
            guard var cursor = try? DwarfCursor(nameBytes, at: Self.number(table, index * 64, 4)),
                let name = try? cursor.text(), names.contains(name), entries[name] == nil,
                let entry = Self.entry(table, index, file), entry.size <= rest
            else { continue }
            rest -= entry.size
            entries[name] = entry
        }
    }

    /// The bytes of a section; nil if it is not there, cannot be read or cannot be unpacked.
    func bytes(of name: String) -> [UInt8]? {
        guard let entry = entries[name], let bytes = Self.read(entry, file) else { return nil }
        return entry.isCompressed ? SectionCompression.unpacked(bytes, limitBytes: Self.limitBytes / 8) : bytes
    }

    /// Where a section lies; nil if that is not in the file.
    private static func entry(_ table: [UInt8], _ index: Int, _ file: RecordingFile) -> Entry? {
        let start = index * 64
        let entry = Entry(
            offset: number(table, start + 24, 8), size: number(table, start + 32, 8),
            isCompressed: number(table, start + 8, 8) & 0x800 != 0
        )
        // Type 8 has no bytes in the file.
        guard number(table, start + 4, 4) != 8, entry.size <= limitBytes, entry.offset <= file.sizeBytes,
            entry.size <= file.sizeBytes - entry.offset
        else { return nil }
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

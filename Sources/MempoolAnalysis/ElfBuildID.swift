// Reads the build-id of an ELF file on disk, to prove that it is the file a program ran. Bounds-checked: the file may be anything.

internal import MempoolRecording

/// What identifies an ELF file.
enum ElfBuildID {
    /// 64 segments are more than any linker makes; the note of a build-id is 36 bytes.
    private static let segmentLimit = 256
    private static let noteLimitBytes = 64 * 1024
    private static let noteBuildID: UInt32 = 3

    /// Bytes of the NT_GNU_BUILD_ID note of a 64-bit little-endian ELF file, empty without one. Nil if it cannot be read or is
    /// no such file.
    static func read(_ file: RecordingFile) -> [UInt8]? {
        let header = file.records(of: UInt8.self, count: 64, at: 0)
        // 7F 'E' 'L' 'F', class 64-bit, little-endian.
        guard header.count == 64, header.starts(with: [0x7F, 0x45, 0x4C, 0x46, 2, 1]) else { return nil }
        let tableOffset = Int(clamping: integer(header, 32, as: UInt64.self))
        let entryBytes = Int(integer(header, 54, as: UInt16.self))
        let entryCount = min(Int(integer(header, 56, as: UInt16.self)), segmentLimit)
        guard entryBytes >= 56 else { return nil }
        for index in 0..<entryCount {
            let (offset, overflow) = tableOffset.addingReportingOverflow(index * entryBytes)
            guard !overflow else { return nil }
            let entry = file.records(of: UInt8.self, count: 56, at: offset)
            guard entry.count == 56 else { return nil }
            guard integer(entry, 0, as: UInt32.self) == 4 else { continue }
            let size = min(Int(clamping: integer(entry, 32, as: UInt64.self)), noteLimitBytes)
            let start = Int(clamping: integer(entry, 8, as: UInt64.self))
            let identifier = buildID(inNotes: file.records(of: UInt8.self, count: size, at: start))
            if !identifier.isEmpty { return identifier }
        }
        return []
    }

    /// The description of the build-id note among the notes of a segment; empty if there is none.
    static func buildID(inNotes bytes: [UInt8]) -> [UInt8] {
        var position = 0
        while position + 12 <= bytes.count {
            let nameBytes = Int(integer(bytes, position, as: UInt32.self))
            let descriptionBytes = Int(integer(bytes, position + 4, as: UInt32.self))
            let type = integer(bytes, position + 8, as: UInt32.self)
            let name = position + 12
            // Both are padded to 4 bytes. The sizes are below 2^32 each, so nothing overflows.
            let description = name + (nameBytes + 3) / 4 * 4
            let end = description + descriptionBytes
            guard end <= bytes.count else { return [] }
            if type == noteBuildID, nameBytes == 4, bytes[name..<name + 4].elementsEqual([0x47, 0x4E, 0x55, 0]) {
                return Array(bytes[description..<end])
            }
            position = description + (descriptionBytes + 3) / 4 * 4
        }
        return []
    }

    private static func integer<Value: FixedWidthInteger>(_ bytes: [UInt8], _ offset: Int, as type: Value.Type) -> Value
    {
        var value: Value = 0
        for index in (0..<MemoryLayout<Value>.size).reversed() { value = value << 8 | Value(bytes[offset + index]) }
        return value
    }
}

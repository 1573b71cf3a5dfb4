// Reads the primitive values of DWARF from bytes that may be anything: every read checks its bounds and throws.

/// Debug information that ends early, contradicts itself, or uses what this reader does not know.
struct DwarfError: Error {}

/// What may still be done with one file, so that parts which refer to one another do not cost more time and memory than the
/// size of the file explains.
///
/// A step is a unit, an entry, an attribute, an instruction of a line program, a range, a match or a byte of text. Sound files
/// need half as many steps as their sections have bytes when these are unpacked, or fewer, and some per address that is asked for.
final class DwarfBudget {
    /// What is left.
    private(set) var steps: Int
    /// Whether more was wanted than was left.
    private(set) var isExhausted = false

    /// What a small file may need for many addresses.
    private static let base = 4 << 20
    private static let stepsPerUnpackedByte = 4
    /// As many as `ElfSections.mostUnpackedPerByte` bytes need.
    private static let stepsPerFileByte = ElfSections.mostUnpackedPerByte / 2
    /// As many as `ElfSections.limitBytes` need.
    private static let most = ElfSections.limitBytes / 2

    init(steps: Int) { self.steps = steps }

    /// - Parameters:
    ///   - fileBytes: what the file takes on disk, its sections packed.
    ///   - unpackedBytes: what these take in memory.
    convenience init(fileBytes: Int, unpackedBytes: Int) {
        func bounded(_ perByte: Int, _ bytes: Int) -> Int { perByte * min(bytes, Self.most / perByte) }
        self.init(
            steps: Self.base
                + min(bounded(Self.stepsPerUnpackedByte, unpackedBytes), bounded(Self.stepsPerFileByte, fileBytes)))
    }

    func spend(_ count: Int = 1) throws(DwarfError) {
        guard count <= steps else {
            // For good: whoever goes on in spite of the error does not get far.
            steps = 0
            isExhausted = true
            throw DwarfError()
        }
        steps -= count
    }
}

/// A position in a section.
struct DwarfCursor {
    let bytes: [UInt8]
    private(set) var position: Int
    let end: Int

    /// - Parameter end: where reading must stop; the end of the section if nil.
    init(_ bytes: [UInt8], at position: Int = 0, end: Int? = nil) throws(DwarfError) {
        let end = end ?? bytes.count
        guard position >= 0, position <= end, end <= bytes.count else { throw DwarfError() }
        self.bytes = bytes
        self.position = position
        self.end = end
    }

    var isAtEnd: Bool { position >= end }

    mutating func skip(_ count: Int) throws(DwarfError) {
        guard count >= 0, count <= end - position else { throw DwarfError() }
        position += count
    }

    mutating func skip(_ count: UInt64) throws(DwarfError) { try skip(Int(clamping: count)) }

    /// A little-endian number of 1 to 8 bytes.
    mutating func number(_ byteCount: Int) throws(DwarfError) -> UInt64 {
        guard byteCount <= end - position else { throw DwarfError() }
        var value: UInt64 = 0
        for index in 0..<byteCount { value |= UInt64(bytes[position + index]) << UInt64(8 * index) }
        position += byteCount
        return value
    }

    mutating func byte() throws(DwarfError) -> UInt8 {
        guard position < end else { throw DwarfError() }
        defer { position += 1 }
        return bytes[position]
    }

    /// 64 bits take 10 bytes, and some writers fill numbers up to a fixed length; longer ones are damage.
    private static let numberLimitBytes = 16

    mutating func unsigned() throws(DwarfError) -> UInt64 {
        var value: UInt64 = 0
        for index in 0..<Self.numberLimitBytes {
            let byte = try byte()
            let shift = UInt64(7 * index)
            if shift < 64 { value |= UInt64(byte & 0x7F) << shift }
            if byte & 0x80 == 0 { return value }
        }
        throw DwarfError()
    }

    mutating func signed() throws(DwarfError) -> Int64 {
        var value: Int64 = 0
        for index in 0..<Self.numberLimitBytes {
            let byte = try byte()
            let shift = Int64(7 * index)
            if shift < 64 { value |= Int64(byte & 0x7F) << shift }
            if byte & 0x80 == 0 {
                if byte & 0x40 != 0, shift + 7 < 64 { value |= -1 << (shift + 7) }
                return value
            }
        }
        throw DwarfError()
    }

    /// Names of generic code have some kilobytes; a longer text is damage.
    private static let textLimitBytes = 64 * 1024

    /// Text up to a zero byte.
    mutating func text() throws(DwarfError) -> String {
        let start = position
        while try byte() != 0 { if position - start > Self.textLimitBytes { throw DwarfError() } }
        return String(decoding: bytes[start..<position - 1], as: UTF8.self)
    }

    /// Text up to a zero byte, of a file that may refer to it often.
    mutating func text(_ budget: DwarfBudget) throws(DwarfError) -> String {
        let start = position
        let text = try? text()
        // What cannot be used has been read all the same.
        try budget.spend(position - start)
        guard let text else { throw DwarfError() }
        return text
    }

    /// Steps over a text.
    mutating func skipText(_ budget: DwarfBudget) throws(DwarfError) {
        let start = position
        while position < end, bytes[position] != 0 { position += 1 }
        try budget.spend(position - start)
        _ = try byte()
    }
}

// Names functions by the symbol table of an ELF file.

/// The functions of an ELF file that has a symbol table.
struct ElfSymbols {
    private let table: [UInt8]
    private let names: [UInt8]

    /// The names of the sections it reads.
    static let sectionNames: Set<String> = [".symtab", ".strtab"]

    /// Bytes of one symbol.
    private static let stride = 24
    private static let functionType: UInt8 = 2
    /// Section numbers of symbols that lie in another file, and of those that lie nowhere.
    private static let undefined: UInt16 = 0
    private static let absolute: UInt16 = 0xFFF1
    /// How often a byte may be part of a name, on average.
    private static let mostOverlaps = 4

    /// Reads the symbol table. Nil if there is none, as in a stripped file.
    init?(_ sections: ElfSections) {
        guard let table = sections.bytes(of: ".symtab"), table.count >= Self.stride,
            let names = sections.bytes(of: ".strtab")
        else { return nil }
        self.table = table
        self.names = names
    }

    private struct Match {
        var value: UInt64
        var size: UInt64
        var name: Int
    }

    /// The linkage names of the functions that the addresses lie in, as the file states them, all in one pass.
    ///
    /// An address behind the end of a function is in no function, whatever stands before it.
    func functions(at addresses: Set<UInt64>) -> [UInt64: String] {
        let sorted = addresses.sorted()
        // By position in `sorted`, the last symbol that starts at the address or before it, but behind the address before.
        var nearest: [Int: Match] = [:]
        table.withUnsafeBytes { bytes in
            for start in Swift.stride(from: 0, through: bytes.count - Self.stride, by: Self.stride) {
                guard bytes[start + 4] & 0xF == Self.functionType else { continue }
                let section = UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: start + 6, as: UInt16.self))
                guard section != Self.undefined, section != Self.absolute else { continue }
                let match = Match(
                    value: UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: start + 8, as: UInt64.self)),
                    size: UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: start + 16, as: UInt64.self)),
                    name: Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: start, as: UInt32.self)))
                )
                let position = sorted.firstPosition { $0 >= match.value }
                guard position < sorted.count else { continue }
                if let known = nearest[position], (known.value, known.size) > (match.value, match.size) { continue }
                nearest[position] = match
            }
        }
        var result: [UInt64: String] = [:]
        var texts: [Int: String] = [:]
        // Names may end alike and so share bytes, but not without end.
        var restBytes = Self.mostOverlaps * names.count
        var last: Match?
        for (position, address) in sorted.enumerated() {
            last = nearest[position] ?? last
            // Assembly may have no sizes.
            guard let match = last, match.size == 0 || address - match.value < match.size else { continue }
            if texts[match.name] == nil, restBytes > 0, var cursor = try? DwarfCursor(names, at: match.name),
                let name = try? cursor.text(), !name.isEmpty
            {
                restBytes -= name.utf8.count
                texts[match.name] = name
            }
            result[address] = texts[match.name]
        }
        return result
    }
}

extension [UInt64] {
    /// In a sorted list the position of the first value that a condition holds for, which then holds for all behind it.
    func firstPosition(where isBehind: (UInt64) -> Bool) -> Int {
        var low = 0
        var high = count
        while low < high {
            let middle = (low + high) / 2
            if isBehind(self[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}

// The debug information of an ELF file: for many addresses at once, the functions inlined there and the source lines.
//
// The Runtime module can do this too, but it orders inlined functions by where their code starts, which is not always how they are nested,
// and so pairs functions with lines of others; and it runs all line programs again for every address.

internal import MempoolRecording

/// What debug information says about one address.
struct DwarfLocation {
    /// A function whose body was expanded into another one, and the place of the call that was expanded.
    struct InlinedCall {
        /// Linkage name, or the plain name if there is none.
        var name: String
        var call: DwarfPlace
    }

    /// The line of the innermost function.
    var place: DwarfPlace?
    /// Innermost first.
    var inlined: [InlinedCall] = []
}

/// An ELF file with debug information.
struct DwarfImage {
    private var sections = DwarfSections()
    private var units: [DwarfUnit] = []

    /// Larger sections are not read: a program of that kind needs another tool.
    private static let sectionLimitBytes = 1 << 30
    private static let sectionCountLimit = 4096

    /// Reads the sections. Nil if there is no debug information or it cannot be understood.
    init?(path: String) {
        guard let file = try? RecordingFile(path: path), let sections = Self.readSections(file) else { return nil }
        self.sections = sections
        guard (try? readUnits()) != nil, !units.isEmpty else { return nil }
    }

    // MARK: - Lookup

    /// An inlined call before its names are looked up.
    fileprivate struct Site {
        var depth: Int
        var origin: Int?
        var file: Int
        var line: Int
        var column: Int
    }

    /// Looks addresses up, as the file states them, all in one pass.
    func locations(of addresses: Set<UInt64>) -> [UInt64: DwarfLocation] {
        let sorted = addresses.sorted()
        var result: [UInt64: DwarfLocation] = [:]
        for unit in units {
            // A unit that cannot be read costs its own names only.
            guard let (sites, covered) = try? Self.sites(in: unit, sorted, sections), !covered.isEmpty else { continue }
            let lines = try? DwarfLines(of: unit, sections)
            try? lines?.forEachStretch(sections) { low, high, place in
                for index in Self.indices(of: sorted, low, high) where covered.contains(index) {
                    result[sorted[index], default: DwarfLocation()].place = place()
                }
            }
            for (index, chain) in sites {
                result[sorted[index], default: DwarfLocation()].inlined = chain.reversed().map { site in
                    DwarfLocation.InlinedCall(
                        name: site.origin.flatMap(name) ?? "",
                        call: DwarfPlace(file: lines?.files[site.file] ?? "", line: site.line, column: site.column)
                    )
                }
            }
        }
        return result
    }

    /// The positions in a sorted list of the values within [low, high).
    private static func indices(of sorted: [UInt64], _ low: UInt64, _ high: UInt64) -> Range<Int> {
        func position(_ value: UInt64) -> Int {
            var lower = 0
            var upper = sorted.count
            while lower < upper {
                let middle = (lower + upper) / 2
                if sorted[middle] < value { lower = middle + 1 } else { upper = middle }
            }
            return lower
        }
        let start = position(low)
        return start..<max(start, high > low ? position(high) : start)
    }

    /// Walks the entries of a unit. Gives for each address its inlined calls, outermost first, and the addresses that lie in its functions.
    private static func sites(
        in unit: DwarfUnit, _ sorted: [UInt64], _ sections: DwarfSections
    ) throws(DwarfError) -> (sites: [Int: [Site]], covered: Set<Int>) {
        var sites: [Int: [Site]] = [:]
        var covered: Set<Int> = []
        var cursor = try DwarfCursor(sections.info, at: unit.entries, end: unit.end)
        var depth = 0
        var isFirst = true
        while !cursor.isAtEnd {
            let code = try cursor.unsigned()
            guard code != 0 else {
                depth -= 1
                if depth <= 0 { break }
                continue
            }
            guard let abbreviation = unit.abbreviations[code] else { throw DwarfError() }
            if isFirst {
                isFirst = false
                // Most units have nothing to do with the question; their ranges say so at once.
                let attributes = try unit.attributes(abbreviation, at: &cursor)
                var hasRange = false
                var isConcerned = false
                try unit.forEachRange(of: attributes, sections) { low, high in
                    hasRange = true
                    if !indices(of: sorted, low, high).isEmpty { isConcerned = true }
                }
                if hasRange, !isConcerned { break }
            } else if abbreviation.tag == Dwarf.Tag.subprogram {
                let attributes = try unit.attributes(abbreviation, at: &cursor)
                try unit.forEachRange(of: attributes, sections) { low, high in
                    for index in indices(of: sorted, low, high) {
                        covered.insert(index)
                        sites[index] = nil
                    }
                }
            } else if abbreviation.tag == Dwarf.Tag.inlinedSubroutine {
                let attributes = try unit.attributes(abbreviation, at: &cursor)
                let site = Site(depth: depth, attributes)
                try unit.forEachRange(of: attributes, sections) { low, high in
                    for index in indices(of: sorted, low, high) where (sites[index]?.last?.depth ?? -1) < depth {
                        sites[index, default: []].append(site)
                    }
                }
            } else {
                try unit.skip(abbreviation, at: &cursor)
            }
            if abbreviation.hasChildren { depth += 1 }
        }
        return (sites, covered)
    }

    /// The linkage name of the entry at an offset, through its declarations.
    private func name(_ offset: Int) -> String? {
        var offset = offset
        var plain: String?
        // A definition refers to a declaration, hardly further.
        for _ in 0..<4 {
            guard let unit = units.last(where: { $0.start <= offset }), offset < unit.end,
                var cursor = try? DwarfCursor(sections.info, at: offset, end: unit.end),
                let code = try? cursor.unsigned(),
                let abbreviation = unit.abbreviations[code],
                let attributes = try? unit.attributes(abbreviation, at: &cursor)
            else { break }
            if let name = unit.text(attributes[Dwarf.Attribute.linkageName], sections) { return name }
            plain = plain ?? unit.text(attributes[Dwarf.Attribute.name], sections)
            guard
                case .reference(let next) = attributes[Dwarf.Attribute.specification]
                    ?? attributes[Dwarf.Attribute.abstractOrigin]
            else { break }
            offset = next
        }
        return plain
    }

    // MARK: - Reading

    private mutating func readUnits() throws(DwarfError) {
        var tables: [Int: [UInt64: DwarfAbbreviation]] = [:]
        var cursor = try DwarfCursor(sections.info)
        while !cursor.isAtEnd {
            let start = cursor.position
            let length = try cursor.number(4)
            // Larger values announce 64-bit DWARF.
            guard length < 0xFFFF_FFF0 else { throw DwarfError() }
            let end = cursor.position + Int(length)
            var inner = try DwarfCursor(sections.info, at: cursor.position, end: end)
            try cursor.skip(Int(length))
            let version = Int(try inner.number(2))
            guard (2...5).contains(version) else { continue }
            // Kind 1 is a whole unit; the others have types only, or lie in other files.
            if version >= 5, try inner.byte() != 1 { continue }
            var addressBytes: UInt8 = 8
            if version >= 5 { addressBytes = try inner.byte() }
            let table = Int(try inner.number(4))
            if version < 5 { addressBytes = try inner.byte() }
            guard addressBytes == 8 else { continue }
            if tables[table] == nil { tables[table] = try Self.readAbbreviations(sections.abbreviations, at: table) }
            var unit = DwarfUnit(
                start: start, entries: inner.position, end: end, version: version, abbreviations: tables[table] ?? [:]
            )
            try? Self.readUnitAttributes(&unit, sections)
            units.append(unit)
        }
    }

    private static func readUnitAttributes(_ unit: inout DwarfUnit, _ sections: DwarfSections) throws(DwarfError) {
        var cursor = try DwarfCursor(sections.info, at: unit.entries, end: unit.end)
        guard let abbreviation = unit.abbreviations[try cursor.unsigned()] else { throw DwarfError() }
        let attributes = try unit.attributes(abbreviation, at: &cursor)
        func offset(_ attribute: UInt64) -> UInt64? {
            switch attributes[attribute] {
            case .sectionOffset(let value), .constant(let value): value
            default: nil
            }
        }
        unit.stringOffsetsBase = offset(Dwarf.Attribute.stringOffsetsBase) ?? unit.stringOffsetsBase
        unit.addressBase = offset(Dwarf.Attribute.addressBase) ?? unit.addressBase
        unit.rangeListsBase = offset(Dwarf.Attribute.rangeListsBase) ?? unit.rangeListsBase
        unit.lineProgram = offset(Dwarf.Attribute.lineProgram).map { Int(clamping: $0) }
        unit.directory = unit.text(attributes[Dwarf.Attribute.directory], sections) ?? ""
        unit.lowAddress = try unit.address(attributes[Dwarf.Attribute.lowAddress], sections) ?? 0
    }

    private static func readAbbreviations(_ bytes: [UInt8], at offset: Int) throws(DwarfError) -> [UInt64:
        DwarfAbbreviation]
    {
        var table: [UInt64: DwarfAbbreviation] = [:]
        var cursor = try DwarfCursor(bytes, at: offset)
        while true {
            let code = try cursor.unsigned()
            if code == 0 { return table }
            var abbreviation = DwarfAbbreviation(
                tag: try cursor.unsigned(), hasChildren: try cursor.byte() != 0, attributes: []
            )
            while true {
                let attribute = try cursor.unsigned()
                let form = try cursor.unsigned()
                if attribute == 0, form == 0 { break }
                // Form 0x21 keeps its value here.
                abbreviation.attributes.append((attribute, form, form == 0x21 ? try cursor.signed() : 0))
            }
            table[code] = abbreviation
        }
    }

    private static func readSections(_ file: RecordingFile) -> DwarfSections? {
        let header = file.records(of: UInt8.self, count: 64, at: 0)
        guard header.count == 64, header.starts(with: [0x7F, 0x45, 0x4C, 0x46, 2, 1]) else { return nil }
        func number(_ bytes: [UInt8], _ offset: Int, _ count: Int) -> Int {
            var value: UInt64 = 0
            for index in 0..<count { value |= UInt64(bytes[offset + index]) << UInt64(8 * index) }
            return Int(clamping: value)
        }
        let tableOffset = number(header, 40, 8)
        let count = min(number(header, 60, 2), sectionCountLimit)
        guard number(header, 58, 2) == 64, tableOffset < file.sizeBytes else { return nil }
        let table = file.records(of: UInt8.self, count: count * 64, at: tableOffset)
        guard table.count == count * 64 else { return nil }
        func content(_ index: Int) -> [UInt8]? {
            let entry = Array(table[index * 64..<(index + 1) * 64])
            let size = number(entry, 32, 8)
            // Type 8 has no bytes in the file; flag 0x800 is compression.
            guard number(entry, 4, 4) != 8, number(entry, 8, 8) & 0x800 == 0, size <= sectionLimitBytes else {
                return nil
            }
            let bytes = file.records(of: UInt8.self, count: min(size, file.sizeBytes), at: number(entry, 24, 8))
            return bytes.count == size ? bytes : nil
        }
        let nameIndex = number(header, 62, 2)
        guard nameIndex < count, let names = content(nameIndex) else { return nil }
        var sections = DwarfSections()
        let wanted: [String: WritableKeyPath<DwarfSections, [UInt8]>] = [
            ".debug_info": \.info, ".debug_abbrev": \.abbreviations, ".debug_str": \.strings,
            ".debug_line_str": \.lineStrings, ".debug_str_offsets": \.stringOffsets, ".debug_addr": \.addresses,
            ".debug_ranges": \.ranges, ".debug_rnglists": \.rangeLists, ".debug_line": \.lines,
        ]
        for index in 0..<count {
            let offset = number(table, index * 64, 4)
            guard offset < names.count, var cursor = try? DwarfCursor(names, at: offset), let name = try? cursor.text(),
                let path = wanted[name], let bytes = content(index)
            else { continue }
            sections[keyPath: path] = bytes
        }
        return sections.info.isEmpty ? nil : sections
    }
}

extension DwarfImage.Site {
    fileprivate init(depth: Int, _ attributes: DwarfUnit.Attributes) {
        func constant(_ attribute: UInt64) -> Int {
            if case .constant(let value) = attributes[attribute] { Int(clamping: value) } else { 0 }
        }
        self.depth = depth
        if case .reference(let offset) = attributes[Dwarf.Attribute.abstractOrigin] {
            origin = offset
        } else {
            origin = nil
        }
        file = constant(Dwarf.Attribute.callFile)
        line = constant(Dwarf.Attribute.callLine)
        column = constant(Dwarf.Attribute.callColumn)
    }
}

// The debug information of an ELF file: for many addresses at once, the functions inlined there and the source lines.
//
// The toolchain's Runtime module can do this too, but it orders inlined functions by where their code starts, which is not always how they
// are nested, and so pairs functions with lines of others; it runs all line programs again for every address; and a damaged file
// ends the process.

internal import MempoolRecording

/// What debug information says about one address.
struct DwarfLocation {
    /// A function whose body was expanded into another one, and the place of the call that was expanded.
    struct InlinedCall {
        /// Linkage name, or the plain name if there is none.
        var name: String
        var call: DwarfPlace
        /// As `DwarfLocation.declaredIn`.
        var declaredIn: String?
    }

    /// The line of the innermost function.
    var place: DwarfPlace?
    /// The file that declares the function in memory; nil if nobody wrote it, or it is not known.
    var declaredIn: String?
    /// Innermost first.
    var inlined: [InlinedCall] = []
}

/// An ELF file with debug information.
struct DwarfImage {
    private var sections = DwarfSections()
    /// In the order of their offsets.
    private(set) var units: [DwarfUnit] = []

    /// Attributes that any compiler writes of one entry are below 30.
    private static let attributeLimit = 256
    /// Bytes of abbreviations that are parsed; each takes some tens of bytes then. Large programs have some megabytes.
    private static let abbreviationLimitBytes = 32 << 20
    /// What a small file may have of them, that unpacks to more than itself.
    private static let leastAbbreviationLimitBytes = 1 << 20
    /// Units that are read; the rest has no lines. A browser has some tens of thousands; 11 bytes can be a unit, which takes
    /// ten times as much in memory.
    static let unitLimit = 1 << 17
    /// Calls inlined into each other deeper than this are damage.
    private static let inlineLimit = 256

    /// Reads the sections. Nil if there is no debug information or it cannot be understood.
    ///
    /// - Parameter budget: what may be done with the file; if nil, what its size explains.
    init?(_ file: RecordingFile, budget: DwarfBudget? = nil) {
        var isExhausted = false
        self.init(file, budget: budget, isExhausted: &isExhausted)
    }

    /// - Parameter isExhausted: becomes true if there is nothing because the budget did not suffice.
    init?(_ file: RecordingFile, budget: DwarfBudget? = nil, isExhausted: inout Bool) {
        let names: [String: WritableKeyPath<DwarfSections, [UInt8]>] = [
            ".debug_info": \.info, ".debug_abbrev": \.abbreviations, ".debug_str": \.strings,
            ".debug_line_str": \.lineStrings, ".debug_str_offsets": \.stringOffsets, ".debug_addr": \.addresses,
            ".debug_ranges": \.ranges, ".debug_rnglists": \.rangeLists, ".debug_line": \.lines,
        ]
        guard let found = ElfSections(file, of: Set(names.keys)) else { return nil }
        for (name, section) in names { sections[keyPath: section] = found.bytes(of: name) ?? [] }
        guard !sections.info.isEmpty else { return nil }
        let unpackedBytes = names.values.reduce(0) { $0 + sections[keyPath: $1].count }
        sections.budget = budget ?? DwarfBudget(fileBytes: file.sizeBytes, unpackedBytes: unpackedBytes)
        guard (try? readUnits(fileBytes: file.sizeBytes)) != nil, !units.isEmpty else {
            isExhausted = sections.budget.isExhausted
            return nil
        }
    }

    /// What may still be done with the file.
    var budget: DwarfBudget { sections.budget }

    // MARK: - Lookup

    /// An inlined call before its names are looked up.
    fileprivate struct Site {
        var depth: Int
        var origin: Int?
        var file: Int
        var line: Int
        var column: Int
    }

    /// What the entries of a function say of it.
    private struct Function {
        var name: String
        /// Number of the declaring file in the table of the unit that starts at `unit`; nil if nobody wrote the function.
        var declaration: (file: Int, unit: Int)?
    }

    /// Looks addresses up, as the file states them, all in one pass.
    func locations(of addresses: Set<UInt64>) -> [UInt64: DwarfLocation] {
        let sorted = addresses.sorted()
        var result: [UInt64: DwarfLocation] = [:]
        var functions: [Int: Function] = [:]
        for unit in units {
            // A unit that cannot be read costs its own names only.
            guard let (sites, covered) = try? Self.sites(in: unit, sorted, sections), !covered.isEmpty else { continue }
            let lines = try? DwarfLines(of: unit, sections)
            func function(_ offset: Int?) -> Function? {
                guard let offset else { return nil }
                if functions[offset] == nil { functions[offset] = self.function(offset) }
                return functions[offset]
            }
            func declaringFile(_ function: Function?) -> String? {
                // Files have other numbers in other units.
                guard let declaration = function?.declaration, declaration.unit == unit.start else { return nil }
                return lines?.files[declaration.file]
            }
            for (index, entry) in covered {
                result[sorted[index], default: DwarfLocation()].declaredIn = declaringFile(function(entry))
            }
            try? lines?.forEachStretch(sections) { (low, high, place) throws(DwarfError) in
                let indices = Self.indices(of: sorted, low, high)
                try sections.budget.spend(indices.count)
                for index in indices where covered[index] != nil {
                    result[sorted[index], default: DwarfLocation()].place = place()
                }
            }
            for (index, chain) in sites {
                result[sorted[index], default: DwarfLocation()].inlined = chain.reversed().map { site in
                    let origin = function(site.origin)
                    return DwarfLocation.InlinedCall(
                        name: origin?.name ?? "",
                        call: DwarfPlace(file: lines?.files[site.file] ?? "", line: site.line, column: site.column),
                        declaredIn: declaringFile(origin)
                    )
                }
            }
        }
        return result
    }

    /// The positions in a sorted list of the values within [low, high).
    private static func indices(of sorted: [UInt64], _ low: UInt64, _ high: UInt64) -> Range<Int> {
        let start = sorted.firstPosition { $0 >= low }
        return start..<max(start, high > low ? sorted.firstPosition { $0 >= high } : start)
    }

    /// Walks the entries of a unit. Gives for each address its inlined calls, outermost first, and for those that lie in its functions
    /// the offset of the function's entry.
    private static func sites(
        in unit: DwarfUnit, _ sorted: [UInt64], _ sections: DwarfSections
    ) throws(DwarfError) -> (sites: [Int: [Site]], covered: [Int: Int]) {
        var sites: [Int: [Site]] = [:]
        var covered: [Int: Int] = [:]
        var cursor = try DwarfCursor(sections.info, at: unit.entries, end: unit.end)
        var depth = 0
        var isFirst = true
        while !cursor.isAtEnd {
            try sections.budget.spend()
            let offset = cursor.position
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
                let attributes = try unit.attributes(abbreviation, at: &cursor, sections.budget)
                var hasRange = false
                var isConcerned = false
                try unit.forEachRange(of: attributes, sections) { low, high in
                    hasRange = true
                    if !indices(of: sorted, low, high).isEmpty { isConcerned = true }
                }
                if hasRange, !isConcerned { break }
            } else if abbreviation.tag == Dwarf.Tag.subprogram {
                let attributes = try unit.attributes(abbreviation, at: &cursor, sections.budget)
                try unit.forEachRange(of: attributes, sections) { (low, high) throws(DwarfError) in
                    let indices = indices(of: sorted, low, high)
                    try sections.budget.spend(indices.count)
                    for index in indices {
                        covered[index] = offset
                        sites[index] = nil
                    }
                }
            } else if abbreviation.tag == Dwarf.Tag.inlinedSubroutine {
                let attributes = try unit.attributes(abbreviation, at: &cursor, sections.budget)
                let site = Site(depth: depth, attributes)
                try unit.forEachRange(of: attributes, sections) { (low, high) throws(DwarfError) in
                    let indices = indices(of: sorted, low, high)
                    try sections.budget.spend(indices.count)
                    for index in indices where (sites[index]?.last?.depth ?? -1) < depth {
                        guard sites[index, default: []].count < inlineLimit else { throw DwarfError() }
                        sites[index, default: []].append(site)
                    }
                }
            } else {
                try unit.skip(abbreviation, at: &cursor, sections.budget)
            }
            if abbreviation.hasChildren { depth += 1 }
        }
        return (sites, covered)
    }

    /// The linkage name of the entry at an offset, and the file that declares it, through its declarations.
    private func function(_ offset: Int) -> Function {
        var offset = offset
        var linkageName: String?
        var plain: String?
        var declaration: (file: Int, unit: Int)?
        var isArtificial = false
        // A definition refers to a declaration, hardly further.
        for _ in 0..<4 {
            guard let unit = unit(before: offset), offset < unit.end, (try? sections.budget.spend()) != nil,
                var cursor = try? DwarfCursor(sections.info, at: offset, end: unit.end),
                let code = try? cursor.unsigned(),
                let abbreviation = unit.abbreviations[code],
                let attributes = try? unit.attributes(abbreviation, at: &cursor, sections.budget)
            else { break }
            linkageName = linkageName ?? unit.text(attributes[.linkageName], sections)
            plain = plain ?? unit.text(attributes[.name], sections)
            isArtificial = isArtificial || attributes[.artificial] != nil
            if declaration == nil, case .constant(let file) = attributes[.declarationFile] {
                declaration = (Int(clamping: file), unit.start)
            }
            guard
                case .reference(let next) = attributes[.specification]
                    ?? attributes[.abstractOrigin]
            else { break }
            offset = next
        }
        return Function(name: linkageName ?? plain ?? "", declaration: isArtificial ? nil : declaration)
    }

    /// The last unit that starts at an offset or before it.
    private func unit(before offset: Int) -> DwarfUnit? {
        var low = 0
        var high = units.count
        while low < high {
            let middle = (low + high) / 2
            if units[middle].start <= offset { low = middle + 1 } else { high = middle }
        }
        return low > 0 ? units[low - 1] : nil
    }

    // MARK: - Reading

    private mutating func readUnits(fileBytes: Int) throws(DwarfError) {
        var tables: [Int: [UInt64: DwarfAbbreviation]] = [:]
        // Tables do not overlap.
        var restBytes = min(
            sections.abbreviations.count, Self.abbreviationLimitBytes, max(fileBytes, Self.leastAbbreviationLimitBytes))
        var cursor = try DwarfCursor(sections.info)
        while !cursor.isAtEnd, units.count < Self.unitLimit {
            try sections.budget.spend()
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
            if tables[table] == nil {
                tables[table] = try Self.readAbbreviations(sections.abbreviations, at: table, &restBytes)
            }
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
        let attributes = try unit.attributes(abbreviation, at: &cursor, sections.budget)
        func offset(_ attribute: Dwarf.Attribute) -> UInt64? {
            switch attributes[attribute] {
            case .sectionOffset(let value), .constant(let value): value
            default: nil
            }
        }
        unit.stringOffsetsBase = offset(.stringOffsetsBase) ?? unit.stringOffsetsBase
        unit.addressBase = offset(.addressBase) ?? unit.addressBase
        unit.rangeListsBase = offset(.rangeListsBase) ?? unit.rangeListsBase
        unit.lineProgram = offset(.lineProgram).map { Int(clamping: $0) }
        unit.directory = attributes[.directory]
        unit.lowAddress = try unit.address(attributes[.lowAddress], sections) ?? 0
    }

    /// - Parameter restBytes: how much may be read at most; what was read is subtracted.
    private static func readAbbreviations(
        _ bytes: [UInt8], at offset: Int, _ restBytes: inout Int
    ) throws(DwarfError) -> [UInt64: DwarfAbbreviation] {
        var table: [UInt64: DwarfAbbreviation] = [:]
        guard offset <= bytes.count else { throw DwarfError() }
        var cursor = try DwarfCursor(bytes, at: offset, end: min(bytes.count, offset + restBytes))
        defer { restBytes -= cursor.position - offset }
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
                guard abbreviation.attributes.count < attributeLimit else { throw DwarfError() }
                // Form 0x21 keeps its value here.
                let constant = form == 0x21 ? try cursor.signed() : 0
                // A form beyond 16 bits is unknown, as the largest is.
                abbreviation.attributes.append((Dwarf.Attribute(rawValue: attribute), UInt16(clamping: form), constant))
            }
            table[code] = abbreviation
        }
    }
}

extension DwarfImage.Site {
    fileprivate init(depth: Int, _ attributes: DwarfUnit.Attributes) {
        func constant(_ attribute: Dwarf.Attribute) -> Int {
            if case .constant(let value) = attributes[attribute] { Int(clamping: value) } else { 0 }
        }
        self.depth = depth
        if case .reference(let offset) = attributes[.abstractOrigin] {
            origin = offset
        } else {
            origin = nil
        }
        file = constant(.callFile)
        line = constant(.callLine)
        column = constant(.callColumn)
    }
}

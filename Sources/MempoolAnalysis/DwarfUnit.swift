// One compilation unit of an ELF file's debug information: its header, its abbreviations, and the values of attributes.

/// The sections of debug information that naming needs; those a file lacks are empty.
struct DwarfSections {
    var info: [UInt8] = []
    var abbreviations: [UInt8] = []
    var strings: [UInt8] = []
    var lineStrings: [UInt8] = []
    var stringOffsets: [UInt8] = []
    var addresses: [UInt8] = []
    var ranges: [UInt8] = []
    var rangeLists: [UInt8] = []
    var lines: [UInt8] = []
    var budget = DwarfBudget(steps: 0)
}

/// Numbers from the DWARF standard, versions 4 and 5, as far as they are used.
enum Dwarf {
    enum Tag {
        static let inlinedSubroutine: UInt64 = 0x1D
        static let subprogram: UInt64 = 0x2E
    }

    enum Attribute: UInt64 {
        case name = 0x03
        case lineProgram = 0x10
        case lowAddress = 0x11
        case highAddress = 0x12
        case directory = 0x1B
        case abstractOrigin = 0x31
        case artificial = 0x34
        case declarationFile = 0x3A
        case specification = 0x47
        case ranges = 0x55
        case callColumn = 0x57
        case callFile = 0x58
        case callLine = 0x59
        case linkageName = 0x6E
        case stringOffsetsBase = 0x72
        case addressBase = 0x73
        case rangeListsBase = 0x74
    }
}

/// The value of an attribute, as far as it is used.
enum DwarfValue {
    case address(UInt64)
    /// Index into the section of addresses.
    case addressIndex(UInt64)
    case constant(UInt64)
    /// Offset in the information section.
    case reference(Int)
    case sectionOffset(UInt64)
    /// Index into the table of range lists.
    case rangeListIndex(UInt64)
    case inlineText(Int)
    case stringOffset(UInt64)
    case lineStringOffset(UInt64)
    case stringIndex(UInt64)
    case other
}

/// How the entries of one code are laid out.
struct DwarfAbbreviation {
    var tag: UInt64
    var hasChildren: Bool
    /// Attribute, nil if it is not used; form; and the value of an implicit constant. Small, as hostile files have many.
    var attributes: [(attribute: Dwarf.Attribute?, form: UInt16, constant: Int64)]
}

/// A compilation unit.
struct DwarfUnit {
    /// Offsets in the information section.
    var start: Int
    var entries: Int
    var end: Int
    var version: Int
    var abbreviations: [UInt64: DwarfAbbreviation]
    /// From the attributes of the unit itself.
    var lowAddress: UInt64 = 0
    var directory: DwarfValue?
    var lineProgram: Int?
    var stringOffsetsBase: UInt64 = 8
    var addressBase: UInt64 = 8
    var rangeListsBase: UInt64 = 12

    /// The attributes that are used of one entry.
    typealias Attributes = [Dwarf.Attribute: DwarfValue]

    /// Reads the attributes of the entry of an abbreviation at the cursor.
    func attributes(
        _ abbreviation: DwarfAbbreviation, at cursor: inout DwarfCursor, _ budget: DwarfBudget
    ) throws(DwarfError) -> Attributes {
        // Some forms take no bytes, so what an entry costs does not follow from its size.
        try budget.spend(abbreviation.attributes.count)
        var result: Attributes = [:]
        for (attribute, form, constant) in abbreviation.attributes {
            let value = try value(form: UInt64(form), constant: constant, at: &cursor, budget)
            if let attribute { result[attribute] = value }
        }
        return result
    }

    /// Steps over the attributes of an entry.
    func skip(
        _ abbreviation: DwarfAbbreviation, at cursor: inout DwarfCursor, _ budget: DwarfBudget
    ) throws(DwarfError) {
        try budget.spend(abbreviation.attributes.count)
        for (_, form, constant) in abbreviation.attributes {
            _ = try value(form: UInt64(form), constant: constant, at: &cursor, budget)
        }
    }

    /// Reads a value of one of the forms of DWARF 4 and 5.
    func value(
        form: UInt64, constant: Int64, at cursor: inout DwarfCursor, _ budget: DwarfBudget
    ) throws(DwarfError) -> DwarfValue {
        switch form {
        case 0x01: return .address(try cursor.number(8))
        case 0x03: try cursor.skip(try cursor.number(2))
        case 0x04: try cursor.skip(try cursor.number(4))
        case 0x05: return .constant(try cursor.number(2))
        case 0x06: return .constant(try cursor.number(4))
        case 0x07: return .constant(try cursor.number(8))
        case 0x08:
            let position = cursor.position
            try cursor.skipText(budget)
            return .inlineText(position)
        case 0x09, 0x18: try cursor.skip(try cursor.unsigned())
        case 0x0A: try cursor.skip(try cursor.number(1))
        case 0x0B: return .constant(try cursor.number(1))
        case 0x0C: _ = try cursor.byte()
        case 0x0D: return .constant(UInt64(bitPattern: try cursor.signed()))
        case 0x0E: return .stringOffset(try cursor.number(4))
        case 0x0F: return .constant(try cursor.unsigned())
        case 0x10: return .reference(Int(clamping: try cursor.number(4)))
        case 0x11: return .reference(start + Int(try cursor.number(1)))
        case 0x12: return .reference(start + Int(try cursor.number(2)))
        case 0x13: return .reference(start + Int(try cursor.number(4)))
        case 0x14, 0x15:
            let offset = form == 0x14 ? try cursor.number(8) : try cursor.unsigned()
            guard offset <= UInt64(end - start) else { throw DwarfError() }
            return .reference(start + Int(offset))
        case 0x16:
            let inner = try cursor.unsigned()
            // Indirection to itself would never end.
            guard inner != 0x16 else { throw DwarfError() }
            return try value(form: inner, constant: 0, at: &cursor, budget)
        case 0x17: return .sectionOffset(try cursor.number(4))
        case 0x19: break
        case 0x1A: return .stringIndex(try cursor.unsigned())
        case 0x1B: return .addressIndex(try cursor.unsigned())
        case 0x1C, 0x1D: try cursor.skip(4)
        case 0x1E: try cursor.skip(16)
        case 0x1F: return .lineStringOffset(try cursor.number(4))
        case 0x20, 0x24: try cursor.skip(8)
        case 0x21: return .constant(UInt64(bitPattern: constant))
        case 0x22: _ = try cursor.unsigned()
        case 0x23: return .rangeListIndex(try cursor.unsigned())
        case 0x25...0x28: return .stringIndex(try cursor.number(Int(form - 0x24)))
        case 0x29...0x2C: return .addressIndex(try cursor.number(Int(form - 0x28)))
        default: throw DwarfError()
        }
        return .other
    }

    // MARK: - Values that live in other sections

    func text(_ value: DwarfValue?, _ sections: DwarfSections) -> String? {
        do throws(DwarfError) {
            func text(in section: [UInt8], at offset: UInt64) throws(DwarfError) -> String {
                var cursor = try DwarfCursor(section, at: Int(clamping: offset))
                return try cursor.text(sections.budget)
            }
            switch value {
            case .inlineText(let position): return try text(in: sections.info, at: UInt64(clamping: position))
            case .stringOffset(let offset): return try text(in: sections.strings, at: offset)
            case .lineStringOffset(let offset): return try text(in: sections.lineStrings, at: offset)
            case .stringIndex(let index):
                let (place, overflow) = index.multipliedReportingOverflow(by: 4)
                guard !overflow else { return nil }
                var cursor = try DwarfCursor(sections.stringOffsets, at: Int(clamping: place &+ stringOffsetsBase))
                return try text(in: sections.strings, at: try cursor.number(4))
            default: return nil
            }
        } catch { return nil }
    }

    func address(_ value: DwarfValue?, _ sections: DwarfSections) throws(DwarfError) -> UInt64? {
        switch value {
        case .address(let address): return address
        case .addressIndex(let index):
            let (place, overflow) = index.multipliedReportingOverflow(by: 8)
            guard !overflow else { throw DwarfError() }
            var cursor = try DwarfCursor(sections.addresses, at: Int(clamping: place &+ addressBase))
            return try cursor.number(8)
        default: return nil
        }
    }

    /// Calls `body` with every range [low, high) of an entry.
    func forEachRange(
        of attributes: Attributes, _ sections: DwarfSections, _ body: (UInt64, UInt64) throws(DwarfError) -> Void
    ) throws(DwarfError) {
        if let value = attributes[.ranges] {
            return try version < 5
                ? forEachOldRange(value, sections, body) : forEachListedRange(value, sections, body)
        }
        guard let low = try address(attributes[.lowAddress], sections) else { return }
        let high: UInt64
        switch attributes[.highAddress] {
        case .constant(let size): high = low &+ size
        case let value: high = try address(value, sections) ?? low
        }
        try body(low, high)
    }

    private func forEachOldRange(
        _ value: DwarfValue, _ sections: DwarfSections, _ body: (UInt64, UInt64) throws(DwarfError) -> Void
    ) throws(DwarfError) {
        guard case .sectionOffset(let offset) = value else { return }
        var cursor = try DwarfCursor(sections.ranges, at: Int(clamping: offset))
        var base = lowAddress
        while true {
            try sections.budget.spend()
            let low = try cursor.number(8)
            let high = try cursor.number(8)
            if low == .max {
                base = high
            } else if low == 0, high == 0 {
                return
            } else {
                try body(base &+ low, base &+ high)
            }
        }
    }

    private func forEachListedRange(
        _ value: DwarfValue, _ sections: DwarfSections, _ body: (UInt64, UInt64) throws(DwarfError) -> Void
    ) throws(DwarfError) {
        var offset: UInt64
        switch value {
        case .sectionOffset(let direct): offset = direct
        case .rangeListIndex(let index):
            let (place, overflow) = index.multipliedReportingOverflow(by: 4)
            guard !overflow else { throw DwarfError() }
            var table = try DwarfCursor(sections.rangeLists, at: Int(clamping: place &+ rangeListsBase))
            offset = rangeListsBase &+ (try table.number(4))
        default: return
        }
        var cursor = try DwarfCursor(sections.rangeLists, at: Int(clamping: offset))
        var base = lowAddress
        func indexed(_ index: UInt64) throws(DwarfError) -> UInt64 { try address(.addressIndex(index), sections) ?? 0 }
        while true {
            try sections.budget.spend()
            switch try cursor.byte() {
            case 0: return
            case 1: base = try indexed(try cursor.unsigned())
            case 2:
                let low = try indexed(try cursor.unsigned())
                try body(low, try indexed(try cursor.unsigned()))
            case 3:
                let low = try indexed(try cursor.unsigned())
                try body(low, low &+ (try cursor.unsigned()))
            case 4:
                let low = base &+ (try cursor.unsigned())
                try body(low, base &+ (try cursor.unsigned()))
            case 5: base = try cursor.number(8)
            case 6:
                let low = try cursor.number(8)
                try body(low, try cursor.number(8))
            case 7:
                let low = try cursor.number(8)
                try body(low, low &+ (try cursor.unsigned()))
            default: throw DwarfError()
            }
        }
    }
}

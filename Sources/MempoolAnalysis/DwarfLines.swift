// The line program of a compilation unit: its files, and which line an address belongs to.

/// A place in a source file as debug information states it; line 0 says that nobody wrote the code.
struct DwarfPlace: Equatable {
    var file: String
    var line: Int
    var column: Int
}

/// The line table of one unit.
struct DwarfLines {
    /// Full paths, by the numbers that the unit uses.
    private(set) var files: [Int: String] = [:]
    private var program: (start: Int, end: Int)
    private var minimumInstructionBytes: UInt64
    private var lineBase: Int64
    private var lineRange: UInt64
    private var opcodeBase: UInt8
    private var operandCounts: [UInt8]

    /// Reads the header of the line program.
    init(of unit: DwarfUnit, _ sections: DwarfSections) throws(DwarfError) {
        guard let offset = unit.lineProgram else { throw DwarfError() }
        var cursor = try DwarfCursor(sections.lines, at: offset)
        let length = try cursor.number(4)
        // Larger values announce 64-bit DWARF, which no toolchain here writes.
        guard length < 0xFFFF_FFF0 else { throw DwarfError() }
        let end = cursor.position + Int(length)
        cursor = try DwarfCursor(sections.lines, at: cursor.position, end: end)
        let version = try cursor.number(2)
        guard (2...5).contains(version) else { throw DwarfError() }
        if version >= 5 { try cursor.skip(2) }
        let headerBytes = try cursor.number(4)
        let start = cursor.position + Int(headerBytes)
        guard start <= end else { throw DwarfError() }
        minimumInstructionBytes = try cursor.number(1)
        if version >= 4 { _ = try cursor.byte() }
        _ = try cursor.byte()
        lineBase = Int64(Int8(bitPattern: try cursor.byte()))
        lineRange = try cursor.number(1)
        opcodeBase = try cursor.byte()
        guard lineRange > 0, opcodeBase > 0 else { throw DwarfError() }
        operandCounts = []
        for _ in 1..<opcodeBase { operandCounts.append(try cursor.byte()) }
        program = (start, end)
        if version >= 5 {
            try readFiles(at: &cursor, unit, sections)
        } else {
            try readOldFiles(at: &cursor, unit)
        }
    }

    private static func join(_ directory: String, _ name: String) -> String {
        if name.hasPrefix("/") || directory.isEmpty { return name }
        return directory.hasSuffix("/") ? directory + name : directory + "/" + name
    }

    private mutating func readOldFiles(at cursor: inout DwarfCursor, _ unit: DwarfUnit) throws(DwarfError) {
        var directories = [unit.directory]
        while true {
            let directory = try cursor.text()
            if directory.isEmpty { break }
            directories.append(Self.join(unit.directory, directory))
        }
        while true {
            let name = try cursor.text()
            if name.isEmpty { return }
            let directory = Int(clamping: try cursor.unsigned())
            _ = try cursor.unsigned()
            _ = try cursor.unsigned()
            // Numbers start at 1.
            files[files.count + 1] = Self.join(directory < directories.count ? directories[directory] : "", name)
        }
    }

    private mutating func readFiles(
        at cursor: inout DwarfCursor, _ unit: DwarfUnit, _ sections: DwarfSections
    ) throws(DwarfError) {
        let directories = try readEntries(at: &cursor, unit, sections).map { Self.join(unit.directory, $0.path) }
        for (number, entry) in try readEntries(at: &cursor, unit, sections).enumerated() {
            let directory = entry.directory < directories.count ? directories[entry.directory] : ""
            files[number] = Self.join(directory, entry.path)
        }
    }

    /// A table of paths as version 5 has it: a description of the columns, then rows.
    private func readEntries(
        at cursor: inout DwarfCursor, _ unit: DwarfUnit, _ sections: DwarfSections
    ) throws(DwarfError) -> [(path: String, directory: Int)] {
        var columns: [(type: UInt64, form: UInt64)] = []
        for _ in 0..<(try cursor.byte()) { columns.append((try cursor.unsigned(), try cursor.unsigned())) }
        let count = try cursor.unsigned()
        // Each row takes a byte at least, so a larger count is damage.
        guard columns.isEmpty ? count == 0 : count <= UInt64(cursor.end - cursor.position) else { throw DwarfError() }
        var rows: [(path: String, directory: Int)] = []
        for _ in 0..<count {
            var row = (path: "", directory: 0)
            for column in columns {
                if column.form == 0x08 {
                    let text = try cursor.text()
                    if column.type == 1 { row.path = text }
                    continue
                }
                let value = try unit.value(form: column.form, constant: 0, at: &cursor)
                switch (column.type, value) {
                case (1, _): row.path = unit.text(value, sections) ?? ""
                case (2, .constant(let number)): row.directory = Int(clamping: number)
                default: break
                }
            }
            rows.append(row)
        }
        return rows
    }

    // MARK: - Execution

    private struct State {
        var address: UInt64 = 0
        var file = 1
        var line: Int64 = 1
        var column = 0
        var isEnd = false
    }

    /// Runs the program and calls `body` with each stretch of addresses [low, high) and its place.
    func forEachStretch(_ sections: DwarfSections, _ body: (UInt64, UInt64, () -> DwarfPlace) -> Void)
        throws(DwarfError)
    {
        var cursor = try DwarfCursor(sections.lines, at: program.start, end: program.end)
        var state = State()
        var previous: State?
        func emit() {
            if let previous, previous.address < state.address {
                body(previous.address, state.address) {
                    DwarfPlace(
                        file: files[previous.file] ?? "", line: Int(clamping: previous.line), column: previous.column
                    )
                }
            }
            previous = state.isEnd ? nil : state
        }
        while !cursor.isAtEnd {
            let opcode = try cursor.byte()
            if opcode >= opcodeBase {
                let adjusted = UInt64(opcode - opcodeBase)
                state.address &+= adjusted / lineRange &* minimumInstructionBytes
                state.line &+= lineBase &+ Int64(adjusted % lineRange)
                emit()
                continue
            }
            switch opcode {
            case 0:
                let length = Int(clamping: try cursor.unsigned())
                guard length > 0, length <= cursor.end - cursor.position else { throw DwarfError() }
                let next = cursor.position + length
                switch try cursor.byte() {
                case 1:
                    state.isEnd = true
                    emit()
                    state = State()
                case 2: state.address = try cursor.number(min(8, length - 1))
                default: break
                }
                cursor = try DwarfCursor(sections.lines, at: next, end: program.end)
            case 1: emit()
            case 2: state.address &+= (try cursor.unsigned()) &* minimumInstructionBytes
            case 3: state.line &+= try cursor.signed()
            case 4: state.file = Int(clamping: try cursor.unsigned())
            case 5: state.column = Int(clamping: try cursor.unsigned())
            case 6, 7, 10, 11: break
            case 8: state.address &+= UInt64(255 - opcodeBase) / lineRange &* minimumInstructionBytes
            case 9: state.address &+= try cursor.number(2)
            case 12: _ = try cursor.unsigned()
            default:
                for _ in 0..<operandCounts[Int(opcode) - 1] { _ = try cursor.unsigned() }
            }
        }
    }
}

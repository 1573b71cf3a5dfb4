// The line program of a compilation unit: its files, and which line an address belongs to.

internal import MempoolRecording

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

    /// Units have some hundreds of files.
    private static let fileLimit = 65_536

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
        try sections.budget.spend(Int(opcodeBase))
        for _ in 1..<opcodeBase { operandCounts.append(try cursor.byte()) }
        program = (start, end)
        if version >= 5 {
            try readFiles(at: &cursor, unit, sections)
        } else {
            try readOldFiles(at: &cursor, unit, sections)
        }
    }

    /// The path of a file in a directory; empty if it is longer than any path can be.
    private static func join(_ directory: String, _ name: String, _ sections: DwarfSections) throws(DwarfError)
        -> String
    {
        var path = name
        if !name.hasPrefix("/"), !directory.isEmpty {
            path = directory.hasSuffix("/") ? directory + name : directory + "/" + name
        }
        try sections.budget.spend(path.utf8.count)
        return path.utf8.count <= RecordingLimits.pathBytes ? path : ""
    }

    private mutating func readOldFiles(
        at cursor: inout DwarfCursor, _ unit: DwarfUnit, _ sections: DwarfSections
    ) throws(DwarfError) {
        let root = unit.text(unit.directory, sections) ?? ""
        var directories = [root]
        while true {
            let directory = try cursor.text(sections.budget)
            if directory.isEmpty { break }
            guard directories.count <= Self.fileLimit else { throw DwarfError() }
            directories.append(try Self.join(root, directory, sections))
        }
        while true {
            let name = try cursor.text(sections.budget)
            if name.isEmpty { return }
            guard files.count < Self.fileLimit else { throw DwarfError() }
            let directory = Int(clamping: try cursor.unsigned())
            _ = try cursor.unsigned()
            _ = try cursor.unsigned()
            // Numbers start at 1.
            files[files.count + 1] = try Self.join(
                directory < directories.count ? directories[directory] : "", name, sections)
        }
    }

    private mutating func readFiles(
        at cursor: inout DwarfCursor, _ unit: DwarfUnit, _ sections: DwarfSections
    ) throws(DwarfError) {
        let root = unit.text(unit.directory, sections) ?? ""
        var directories: [String] = []
        for entry in try readEntries(at: &cursor, unit, sections) {
            directories.append(try Self.join(root, entry.path, sections))
        }
        for (number, entry) in try readEntries(at: &cursor, unit, sections).enumerated() {
            let directory = entry.directory < directories.count ? directories[entry.directory] : ""
            files[number] = try Self.join(directory, entry.path, sections)
        }
    }

    /// A table of paths as version 5 has it: a description of the columns, then rows.
    private func readEntries(
        at cursor: inout DwarfCursor, _ unit: DwarfUnit, _ sections: DwarfSections
    ) throws(DwarfError) -> [(path: String, directory: Int)] {
        var columns: [(type: UInt64, form: UInt64)] = []
        for _ in 0..<(try cursor.byte()) { columns.append((try cursor.unsigned(), try cursor.unsigned())) }
        let count = try cursor.unsigned()
        guard columns.isEmpty ? count == 0 : count <= Self.fileLimit else { throw DwarfError() }
        var rows: [(path: String, directory: Int)] = []
        for _ in 0..<count {
            var row = (path: "", directory: 0)
            for column in columns {
                try sections.budget.spend()
                if column.form == 0x08 {
                    let text = try cursor.text(sections.budget)
                    if column.type == 1 { row.path = text }
                    continue
                }
                let value = try unit.value(form: column.form, constant: 0, at: &cursor, sections.budget)
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
    func forEachStretch(
        _ sections: DwarfSections, _ body: (UInt64, UInt64, () -> DwarfPlace) throws(DwarfError) -> Void
    ) throws(DwarfError) {
        var cursor = try DwarfCursor(sections.lines, at: program.start, end: program.end)
        var state = State()
        var previous: State?
        func emit() throws(DwarfError) {
            if let previous, previous.address < state.address {
                try body(previous.address, state.address) {
                    DwarfPlace(
                        file: files[previous.file] ?? "", line: Int(clamping: previous.line), column: previous.column
                    )
                }
            }
            previous = state.isEnd ? nil : state
        }
        while !cursor.isAtEnd {
            try sections.budget.spend()
            let opcode = try cursor.byte()
            if opcode >= opcodeBase {
                let adjusted = UInt64(opcode - opcodeBase)
                state.address &+= adjusted / lineRange &* minimumInstructionBytes
                state.line &+= lineBase &+ Int64(adjusted % lineRange)
                try emit()
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
                    try emit()
                    state = State()
                case 2: state.address = try cursor.number(min(8, length - 1))
                default: break
                }
                cursor = try DwarfCursor(sections.lines, at: next, end: program.end)
            case 1: try emit()
            case 2: state.address &+= (try cursor.unsigned()) &* minimumInstructionBytes
            case 3: state.line &+= try cursor.signed()
            case 4: state.file = Int(clamping: try cursor.unsigned())
            case 5: state.column = Int(clamping: try cursor.unsigned())
            case 6, 7, 10, 11: break
            case 8: state.address &+= UInt64(255 - opcodeBase) / lineRange &* minimumInstructionBytes
            case 9: state.address &+= try cursor.number(2)
            case 12: _ = try cursor.unsigned()
            default:
                let count = Int(operandCounts[Int(opcode) - 1])
                // Units may share a program.
                try sections.budget.spend(count)
                for _ in 0..<count { _ = try cursor.unsigned() }
            }
        }
    }
}

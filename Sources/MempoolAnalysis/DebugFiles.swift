// Finds the files into which symbols and debug information were split off from an executable or a library.

internal import MempoolRecording

/// The places where debuggers look.
enum DebugFiles {
    private static let root = "/usr/lib/debug"

    /// The debug files of an ELF file that exist and have its build-id: that by the build-id itself, and those of the name that
    /// the file gives in its section `.gnu_debuglink`.
    static func of(_ file: RecordingFile, buildID: [UInt8]) -> [RecordingFile] {
        let identifier = buildID.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }
        guard let first = identifier.first else { return [] }
        var paths = ["\(root)/.build-id/\(first)/\(identifier.dropFirst().joined()).debug"]
        if let name = linkedName(file) {
            let directory = file.path.split(separator: "/", omittingEmptySubsequences: false).dropLast()
                .joined(separator: "/")
            paths += ["\(directory)/\(name)", "\(directory)/.debug/\(name)", "\(root)\(directory)/\(name)"]
        }
        return paths.filter { $0 != file.path }.compactMap { path in
            guard let file = try? RecordingFile(path: path), ElfBuildID.read(file) == buildID else { return nil }
            return file
        }
    }

    /// A plain file name, or nil.
    private static func linkedName(_ file: RecordingFile) -> String? {
        guard let bytes = ElfSections(file, of: [".gnu_debuglink"])?.bytes(of: ".gnu_debuglink"),
            var cursor = try? DwarfCursor(bytes), let name = try? cursor.text(), !name.isEmpty, !name.contains("/"),
            name.utf8.count <= RecordingLimits.pathBytes
        else { return nil }
        return name
    }
}

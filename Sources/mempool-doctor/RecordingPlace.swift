// Where an observed program records: a private directory, or the file named by --keep.

import FoundationEssentials
import Glibc

/// The place of the recordings of one observed program and of its children.
struct RecordingPlace: ~Copyable {
    /// Always made: the workloads keep their files and results there too.
    let directory: TemporaryDirectory
    /// The absolute path given by `--keep`.
    let kept: String?

    /// Names in the directory of `kept` before the program started.
    private let strangers: Set<String>

    private static let filePrefix = "recording-"
    private static let fileSuffix = ".mempool"

    /// Throws `DoctorFailure` with status 64 if `keeping` exists already or cannot be created.
    init(keeping path: String?) throws(DoctorFailure) {
        let kept = try Self.absolute(path)
        directory = try TemporaryDirectory()
        self.kept = kept
        strangers = Set(kept.map(Self.neighbours) ?? [])
    }

    /// The value of `recording=`. The recorder replaces `%p` by the process number, so that every process of a family
    /// that uses the pool gets a file of its own.
    var pattern: String {
        kept ?? "\(directory.path)/\(Self.filePrefix)%p\(Self.fileSuffix)"
    }

    /// The directory of the recordings.
    var folder: String { kept.map { URL(filePath: $0).deletingLastPathComponent().path } ?? directory.path }

    /// A recording of the program's family.
    struct Found {
        var path: String
        /// As its name tells it; nil for the file of `--keep` itself, which whoever came first made.
        var processID: Int32?
        /// 0 for the first recording of its process; a program that it was replaced by finds that one taken.
        fileprivate var generation: Int
    }

    /// The recordings that exist now, by process number, those of one process in the order in which they were begun; the one of
    /// `--keep` is the first of all.
    func recordings() -> [Found] {
        let found: [Found]
        if let kept {
            let folder = kept.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
            found = Self.neighbours(of: kept).filter { !strangers.contains($0) }.compactMap { name in
                let path = "\(folder)/\(name)"
                if path == kept { return Found(path: path, processID: nil, generation: 0) }
                return Self.suffix(path.dropFirst(kept.count)).map {
                    Found(path: path, processID: $0.processID, generation: $0.generation)
                }
            }
        } else {
            let names = (try? FileManager.default.contentsOfDirectory(atPath: directory.path)) ?? []
            found = names.compactMap { name in
                guard name.hasPrefix(Self.filePrefix) else { return nil }
                let rest = name.dropFirst(Self.filePrefix.count)
                guard let end = rest.firstRange(of: Self.fileSuffix), let number = Int32(rest[..<end.lowerBound]) else {
                    return nil
                }
                let path = "\(directory.path)/\(name)"
                if end.upperBound == rest.endIndex { return Found(path: path, processID: number, generation: 0) }
                guard let suffix = Self.suffix(rest[end.upperBound...]), suffix.processID == number else { return nil }
                return Found(path: path, processID: number, generation: suffix.generation)
            }
        }
        return found.sorted { ($0.processID ?? 0, $0.generation) < ($1.processID ?? 0, $1.generation) }
    }

    /// What a recorder adds to a name that is taken: `.PID`, and `.PID.2` and so on if that is taken too. Nil if it is something
    /// else.
    private static func suffix(_ text: Substring) -> (processID: Int32, generation: Int)? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard (2...3).contains(parts.count), parts[0].isEmpty, let processID = Int32(parts[1]) else { return nil }
        guard parts.count == 3 else { return (processID, 1) }
        return Int(parts[2]).map { (processID, $0) }
    }

    /// Names beside `path` that are its own or what a recorder makes of it.
    private static func neighbours(of path: String) -> [String] {
        let url = URL(filePath: path)
        let own = url.lastPathComponent
        let names = (try? FileManager.default.contentsOfDirectory(atPath: url.deletingLastPathComponent().path)) ?? []
        return names.filter { name in
            name == own || (name.hasPrefix(own + ".") && suffix(name.dropFirst(own.count)) != nil)
        }
    }

    /// The absolute form of `path`, after proof that a new file can be created there.
    private static func absolute(_ path: String?) throws(DoctorFailure) -> String? {
        guard let path else { return nil }
        let absolute = path.hasPrefix("/") ? path : FileManager.default.currentDirectoryPath + "/" + path
        guard !DebugOptions.isUnspeakable(absolute) else {
            throw DoctorFailure(
                "--keep: \(absolute): a comma or a percent sign cannot be part of a recording's path; choose another",
                status: DoctorStatus.usage
            )
        }
        // The recorder insists on creating the file itself (O_EXCL), so that it never writes into a stranger's.
        let descriptor = open(absolute, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            let error = SystemError.last
            throw DoctorFailure(
                error.number == EEXIST
                    ? "--keep: \(path) exists already; choose another name or remove it"
                    : "--keep: cannot create \(path): \(error)",
                status: DoctorStatus.usage
            )
        }
        close(descriptor)
        unlink(absolute)
        return absolute
    }
}

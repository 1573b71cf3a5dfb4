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

    /// The recordings that exist now, by process number; the one of `--keep` has none. A further process of the program's
    /// family finds that one taken and records to its name with the process number added.
    func recordings() -> [(path: String, processID: Int32?)] {
        if let kept {
            return Self.neighbours(of: kept).filter { !strangers.contains($0) }.sorted().map { name in
                let path = (kept.split(separator: "/", omittingEmptySubsequences: false).dropLast() + [name[...]])
                    .joined(separator: "/")
                return (path, path == kept ? nil : Int32(path.dropFirst(kept.count + 1)))
            }
        }
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory.path)) ?? []
        return names.compactMap { name -> (path: String, processID: Int32?)? in
            guard name.hasPrefix(Self.filePrefix), name.hasSuffix(Self.fileSuffix),
                let number = Int32(name.dropFirst(Self.filePrefix.count).dropLast(Self.fileSuffix.count))
            else { return nil }
            return ("\(directory.path)/\(name)", number)
        }.sorted { ($0.processID ?? 0) < ($1.processID ?? 0) }
    }

    /// Names beside `path` that are its own or have a number added.
    private static func neighbours(of path: String) -> [String] {
        let url = URL(filePath: path)
        let own = url.lastPathComponent
        let names = (try? FileManager.default.contentsOfDirectory(atPath: url.deletingLastPathComponent().path)) ?? []
        return names.filter { name in
            name == own || (name.hasPrefix(own + ".") && Int32(name.dropFirst(own.count + 1)) != nil)
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

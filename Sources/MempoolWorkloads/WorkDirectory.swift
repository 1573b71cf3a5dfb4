// A private directory for the files of a workload, gone when the workload is done.

internal import Glibc

/// A fresh directory that only this user can enter.
final class WorkDirectory {
    let path: String

    /// - Parameter parent: Where to make it; nil for `TMPDIR`, else `/tmp`.
    init(in parent: String?) throws(WorkloadError) {
        let parent = parent ?? getenv("TMPDIR").map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 } ?? "/tmp"
        var template = Array((parent + "/mempool-workload-XXXXXX").utf8CString)
        guard mkdtemp(&template) != nil else {
            throw WorkloadError("cannot make a work directory in \(parent): \(reason(errno))")
        }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Makes a directory in it.
    func makeSubdirectory(_ name: String) throws(WorkloadError) -> String {
        let subdirectory = path + "/" + name
        guard mkdir(subdirectory, 0o700) == 0 else {
            throw WorkloadError("cannot make the directory \(subdirectory): \(reason(errno))")
        }
        return subdirectory
    }

    deinit { Self.remove(path) }

    /// Removes a directory and everything below it. What cannot be removed stays; there is nobody to tell.
    private static func remove(_ path: String) {
        if let directory = opendir(path) {
            while let entry = readdir(directory) {
                let nameOffset = MemoryLayout<dirent>.offset(of: \.d_name) ?? 0
                let name = String(
                    cString: (UnsafeRawPointer(entry) + nameOffset).assumingMemoryBound(to: CChar.self)
                )
                guard name != ".", name != ".." else { continue }
                let child = path + "/" + name
                // `unlink` refuses directories, and does not follow symbolic links.
                if unlink(child) != 0 { remove(child) }
            }
            closedir(directory)
        }
        rmdir(path)
    }
}

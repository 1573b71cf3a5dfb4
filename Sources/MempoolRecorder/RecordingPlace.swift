// `RecordingPlace`: where recordings go when nobody said where, and how old ones are pruned.

/// What the doctor may ask about the place.
package enum DefaultRecordingPlace {
    /// The directory that recordings go to when nobody names another one, made if it was missing; nil if there is none.
    package static var directory: String? {
        #if Recorder
        RecordingPlace.directory()
        #else
        nil
        #endif
    }
}

#if Recorder
internal import CMempoolPlatform
internal import Glibc
internal import MempoolRecording

/// The directory of the user's own for recordings, and what may stay in it.
enum RecordingPlace {
    /// Recordings kept in the directory at most; the oldest go first. With findings they are a few MiB each.
    static let fileLimit = 32
    /// Seconds after which a recording is removed: a week.
    static let ageLimitSeconds = 7 * 24 * 3600

    /// The first usable directory of `$XDG_RUNTIME_DIR/mempool`, `mempool-UID` on shared memory and `mempool-UID` in the
    /// temporary directory; made with mode 0700 if it is missing. Nil if none can be used.
    static func directory() -> String? {
        let user = geteuid()
        var candidates: [String] = []
        if let runtime = environment("XDG_RUNTIME_DIR") { candidates.append(runtime + "/mempool") }
        candidates.append("/dev/shm/mempool-\(user)")
        candidates.append((environment("TMPDIR") ?? "/tmp") + "/mempool-\(user)")
        return candidates.first { isOwn($0, user) }
    }

    /// Makes the directory if needed; true if it is the user's own, closed to others and writable.
    private static func isOwn(_ directory: String, _ user: uid_t) -> Bool {
        mkdir(directory, 0o700)
        var status = stat()
        // Not following a link: somebody else may have put one there.
        guard lstat(directory, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else { return false }
        return status.st_uid == user && status.st_mode & 0o077 == 0 && access(directory, W_OK | X_OK) == 0
    }

    /// Names for this process's recording, to be tried in turn: the process is the last part of each. Containers that share the
    /// directory have equal process identifiers, and one process may come after another of the same.
    static func paths(in directory: String) -> [String] {
        let program = CommandLine.arguments.first?.split(separator: "/").last.map(String.init) ?? "program"
        return (1...fileLimit).map { number in
            let name = number == 1 ? "\(program)-\(getpid())" : "\(program)-\(number)-\(getpid())"
            return "\(directory)/\(name).\(RecordingLayout.fileExtension)"
        }
    }

    /// Removes recordings beyond the limits. Those of running processes stay.
    static func prune(_ directory: String) {
        guard let entries = opendir(directory) else { return }
        defer { closedir(entries) }
        var old: [(modified: Int, path: String)] = []
        while let entry = readdir(entries) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            guard name.hasSuffix("." + RecordingLayout.fileExtension), !isOfRunningProcess(name) else { continue }
            var status = stat()
            let path = directory + "/" + name
            guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { continue }
            old.append((status.st_mtim.tv_sec, path))
        }
        old.sort { $0.modified > $1.modified }
        let horizon = time(nil) - ageLimitSeconds
        for (position, file) in old.enumerated() where position >= fileLimit || file.modified < horizon {
            removeUnlessHeld(file.path)
        }
    }

    /// Removes a recording that no recorder holds.
    private static func removeUnlessHeld(_ path: String) {
        let descriptor = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
        guard descriptor >= 0 else { return }
        defer { close(descriptor) }
        if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { unlink(path) }
    }

    /// Whether NAME-PID.mempool belongs to a process that still runs.
    private static func isOfRunningProcess(_ name: String) -> Bool {
        let stem = name.dropLast(RecordingLayout.fileExtension.count + 1)
        guard let processID = stem.split(separator: "-").last.flatMap({ pid_t($0) }), processID > 0 else {
            return false
        }
        return kill(processID, 0) == 0 || errno == EPERM
    }

    private static func environment(_ name: String) -> String? {
        guard let value = cmempool_secure_getenv(name), value.pointee != 0 else { return nil }
        return String(cString: value)
    }
}
#endif

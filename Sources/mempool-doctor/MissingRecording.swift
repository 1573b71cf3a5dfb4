// Why a program left no recording, and what to do about it.

import FoundationEssentials
import Glibc

/// Finds the reason for a missing recording, as far as it can be seen from outside.
enum MissingRecording {
    /// C symbols of the pool; an executable that contains the pool and is not stripped has them.
    private static let poolMarker = Data("cmempool_".utf8)
    /// A larger executable is not searched. The largest seen, a debug build with a static standard library, had 60 MB.
    private static let searchLimitBytes = 1 << 30

    /// One line: "no recording appeared", the reason, the cure.
    ///
    /// - Parameter directory: where the recording should have appeared.
    static func reason(
        executable: [CChar], name: String, end: ProgramEnd, debugOptions: DebugOptions, directory: String
    ) -> String {
        "no recording appeared: "
            + explanation(
                executable: executable.text, name: name, end: end, debugOptions: debugOptions, directory: directory)
    }

    private static func explanation(
        executable: String,
        name: String,
        end: ProgramEnd,
        debugOptions: DebugOptions,
        directory: String
    ) -> String {
        if debugOptions.isOff {
            return "MEMPOOL_DEBUG switches the recorder off; remove \"off\" from it"
        }
        let path = resolved(executable)
        if let path, isPrivileged(path) {
            return "\(name) is set-user-ID or set-group-ID, and such programs ignore MEMPOOL_DEBUG; "
                + "run a copy without these bits"
        }
        let contents = path.flatMap(contents)
        if contents != .withoutPool, isFull(directory) {
            return "there is no room in \(directory); set TMPDIR to a directory with room"
        }
        switch contents {
        case .script:
            return "\(name) is a script, and nothing that it started recorded; "
                + "name the program that contains the pool, and check that MEMPOOL_DEBUG reaches it"
        case .withPool:
            return switch end {
            case .exited(0):
                "\(name) contains the pool but did not record; "
                    + "build it with the package trait Recorder, and leave MEMPOOL_DEBUG in its environment"
            case .exited(let status):
                "\(name) exited with status \(status) before it used the pool; make it run, then observe it again"
            case .killed(let signal):
                "\(name) was killed by signal \(signal) (\(signalName(signal))) before it used the pool; "
                    + "make it run, then observe it again"
            }
        case .withoutPool, nil:
            return "\(name) does not seem to contain the pool; "
                + "name the program that does, built with the package trait Recorder and MEMPOOL_DEBUG left in its environment"
        }
    }

    /// The system's word for a signal, like "Killed".
    static func signalName(_ signal: Int32) -> String {
        strsignal(signal).map { String(cString: $0) } ?? "unknown"
    }

    /// Whether not even the first page of a recording fits.
    private static func isFull(_ directory: String) -> Bool {
        var disk = statvfs()
        return statvfs(directory, &disk) == 0 && disk.f_bavail == 0
    }

    // MARK: - The executable

    private enum Contents {
        case script, withPool, withoutPool
    }

    /// The file that a shell would run for `name`.
    private static func resolved(_ name: String) -> String? {
        if name.contains("/") { return name }
        let path = Terminal.variable("PATH") ?? "/bin:/usr/bin"
        let directories = path.split(separator: ":", omittingEmptySubsequences: false)
        return directories.map { $0.isEmpty ? name : "\($0)/\(name)" }.first { access($0, X_OK) == 0 }
    }

    private static func isPrivileged(_ path: String) -> Bool {
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & (S_ISUID | S_ISGID) != 0 else { return false }
        // Root running root's program, or an owner his own, gains nothing, and the variable is honoured.
        return (status.st_mode & S_ISUID != 0 && status.st_uid != getuid())
            || (status.st_mode & S_ISGID != 0 && status.st_gid != getgid())
    }

    private static func contents(_ path: String) -> Contents? {
        guard let data = try? Data(contentsOf: URL(filePath: path), options: .mappedIfSafe),
            data.count <= searchLimitBytes
        else { return nil }
        if data.starts(with: Data("#!".utf8)) { return .script }
        return data.range(of: poolMarker) == nil ? .withoutPool : .withPool
    }
}

// Programs of the build that campaigns start, and a private directory for what they leave.

import Foundation
import Glibc
import Testing

/// Whether the long campaigns run.
let runsLong = ProcessInfo.processInfo.environment["MEMPOOL_LONG_TESTS"] == "1"

/// Whether this account may mount a small disk.
let canMount: Bool = {
    guard let scratch = try? Scratch(), mount("zoo", scratch.path, "tmpfs", 0, "size=1m") == 0 else { return false }
    unmount(scratch.path)
    return true
}()

/// Unmounts a disk, at once or when the last of its files is closed: a program that another test just starts may have one open.
func unmount(_ path: String) { umount2(path, 2 /* MNT_DETACH */) }

/// Whether this account may make and mount a small btrfs, and the kernel keeps the promise of files that are not copied on write.
let canMountBtrfs: Bool = {
    var name = utsname()
    uname(&name)
    let release = withUnsafeBytes(of: &name.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    let parts = release.split { !$0.isNumber }.prefix(2).compactMap { Int($0) }
    guard parts.count == 2, (parts[0], parts[1]) >= (6, 17), geteuid() == 0, let scratch = try? Scratch(),
        (try? Program.mountBtrfs(scratch.file("disk"), in: scratch)) != nil
    else { return false }
    unmount(scratch.file("disk"))
    return true
}()

/// Whether this account may become another one.
let canChangeUser = geteuid() == 0 && access("/usr/bin/setpriv", X_OK) == 0

/// Whether Swift's backtracer names the function that crashed, without a recorder.
let hasBacktracer: Bool = {
    guard let scratch = try? Scratch(),
        let end = try? Program.runWithBacktrace(["zoo", "crash"], debug: "off", in: scratch)
    else { return false }
    return end.output.contains("crashOnPurpose")
}()

/// A private directory of one test, removed at its end.
final class Scratch: Sendable {
    let path: String

    init() throws {
        path = NSTemporaryDirectory() + "/campaign-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func file(_ name: String) -> String { path + "/" + name }
}

/// A running program; its two streams go to one file.
struct Program {
    let processID: pid_t
    private let outputPath: String

    /// The folder of this test's executable, with all others of the build.
    static let folder: String = {
        let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
        return (own as NSString).deletingLastPathComponent
    }()

    /// Starts a program.
    ///
    /// - Parameter arguments: the first is a path, or the name of a program of the build.
    init(_ arguments: [String], environment: [String: String] = [:], in scratch: Scratch) throws {
        outputPath = scratch.file("output-" + UUID().uuidString)
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, outputPath, O_WRONLY | O_CREAT | O_APPEND, 0o600)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)
        // The threads of a test block and ignore signals.
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var mask = sigset_t()
        sigemptyset(&mask)
        posix_spawnattr_setsigmask(&attributes, &mask)
        var defaults = sigset_t()
        sigfillset(&defaults)
        posix_spawnattr_setsigdefault(&attributes, &defaults)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))

        let path = arguments[0].contains("/") ? arguments[0] : Self.folder + "/" + arguments[0]
        let variables = ["PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"].merging(environment) { $1 }
        let words = arguments.map { strdup($0) } + [nil]
        let entries = variables.map { strdup("\($0)=\($1)") } + [nil]
        defer { for copy in words + entries { free(copy) } }
        var processID: pid_t = 0
        let failure = posix_spawn(&processID, path, &actions, &attributes, words, entries)
        try #require(failure == 0, "\(path): \(String(cString: strerror(failure)))")
        self.processID = processID
    }

    /// Waits for the end.
    ///
    /// - Returns: The exit status, or 1000 + n after signal n, and all output.
    func finish() throws -> (status: Int32, output: String) {
        var status: Int32 = 0
        while waitpid(processID, &status, 0) != processID { try #require(errno == EINTR) }
        let signal = status & 0x7f
        let output = (try? String(contentsOfFile: outputPath, encoding: .utf8)) ?? ""
        return (signal == 0 ? (status >> 8) & 0xff : 1000 + signal, output)
    }

    /// Starts a program and waits for its end.
    static func run(
        _ arguments: [String], environment: [String: String] = [:], in scratch: Scratch
    ) throws -> (status: Int32, output: String) {
        try Program(arguments, environment: environment, in: scratch).finish()
    }

    /// As `run`, with Swift's backtracer on.
    static func runWithBacktrace(
        _ arguments: [String], debug: String, in scratch: Scratch
    ) throws -> (status: Int32, output: String) {
        // The backtracer finds its helper through the environment of the toolchain.
        var environment = ProcessInfo.processInfo.environment.filter { $0.key.hasPrefix("SWIFT") || $0.key == "PATH" }
        environment["MEMPOOL_DEBUG"] = debug
        environment["SWIFT_BACKTRACE"] = "enable=yes,color=no,interactive=no,timeout=30s"
        return try run(arguments, environment: environment, in: scratch)
    }

    /// Makes a small btrfs and mounts it on a directory that it makes.
    static func mountBtrfs(_ directory: String, in scratch: Scratch) throws {
        let image = scratch.file("image")
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: false)
        try #require(FileManager.default.createFile(atPath: image, contents: nil) && truncate(image, 200 << 20) == 0)
        for command in [["mkfs.btrfs", "-q", image], ["mount", "-o", "loop", image, directory]] {
            let end = try run(
                ["/usr/bin/env"] + command, environment: ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin"], in: scratch)
            try #require(end.status == 0, "\(end.output)")
        }
    }
}

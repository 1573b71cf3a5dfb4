// Runs the real `mempool-doctor` and collects what it wrote and how it ended.

import Foundation
import Glibc
import Testing

/// A private directory of one test, removed at its end.
final class Scratch: Sendable {
    let path: String

    init() throws {
        var template = Array((FileManager.default.temporaryDirectory.path + "/doctor-test-XXXXXX").utf8CString)
        try #require(mkdtemp(&template) != nil)
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit {
        try? FileManager.default.removeItem(atPath: path)
    }

    /// Whether this account may mount a small disk.
    static let canMount: Bool = {
        guard let scratch = try? Scratch(), mount("doctor", scratch.path, "tmpfs", 0, "size=16k") == 0 else {
            return false
        }
        umount(scratch.path)
        return true
    }()

    /// The path of a file in the directory, which need not exist.
    func file(_ name: String) -> String { path + "/" + name }

    /// Writes a file and returns its path.
    func write(_ contents: String, to name: String) throws -> String {
        try contents.write(toFile: file(name), atomically: false, encoding: .utf8)
        return file(name)
    }

    /// Writes an executable file and returns its path.
    ///
    /// Another process does the writing: a child that some other test starts at that moment inherits a descriptor of
    /// ours that is open for writing, and as long as it has one the system refuses to execute the file.
    func writeExecutable(_ contents: Data, to name: String, mode: String = "755") throws -> String {
        try contents.write(to: URL(filePath: file(name + ".data")))
        let script = "cp \"$0.data\" \"$0\" && chmod \(mode) \"$0\""
        let strings: [String] = ["/bin/sh", "-c", script, file(name)]
        let words = strings.map { strdup($0) } + [nil]
        defer { for word in words { free(word) } }
        var processID: pid_t = 0
        var status: Int32 = 0
        let failure = posix_spawn(&processID, "/bin/sh", nil, nil, words, [nil])
        try #require(failure == 0)
        while waitpid(processID, &status, 0) != processID { try #require(errno == EINTR) }
        try #require(status == 0)
        return file(name)
    }

    func read(_ name: String) throws -> String {
        try String(contentsOfFile: file(name), encoding: .utf8)
    }

    func list() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: path).sorted()
    }
}

/// What a finished doctor left behind.
struct DoctorResult: Equatable {
    /// The exit status, or 1000 + n if signal n killed the doctor itself.
    var status: Int32
    var output: String
    var errors: String

    var json: [String: Any]? {
        try? JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any]
    }
}

/// A running doctor, in a process group of its own, with its streams in files of `scratch`.
struct DoctorProcess {
    let processID: pid_t
    private let scratch: Scratch
    private let streams: String

    /// POSIX_SPAWN_SETSID of glibc, which hides the name from Swift.
    private static let newSession: Int16 = 0x80

    /// The command beside this test's executable in the build directory.
    static var executable: String {
        get throws {
            let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
            return (own as NSString).deletingLastPathComponent + "/mempool-doctor"
        }
    }

    /// - Parameters:
    ///   - environment: added to PATH, a UTF-8 locale, TMPDIR and XDG_RUNTIME_DIR in `scratch`; nothing else is inherited.
    ///   - terminal: the path of a pseudoterminal that becomes the controlling terminal and all three streams.
    ///   - ignoredSignal: a signal that the doctor finds ignored when it starts.
    ///   - executable: another one than the build's.
    ///   - output: a descriptor that becomes its stdout, instead of a file.
    init(
        _ arguments: [String],
        in scratch: Scratch,
        environment: [String: String] = [:],
        terminal: String? = nil,
        ignoring ignoredSignal: Int32? = nil,
        executable: String? = nil,
        output: Int32? = nil
    ) throws {
        self.scratch = scratch
        streams = UUID().uuidString
        let temporary = scratch.file("tmp")
        try FileManager.default.createDirectory(atPath: temporary, withIntermediateDirectories: true)
        // What programs record that have findings stays there, and goes with `scratch`.
        let runtime = scratch.file("runtime")
        try FileManager.default.createDirectory(atPath: runtime, withIntermediateDirectories: true)
        let variables = [
            "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TMPDIR": temporary, "XDG_RUNTIME_DIR": runtime,
        ]
        .merging(environment) { $1 }

        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        if let terminal {
            posix_spawn_file_actions_addopen(&actions, 0, terminal, O_RDWR, 0)
            posix_spawn_file_actions_adddup2(&actions, 0, 1)
            posix_spawn_file_actions_adddup2(&actions, 0, 2)
        } else {
            posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
            let flags = O_WRONLY | O_CREAT | O_APPEND
            if let output {
                posix_spawn_file_actions_adddup2(&actions, output, 1)
            } else {
                posix_spawn_file_actions_addopen(&actions, 1, scratch.file(streams + ".out"), flags, 0o600)
            }
            posix_spawn_file_actions_addopen(&actions, 2, scratch.file(streams + ".err"), flags, 0o600)
        }
        // A session leader that opens a terminal gets it as its controlling one, so its keys send signals.
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // The threads of a test block signals.
        var mask = sigset_t()
        sigemptyset(&mask)
        posix_spawnattr_setsigmask(&attributes, &mask)
        // Tests that run beside this one may ignore signals: the segment workload ignores SIGXFSZ.
        var defaults = sigset_t()
        sigfillset(&defaults)
        posix_spawnattr_setsigdefault(&attributes, &defaults)
        let flags = Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF)
        posix_spawnattr_setflags(&attributes, Self.newSession | flags)

        let executable = try executable ?? Self.executable
        let ignoring = ignoredSignal.map { "trap '' \($0); " } ?? ""
        let shell = ["/bin/sh", "-c", "\(ignoring)cd \"$0\" && exec \"$@\"", scratch.path]
        let words = (shell + [executable] + arguments).map { strdup($0) } + [nil]
        let entries = variables.map { strdup("\($0)=\($1)") } + [nil]
        defer { for copy in words + entries { free(copy) } }
        var processID: pid_t = 0
        try #require(posix_spawn(&processID, "/bin/sh", &actions, &attributes, words, entries) == 0)
        self.processID = processID
    }

    /// Waits for the end.
    func finish() throws -> DoctorResult {
        var status: Int32 = 0
        while waitpid(processID, &status, 0) != processID {
            try #require(errno == EINTR)
        }
        let signal = status & 0x7f
        return DoctorResult(
            status: signal == 0 ? (status >> 8) & 0xff : 1000 + signal,
            output: (try? scratch.read(streams + ".out")) ?? "",
            errors: (try? scratch.read(streams + ".err")) ?? ""
        )
    }
}

/// Runs the doctor to its end.
func doctor(
    _ arguments: String...,
    in scratch: Scratch,
    environment: [String: String] = [:]
) throws -> DoctorResult {
    let result = try DoctorProcess(arguments, in: scratch, environment: environment).finish()
    // Whatever happened, the temporary directory is clean afterwards.
    #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.file("tmp")) == [])
    return result
}

/// A program that behaves as one that contains the pool: copies `$FIXTURE` to the place named by MEMPOOL_DEBUG.
enum FakeProgram {
    /// Shell function `record N`: leaves the recording of process N.
    static let record = """
        record() {
            p=${MEMPOOL_DEBUG##*recording=}; p=${p%%,*}
            case $p in *%p*) p=${p%%%p*}$1${p#*%p};; esac
            cp "$FIXTURE" "$p"
        }

        """

    /// Arguments of `exec` that run a shell script which can call `record`.
    static func arguments(_ script: String) -> [String] {
        ["--", "/bin/sh", "-c", record + script]
    }
}

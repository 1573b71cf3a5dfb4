// `ChildProcess` and `ProcessEnvironment`: starting other programs, and what they are told by their environment.

internal import CMempoolBenchmarks
internal import Glibc

/// Starts programs.
enum ChildProcess {
    /// What a program that has ended had needed.
    struct Usage {
        /// The exit status, or 128 and the number of the signal that ended it.
        var status: Int32
        var seconds: Double
        /// Resident at most.
        var peakBytes: Int
    }

    /// Starts a program with no signal blocked.
    ///
    /// - Parameters:
    ///   - program: A path; nil for this very executable.
    ///   - arguments: All words, the program's own name first.
    static func spawn(
        _ program: String?,
        _ arguments: [String],
        _ environment: [String],
        _ actions: inout posix_spawn_file_actions_t
    ) throws(WorkerFailure) -> pid_t {
        let words = arguments.map { strdup($0) } + [nil]
        let entries = environment.map { strdup($0) } + [nil]
        defer { for copy in words + entries { free(copy) } }
        // The coordinator may hold signals back; what it starts ends by them at once.
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var mask = sigset_t()
        sigemptyset(&mask)
        posix_spawnattr_setsigmask(&attributes, &mask)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        var child: pid_t = 0
        let failure = posix_spawn(&child, program ?? "/proc/self/exe", &actions, &attributes, words, entries)
        guard failure == 0 else {
            throw WorkerFailure("cannot start a process: \(String(cString: strerror(failure)))")
        }
        return child
    }

    /// Runs a program to its end, without input and with its output thrown away.
    static func run(
        _ program: String?,
        _ arguments: [String],
        environment: [String]
    ) throws(WorkerFailure) -> Usage {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0)
        posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0)
        let start = cbench_now()
        let child = try spawn(program, arguments, environment, &actions)
        var status: Int32 = 0
        var usage = rusage()
        while wait4(child, &status, 0, &usage) < 0 {
            guard errno == EINTR else {
                throw WorkerFailure("cannot wait for a process: \(String(cString: strerror(errno)))")
            }
        }
        let signal = status & 0x7F
        return Usage(
            status: signal == 0 ? (status >> 8) & 0xFF : 128 + signal,
            seconds: Double(cbench_now() - start) / 1e9,
            peakBytes: usage.ru_maxrss * 1024
        )
    }
}

/// Environments of workers.
enum ProcessEnvironment {
    /// The own environment with these entries, `NAME=VALUE` each, and without anything preloaded unless they say so.
    static func own(with entries: [String]) -> [String] {
        let replaced = Set(entries.map(name) + ["LD_PRELOAD"])
        var result = entries
        var next = environ
        while let entry = next.pointee {
            let text = String(cString: entry)
            if !replaced.contains(name(of: text)) { result.append(text) }
            next += 1
        }
        return result
    }

    /// The own variable of this name, nil if it is not set.
    static func variable(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

    private static func name(of entry: String) -> Substring { entry.prefix { $0 != "=" } }
}

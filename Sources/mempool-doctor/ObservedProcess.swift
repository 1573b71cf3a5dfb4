// Starting a program, handing signals on, and waiting for its end.

import Glibc
import MempoolAnalysis

/// Why a command could not be started.
struct SpawnFailure: Error {
    /// As the user wrote it.
    var command: String
    /// What the system answered.
    var error: SystemError

    /// 127 if there is no such command, 126 if there is one that cannot be executed, as in a shell.
    var status: Int32 {
        error.number == ENOENT ? DoctorStatus.notFound : DoctorStatus.notExecutable
    }

    /// One line that names the command and the reason.
    var description: String {
        if error.number == EACCES, isDirectory { return "\(command) is a directory; name a program in it" }
        guard error.number == ENOENT else { return "\(command): cannot be executed: \(error)" }
        if !command.contains("/") { return "\(command): command not found" }
        if access(command, F_OK) == 0 { return "\(command): cannot be executed: its interpreter was not found" }
        return "\(command): no such file"
    }

    /// Without a slash the name is no path: it is looked for elsewhere.
    private var isDirectory: Bool {
        var status = stat()
        return command.contains("/") && stat(command, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }
}

/// A program that runs under the doctor's eyes: same terminal, same process group, same standard streams.
struct ObservedProcess {
    /// Found through PATH if it has no slash.
    var executable: CStringArray.Element
    /// With the program's own name first.
    var arguments: CStringArray
    /// Entries `NAME=value`.
    var environment: CStringArray
    /// Lets what the program writes to stdout appear on stderr, for a program whose stdout is not a result.
    var sendsOutputToStandardError = false

    /// How a program ended, and whether somebody wanted the doctor to stop meanwhile.
    struct Outcome {
        /// Of the process that has ended; the number may be another's by now.
        var processID: Int32
        /// How it ended.
        var end: ProgramEnd
        /// When that was seen, nanoseconds of the clock that recordings use.
        var endTime: UInt64
        /// Set when the doctor got one of the signals that ask it to stop.
        var wasInterrupted: Bool
    }

    /// Nanoseconds between two calls of `tick`.
    private static let tickNanoseconds = 100_000_000

    /// Runs the program to its end. `tick` is called about ten times a second meanwhile.
    ///
    /// Must be called while the process has one thread: the signals are blocked for the calling thread only.
    func run(tick: () -> Void) throws(SpawnFailure) -> Outcome {
        // An ignored SIGCHLD is inherited, and would make the kernel throw away the status we wait for.
        signal(SIGCHLD, SIG_DFL)
        var watched = sigset_t()
        sigemptyset(&watched)
        // Those that would end the doctor before it has reported. A terminal sends the keyboard's to the program as well; those
        // that somebody sent to the doctor alone are passed on.
        for number in HeldSignals.numbers + [SIGCHLD] { sigaddset(&watched, number) }
        var original = sigset_t()
        pthread_sigmask(SIG_BLOCK, &watched, &original)
        // Whatever is still pending has been acted on: it must not end the doctor before the report.
        defer {
            _ = Self.takeSignal(of: &watched, nanoseconds: 0)
            pthread_sigmask(SIG_SETMASK, &original, nil)
        }

        let processID = try spawn()
        var wasInterrupted = false
        while true {
            let received = Self.takeSignal(of: &watched, nanoseconds: Self.tickNanoseconds)
            if let received, received.number != SIGCHLD {
                wasInterrupted = true
                if !received.isFromKernel { kill(processID, received.number) }
            }
            var status: Int32 = 0
            let waited = waitpid(processID, &status, WNOHANG)
            if waited == processID {
                let endTime = AnalysisOptions.now()
                while let late = Self.takeSignal(of: &watched, nanoseconds: 0) {
                    wasInterrupted = wasInterrupted || late.number != SIGCHLD
                }
                return Outcome(
                    processID: processID,
                    end: ProgramEnd(waitStatus: status),
                    endTime: endTime,
                    wasInterrupted: wasInterrupted
                )
            }
            tick()
        }
    }

    /// The next of the blocked signals; nil after `nanoseconds` without one.
    private static func takeSignal(
        of set: inout sigset_t,
        nanoseconds: Int
    ) -> (number: Int32, isFromKernel: Bool)? {
        var information = siginfo_t()
        var limit = timespec(tv_sec: 0, tv_nsec: nanoseconds)
        let number = sigtimedwait(&set, &information, &limit)
        // Positive codes are the kernel's own (a key of the terminal); kill and its relatives have 0 or less.
        return number > 0 ? (number, information.si_code > 0) : nil
    }

    /// Starts the program with the signals as the doctor got them.
    private func spawn() throws(SpawnFailure) -> Int32 {
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var mask = InheritedSignals.mask
        posix_spawnattr_setsigmask(&attributes, &mask)
        var defaults = sigset_t()
        sigemptyset(&defaults)
        if !InheritedSignals.ignoresBrokenPipe { sigaddset(&defaults, SIGPIPE) }
        posix_spawnattr_setsigdefault(&attributes, &defaults)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))

        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        if sendsOutputToStandardError {
            posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO)
        }

        var processID: pid_t = 0
        let error = Self.withPointers(to: arguments) { arguments in
            Self.withPointers(to: environment) { environment in
                posix_spawnp(&processID, executable, &actions, &attributes, arguments, environment)
            }
        }
        guard error == 0 else {
            throw SpawnFailure(
                command: executable.text,
                error: SystemError(number: error)
            )
        }
        return processID
    }

    /// Calls `body` with a null-terminated vector of C strings.
    private static func withPointers<Result>(
        to strings: CStringArray,
        _ body: ([UnsafeMutablePointer<CChar>?]) -> Result
    ) -> Result {
        let copies = strings.map { strdup($0) }
        defer { for copy in copies { free(copy) } }
        return body(copies + [nil])
    }
}

/// Null-terminated strings as the system has them: names need not be UTF-8, and a `String` would repair those.
typealias CStringArray = [[CChar]]

extension CStringArray {
    /// The last `count` arguments of this process.
    static func ownArguments(last count: Int) -> CStringArray {
        let arguments = UnsafeBufferPointer(start: CommandLine.unsafeArgv, count: Int(CommandLine.argc))
        return arguments.suffix(count).compactMap { argument in
            argument.map { [CChar](UnsafeBufferPointer(start: $0, count: strlen($0) + 1)) }
        }
    }

    /// The environment of this process with one variable set anew.
    static func ownEnvironment(setting name: String, to value: String) -> CStringArray {
        let prefix = [CChar]("\(name)=".utf8CString.dropLast())
        var result: CStringArray = []
        var next = environ
        while let entry = next.pointee {
            if strncmp(entry, prefix + [0], prefix.count) != 0 {
                result.append([CChar](UnsafeBufferPointer(start: entry, count: strlen(entry) + 1)))
            }
            next += 1
        }
        result.append([CChar]("\(name)=\(value)".utf8CString))
        return result
    }
}

extension [CChar] {
    /// The string without its terminating null, for messages.
    var text: String {
        String(decoding: dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

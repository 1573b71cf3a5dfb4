// `WorkerProcess`: the measured process as the coordinator sees it: started with an environment, asked over pipes.

internal import Glibc

/// Why a contender could not be measured; one clause without a full stop.
package struct WorkerFailure: Error, Equatable, CustomStringConvertible {
    package var description: String

    package init(_ description: String) { self.description = description }
}

/// A worker and the two pipes to it.
///
/// The process ends when the pipe to it is closed, so none outlives the coordinator, however that ends.
struct WorkerProcess: ~Copyable {
    /// A worker that does not answer within this time is given up: nothing asked of one takes a tenth of it.
    private static let answerLimitMilliseconds: Int32 = 60_000
    /// A worker whose input has ended gets this many times 10 ms to end as well.
    private static let endPatience = 1000

    private let processID: pid_t
    private let input: Int32
    private let output: Int32
    private var received: [UInt8] = []

    /// Starts this very executable again, or another program, and waits until it is ready.
    ///
    /// - Parameters:
    ///   - arguments: All words, the program's own name first.
    ///   - program: Absolute path of the other program.
    ///   - preload: The allocator to measure, a path, or nil for the C library's own.
    ///   - environment: `NAME=VALUE` each, instead of what this process has under these names.
    static func start(
        _ arguments: [String],
        program: String? = nil,
        preload: String? = nil,
        environment: [String]
    ) throws(WorkerFailure) -> WorkerProcess {
        let spawned = try spawn(
            arguments,
            program: program,
            environment: ProcessEnvironment.own(with: environment + (preload.map { ["LD_PRELOAD=\($0)"] } ?? []))
        )
        var worker = WorkerProcess(processID: spawned.processID, input: spawned.input, output: spawned.output)
        try worker.awaitReady(preload: preload)
        return worker
    }

    private init(processID: pid_t, input: Int32, output: Int32) {
        self.processID = processID
        self.input = input
        self.output = output
    }

    private mutating func awaitReady(preload: String?) throws(WorkerFailure) {
        let answer = try readAnswer().split(separator: " ", maxSplits: 1)
        guard answer.count == 2, answer[0] == "ready" else { throw WorkerFailure("it could not be set up") }
        guard let preload else { return }
        guard Self.isSameFile(preload, String(answer[1])) else {
            throw WorkerFailure("\(preload) was not preloaded, malloc comes from \(answer[1])")
        }
    }

    private static func spawn(
        _ arguments: [String],
        program: String?,
        environment: [String]
    ) throws(WorkerFailure) -> (processID: pid_t, input: Int32, output: Int32) {
        var toWorker: [Int32] = [-1, -1]
        var fromWorker: [Int32] = [-1, -1]
        guard pipe(&toWorker) == 0 else { throw WorkerFailure("no pipe: \(lastError)") }
        guard pipe(&fromWorker) == 0 else {
            for descriptor in toWorker { close(descriptor) }
            throw WorkerFailure("no pipe: \(lastError)")
        }
        // A worker that held a copy of another's pipe would not let it end.
        for descriptor in toWorker + fromWorker { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
        // Writing to a worker that has died must be an error here, not a signal.
        signal(SIGPIPE, SIG_IGN)
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, toWorker[0], STDIN_FILENO)
        posix_spawn_file_actions_adddup2(&actions, fromWorker[1], STDOUT_FILENO)

        do {
            let child = try ChildProcess.spawn(program, arguments, environment, &actions)
            close(toWorker[0])
            close(fromWorker[1])
            return (child, toWorker[1], fromWorker[0])
        } catch {
            for descriptor in toWorker + fromWorker { close(descriptor) }
            throw error
        }
    }

    deinit {
        close(input)
        close(output)
        // It ends by itself now; one that hangs must not make the coordinator hang.
        var status: Int32 = 0
        for _ in 0..<Self.endPatience {
            if waitpid(processID, &status, WNOHANG) != 0 { return }
            usleep(10_000)
        }
        kill(processID, SIGKILL)
        waitpid(processID, &status, 0)
    }

    /// Sends a number and returns the numbers of the answer.
    mutating func ask(_ number: Int) throws(WorkerFailure) -> [Double] {
        let line = Array("\(number)\n".utf8)
        guard write(input, line, line.count) == line.count else { throw WorkerFailure("it ended unexpectedly") }
        let answer = try readAnswer()
        let numbers = answer.split(separator: " ").compactMap { Double(String($0)) }
        guard numbers.count >= 2 else { throw WorkerFailure("it answered \"\(answer)\"") }
        return numbers
    }

    private mutating func readAnswer() throws(WorkerFailure) -> String {
        while true {
            if let end = received.firstIndex(of: UInt8(ascii: "\n")) {
                let line = String(decoding: received[..<end], as: UTF8.self)
                received.removeSubrange(...end)
                return line
            }
            var descriptor = pollfd(fd: output, events: Int16(POLLIN), revents: 0)
            let ready = poll(&descriptor, 1, Self.answerLimitMilliseconds)
            if ready < 0, errno == EINTR { continue }
            guard ready > 0 else {
                kill(processID, SIGKILL)
                throw WorkerFailure("it did not answer within \(Self.answerLimitMilliseconds / 1000) s")
            }
            var chunk = [UInt8](repeating: 0, count: 512)
            let count = read(output, &chunk, chunk.count)
            guard count > 0 else { throw WorkerFailure("it ended unexpectedly") }
            received += chunk[..<count]
        }
    }

    private static var lastError: String { String(cString: strerror(errno)) }

    private static func isSameFile(_ first: String, _ second: String) -> Bool {
        var one = stat()
        var other = stat()
        return stat(first, &one) == 0 && stat(second, &other) == 0 && one.st_dev == other.st_dev
            && one.st_ino == other.st_ino
    }
}

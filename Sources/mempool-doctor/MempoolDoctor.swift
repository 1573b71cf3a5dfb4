// The command `mempool-doctor`: its root, and the one place where the process ends.

import ArgumentParser
import Glibc

/// The root command. It only parses: every subcommand returns the exit status that `main` ends the process with.
@main
struct MempoolDoctor: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mempool-doctor",
        abstract: "Find leaked, doubly put and wrongly put buffers of programs that use the mempool buffer pool.",
        discussion: """
            The doctor runs a program (exec) or a built-in workload (run) with the pool's recorder switched on, or \
            reads a recording that exists already (report). It names the line that took each missing buffer, and the \
            puts that were wrong. selftest tells whether all of that works on this machine; bench measures the pool \
            against general allocators.

            EXIT STATUS
              0    healthy: observed, and nothing found
              1    findings
              2    inconclusive: it could not be observed or measured; never reported as healthy
              64   usage; also without any arguments
              70   internal error
            exec passes a program's own status on if it is not 0: 128+n if signal n killed it. \
            126 if it cannot be executed, 127 if it is not found.

            EXAMPLES
              mempool-doctor run
              mempool-doctor run segment --input /usr/share/dict/words
              mempool-doctor exec -- .build/debug/server --port 8080
              mempool-doctor report server.mempool --format json
              mempool-doctor selftest
              mempool-doctor bench
            """,
        version: "mempool-doctor \(DoctorVersion.current)",
        subcommands: [
            RunCommand.self, ExecCommand.self, ReportCommand.self, SelftestCommand.self, BenchCommand.self,
            WorkloadCommand.self, PlantCommand.self, BenchPeerCommand.self,
        ]
    )

    static func main() {
        let observed = [WorkloadCommand.name, PlantCommand.name, BenchPeerCommand.name]
        if !observed.contains(CommandLine.arguments.dropFirst().first ?? "") {
            // Before anything can end the process: even `--help` would leave an empty recording.
            _ = DebugOptions.inherited
            _ = InheritedSignals.mask
            _ = InheritedSignals.ignoresBrokenPipe
        }
        let command: any ParsableCommand
        do {
            command = try parseAsRoot()
        } catch {
            // Help, version, completion scripts and usage errors: the parser knows what to print and the status.
            finish(error)
        }
        guard !(command is Self) else {
            // A script whose variable of arguments was empty must not pass for healthy.
            Message.usage(helpMessage())
            Glibc.exit(DoctorStatus.usage)
        }
        Glibc.exit(status(of: command))
    }

    /// Ends the process as the parser would.
    private static func finish(_ error: any Error) -> Never {
        guard !exitCode(for: error).isSuccess else { exit(withError: error) }
        var message = fullMessage(for: error)
        if let misspelt = misspeltCommand {
            // The parser takes it for an argument too many, and those behind it as well.
            message = "Error: \(misspelt)" + message.drop { $0 != "\n" }
        }
        Message.usage(message)
        Glibc.exit(exitCode(for: error).rawValue)
    }

    /// What to say of a first argument that should be a command and is none.
    private static var misspeltCommand: String? {
        guard let word = CommandLine.arguments.dropFirst().first, !word.hasPrefix("-") else { return nil }
        let commands = configuration.subcommands.map { $0.configuration }
        guard word != "help", !commands.contains(where: { $0.commandName == word }) else { return nil }
        let known = commands.filter(\.shouldDisplay).compactMap(\.commandName)
        let hint = nearestWord(to: word, among: known).map { "did you mean \($0)?" }
        return "Unknown command '\(word)'; " + (hint ?? "there are \(known.joined(separator: ", "))")
    }

    private static func status(of command: any ParsableCommand) -> Int32 {
        do {
            guard let command = command as? any DoctorCommand else {
                // The parser's own `help`.
                var command = command
                try command.run()
                return DoctorStatus.healthy
            }
            return try command.perform()
        } catch let failure as DoctorFailure {
            Message.failure(failure.description)
            return failure.status
        } catch {
            if exitCode(for: error) != .failure {
                finish(error)
            }
            // Anything else is a defect of the doctor. Its status must not look like findings, which are 1.
            Message.failure("internal error: \(error)")
            return DoctorStatus.internalError
        }
    }
}

/// A subcommand of the doctor.
protocol DoctorCommand: ParsableCommand {
    /// Does the work and returns the exit status; `DoctorFailure` carries one of its own.
    func perform() throws -> Int32
}

extension DoctorCommand {
    /// Never called by `main`; present because the parser asks for it.
    mutating func run() throws {
        throw ExitCode(try perform())
    }
}

/// The version printed by `--version`.
enum DoctorVersion {
    /// Follows CHANGELOG.md.
    static let current = "0.1.0"
}

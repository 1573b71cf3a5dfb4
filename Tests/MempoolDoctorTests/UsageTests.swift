// Usage errors, help, version, and the descriptions that other tools read.

import Foundation
import Testing

@Suite struct UsageTests {
    private let scratch: Scratch

    init() throws { scratch = try Scratch() }

    private static let execUsage = """
        Usage: mempool-doctor exec [<options>] -- <command> [<argument> ...]
          See 'mempool-doctor exec --help' for more information.

        """

    @Test func `The version is one line`() throws {
        #expect(
            try doctor("--version", in: scratch)
                == DoctorResult(status: 0, output: "mempool-doctor 0.1.0\n", errors: "")
        )
    }

    @Test(arguments: [["exec", "--help"], ["exec", "-h"], ["exec", "--format", "json", "--help"]])
    func `Help of exec is asked for as that of every command`(arguments: [String]) throws {
        let result = try DoctorProcess(arguments, in: scratch).finish()
        #expect(result.status == 0 && result.errors == "")
        #expect(result.output == (try doctor("help", "exec", in: scratch).output))
    }

    @Test(arguments: ["run", "exec", "report", "selftest", "bench"])
    func `Each command knows the version`(command: String) throws {
        #expect(
            try doctor(command, "--version", in: scratch)
                == DoctorResult(status: 0, output: "mempool-doctor 0.1.0\n", errors: ""))
    }

    @Test(arguments: [[], ["--"]]) func `Without a command there is the help on stderr, and no status of health`(
        arguments: [String]
    ) throws {
        let bare = try DoctorProcess(arguments, in: scratch).finish()
        #expect(bare.status == 64 && bare.output == "")
        let help = try doctor("--help", in: scratch)
        #expect(help.status == 0 && help.errors == "" && help.output.contains("EXIT STATUS"))
        #expect(bare.errors == help.output)
    }

    @Test(arguments: [
        (["exec"], "No command; write it after --, as in: mempool-doctor exec -- ls -l"),
        (["exec", "--"], "No command; write it after --, as in: mempool-doctor exec -- ls -l"),
        (["exec", "--formt", "json", "--", "ls"], "Unknown option '--formt'; write -- before the command"),
        (["exec", "--max-findings", "-1", "--", "ls"], "--max-findings must be 0 or more, not -1"),
    ])
    func `A mistake in the arguments of exec is named with status 64`(arguments: [String], line: String) throws {
        let result = try DoctorProcess(arguments, in: scratch).finish()
        #expect(result.status == 64)
        #expect(result.output == "")
        #expect(result.errors.hasPrefix("Error: \(line)\n"), "\(result.errors)")
        #expect(result.errors.hasSuffix(Self.execUsage), "\(result.errors)")
    }

    @Test(arguments: [
        ["report"], ["report", "a", "b"], ["report", "--format", "xml", "a"], ["report", "--color", "pink", "a"],
        ["report", "--max-findings=-1", "a"], ["frobnicate"], ["run", "--frobnicate"], ["run", "--seed", "x"],
        ["run", "--operations", "0"], ["run", "--threads", "0"], ["run", "--record-bytes", "0"],
        ["run", "--plant", "nonsense"], ["run", "--keep", "x"], ["run", "message", "batch", "--keep", "x"],
    ])
    func `Every other mistake has status 64, a line and nothing on stdout`(arguments: [String]) throws {
        let result = try DoctorProcess(arguments, in: scratch).finish()
        #expect(result.status == 64)
        #expect(result.output == "")
        #expect(result.errors.hasPrefix("Error: "), "\(result.errors)")
        #expect(try scratch.list().filter { $0 == "x" } == [])
    }

    @Test(arguments: [
        (["reprot", "a"], "Unknown command 'reprot'; did you mean report?"),
        (["selftset"], "Unknown command 'selftset'; did you mean selftest?"),
        (["frobnicate"], "Unknown command 'frobnicate'; there are run, exec, report, selftest, bench"),
        (["__peer"], "Unknown command '__peer'; there are run, exec, report, selftest, bench"),
    ])
    func `A command that does not exist is named, with the one that is meant`(arguments: [String], line: String) throws
    {
        let result = try DoctorProcess(arguments, in: scratch).finish()
        #expect(result.status == 64 && result.output == "")
        #expect(result.errors.hasPrefix("Error: \(line)\nUsage: mempool-doctor <subcommand>\n"), "\(result.errors)")
    }

    @Test(arguments: ["--operations", "--seed", "--threads", "--record-bytes", "--max-findings"])
    func `A number below 0 is refused for what it is`(option: String) throws {
        let result = try doctor("run", "segment", option, "-1", in: scratch)
        #expect(result.status == 64 && result.output == "")
        #expect(result.errors.contains("-1") && !result.errors.contains("Missing value"), "\(result.errors)")
    }

    @Test(arguments: ["run", "exec", "report"])
    func `Each command explains every option, its statuses and gives examples`(command: String) throws {
        let help = try doctor("help", command, in: scratch)
        #expect(help.status == 0)
        #expect(help.errors == "")
        for word in ["EXIT STATUS", "EXAMPLES", "--format", "--output", "--color", "--max-findings", "--source-root"] {
            #expect(help.output.contains(word), "\(word)")
        }
    }

    @Test func `The help of selftest explains its options and statuses and gives examples`() throws {
        let help = try doctor("help", "selftest", in: scratch)
        #expect(help.status == 0)
        for word in ["EXIT STATUS", "EXAMPLES", "--format", "--output", "--color"] {
            #expect(help.output.contains(word), "\(word)")
        }
    }

    @Test func `The description for tools lists the commands and gives every option a sentence`() throws {
        let result = try doctor("--experimental-dump-help", in: scratch)
        #expect(result.status == 0)
        let root = try #require(result.json?["command"] as? [String: Any])
        let commands = try #require(root["subcommands"] as? [[String: Any]])
        let names = commands.compactMap { $0["commandName"] as? String }
        #expect(
            names == ["run", "exec", "report", "selftest", "bench", "__workload", "__plant", "__bench-peer", "help"])
        for (name, command) in zip(names, commands) where name != "help" {
            for argument in try #require(command["arguments"] as? [[String: Any]]) {
                #expect((argument["abstract"] as? String)?.hasSuffix(".") == true, "\(argument)")
            }
        }
    }

    @Test(arguments: ["bash", "zsh", "fish"])
    func `A completion script is printed`(shell: String) throws {
        let result = try doctor("--generate-completion-script", shell, in: scratch)
        #expect(result.status == 0)
        #expect(result.output.contains("--max-findings") || result.output.contains("max-findings"))
        #expect(result.output.contains("selftest"))
        for hidden in ["__workload", "__plant", "__bench-peer"] { #expect(!result.output.contains(hidden)) }
    }
}

// `CommandHelp`: the commands and options that mempool-doctor itself says it has.

import Foundation

/// The part of `mempool-doctor --experimental-dump-help` that the tests compare.
struct CommandHelp: Decodable {
    struct Command: Decodable {
        var commandName: String
        var shouldDisplay: Bool?
        var subcommands: [Command]?
        var arguments: [Argument]?
    }

    struct Argument: Decodable {
        struct Name: Decodable {
            var kind: String
            var name: String
        }

        var kind: String
        var shouldDisplay: Bool?
        var names: [Name]?
    }

    var command: Command

    /// Runs the built command and reads what it says about itself.
    static func ofBuiltCommand() throws -> CommandHelp {
        let outcome = try Checkout.withTemporaryFolder {
            try Checkout.run("mempool-doctor --experimental-dump-help", in: $0)
        }
        return try JSONDecoder().decode(CommandHelp.self, from: outcome.output)
    }

    /// The options of each visible subcommand, as they are typed. Those of every command, `--help` and
    /// `--version`, are left out: they are compared separately.
    var optionsBySubcommand: [String: Set<String>] {
        var options: [String: Set<String>] = [:]
        for subcommand in command.subcommands ?? [] where subcommand.shouldDisplay ?? true {
            guard subcommand.commandName != "help" else { continue }
            options[subcommand.commandName] = Self.options(of: subcommand).subtracting(Self.common)
        }
        return options
    }

    /// The options of the command before any subcommand.
    var rootOptions: Set<String> { Self.options(of: command) }

    /// Options the argument parser gives to every command.
    static let common: Set<String> = ["-h", "--help", "--version"]

    private static func options(of command: Command) -> Set<String> {
        let visible = (command.arguments ?? []).filter { ($0.shouldDisplay ?? true) && $0.kind != "positional" }
        return Set(visible.flatMap { $0.names ?? [] }.map { ($0.kind == "long" ? "--" : "-") + $0.name })
    }
}

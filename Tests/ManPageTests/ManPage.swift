// `ManPage`: what the tests need to know of mempool-doctor.1, read from its source:
// the options of each command, the keys of MEMPOOL_DEBUG and the examples.

import Foundation

/// A manual page in mdoc source, as far as the tests understand it.
struct ManPage {
    /// One command line of the EXAMPLES section.
    struct Example: Sendable {
        /// What stands after the `$ ` prompt.
        var command: String
        /// The exit status it must have, from the comment `.\" status N` before it; 0 without one.
        var status: Int32
        /// Whether a comment `.\" long` keeps it out of the quick tests.
        var isLong: Bool
    }

    let lines: [String]

    /// Reads a page of the folder man/ of the checkout that the tests were built from.
    init(named name: String) throws {
        let file = Checkout.root.appendingPathComponent("man").appendingPathComponent(name)
        lines = try String(contentsOf: file, encoding: .utf8).components(separatedBy: "\n")
    }

    /// The lines between `.Sh title` and the next `.Sh`.
    func section(_ title: String) -> [String] {
        let heading = ".Sh \(title)"
        guard let start = lines.firstIndex(of: heading) else { return [] }
        return Array(lines[(start + 1)...].prefix { !$0.hasPrefix(".Sh ") })
    }

    /// The options of each subcommand: the `.It Fl` entries below its `.Ss` heading in COMMANDS, as they are typed.
    var optionsBySubcommand: [String: Set<String>] {
        var options: [String: Set<String>] = [:]
        var subcommand = ""
        for line in section("COMMANDS") {
            if line.hasPrefix(".Ss ") {
                subcommand = String(line.dropFirst(4))
                options[subcommand] = []
            } else if line.hasPrefix(".It Fl ") {
                options[subcommand, default: []].formUnion(Self.options(in: line))
            }
        }
        return options
    }

    /// The options in SYNOPSIS, of all subcommands together.
    var synopsisOptions: Set<String> {
        Set(section("SYNOPSIS").filter { $0.hasPrefix(".Op Fl ") || $0.hasPrefix(".Fl ") }.flatMap(Self.options))
    }

    /// The keys of `MEMPOOL_DEBUG`: the `key Ns = Ns value` entries, and those without a value, of its inner list.
    var debugKeys: Set<String> {
        var keys: Set<String> = []
        var inside = false
        for line in section("ENVIRONMENT") {
            if line.hasPrefix(".It Ev ") { inside = line == ".It Ev MEMPOOL_DEBUG" }
            guard inside, line.hasPrefix(".It Cm ") else { continue }
            keys.insert(String(line.dropFirst(7).prefix { $0 != " " }))
        }
        return keys
    }

    /// The command lines of EXAMPLES, in page order.
    var examples: [Example] {
        var examples: [Example] = []
        var status: Int32 = 0
        var isLong = false
        for line in section("EXAMPLES") {
            if line.hasPrefix(#".\" status "#) {
                status = Int32(line.dropFirst(11)) ?? -1
            } else if line == #".\" long"# {
                isLong = true
            } else if line.hasPrefix("$ ") {
                examples.append(Example(command: String(line.dropFirst(2)), status: status, isLong: isLong))
                status = 0
                isLong = false
            }
        }
        return examples
    }

    /// `.It Fl h , Fl -help` → `-h`, `--help`.
    private static func options(in line: String) -> [String] {
        let words = line.split(separator: " ")
        return zip(words, words.dropFirst()).filter { $0.0 == "Fl" || $0.0 == ".Fl" }.map { "-\($0.1)" }
    }
}

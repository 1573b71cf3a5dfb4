// Tests that mempool-doctor.1 says what the command does: same options, same keys, examples that run.

import Foundation
import MempoolRecorder
import Testing

@Suite("The manual page mempool-doctor(1)")
struct ManPageTests {
    static let page = Result { try ManPage(named: "mempool-doctor.1") }
    static let everyCommand = "Options of every command"

    @Test("describes exactly the subcommands and options that the command has")
    func options() throws {
        let help = try CommandHelp.ofBuiltCommand()
        var described = try Self.page.get().optionsBySubcommand
        described[Self.everyCommand] = nil

        let existing = help.optionsBySubcommand
        #expect(!existing.isEmpty)
        #expect(Set(described.keys) == Set(existing.keys))
        for (subcommand, options) in existing {
            let missing = options.subtracting(described[subcommand] ?? [])
            let invented = (described[subcommand] ?? []).subtracting(options)
            #expect(missing.isEmpty, "options of '\(subcommand)' that the page does not describe")
            #expect(invented.isEmpty, "options the page describes that '\(subcommand)' does not have")
        }
    }

    @Test("describes the options that every command has")
    func commonOptions() throws {
        let help = try CommandHelp.ofBuiltCommand()
        let described = try Self.page.get().optionsBySubcommand[Self.everyCommand] ?? []
        // The parser does not list this one in its own help.
        #expect(described == help.rootOptions.union(["--generate-completion-script"]))
    }

    @Test("shows in its synopsis every option it describes, by its long name")
    func synopsis() throws {
        let page = try Self.page.get()
        var described = page.optionsBySubcommand
        described[Self.everyCommand] = nil
        let options = described.values.reduce(into: Set()) { $0.formUnion($1) }
        #expect(page.synopsisOptions == options.filter { $0.hasPrefix("--") })
    }

    @Test("describes exactly the keys of MEMPOOL_DEBUG")
    func debugKeys() throws {
        let keys = Set(RecorderOptions.keys)
        #expect(try Self.page.get().debugKeys == keys)
    }

    @Test("has examples")
    func hasExamples() throws {
        #expect(try Self.page.get().examples.filter { $0.command.hasPrefix("mempool-doctor ") }.count >= 5)
    }

    /// In page order and in one folder, as later examples read what earlier ones wrote.
    @Test("has examples that run, with the status that the page promises")
    func examples() throws {
        let page = try Self.page.get()
        try Checkout.withTemporaryFolder { folder in
            let log = (0..<1000).map { "line \($0) " + String(repeating: "x", count: $0 % 300) }
            try Data(log.joined(separator: "\n").utf8).write(to: folder.appendingPathComponent("access.log"))
            // What the examples call `server` is a program of the checkout that leaks.
            try FileManager.default.createSymbolicLink(
                at: folder.appendingPathComponent("server"),
                withDestinationURL: Checkout.executables.appendingPathComponent("example-leak")
            )
            let runsLong = ProcessInfo.processInfo.environment["MEMPOOL_LONG_TESTS"] == "1"
            for example in page.examples where runsLong || !example.isLong {
                let outcome = try Checkout.run(example.command, in: folder)
                #expect(outcome.status == example.status, "\(example.command)\n\(outcome.errors)")
            }
        }
    }
}

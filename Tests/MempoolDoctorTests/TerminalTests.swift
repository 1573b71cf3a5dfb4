// Colour and progress: only where somebody can see them.

import Foundation
import MempoolAnalysis
import MempoolReporters
import Testing

@Suite struct TerminalTests {
    private let scratch: Scratch

    init() throws { scratch = try Scratch() }

    private func expected(_ path: String, color: Bool, unicode: Bool = true) throws -> String {
        var options = AnalysisOptions()
        options.sourceRoot = scratch.path
        let style = TextStyle(color: color, width: 100, unicode: unicode)
        return TextReporter.render(try Analyzer.report(recordingAt: path, options: options), style: style)
    }

    @Test func `Colour can be forced and is off in a file by default`() throws {
        let path = try scratch.findingsRecording()
        #expect(try doctor("report", path, in: scratch).output == (try expected(path, color: false)))
        #expect(
            try doctor("report", "--color", "always", path, in: scratch, environment: ["NO_COLOR": "1"]).output
                == (try expected(path, color: true))
        )
    }

    /// Environment, options, and whether the text is coloured.
    private static let colorCases: [([String: String], [String], Bool)] = [
        ([:], [], true),
        (["NO_COLOR": ""], [], true),
        (["NO_COLOR": "1"], [], false),
        (["TERM": "dumb"], [], false),
        ([:], ["--color", "never"], false),
        (["NO_COLOR": "1"], ["--color", "always"], true),
    ]

    @Test(arguments: colorCases)
    func `On a terminal colour obeys NO_COLOR, TERM and the option`(
        environment: [String: String],
        options: [String],
        isColored: Bool
    ) throws {
        let terminal = try Pseudoterminal()
        let process = try DoctorProcess(
            ["report"] + options + [try scratch.findingsRecording()],
            in: scratch,
            environment: ["TERM": "xterm"].merging(environment) { $1 },
            terminal: terminal.path
        )
        let output = terminal.readToEnd()
        #expect(try process.finish().status == 1)
        #expect(output.contains("\u{1B}[") == (isColored || environment["TERM"] != "dumb"), "progress or colour")
        #expect(output.contains("m") && output.contains(/\x{1B}\[[0-9;]*m/) == isColored, "\(output)")
    }

    @Test func `Nothing in a path commands the terminal`() throws {
        let title = "\u{1B}]0;x\u{07}"
        let name = scratch.file("\(title)\u{9B}31m")
        let missing = try doctor("report", name, in: scratch)
        #expect(missing.status == 2)
        #expect(missing.errors.contains("/?]0;x??31m"), "\(missing.errors)")
        let usage = try doctor("report", name, name, in: scratch)
        #expect(usage.status == 64)
        #expect(usage.errors.hasPrefix("Error: "))
        let input = try doctor("run", "segment", "segment", "--input", name, in: scratch)
        #expect(input.output.contains("? segment  failed: cannot open the input "))
        let peer = try scratch.writeExecutable(try Data(contentsOf: URL(filePath: "/bin/true")), to: "lib\(title).so")
        let bench = try doctor("bench", "fifo", "--quick", "--peer", peer, in: scratch)
        #expect(bench.status == 64)
        for result in [missing, usage, input, bench] {
            let scalars = (result.output + result.errors).unicodeScalars
            #expect(!scalars.contains { $0 != "\n" && $0.properties.generalCategory == .control }, "\(result)")
        }

        let terminal = try Pseudoterminal()
        let process = try DoctorProcess(
            ["report", name], in: scratch, environment: ["TERM": "xterm"], terminal: terminal.path)
        let shown = terminal.readToEnd()
        #expect(try process.finish().status == 2)
        #expect(shown.contains("reading "))
        #expect(!shown.contains(title))
    }

    @Test(arguments: [("C", false), ("en_GB.UTF-8", true), ("C.utf8", true), ("de_DE.ISO-8859-1@euro", false)])
    func `Characters beyond ASCII need a UTF-8 locale`(locale: String, isUnicode: Bool) throws {
        let path = try scratch.findingsRecording()
        let result = try doctor("report", path, in: scratch, environment: ["LC_ALL": locale])
        #expect(result.output == (try expected(path, color: false, unicode: isUnicode)))
        if !isUnicode { #expect(result.output.allSatisfy { $0.isASCII }) }
    }
}

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

    @Test(arguments: [("C", false), ("en_GB.UTF-8", true), ("C.utf8", true), ("de_DE.ISO-8859-1@euro", false)])
    func `Characters beyond ASCII need a UTF-8 locale`(locale: String, isUnicode: Bool) throws {
        let path = try scratch.findingsRecording()
        let result = try doctor("report", path, in: scratch, environment: ["LC_ALL": locale])
        #expect(result.output == (try expected(path, color: false, unicode: isUnicode)))
        if !isUnicode { #expect(result.output.allSatisfy { $0.isASCII }) }
    }
}

// `mempool-doctor report FILE`.

import ArgumentParser
import MempoolAnalysis

/// Analyses a recording that exists.
struct ReportCommand: DoctorCommand {
    static let configuration = CommandConfiguration(
        commandName: "report",
        abstract: "Report on a recording: of a running program, after its exit, or after a crash.",
        discussion: """
            Reads a recording that exists already and changes nothing about it. While the program still runs the report \
            shows what is outstanding at this moment.

            EXIT STATUS
            0 healthy, 1 findings, 2 the recording cannot be read or has no get, 64 usage, 70 internal error.

            EXAMPLES
              mempool-doctor report server.mempool
              mempool-doctor report --format json --output report.json server.mempool
            """
    )

    @Argument(help: ArgumentHelp("The recording.", valueName: "file"))
    var file: String

    @OptionGroup(title: "Report options")
    var report: ReportOptions

    func perform() throws -> Int32 {
        var output = try ReportOutput(report, reading: file)
        var progress = Progress()
        progress.draw("reading \(file)")
        let diagnosis = Diagnosis(recordingAt: file, sourceRoot: report.sourceRootPath)
        progress.clear()
        try output.write(diagnosis)
        return exitStatus(programEnd: nil, verdict: diagnosis.report.verdict)
    }
}

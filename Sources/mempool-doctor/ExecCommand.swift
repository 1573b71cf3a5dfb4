// `mempool-doctor exec -- command args…`.

import ArgumentParser
import MempoolAnalysis
import MempoolReporters

/// Observes a user's program.
struct ExecCommand: DoctorCommand {
    static let configuration = CommandConfiguration(
        commandName: "exec",
        abstract: "Run a program with the recorder switched on, and report when it has ended.",
        usage: "mempool-doctor exec [<options>] -- <command> [<argument> ...]",
        discussion: """
            The program runs in the same terminal with the same standard streams; the report follows its output on \
            stdout. Send the report to a file (--output) if the program's own stdout is data.

            MEMPOOL_DEBUG keeps the keys you have set, but for recording and quiet; the doctor adds level=full if you \
            named no level, and its own recording. Ctrl-C reaches the program, and the report still comes; signals \
            sent to the doctor alone (INT, QUIT, TERM, HUP) are passed on. Programs that the program starts are \
            observed too.

            EXIT STATUS
            The program's own, if it is not 0: 128+n if signal n killed it. Otherwise 0 healthy, 1 findings, \
            2 inconclusive (no recording appeared, it cannot be read, the program got no buffer, or a process that it \
            started still ran when it had ended). 127 command not found, 126 cannot be \
            executed, 64 usage, 70 internal error.

            EXAMPLES
              mempool-doctor exec -- .build/debug/server --port 8080
              mempool-doctor exec --format json --output report.json -- .build/debug/client
              mempool-doctor exec --keep client.mempool -- swift test --skip-build
            """
    )

    @OptionGroup(title: "Report options")
    var report: ReportOptions

    @OptionGroup(title: "Recording options")
    var recording: RecordingOptions

    @Argument(
        parsing: .captureForPassthrough,
        help: ArgumentHelp("The program and its arguments; write -- before it.", valueName: "command")
    )
    var words: [String] = []

    /// The words without the `--` that introduces them.
    private var command: [String] { Array(words.first == "--" ? words.dropFirst() : words[...]) }

    func validate() throws {
        // What is captured for the program hides what the parser answers everywhere else.
        switch words.first {
        case "-h", "--help": throw CleanExit.helpRequest(Self.self)
        case "--version": throw CleanExit.message(MempoolDoctor.configuration.version)
        default: break
        }
        // Without `--` the parser takes an option it does not know for the command.
        if let first = words.first, first != "--", first.hasPrefix("-") {
            throw ValidationError("Unknown option '\(first)'; write -- before the command")
        }
        if command.isEmpty {
            throw ValidationError("No command; write it after --, as in: mempool-doctor exec -- ls -l")
        }
    }

    func perform() throws -> Int32 {
        let debugOptions = DebugOptions.inherited
        if debugOptions.namesRecording {
            Message.note(DebugOptions.replacedRecordingNote)
        }
        var output = try ReportOutput(report)
        let place = try RecordingPlace(keeping: recording.keep)
        // The terminal is the program's while it runs.
        var progress = Progress(isWanted: false)
        // The parser hands the words over as Strings; the program must get its bytes.
        let command = command
        let arguments = CStringArray.ownArguments(last: command.count)
        let process = ObservedProcess(executable: arguments[0], arguments: arguments, environment: [])
        let observer = Observer(
            debugOptions: debugOptions,
            keepsExitCode: true,
            sourceRoot: report.sourceRootPath
        )
        let observation: Observation
        do {
            observation = try observer.observe(process, place: place, label: command[0], progress: &progress)
        } catch {
            throw DoctorFailure(error.description, status: error.status)
        }
        try write(observation, to: &output)
        place.announce()
        return exitStatus(programEnd: observation.outcome.end, verdict: observation.verdict)
    }

    /// One process is a plain report; a family of processes is a line each, then the reports of those that are not healthy, headed
    /// by their numbers.
    private func write(_ observation: Observation, to output: inout ReportOutput) throws {
        guard observation.diagnoses.count > 1 else {
            for entry in observation.diagnoses { try output.write(entry.diagnosis) }
            return
        }
        if output.format == .json {
            let runs = observation.diagnoses.map {
                RunsDocument.Run(processID: $0.processID, report: $0.diagnosis.report)
            }
            try output.write(RunsDocument(verdict: observation.verdict, runs: runs))
            return
        }
        for entry in observation.diagnoses {
            let report = entry.diagnosis.report
            let mark = VerdictMark(report.verdict, style: output.style)
            let program = report.process?.executable.split(separator: "/").last.map { " (\($0))" } ?? ""
            let text =
                report.verdict == .findings
                ? Sentences.plural(report.findings.count, "finding") : report.verdictReason
            try output.write(
                "\(mark.painted(mark.sign)) \(PlainText.clean("\(heading(entry.processID))\(program)  \(text)"))\n")
        }
        try output.write("\n")
        for entry in observation.diagnoses {
            let report = entry.diagnosis.report
            // A helper that got no buffer has nothing to show.
            guard report.verdict != .healthy, report.recordedNoGet != true else { continue }
            try output.write(heading(entry.processID) + "\n")
            try output.write(entry.diagnosis)
            try output.write("\n")
        }
        try output.write("\(observation.diagnoses.count) recordings: \(observation.verdict.rawValue).\n")
    }

    private func heading(_ processID: Int32?) -> String {
        "Process \(processID.map(String.init) ?? "of unknown number")"
    }
}

// `mempool-doctor run [WORKLOAD…]`.

import ArgumentParser
import MempoolAnalysis
import MempoolReporters
import MempoolWorkloads

/// Observes built-in workloads.
struct RunCommand: DoctorCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Run built-in workloads under observation; without a name, the standard set.",
        discussion: """
            Each workload is a process of its own, observed as `exec` observes a program. One workload gives a whole \
            report; several give a line each, the reports of those with findings, and one verdict.

            EXIT STATUS
            0 healthy, 1 findings in any workload, 2 inconclusive: a workload failed (as with an unreadable --input) \
            or could not be observed, and none had findings. 64 usage, as an unknown workload; 70 internal error.

            EXAMPLES
              mempool-doctor run
              mempool-doctor run --list
              mempool-doctor run segment --input /usr/share/dict/words
              mempool-doctor run segment --plant leak:0.001
              mempool-doctor run batch --keep batch.mempool --format json
            """
    )

    @Argument(help: ArgumentHelp("Workloads to run, in this order; --list names them.", valueName: "workload"))
    var workloads: [String] = []

    @Flag(help: "List the workloads and what they do, and run nothing.")
    var list = false

    @OptionGroup(title: "Workload options")
    var workload: WorkloadOptionGroup

    @OptionGroup(title: "Report options")
    var report: ReportOptions

    @OptionGroup(title: "Recording options")
    var recording: RecordingOptions

    func validate() throws {
        let known = WorkloadCatalog.all.map(\.name)
        for name in workloads where !known.contains(name) {
            let hint = nearestWord(to: name, among: known).map { "; did you mean \($0)?" } ?? "."
            throw ValidationError("No workload \"\(name)\"\(hint) There are: \(known.joined(separator: ", "))")
        }
        let readers = WorkloadCatalog.all.filter(\.readsInput).map(\.name)
        let chosen = workloads.isEmpty ? WorkloadCatalog.standardSet : workloads
        let isInputNamed = workload.input != nil || workload.recordBytes != nil
        if isInputNamed, let stranger = chosen.first(where: { !readers.contains($0) }) {
            let flag = workload.input != nil ? "--input" : "--record-bytes"
            throw ValidationError(
                "\(flag) means nothing to the workload \(stranger); name one that reads input: "
                    + readers.joined(separator: ", ")
            )
        }
        if recording.keep != nil, workloads.count != 1 {
            throw ValidationError("--keep keeps one recording; name one workload with it")
        }
    }

    func perform() throws -> Int32 {
        let debugOptions = DebugOptions.inherited
        var output = try ReportOutput(report, reading: workload.input)
        if list {
            switch output.format {
            case .json: try output.write(JSONReporter.render(WorkloadList()))
            case .text: try output.write(WorkloadList.text())
            }
            return DoctorStatus.healthy
        }
        if debugOptions.namesRecording {
            Message.note(DebugOptions.replacedRecordingNote)
        }
        let names = workloads.isEmpty ? WorkloadCatalog.standardSet : workloads
        let observer = Observer(
            debugOptions: try workload.debugOptions(debugOptions),
            keepsExitCode: false,
            sourceRoot: report.sourceRootPath
        )
        var presentation = RunPresentation(workloads: names)
        var progress = Progress()
        for name in names {
            let run = try WorkloadRun.run(
                name,
                options: try workload.workloadOptions(),
                observer: observer,
                keeping: recording.keep,
                progress: &progress
            )
            try presentation.add(run, to: &output)
            if run.wasInterrupted { break }
        }
        try presentation.finish(to: &output)
        return exitStatus(programEnd: nil, verdict: presentation.verdict)
    }
}

/// What `run --list` gives out. Its property names are the keys of the JSON form.
struct WorkloadList: Encodable {
    /// One workload.
    struct Entry: Encodable {
        var name: String
        var abstract: String
        /// Operations when none are asked for.
        var operations: Int
        /// Whether it runs when no workload is named.
        var isStandard: Bool
        /// Whether `--input` and `--record-bytes` mean something to it.
        var readsInput: Bool
    }

    var schemaVersion = 1
    var workloads = WorkloadCatalog.all.map { workload in
        Entry(
            name: workload.name, abstract: workload.abstract, operations: workload.defaultOperations,
            isStandard: WorkloadCatalog.standardSet.contains(workload.name), readsInput: workload.readsInput)
    }

    /// One line per workload, those of the standard set marked.
    static func text() -> String {
        let width = WorkloadCatalog.all.map(\.name.count).max() ?? 0
        let lines = WorkloadCatalog.all.map { workload in
            let padding = String(repeating: " ", count: width - workload.name.count)
            let mark = WorkloadCatalog.standardSet.contains(workload.name) ? "*" : " "
            return "\(mark) \(workload.name)\(padding)  \(workload.abstract)\n"
        }
        return lines.joined() + "\n* runs when no workload is named\n"
    }
}

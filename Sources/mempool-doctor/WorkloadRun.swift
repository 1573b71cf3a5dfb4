// One workload of `run`: its child process, its result, its recording.

import FoundationEssentials
import Glibc
import MempoolAnalysis
import MempoolWorkloads

/// A workload that has been run under observation.
struct WorkloadRun {
    var name: String
    /// What was done and verified; nil if the workload failed.
    var summary: WorkloadSummary?
    /// Why it failed.
    var error: String?
    /// What its recording says. A workload that failed in its first step need not have one worth showing.
    var diagnosis: Diagnosis
    /// Set when somebody wanted the doctor to stop meanwhile.
    var wasInterrupted: Bool

    /// A workload that failed was not observed to its end; findings of one that failed in an orderly way still are
    /// findings.
    var verdict: Report.Verdict {
        error == nil ? diagnosis.report.verdict : worstVerdict([diagnosis.report.verdict, .inconclusive])
    }

    /// Spawns this very executable with the hidden command, as `exec` spawns a program.
    static func run(
        _ name: String,
        options: WorkloadOptions,
        observer: Observer,
        keeping path: String?,
        progress: inout Progress
    ) throws -> WorkloadRun {
        let place = try RecordingPlace(keeping: path)
        let resultPath = place.directory.path + "/result.json"
        var options = options
        // So that a workload that is killed leaves nothing behind. If none can be made, the workload finds that out and says so.
        let files = try? options.directory.map { parent throws(DoctorFailure) in try TemporaryDirectory(in: parent) }
        switch files {
        case .some(let files): options.directory = files.path
        case .none: options.directory = options.directory ?? place.directory.path
        }
        let encoded = String(decoding: try JSONEncoder().encode(options), as: UTF8.self)
        let words = [
            CommandLine.arguments.first ?? "mempool-doctor", WorkloadCommand.name, name,
            "--options", encoded, "--result", resultPath,
        ]
        let process = ObservedProcess(
            executable: Array("/proc/self/exe".utf8CString),
            arguments: words.map { Array($0.utf8CString) },
            environment: [],
            sendsOutputToStandardError: true
        )
        let observation: Observation
        do {
            observation = try observer.observe(process, place: place, label: name, progress: &progress)
        } catch {
            throw DoctorFailure("cannot start the workload \(name): \(error.error)", status: DoctorStatus.inconclusive)
        }
        place.announce()
        var run = WorkloadRun(
            name: name,
            diagnosis: observation.diagnoses[0].diagnosis,
            wasInterrupted: observation.outcome.wasInterrupted
        )
        // The hidden command and its options mean nothing to the reader, and cannot be run again.
        run.diagnosis.report.process?.commandLine =
            (["mempool-doctor"] + CommandLine.arguments.dropFirst()).joined(separator: " ")
        switch result(at: resultPath) {
        case .summary(let summary): run.summary = summary
        case .failure(let error) where error.isUsage: throw DoctorFailure(error.description, status: DoctorStatus.usage)
        case .failure(let error): run.error = error.description
        case nil:
            let error = "the workload \(description(of: observation.outcome.end)) before it was done"
            run.error = error
            // What a process held when it died, as after a Ctrl-C, is not a mistake of the workload.
            run.diagnosis.report.findings = []
            run.diagnosis.report.verdict = .inconclusive
            run.diagnosis.report.verdictReason = error
        }
        return run
    }

    private static func result(at path: String) -> WorkloadResult? {
        guard let data = FileManager.default.contents(atPath: path) else { return nil }
        return try? JSONDecoder().decode(WorkloadResult.self, from: data)
    }

    private static func description(of end: ProgramEnd) -> String {
        switch end {
        case .exited(let status): "exited with status \(status)"
        case .killed(let signal): "was killed by signal \(signal) (\(MissingRecording.signalName(signal)))"
        }
    }
}

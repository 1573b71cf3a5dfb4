// The one pipeline of `run` and `exec`: start, wait, analyse what is left.

import MempoolAnalysis

/// What can be said about one process, or about a recording.
struct Diagnosis {
    /// Inconclusive if there was nothing to analyse.
    var report: Report
    /// One line that says why there was nothing, and what to do.
    var failure: String?

    /// The diagnosis of something that could not be observed.
    init(failure: String) {
        report = .inconclusive(because: failure)
        self.failure = failure
    }

    /// Analyses one recording; an error of the recording is a diagnosis too.
    ///
    /// - Parameters:
    ///   - end: how the process ended, if that was seen.
    ///   - sourceRoot: paths below it are shown relative to it.
    init(recordingAt path: String, end: ProgramEnd? = nil, sourceRoot: String?) {
        var options = AnalysisOptions()
        options.sourceRoot = sourceRoot
        switch end {
        case .exited(let status): options.exitedStatus = Int(status)
        case .killed(let signal): options.killedBySignal = Int(signal)
        case nil: break
        }
        do {
            report = try Analyzer.report(recordingAt: path, options: options)
        } catch {
            report = .inconclusive(because: error.description)
            failure = error.description
        }
    }
}

/// A program that has been run under observation, and what its recordings say.
struct Observation {
    var outcome: ObservedProcess.Outcome
    /// Never empty. More than one if the program started others that use the pool.
    var diagnoses: [(processID: Int32?, diagnosis: Diagnosis)]

    var verdict: Report.Verdict { worstVerdict(diagnoses.map(\.diagnosis.report.verdict)) }
}

/// Runs programs under observation.
struct Observer {
    /// What the user had in MEMPOOL_DEBUG.
    var debugOptions: DebugOptions
    /// Whether the user's `exitcode=` reaches the program.
    var keepsExitCode: Bool
    var sourceRoot: String?

    /// Runs `process` with the recorder switched on and analyses its recordings.
    ///
    /// - Parameter label: shown by `progress` while the program runs.
    func observe(
        _ process: ObservedProcess,
        place: borrowing RecordingPlace,
        label: String,
        progress: inout Progress
    ) throws(SpawnFailure) -> Observation {
        var process = process
        process.environment = .ownEnvironment(
            setting: DebugOptions.variableName,
            to: debugOptions.value(recordingTo: place.pattern, keepsExitCode: keepsExitCode)
        )
        let outcome = try process.run { progress.draw(label) }
        progress.draw("\(label): reading the recording")
        defer { progress.clear() }

        var diagnoses = place.recordings().map { recording in
            // How the program ended is known of the process that was started, not of those it started itself.
            let isTheProgram = recording.processID == nil || recording.processID == outcome.processID
            var diagnosis = Diagnosis(
                recordingAt: recording.path,
                end: isTheProgram ? outcome.end : nil,
                sourceRoot: sourceRoot
            )
            // A path that is gone when the user reads it helps nobody.
            if place.kept == nil { diagnosis.report.recorder?.recording = "" }
            return (processID: recording.processID, diagnosis: diagnosis)
        }
        if diagnoses.isEmpty {
            let reason = MissingRecording.reason(
                executable: process.executable,
                name: process.arguments[0].text,
                end: outcome.end,
                debugOptions: debugOptions
            )
            diagnoses = [(nil, Diagnosis(failure: reason))]
        }
        return Observation(outcome: outcome, diagnoses: diagnoses)
    }
}

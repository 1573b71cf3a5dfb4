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
    ///   - ends: how processes ended, by their number, as far as that was seen.
    ///   - endTimes: when, if it was seen.
    ///   - observationHasEnded: whether nobody will see the end of a process that still runs.
    ///   - sourceRoot: paths below it are shown relative to it.
    init(
        recordingAt path: String, ends: [Int: ObservedEnd] = [:], endTimes: [Int: UInt64] = [:],
        observationHasEnded: Bool = false, sourceRoot: String?
    ) {
        var options = AnalysisOptions()
        options.sourceRoot = sourceRoot
        options.observedEnds = ends
        options.observedEndTimes = endTimes
        options.observationHasEnded = observationHasEnded
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

    /// The worst of the processes. One that got no buffer says nothing about a family in which another one did: helpers that
    /// contain the pool need not use it.
    var verdict: Report.Verdict {
        let users = diagnoses.map(\.diagnosis.report).filter { $0.recordedNoGet != true }
        return worstVerdict(users.isEmpty ? [.inconclusive] : users.map(\.verdict))
    }
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

        // How the program ended is known of the process that was started, not of those it started itself.
        var ends = [Int(outcome.processID): outcome.end.observed]
        var endTimes = [Int(outcome.processID): outcome.endTime]
        var diagnoses: [(processID: Int32?, diagnosis: Diagnosis)] = []
        // The newest first: it saw the end of its process, and those before it in that process were replaced.
        for recording in place.recordings().reversed() {
            var diagnosis = Diagnosis(
                recordingAt: recording.path, ends: ends, endTimes: endTimes, observationHasEnded: true,
                sourceRoot: sourceRoot)
            // A path that is gone when the user reads it helps nobody.
            if place.kept == nil { diagnosis.report.recorder?.recording = "" }
            let processID =
                recording.processID
                ?? diagnosis.report.process.flatMap { $0.processID > 0 ? Int32(exactly: $0.processID) : nil }
            if let processID {
                ends[Int(processID)] = .replaced
                endTimes[Int(processID)] = nil
            }
            diagnoses.append((processID, diagnosis))
        }
        diagnoses.reverse()
        if diagnoses.isEmpty {
            let reason = MissingRecording.reason(
                executable: process.executable,
                name: process.arguments[0].text,
                end: outcome.end,
                debugOptions: debugOptions,
                directory: place.folder
            )
            diagnoses = [(nil, Diagnosis(failure: reason))]
        }
        return Observation(outcome: outcome, diagnoses: diagnoses)
    }
}

// The report: what a recording says, as one value. Text, JSON and other forms are renderings of it.
// The property names are the keys of the JSON form: keys are added and never change meaning.

/// What a recording says about the program that wrote it.
package struct Report: Codable, Equatable, Sendable {
    /// The outcome in one word; decides the exit status of the doctor.
    package enum Verdict: String, Codable, Sendable {
        /// Observed, and nothing found.
        case healthy
        /// At least one finding.
        case findings
        /// Could not be observed well enough to call it healthy.
        case inconclusive
    }

    /// Version of the keys and their meaning.
    package static let currentSchemaVersion = 1

    package var schemaVersion = Report.currentSchemaVersion
    package var verdict: Verdict
    /// Why that verdict, one sentence.
    package var verdictReason: String
    /// True if the verdict is inconclusive for no other reason than that no get was seen; nil otherwise.
    package var recordedNoGet: Bool?
    /// The program that was observed; nil if no recording was there to tell.
    package var process: ProcessReport?
    /// Worst first.
    package var findings: [Finding] = []
    package var pools: [PoolReport] = []
    /// What could be better without being a mistake; changes neither verdict nor exit status.
    package var advice: [Advice] = []
    /// Buffers that came back after their scope had ended; they are no leaks.
    package var lateReturns: [LateReturns] = []
    /// How the program was recorded; nil if no recording was there.
    package var recorder: RecorderReport?
    /// What a reader should know to judge the findings: sentences.
    package var notes: [String] = []
    /// Paths below it are shown relative to it.
    package var sourceRoot: String?

    package init(verdict: Verdict, verdictReason: String) {
        self.verdict = verdict
        self.verdictReason = verdictReason
    }

    /// A report for a program that could not be observed.
    ///
    /// - Parameter reason: one sentence, what was missing.
    package static func inconclusive(because reason: String) -> Report {
        Report(verdict: .inconclusive, verdictReason: reason)
    }

    /// Turns a healthy verdict into an inconclusive one. Findings stay findings: they were seen.
    package mutating func declareInconclusive(because reason: String) {
        guard verdict != .findings else {
            notes.append(reason)
            return
        }
        verdict = .inconclusive
        verdictReason = reason
    }
}

/// The process that wrote the recording.
package struct ProcessReport: Codable, Equatable, Sendable {
    package var processID: Int
    package var commandLine: String
    package var executable: String
    package var ending: ProcessEnding
    /// Seconds from the first use of the pool to the last sign of life.
    package var durationSeconds: Double
    /// When the recording began, ISO 8601 in UTC.
    package var startedAt: String

    package init(
        processID: Int, commandLine: String, executable: String, ending: ProcessEnding, durationSeconds: Double,
        startedAt: String
    ) {
        self.processID = processID
        self.commandLine = commandLine
        self.executable = executable
        self.ending = ending
        self.durationSeconds = durationSeconds
        self.startedAt = startedAt
    }
}

/// How a process ended, as far as anybody knows.
package struct ProcessEnding: Codable, Equatable, Sendable {
    package enum Kind: String, Codable, Sendable {
        /// It left through `exit` or the end of `main`; `status` is known. If a signal killed it after that, `signal` is too.
        case exited
        /// It went without a clean exit: killed, crashed, `_exit` or replaced. `signal` or `status` is known if a parent saw it.
        case died
        /// It still runs.
        case running
    }

    package var kind: Kind
    package var status: Int?
    package var signal: Int?
    /// Whether the recording is a snapshot, so that the program was running when it was taken and may have ended since.
    package var isSnapshot = false
    /// Whether the process went on as another program, which has a recording of its own.
    package var isReplaced = false

    /// Whether nobody saw the end, so that times are counted from the last thing that was recorded.
    package var isUnseen: Bool { kind == .died && status == nil && signal == nil && !isReplaced }

    package init(
        kind: Kind, status: Int? = nil, signal: Int? = nil, isSnapshot: Bool = false, isReplaced: Bool = false
    ) {
        self.kind = kind
        self.isSnapshot = isSnapshot
        self.isReplaced = isReplaced
        self.status = status
        self.signal = signal
    }
}

// Exit statuses: the numbers of the doctor, how a program can end, and the one function that maps the two.

import MempoolAnalysis

/// The doctor's own statuses.
enum DoctorStatus {
    /// Observed, and nothing found.
    static let healthy: Int32 = 0
    /// At least one finding.
    static let findings: Int32 = 1
    /// Could not be observed.
    static let inconclusive: Int32 = 2
    /// The command exists but cannot be executed, as shells have it.
    static let notExecutable: Int32 = 126
    /// The command was not found, as shells have it.
    static let notFound: Int32 = 127
    /// EX_USAGE of sysexits.h.
    static let usage: Int32 = 64
    /// EX_SOFTWARE of sysexits.h.
    static let internalError: Int32 = 70
}

/// How an observed program ended.
enum ProgramEnd: Equatable {
    /// By itself, with this status.
    case exited(Int32)
    /// By this signal.
    case killed(Int32)

    /// Decodes what `waitpid` stores: the low seven bits are the signal, the next byte the status.
    init(waitStatus: Int32) {
        let signal = waitStatus & 0x7f
        self = signal == 0 ? .exited((waitStatus >> 8) & 0xff) : .killed(signal)
    }

    /// The same in the words of the analysis.
    var observed: ObservedEnd {
        switch self {
        case .exited(let status): .exited(status: Int(status))
        case .killed(let signal): .killed(signal: Int(signal))
        }
    }
}

/// The exit status of the doctor.
///
/// | the observed program | its verdict | status |
/// | --- | --- | --- |
/// | exited with n other than 0 | any, or none | n |
/// | was killed by signal n | any, or none | 128 + n |
/// | exited with 0 | healthy | 0 |
/// | exited with 0 | findings | 1 |
/// | exited with 0 | inconclusive: no recording, or one that cannot be read or has no get | 2 |
/// | none (`report`, or workloads of `run`, whose failure is a verdict) | as above | 0, 1, 2 |
///
/// A command that cannot be started has no end: `SpawnFailure.status` is 127 or 126.
func exitStatus(programEnd: ProgramEnd?, verdict: Report.Verdict) -> Int32 {
    switch programEnd {
    case .exited(let status) where status != 0: return status
    case .killed(let signal): return 128 + signal
    case .exited, nil: break
    }
    switch verdict {
    case .healthy: return DoctorStatus.healthy
    case .findings: return DoctorStatus.findings
    case .inconclusive: return DoctorStatus.inconclusive
    }
}

/// The verdict over several: findings are a fact that nothing else takes back, and one program that could not be
/// observed keeps the whole from being healthy.
func worstVerdict(_ verdicts: some Sequence<Report.Verdict>) -> Report.Verdict {
    let verdicts = Array(verdicts)
    if verdicts.contains(.findings) { return .findings }
    if verdicts.isEmpty || verdicts.contains(.inconclusive) { return .inconclusive }
    return .healthy
}

/// An error that ends the doctor: one line and a status.
struct DoctorFailure: Error, CustomStringConvertible {
    /// One sentence that says what to do.
    var description: String
    /// One of `DoctorStatus`.
    var status: Int32

    init(_ description: String, status: Int32) {
        self.description = description
        self.status = status
    }
}

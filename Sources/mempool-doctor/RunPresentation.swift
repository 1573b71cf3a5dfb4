// What `run` writes about its workloads: lines as they end, reports, the verdict.

import MempoolAnalysis
import MempoolReporters

/// Collects the runs of one command and writes them in the form that fits their number.
struct RunPresentation {
    private let workloads: [String]
    private var runs: [WorkloadRun] = []

    init(workloads: [String]) {
        self.workloads = workloads
    }

    /// Workloads that were left out after an interruption keep the whole from being healthy.
    var verdict: Report.Verdict {
        worstVerdict(runs.map(\.verdict) + (runs.count < workloads.count ? [.inconclusive] : []))
    }

    /// Takes a run, and writes at once what can be written of it.
    mutating func add(_ run: WorkloadRun, to output: inout ReportOutput) throws {
        runs.append(run)
        if let error = run.error { Message.failure("\(run.name): \(error)") }
        guard output.format == .text else { return }
        guard workloads.count > 1 else {
            for line in run.summary?.lines ?? [] { try output.write("\(run.name): \(PlainText.clean(line))\n") }
            if run.summary != nil { try output.write("\n") }
            return
        }
        try output.write(line(for: run, style: output.style))
    }

    /// Writes the reports and the verdict.
    func finish(to output: inout ReportOutput) throws {
        guard output.format == .text else {
            try finishJSON(to: &output)
            return
        }
        if workloads.count == 1 {
            for run in runs where isWorthShowing(run) { try output.write(run.diagnosis) }
            return
        }
        for run in runs where run.diagnosis.report.verdict == .findings {
            try output.write("\n\(run.name)\n")
            try output.write(run.diagnosis)
        }
        try output.write("\n" + verdictLine(style: output.style))
    }

    // MARK: - Text

    /// After a failed workload its error is the news; its report is shown only if it adds findings.
    private func isWorthShowing(_ run: WorkloadRun) -> Bool {
        run.error == nil || run.diagnosis.report.verdict == .findings
    }

    private func line(for run: WorkloadRun, style: TextStyle) -> String {
        let mark = VerdictMark(run.verdict, style: style)
        let width = workloads.map(\.count).max() ?? 0
        let name = run.name + String(repeating: " ", count: max(width - run.name.count, 0))
        return "\(mark.painted(mark.sign)) \(name)  \(PlainText.clean(text(for: run)))\n"
    }

    private func text(for run: WorkloadRun) -> String {
        let count = run.diagnosis.report.findings.count
        if count > 0 {
            return Sentences.plural(count, "finding") + (run.summary?.lines.first.map { "; \($0)" } ?? "")
        }
        if let error = run.error { return "failed: \(error)" }
        if run.diagnosis.report.verdict == .inconclusive { return run.diagnosis.report.verdictReason }
        return run.summary?.lines.first ?? ""
    }

    private func verdictLine(style: TextStyle) -> String {
        let withFindings = runs.filter { $0.verdict == .findings }.map(\.name)
        let unobserved = runs.filter { $0.verdict == .inconclusive }.map(\.name)
        let left = workloads.dropFirst(runs.count)
        var parts: [String] = []
        if !withFindings.isEmpty { parts.append("in \(withFindings.joined(separator: ", "))") }
        if !unobserved.isEmpty { parts.append("could not observe \(unobserved.joined(separator: ", "))") }
        if !left.isEmpty { parts.append("interrupted before \(left.joined(separator: ", "))") }
        if parts.isEmpty { parts.append("\(runs.count) workloads, nothing found") }
        let mark = VerdictMark(verdict, style: style)
        return mark.painted("\(mark.prefix)\(verdict.rawValue.uppercased()): \(parts.joined(separator: "; "))") + "\n"
    }

    // MARK: - JSON

    private func finishJSON(to output: inout ReportOutput) throws {
        if workloads.count == 1, let run = runs.first {
            var diagnosis = run.diagnosis
            // The error has been printed; the object repeats it, so that its reader needs no stderr.
            if let error = run.error {
                diagnosis.failure = nil
                diagnosis.report.declareInconclusive(because: error)
            }
            try output.write(diagnosis)
            return
        }
        let entries = runs.map {
            RunsDocument.Run(workload: $0.name, error: $0.error, report: $0.diagnosis.report)
        }
        try output.write(RunsDocument(verdict: verdict, runs: entries))
    }
}

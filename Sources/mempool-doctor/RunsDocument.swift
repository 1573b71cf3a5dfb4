// The JSON object over several reports.

import MempoolAnalysis

/// `{"schemaVersion":1,"verdict":…,"runs":[{…,"report":{…}}]}`: one entry per workload, or per process of `exec`.
struct RunsDocument: Encodable {
    /// One workload or process.
    struct Run: Encodable {
        var workload: String?
        var processID: Int32?
        /// Why the workload failed, if it did.
        var error: String?
        var report: Report
    }

    /// Keys are added, and never change meaning.
    var schemaVersion = 1
    var verdict: Report.Verdict
    var runs: [Run]

    init(verdict: Report.Verdict, runs: [Run]) {
        self.verdict = verdict
        self.runs = runs
    }
}

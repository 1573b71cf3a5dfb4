// The JSON object over several reports.

import MempoolAnalysis
import MempoolReporters

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

extension RunsDocument: JSONListHolder {
    static var listPlace: (key: String, depth: Int) { ("runs", 1) }

    var withoutList: RunsDocument { RunsDocument(verdict: verdict, runs: []) }

    func forEachElement<Failure: Error>(_ body: (any Encodable) throws(Failure) -> Void) throws(Failure) {
        for run in runs { try body(run) }
    }
}

extension RunsDocument.Run: JSONListHolder {
    /// Within `report`.
    static var listPlace: (key: String, depth: Int) { (Report.listPlace.key, 2) }

    var withoutList: RunsDocument.Run {
        RunsDocument.Run(workload: workload, processID: processID, error: error, report: report.withoutList)
    }

    func forEachElement<Failure: Error>(_ body: (any Encodable) throws(Failure) -> Void) throws(Failure) {
        try report.forEachElement(body)
    }
}

// `mempool-doctor report`: good recordings, bad ones, and where the report goes.

import Foundation
import MempoolAnalysis
import MempoolRecording
import MempoolReporters
import Testing

@Suite struct ReportTests {
    private let scratch: Scratch

    init() throws { scratch = try Scratch() }

    private func expected(_ path: String) throws -> Report {
        var options = AnalysisOptions()
        options.sourceRoot = scratch.path
        return try Analyzer.report(recordingAt: path, options: options)
    }

    @Test func `A healthy recording is reported as text on stdout with status 0`() throws {
        let path = try scratch.healthyRecording()
        let text = TextReporter.render(try expected(path), style: TextStyle(color: false, width: 100, unicode: true))
        #expect(try doctor("report", path, in: scratch) == DoctorResult(status: 0, output: text, errors: ""))
    }

    @Test func `A recording with findings has status 1`() throws {
        let path = try scratch.findingsRecording()
        let text = TextReporter.render(try expected(path), style: TextStyle(color: false, width: 100, unicode: true))
        #expect(try doctor("report", path, in: scratch) == DoctorResult(status: 1, output: text, errors: ""))
    }

    @Test func `JSON is exactly what the reporter renders`() throws {
        let path = try scratch.findingsRecording()
        let json = JSONReporter.render(try expected(path))
        #expect(
            try doctor("report", "--format", "json", path, in: scratch)
                == DoctorResult(status: 1, output: json, errors: "")
        )
    }

    @Test func `Output goes to a file, whose old contents vanish`() throws {
        let path = try scratch.findingsRecording()
        let target = try scratch.write(String(repeating: "old", count: 10_000), to: "report.json")
        let result = try doctor("report", path, "--format", "json", "--output", target, in: scratch)
        #expect(result == DoctorResult(status: 1, output: "", errors: ""))
        #expect(try scratch.read("report.json") == JSONReporter.render(try expected(path)))
    }

    @Test func `The file that is to be read is never overwritten, by no name`() throws {
        let path = try scratch.findingsRecording()
        let link = scratch.file("link")
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: path)
        for name in [path, "findings.mempool", link] {
            #expect(
                try doctor("report", "-o", name, path, in: scratch)
                    == DoctorResult(
                        status: 64,
                        output: "",
                        errors:
                            "mempool-doctor: --output: \(name) is the file that is to be read; choose another name\n"
                    )
            )
        }
        #expect(try Data(contentsOf: URL(filePath: path)) == RecordingFixture.bytes(foreignPuts: 2))
        let input = try scratch.write("line\n", to: "input")
        #expect(try doctor("run", "segment", "--input", input, "-o", input, in: scratch).status == 64)
        #expect(try scratch.read("input") == "line\n")
    }

    @Test func `An output file that cannot be written is a usage error`() throws {
        let path = try scratch.healthyRecording()
        #expect(
            try doctor("report", path, "--output", "missing/report", in: scratch)
                == DoctorResult(
                    status: 64,
                    output: "",
                    errors: "mempool-doctor: --output: cannot write missing/report: No such file or directory\n"
                )
        )
    }

    @Test func `A full disk is an internal error, never findings`() throws {
        let path = try scratch.healthyRecording()
        #expect(
            try doctor("report", path, "--output", "/dev/full", in: scratch)
                == DoctorResult(
                    status: 70,
                    output: "",
                    errors: "mempool-doctor: cannot write the report to /dev/full: No space left on device\n"
                )
        )
    }

    @Test(arguments: ["missing", "empty", "garbage", "truncated", "other version", "directory"])
    func `A recording that cannot be read is one line and status 2`(kind: String) throws {
        let path = scratch.file("bad.mempool")
        switch kind {
        case "missing": break
        case "empty": _ = try scratch.recording(Data(), "bad.mempool")
        case "garbage": _ = try scratch.recording(Data("not a recording".utf8), "bad.mempool")
        case "truncated": _ = try scratch.recording(RecordingFixture.bytes().prefix(1000), "bad.mempool")
        case "other version": _ = try scratch.recording(RecordingFixture.bytes(version: 99), "bad.mempool")
        default: try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
        }
        let error = #expect(throws: RecordingError.self) { try expected(path) }
        let sentence = try #require(error).description
        #expect(
            try doctor("report", path, in: scratch)
                == DoctorResult(status: 2, output: "", errors: "mempool-doctor: \(sentence)\n")
        )
        let json = try doctor("report", "--format", "json", path, in: scratch)
        #expect(json.status == 2)
        #expect(json.output == JSONReporter.render(Report.inconclusive(because: sentence)))
    }

    @Test func `Reading a recording leaves the user's MEMPOOL_DEBUG recording alone`() throws {
        let other = scratch.file("other.mempool")
        _ = try doctor(
            "report",
            try scratch.healthyRecording(),
            in: scratch,
            environment: ["MEMPOOL_DEBUG": "level=full,recording=\(other)"]
        )
        #expect(!FileManager.default.fileExists(atPath: other))
    }

    @Test func `The limit on findings and the source root reach the report`() throws {
        let path = try scratch.findingsRecording()
        let result = try doctor(
            "report", "--source-root", "tmp/../tmp", "--max-findings", "0", "--format", "json", path, in: scratch)
        #expect(result.json?["sourceRoot"] as? String == scratch.file("tmp"))
    }

    @Test(arguments: ["report", "exec", "run"])
    func `A source root that is no directory is named, before anything is done`(command: String) throws {
        let path = try scratch.findingsRecording()
        let operands = ["report": [path], "exec": ["--", "/bin/echo", "ran"], "run": ["message"]][command] ?? []
        for (root, line) in [
            ("nosuch", "cannot use nosuch: No such file or directory"), (path, "\(path) is no directory"),
        ] {
            let result = try DoctorProcess(
                [command, "--source-root", root, "--output", "report.txt"] + operands, in: scratch
            ).finish()
            #expect(
                result
                    == DoctorResult(status: 64, output: "", errors: "mempool-doctor: --source-root: \(line)\n"))
        }
        #expect(try !scratch.list().contains("report.txt"))
    }
}

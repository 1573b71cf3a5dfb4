// `mempool-doctor run` with the real workloads, pool and recorder.

import Foundation
import Glibc
import MempoolAnalysis
import MempoolWorkloads
import Testing

@Suite struct RunTests {
    private let scratch: Scratch

    init() throws { scratch = try Scratch() }

    private func decoded(_ text: String) throws -> Report {
        try JSONDecoder().decode(Report.self, from: Data(text.utf8))
    }

    // MARK: - One workload

    @Test(arguments: WorkloadCatalog.all.map(\.name))
    func `A workload is healthy, says what it did and gives a whole report`(name: String) throws {
        let result = try doctor("run", name, "--operations", "20", in: scratch)
        #expect(result.status == 0)
        #expect(result.errors == "")
        #expect(result.output.hasPrefix("\(name): "))
        #expect(result.output.contains("\n\n✔ HEALTHY: "))
        #expect(result.output.contains("\nPool default\n"))
        #expect(result.output.contains("\n  mempool-doctor run \(name) --operations 20 (process "), "as it was typed")
    }

    @Test func `Records of a real file are written, read back and verified`() throws {
        let lines = (1...200).map { "line \($0)\n" }.joined()
        let input = try scratch.write(lines, to: "input.txt")
        let result = try doctor("run", "segment", "--input", input, in: scratch)
        #expect(result.status == 0)
        #expect(result.output.hasPrefix("segment: wrote 200 records"), "\(result.output)")

        let blocks = try doctor("run", "segment", "--input", input, "--record-bytes", "100", in: scratch)
        #expect(blocks.status == 0)
        #expect(blocks.output.hasPrefix("segment: wrote \((lines.utf8.count + 99) / 100) records"), "\(blocks.output)")
    }

    @Test(arguments: PlantedFault.Kind.allCases)
    func `A planted fault is found at its line with status 1`(kind: PlantedFault.Kind) throws {
        let result = try doctor(
            "run", "message", "--operations", "20", "--seed", "7", "--threads", "2", "--plant", kind.rawValue,
            "--format", "json", in: scratch)
        #expect(result.status == 1)
        #expect(result.errors == "")
        let report = try decoded(result.output)
        #expect(report.verdict == .findings)
        #expect(Set(report.findings.map { $0.kind.rawValue }) == [kind.rawValue])
        let found = Set(report.findings.compactMap(\.site?.line))
        #expect(found == Set(PlantedFaults.sites(of: kind).map(\.line)))
    }

    @Test func `Equal seeds make equal runs`() throws {
        func requests(seed: String) throws -> [Int] {
            let arguments = ["run", "message", "--operations", "50", "--seed", seed, "--format", "json"]
            let result = try DoctorProcess(arguments, in: scratch).finish()
            let pools = result.json?["pools"] as? [[String: Any]]
            let buckets = try #require(pools?.first?["buckets"] as? [[String: Any]])
            return buckets.compactMap { $0["requestedBytes"] as? Int }
        }
        #expect(try requests(seed: "1") == requests(seed: "1"))
        #expect(try requests(seed: "1") != requests(seed: "2"))
    }

    @Test func `A kept recording gives the same findings again`() throws {
        let run = try doctor(
            "run", "message", "--operations", "20", "--plant", "leak", "--keep", "kept", "--format", "json",
            in: scratch
        )
        #expect(run.status == 1)
        #expect(run.errors == "mempool-doctor: note: recording kept: \(scratch.file("kept"))\n")
        let again = try doctor("report", "kept", "--format", "json", in: scratch)
        #expect(again.status == 1)
        #expect(try decoded(again.output).findings.map(\.site) == decoded(run.output).findings.map(\.site))
        #expect(try scratch.list().filter { $0.hasPrefix("kept") } == ["kept"])
    }

    @Test func `The workload's files go to the directory that was named, and away again`() throws {
        let directory = scratch.file("files")
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: false)
        #expect(
            try doctor("run", "segment", "--operations", "20", "--directory", directory, in: scratch).status == 0)
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory) == [])
        let missing = scratch.file("missing")
        let result = try doctor("run", "segment", "--operations", "20", "--directory", missing, in: scratch)
        #expect(result.status == 2)
        #expect(result.errors.contains(missing))
    }

    // MARK: - Several workloads

    @Test func `The standard set is a line each and a verdict`() throws {
        let result = try doctor("run", "--operations", "20", in: scratch)
        #expect(result.status == 0)
        #expect(result.errors == "")
        let lines = result.output.split(separator: "\n", omittingEmptySubsequences: false)
        let count = WorkloadCatalog.standardSet.count
        #expect(lines.count == count + 3)
        for (line, name) in zip(lines, WorkloadCatalog.standardSet) { #expect(line.hasPrefix("✔ \(name) ")) }
        #expect(lines.suffix(3) == ["", "✔ HEALTHY: \(count) workloads, nothing found", ""])
    }

    @Test func `Findings in one of several are shown in full before the verdict`() throws {
        let result = try doctor("run", "message", "batch", "--operations", "5", "--plant", "leak", in: scratch)
        #expect(result.status == 1)
        #expect(result.output.hasPrefix("✘ message  1 finding; "))
        #expect(result.output.contains("\n\nbatch\n✘ FINDINGS: "))
        #expect(result.output.hasSuffix("\n\n✘ FINDINGS: in message, batch\n"))
    }

    @Test func `Without UTF-8 and with colour the lines keep their meaning`() throws {
        let result = try doctor(
            "run", "message", "batch", "--operations", "5", "--color", "always", in: scratch,
            environment: ["LC_ALL": "C"])
        #expect(result.status == 0)
        #expect(result.output.hasPrefix("\u{1B}[1;32mok\u{1B}[0m message  copied 5 messages"), "\(result.output)")
        #expect(result.output.hasSuffix("\n\u{1B}[1;32mHEALTHY: 2 workloads, nothing found\u{1B}[0m\n"))
    }

    @Test func `Several workloads are one JSON object`() throws {
        let result = try doctor("run", "message", "batch", "--operations", "5", "--format", "json", in: scratch)
        #expect(result.status == 0)
        let document = try #require(result.json)
        #expect(document["schemaVersion"] as? Int == 1)
        #expect(document["verdict"] as? String == "healthy")
        let runs = try #require(document["runs"] as? [[String: Any]])
        #expect(runs.map { $0["workload"] as? String } == ["message", "batch"])
        #expect(runs.allSatisfy { ($0["report"] as? [String: Any])?["verdict"] as? String == "healthy" })
    }

    // MARK: - What goes wrong

    @Test func `An unknown workload is named together with the nearest and all that there are`() throws {
        let names = WorkloadCatalog.all.map(\.name).joined(separator: ", ")
        let usage = """
            Usage: mempool-doctor run [<options>] [<workload> ...]
              See 'mempool-doctor run --help' for more information.

            """
        #expect(
            try doctor("run", "message", "segmnet", in: scratch)
                == DoctorResult(
                    status: 64,
                    output: "",
                    errors: "Error: No workload \"segmnet\"; did you mean segment? There are: \(names)\n\(usage)"
                )
        )
        #expect(
            try doctor("run", "xyz", in: scratch).errors == "Error: No workload \"xyz\". There are: \(names)\n\(usage)")
    }

    @Test(arguments: [["--input", "file"], ["--record-bytes", "10"]])
    func `Input for a workload that reads none is a usage error`(options: [String]) throws {
        for names in [[], ["message"], ["segment", "batch"]] {
            let result = try DoctorProcess(["run"] + names + options, in: scratch).finish()
            #expect(result.status == 64)
            #expect(result.errors.contains("name one that reads input: segment\n"))
        }
    }

    @Test(arguments: ["missing", "empty", "directory"])
    func `Input that cannot be read is one line and status 2`(kind: String) throws {
        let path = scratch.file("input")
        if kind == "empty" { _ = try scratch.write("", to: "input") }
        if kind == "directory" {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
        }
        let result = try doctor("run", "segment", "--input", path, in: scratch)
        #expect(result.status == 2)
        #expect(result.output == "")
        #expect(result.errors.hasPrefix("mempool-doctor: segment: "))
        #expect(result.errors.contains(path))
        #expect(result.errors.split(separator: "\n").count == 1)

        let json = try doctor("run", "segment", "--input", path, "--format", "json", in: scratch)
        #expect(json.status == 2)
        #expect(json.errors == result.errors)
        let report = try decoded(json.output)
        #expect(report.verdict == .inconclusive)
        #expect("mempool-doctor: segment: \(report.verdictReason)\n" == result.errors)
    }

    @Test func `A workload that fails among others leaves a mark and status 2`() throws {
        let result = try doctor(
            "run", "segment", "segment", "--input", scratch.file("missing"), in: scratch)
        #expect(result.status == 2)
        #expect(result.output.hasPrefix("? segment  failed: "))
        #expect(result.output.hasSuffix("\n\n? INCONCLUSIVE: could not observe segment, segment\n"))
    }

    @Test func `A recorder that is off makes every workload inconclusive`() throws {
        let result = try doctor(
            "run", "message", "--operations", "5", in: scratch, environment: ["MEMPOOL_DEBUG": "off"])
        #expect(result.status == 2)
        #expect(
            result.errors == "mempool-doctor: no recording appeared: "
                + "MEMPOOL_DEBUG switches the recorder off; remove \"off\" from it\n"
        )
    }

    @Test func `An exit status asked of the recorder does not disturb a workload`() throws {
        let result = try doctor(
            "run", "message", "--operations", "5", "--plant", "leak", in: scratch,
            environment: ["MEMPOOL_DEBUG": "exitcode=23,frames=4"]
        )
        #expect(result.status == 1)
        #expect(result.errors == "")
        #expect(result.output.replacing(/\s+/, with: " ").contains("at most 4 frames each"))
    }

    @Test func `The doctor itself records nothing`() throws {
        let other = scratch.file("own.mempool")
        let runtime = scratch.file("runtime")
        try FileManager.default.createDirectory(atPath: runtime, withIntermediateDirectories: false)
        let environment = ["MEMPOOL_DEBUG": "recording=\(other)", "XDG_RUNTIME_DIR": runtime]
        let commands = [["--help"], ["run", "--list"], ["run", "nonsense"], ["run", "message", "--operations", "5"]]
        for arguments in commands {
            _ = try DoctorProcess(arguments, in: scratch, environment: environment).finish()
        }
        #expect(!FileManager.default.fileExists(atPath: other))
        #expect(try FileManager.default.contentsOfDirectory(atPath: runtime) == [])
    }

    @Test func `The list names every workload and runs none`() throws {
        let result = try doctor("run", "--list", in: scratch)
        let width = WorkloadCatalog.all.map(\.name.count).max() ?? 0
        let lines = WorkloadCatalog.all.map {
            "* " + $0.name.padding(toLength: width, withPad: " ", startingAt: 0) + "  \($0.abstract)\n"
        }
        #expect(
            result
                == DoctorResult(status: 0, output: lines.joined() + "\n* runs when no workload is named\n", errors: ""))
    }

    @Test func `The list is JSON where that is asked for`() throws {
        let result = try doctor("run", "--list", "--format", "json", in: scratch)
        #expect(result.status == 0)
        #expect(result.json?["schemaVersion"] as? Int == 1)
        let workloads = try #require(result.json?["workloads"] as? [[String: Any]])
        #expect(workloads.map { $0["name"] as? String } == WorkloadCatalog.all.map(\.name))
        #expect(workloads.map { $0["readsInput"] as? Bool } == [false, false, false, true])
        #expect(workloads.allSatisfy { $0["isStandard"] as? Bool == true && $0["operations"] is Int })
    }

    // MARK: - Interruption

    @Test func `Control-C stops the workload and those after it, and the verdict says so`() throws {
        let terminal = try Pseudoterminal()
        let process = try DoctorProcess(
            ["run", "message", "batch", "--operations", "1000000000", "--plant", "leak:0.01", "--color", "never"],
            in: scratch,
            environment: ["TERM": "xterm"],
            terminal: terminal.path
        )
        // The workload has begun when its recording has a leak.
        let deadline = Date(timeIntervalSinceNow: 30)
        let temporary = scratch.file("tmp")
        let reader = try Scratch()
        func hasLeaked() throws -> Bool {
            let names = try FileManager.default.subpathsOfDirectory(atPath: temporary)
            guard let name = names.first(where: { $0.hasSuffix(".mempool") }) else { return false }
            let live = try doctor("report", "\(temporary)/\(name)", "--format", "json", in: reader)
            return live.status == 1 && live.output.contains("PlantedFaults")
        }
        while try !hasLeaked() {
            try #require(Date() < deadline, "the workload did not start")
            usleep(2_000)
        }
        terminal.type("\u{03}")
        let output = terminal.readToEnd()
        // Buffers that were in use at that moment are no findings.
        #expect(try process.finish().status == 2)
        #expect(output.contains("? message  failed: the workload was killed by signal 2"), "\(output)")
        #expect(output.contains("? INCONCLUSIVE: could not observe message; interrupted before batch"))
        #expect(output.contains("message: the workload was killed by signal 2 (Interrupt) before it was done"))
        #expect(try FileManager.default.contentsOfDirectory(atPath: temporary) == [])
    }
}

// `mempool-doctor exec`: exit statuses, the environment of the program, the report.

import Foundation
import Glibc
import MempoolAnalysis
import MempoolReporters
import Testing

@Suite struct ExecTests {
    private let scratch: Scratch

    init() throws { scratch = try Scratch() }

    private func exec(
        _ script: String,
        options: [String] = [],
        fixture: String? = nil,
        environment: [String: String] = [:]
    ) throws -> DoctorResult {
        var environment = environment
        environment["FIXTURE"] = try fixture ?? scratch.healthyRecording()
        let arguments = ["exec"] + options + FakeProgram.arguments(script)
        let result = try DoctorProcess(arguments, in: scratch, environment: environment).finish()
        #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.file("tmp")) == [])
        return result
    }

    private func decoded(_ text: String) throws -> Report {
        try JSONDecoder().decode(Report.self, from: Data(text.utf8))
    }

    // MARK: - Exit statuses

    @Test func `A healthy program gives status 0 and its report follows its output`() throws {
        let result = try exec("echo hello; echo problem >&2; record $$")
        #expect(result.status == 0)
        #expect(result.errors == "problem\n")
        #expect(result.output.hasPrefix("hello\n"))
        #expect(result.output.contains("HEALTHY"))
    }

    @Test func `A program with findings gives status 1`() throws {
        let result = try exec("record $$", options: ["--format", "json"], fixture: try scratch.findingsRecording())
        #expect(result.status == 1)
        #expect(result.errors == "")
        let report = try decoded(result.output)
        #expect(report.verdict == .findings)
        #expect(report.findings.map(\.count) == [2])
        #expect(report.recorder?.recording == "", "the recording is gone, so no path is named")
    }

    @Test(arguments: [1, 2, 3, 64, 255])
    func `A program's own status is passed on, and its findings are still reported`(status: Int32) throws {
        let result = try exec(
            "record $$; exit \(status)", options: ["--format", "json"], fixture: try scratch.findingsRecording())
        #expect(result.status == status)
        #expect(try decoded(result.output).verdict == .findings)
    }

    @Test(arguments: [(9, 137), (15, 143), (11, 139)])
    func `A program that a signal killed gives 128 and its number`(signal: Int32, status: Int32) throws {
        let result = try exec("record $$; kill -\(signal) $$")
        #expect(result.status == status)
        #expect(result.output.contains("HEALTHY"))
    }

    @Test(arguments: ["missing-command", "/missing/command", "./missing"])
    func `A command that does not exist gives 127`(command: String) throws {
        let reason = command.contains("/") ? "no such file" : "command not found"
        #expect(
            try doctor("exec", "--", command, in: scratch)
                == DoctorResult(status: 127, output: "", errors: "mempool-doctor: \(command): \(reason)\n")
        )
    }

    @Test func `A file that is not executable gives 126`() throws {
        let path = try scratch.write("#!/bin/sh\n", to: "plain")
        #expect(
            try doctor("exec", "--", path, in: scratch)
                == DoctorResult(
                    status: 126,
                    output: "",
                    errors: "mempool-doctor: \(path): cannot be executed: Permission denied\n"
                )
        )
        #expect(
            try doctor("exec", "--", scratch.path, in: scratch)
                == DoctorResult(
                    status: 126,
                    output: "",
                    errors: "mempool-doctor: \(scratch.path) is a directory; name a program in it\n"
                )
        )
        let broken = try scratch.writeExecutable(Data("neither ELF nor script".utf8), to: "broken")
        #expect(
            try doctor("exec", "--", broken, in: scratch).errors
                == "mempool-doctor: \(broken): cannot be executed: Exec format error\n"
        )
    }

    @Test func `A script without its interpreter says so`() throws {
        let path = try scratch.writeExecutable(Data("#!/missing/interpreter\n".utf8), to: "script")
        #expect(
            try doctor("exec", "--", path, in: scratch)
                == DoctorResult(
                    status: 127,
                    output: "",
                    errors: "mempool-doctor: \(path): cannot be executed: its interpreter was not found\n"
                )
        )
    }

    // MARK: - No recording

    private static let withoutPool =
        "does not seem to contain the pool; name the program that does, "
        + "built with the package trait Recorder and MEMPOOL_DEBUG left in its environment"

    @Test func `A program without the pool gives status 2 and the cure`() throws {
        let line = "no recording appeared: /bin/true \(Self.withoutPool)"
        #expect(
            try doctor("exec", "--", "/bin/true", in: scratch)
                == DoctorResult(status: 2, output: "", errors: "mempool-doctor: \(line)\n")
        )
        let json = try doctor("exec", "--format", "json", "--", "true", in: scratch)
        #expect(json.status == 2)
        #expect(try decoded(json.output).verdict == .inconclusive)
    }

    @Test func `A failing program without the pool keeps its own status`() throws {
        let line = "no recording appeared: /bin/false \(Self.withoutPool)"
        #expect(
            try doctor("exec", "--", "/bin/false", in: scratch)
                == DoctorResult(status: 1, output: "", errors: "mempool-doctor: \(line)\n")
        )
        #expect(try exec("exit 3").status == 3)
        #expect(try exec("kill -9 $$").status == 137)
    }

    @Test func `A script that records nothing is told apart`() throws {
        let path = try scratch.writeExecutable(Data("#!/bin/sh\n".utf8), to: "script")
        #expect(
            try doctor("exec", "--", path, in: scratch).errors
                == "mempool-doctor: no recording appeared: \(path) is a script, and nothing that it started recorded; "
                + "name the program that contains the pool, and check that MEMPOOL_DEBUG reaches it\n"
        )
    }

    @Test(arguments: ["off", "level=off", "frames=3,off"])
    func `A recorder that the user switched off is named as the reason`(value: String) throws {
        let result = try doctor("exec", "--", "/bin/true", in: scratch, environment: ["MEMPOOL_DEBUG": value])
        #expect(
            result
                == DoctorResult(
                    status: 2,
                    output: "",
                    errors: "mempool-doctor: no recording appeared: "
                        + "MEMPOOL_DEBUG switches the recorder off; remove \"off\" from it\n"
                )
        )
    }

    @Test func `A recording that cannot be read gives status 2`() throws {
        let result = try exec("record $$", fixture: try scratch.write("garbage", to: "garbage"))
        #expect(result.status == 2)
        #expect(result.errors.contains("is not a recording"))
        #expect(result.output == "")
    }

    /// A program that runs and carries the mark of the pool, but not the pool.
    private func markedProgram() throws -> String {
        var bytes = try Data(contentsOf: URL(filePath: "/bin/sh"))
        bytes.append(Data("cmempool_".utf8))
        return try scratch.writeExecutable(bytes, to: "marked")
    }

    @Test(arguments: [
        (
            "exit 0", 2,
            "contains the pool but did not record; "
                + "build it with the package trait Recorder, and leave MEMPOOL_DEBUG in its environment"
        ),
        ("exit 3", 3, "exited with status 3 before it used the pool; make it run, then observe it again"),
        (
            "kill -9 $$", 137,
            "was killed by signal 9 (Killed) before it used the pool; make it run, then observe it again"
        ),
    ])
    func `A program that contains the pool and leaves no recording says how it ended`(
        script: String,
        status: Int32,
        reason: String
    ) throws {
        let program = try markedProgram()
        #expect(
            try doctor("exec", "--", program, "-c", script, in: scratch)
                == DoctorResult(
                    status: status,
                    output: "",
                    errors: "mempool-doctor: no recording appeared: \(program) \(reason)\n"
                )
        )
    }

    @Test(.enabled(if: geteuid() == 0, "only root can give a file away"))
    func `A program that is set-user-ID ignores the variable, and the doctor says so`() throws {
        let program = try markedProgram()
        // Giving a file away clears the bit, so the mode comes second. 65534 is nobody.
        try #require(chown(program, 65534, 65534) == 0 && chmod(program, 0o4755) == 0)
        #expect(
            try doctor("exec", "--", program, "-c", "exit 0", in: scratch).errors
                == "mempool-doctor: no recording appeared: \(program) is set-user-ID or set-group-ID, "
                + "and such programs ignore MEMPOOL_DEBUG; run a copy without these bits\n"
        )
    }

    // MARK: - A program with the real pool

    private func poolProgram(_ options: String) throws -> [String] {
        // The doctor's own workloads, started as somebody else's program.
        [
            try DoctorProcess.executable, "__workload", "message", "--options", options, "--result",
            scratch.file("result"),
        ]
    }

    @Test func `A real program is observed, and an unknown key is named by its recorder`() throws {
        let program = try poolProgram("{\"seed\":1,\"threads\":1,\"operations\":5}")
        let result = try DoctorProcess(
            ["exec", "--format", "json", "--"] + program,
            in: scratch,
            environment: ["MEMPOOL_DEBUG": "colour=red"]
        ).finish()
        #expect(result.status == 0)
        #expect(result.errors.split(separator: "\n").count == 1)
        #expect(result.errors.contains("unknown key 'colour'"))
        let report = try decoded(result.output)
        #expect(report.verdict == .healthy)
        #expect(report.recorder?.level == "full")
        #expect(report.process?.ending == ProcessEnding(kind: .exited, status: 0))
    }

    @Test(.enabled(if: Scratch.canMount, "a small disk cannot be mounted here"))
    func `A temporary directory without room is named`() throws {
        let disk = scratch.file("tmp")
        try FileManager.default.createDirectory(atPath: disk, withIntermediateDirectories: false)
        try #require(mount("doctor", disk, "tmpfs", 0, "size=16k") == 0)
        defer { umount(disk) }
        try Data(count: 16 << 10).write(to: URL(filePath: disk + "/filler"))

        let program = try poolProgram("{\"seed\":1,\"threads\":1,\"operations\":5}")
        var result = try DoctorProcess(["exec", "--"] + program, in: scratch).finish()
        #expect(result.status == 2 && result.output == "")
        var lines = result.errors.split(separator: "\n")
        #expect(lines.count == 2 && lines[0].hasPrefix("mempool: cannot create "), "\(result.errors)")
        #expect(
            lines.last?.hasPrefix("mempool-doctor: no recording appeared: there is no room in \(disk)/") == true,
            "\(result.errors)")

        result = try DoctorProcess(["run", "message", "--operations", "5"], in: scratch).finish()
        #expect(result.status == 2)
        lines = result.errors.split(separator: "\n")
        #expect(
            lines.contains {
                $0.hasPrefix("mempool-doctor: message: cannot write its result to \(disk)/")
                    && $0.hasSuffix(": No space left on device; set TMPDIR to a directory with room")
            }, "\(result.errors)")
    }

    @Test func `An exit status asked of the recorder is the program's own and is passed on`() throws {
        let plant = "{\"kind\":\"leak\",\"rate\":1,\"heldSeconds\":3}"
        let program = try poolProgram("{\"seed\":1,\"threads\":1,\"operations\":5,\"plant\":\(plant)}")
        let result = try DoctorProcess(
            ["exec", "--format", "json", "--"] + program,
            in: scratch,
            environment: ["MEMPOOL_DEBUG": "exitcode=23"]
        ).finish()
        #expect(result.status == 23)
        #expect(result.errors == "")
        #expect(try decoded(result.output).findings.map(\.kind.rawValue) == ["leak"])
    }

    @Test func `A program that is killed is reported with what it held`() throws {
        let program = try poolProgram("{\"seed\":1,\"threads\":1,\"operations\":1000000000}")
        let process = try DoctorProcess(["exec", "--keep", "kept", "--format", "json", "--"] + program, in: scratch)
        let deadline = Date(timeIntervalSinceNow: 30)
        let reader = try Scratch()
        let kept = scratch.file("kept")
        while try doctor("report", kept, in: reader).status == 2 {
            try #require(Date() < deadline, "the program did not start")
        }
        let live = try decoded(try doctor("report", kept, "--format", "json", in: reader).output)
        #expect(live.process?.ending.kind == .running)
        kill(pid_t(try #require(live.process?.processID)), SIGKILL)
        let result = try process.finish()
        #expect(result.status == 137)
        #expect(try decoded(result.output).process?.ending == ProcessEnding(kind: .died, signal: 9))
    }

    // MARK: - The program's environment

    /// What the program finds in MEMPOOL_DEBUG, with the recording's path shortened.
    private func debugValue(options: [String] = [], _ value: String?) throws -> (value: String, errors: String) {
        let result = try exec(
            "echo \"$MEMPOOL_DEBUG\" > value; record $$",
            options: options,
            environment: value.map { ["MEMPOOL_DEBUG": $0] } ?? [:]
        )
        #expect(result.status == 0)
        let text = try scratch.read("value").trimmingCharacters(in: .newlines)
        let pattern = try Regex(NSRegularExpression.escapedPattern(for: scratch.file("tmp")) + "/mempool-doctor-\\w{6}")
        return (text.replacing(pattern, with: "DIR"), result.errors)
    }

    @Test(arguments: [
        (nil, "level=full"), ("", "level=full"), ("full", "full"), ("level=full", "level=full"),
        ("frames=9,exitcode=23", "frames=9,exitcode=23,level=full"),
        ("level=nonsense", "level=nonsense,level=full"), ("quiet=0,max-ledger=5", "max-ledger=5,level=full"),
        ("unknown=1", "unknown=1,level=full"),
    ])
    func `The program gets the user's keys, a level and a recording`(value: String?, expected: String) throws {
        let seen = try debugValue(value)
        #expect(seen.value == "\(expected),recording=DIR/recording-%p.mempool,quiet")
        #expect(seen.errors == "")
    }

    @Test func `A recording named by the user is replaced, and said so`() throws {
        let seen = try debugValue("recording=mine.mempool,full")
        #expect(seen.value == "full,recording=DIR/recording-%p.mempool,quiet")
        #expect(
            seen.errors == "mempool-doctor: note: recording= in MEMPOOL_DEBUG is replaced by the doctor's own; "
                + "--keep FILE keeps a recording\n"
        )
    }

    @Test func `Arguments reach the program byte by byte, options and dashes included`() throws {
        let result = try doctor(
            "exec", "--format", "json", "--", "/usr/bin/printf", "[%s]", "--", "--version", "a b", "", in: scratch)
        #expect(result.output.hasPrefix("[--][--version][a b][]{"))
    }

    @Test func `The other variables and the working directory stay`() throws {
        let result = try exec("echo $OTHER; pwd -P; record $$", environment: ["OTHER": "kept"])
        #expect(result.output.hasPrefix("kept\n\(scratch.path)\n"))
    }

    // MARK: - Keeping and writing

    @Test func `A recording is kept under the name that was given`() throws {
        let result = try exec("record $$", options: ["--keep", "kept.mempool", "--format", "json"])
        #expect(result.status == 0)
        #expect(result.errors == "mempool-doctor: note: recording kept: \(scratch.file("kept.mempool"))\n")
        #expect(try decoded(result.output).recorder?.recording == scratch.file("kept.mempool"))
        #expect(try doctor("report", "kept.mempool", in: scratch).status == 0)
    }

    @Test func `With --keep a further process of the family is kept and reported too`() throws {
        let findings = try scratch.findingsRecording()
        _ = try scratch.write("older", to: "kept.7")
        let script = "record $$; cp '\(findings)' \"$p.8\""
        let result = try exec(script, options: ["--keep", "kept", "--format", "json"])
        #expect(result.status == 1)
        let runs = try #require(result.json?["runs"] as? [[String: Any]])
        #expect(runs.map { $0["processID"] as? Int } == [nil, 8])
        #expect(try scratch.list().filter { $0.hasPrefix("kept") } == ["kept", "kept.7", "kept.8"])
    }

    @Test func `With --keep the first to record need not be the program, and has not its end`() throws {
        // Far above what the kernel gives to processes.
        let stranger = try scratch.recording(
            RecordingFixture.bytes(processID: 2_000_000_000, isCleanExit: false), "stranger.mempool")
        let script = "record $$; FIXTURE='\(try scratch.healthyRecording())'; p=$p.9; cp \"$FIXTURE\" \"$p\"; exit 3"
        let json = try exec(script, options: ["--keep", "kept", "--format", "json"], fixture: stranger)
        #expect(json.status == 3)
        let runs = try #require(json.json?["runs"] as? [[String: Any]])
        #expect(runs.map { $0["processID"] as? Int } == [2_000_000_000, 9])
        let process = (runs.first?["report"] as? [String: Any])?["process"] as? [String: Any]
        let ending = try #require(process?["ending"] as? [String: Any])
        #expect(ending["kind"] as? String == "died")
        #expect(ending["status"] == nil)

        let text = try exec(script, options: ["--keep", "again"], fixture: stranger)
        #expect(text.output.hasPrefix("✔ Process 2000000000  Nothing was outstanding when the program died.\n"))
    }

    @Test(arguments: [[], ["--keep", "kept"]])
    func `A program that replaces itself has a report for each, and the newest has the end`(options: [String]) throws {
        // Two programs have recorded under this number already, so the recorder of the third adds it and counts.
        let leak = "{\"kind\":\"leak\",\"rate\":1,\"heldSeconds\":3}"
        let program = try poolProgram("{\"seed\":1,\"threads\":1,\"operations\":5,\"plant\":\(leak)}")
        let script = """
            number() {
                for shift in 0 8 16 24; do printf "\\\\$(printf %o $(($$ >> $shift & 255)))"; done |
                    dd of="$1" conv=notrunc bs=1 seek=16 2>/dev/null
            }
            record $$; cp "$p" "$p.$$"; number "$p"; number "$p.$$"
            exec \(program.map { "'\($0)'" }.joined(separator: " "))
            """
        let healthy = try scratch.recording(RecordingFixture.bytes(isCleanExit: false), "first.mempool")
        let result = try exec(script, options: options + ["--format", "json"], fixture: healthy)
        #expect(result.status == 1, "\(result.errors)")
        let runs = try #require(result.json?["runs"] as? [[String: Any]])
        #expect(Set(runs.compactMap { $0["processID"] as? Int }).count == 1)
        let reports = runs.map { $0["report"] as? [String: Any] }
        #expect(reports.map { $0?["verdict"] as? String } == ["healthy", "healthy", "findings"])
        let endings = reports.map { ($0?["process"] as? [String: Any])?["ending"] as? [String: Any] }
        #expect(endings.map { $0?["isReplaced"] as? Bool } == [true, true, false])
        #expect(endings.map { $0?["kind"] as? String } == ["died", "died", "exited"])
    }

    @Test func `A file that exists is never overwritten by a recording`() throws {
        let path = try scratch.write("precious", to: "precious")
        #expect(
            try doctor("exec", "--keep", path, "--", "/bin/true", in: scratch)
                == DoctorResult(
                    status: 64,
                    output: "",
                    errors: "mempool-doctor: --keep: \(path) exists already; choose another name or remove it\n"
                )
        )
        #expect(try scratch.read("precious") == "precious")
    }

    @Test func `A place where no recording can be created is a usage error`() throws {
        #expect(
            try doctor("exec", "--keep", "missing/kept", "--", "/bin/true", in: scratch)
                == DoctorResult(
                    status: 64,
                    output: "",
                    errors: "mempool-doctor: --keep: cannot create missing/kept: No such file or directory\n"
                )
        )
        #expect(try doctor("exec", "--keep", "a,b", "--", "/bin/true", in: scratch).status == 64)
        #expect(try doctor("exec", "--keep", "a%p", "--", "/bin/true", in: scratch).status == 64)
    }

    @Test func `A temporary directory that cannot be used gives status 2 and the cure`() throws {
        let result = try doctor(
            "exec", "--", "/bin/true", in: scratch, environment: ["TMPDIR": scratch.file("missing")])
        #expect(
            result
                == DoctorResult(
                    status: 2,
                    output: "",
                    errors: "mempool-doctor: cannot make a temporary directory in \(scratch.file("missing")): "
                        + "No such file or directory; set TMPDIR to a writable one\n"
                )
        )
    }

    @Test func `With --output the program has stdout for itself`() throws {
        let result = try exec(
            "echo data; record $$", options: ["-o", "report.json", "--format", "json"],
            fixture: try scratch.findingsRecording())
        #expect(result == DoctorResult(status: 1, output: "data\n", errors: ""))
        #expect(try decoded(try scratch.read("report.json")).verdict == .findings)
    }

    @Test func `A family of processes has a report each and the worst verdict`() throws {
        let findings = try scratch.findingsRecording()
        let script = "record 11; FIXTURE='\(findings)'; record 12"
        let json = try exec(script, options: ["--format", "json"])
        #expect(json.status == 1)
        #expect(json.json?["schemaVersion"] as? Int == 1)
        #expect(json.json?["verdict"] as? String == "findings")
        let runs = try #require(json.json?["runs"] as? [[String: Any]])
        #expect(runs.map { $0["processID"] as? Int } == [11, 12])
        #expect(runs.map { ($0["report"] as? [String: Any])?["verdict"] as? String } == ["healthy", "findings"])

        let text = try exec(script)
        #expect(text.status == 1)
        let report = try doctor("report", findings, in: scratch).output
            .split(separator: "\n", omittingEmptySubsequences: false).filter { !$0.hasPrefix("  Recording: ") }
            .joined(separator: "\n")
        #expect(
            text.output == """
                ✔ Process 11  Every buffer that was got was put, once and whole.
                ✘ Process 12  1 finding

                Process 12
                \(report)
                2 recordings: findings.

                """)
    }

    @Test func `A process that got no buffer leaves a family as healthy as the others are`() throws {
        let idle = try scratch.recording(RecordingFixture.bytes(hasGet: false), "idle.mempool")
        let helped = try exec("record 11; FIXTURE='\(idle)'; record 12")
        #expect(
            helped
                == DoctorResult(
                    status: 0,
                    output: """
                        ✔ Process 11  Every buffer that was got was put, once and whole.
                        ? Process 12  The program got no buffer, so nothing was observed.

                        2 recordings: healthy.

                        """, errors: ""))
        let json = try exec("record 11; FIXTURE='\(idle)'; record 12", options: ["--format", "json"])
        let runs = try #require(json.json?["runs"] as? [[String: Any]])
        #expect(runs.map { ($0["report"] as? [String: Any])?["recordedNoGet"] as? Bool } == [nil, true])
        // Alone or among its likes it proves nothing.
        #expect(try exec("record 11", fixture: idle).status == 2)
        #expect(try exec("record 11; record 12", fixture: idle).status == 2)
        #expect(
            try exec("record 11; FIXTURE='\(try scratch.findingsRecording())'; record 12", fixture: idle).status == 1)
    }

    @Test func `A process that outlives the program is inconclusive, whatever it holds at that moment`() throws {
        let program = try poolProgram("{\"seed\":1,\"threads\":1,\"operations\":1000000000}")
        // Until the recording can be read.
        let script = """
            \(program.map { "'\($0)'" }.joined(separator: " ")) > /dev/null 2>&1 &
            echo $! > number
            until '\(program[0])' report kept > /dev/null 2>&1; [ $? -ne 2 ]; do sleep 0.05; done
            """
        let result = try exec(script, options: ["--keep", "kept", "--format", "json"])
        let number = try #require(Int32(try scratch.read("number").trimmingCharacters(in: .newlines)))
        kill(number, SIGKILL)
        #expect(result.status == 2)
        let report = try decoded(result.output)
        #expect(report.process?.ending.kind == .running)
        #expect(
            report.verdictReason
                == "Process \(number) still ran when the program had ended, so what became of its buffers was not observed. "
                + "Make the program wait for it, or keep its recording (--keep) and report on that later.")
    }
}

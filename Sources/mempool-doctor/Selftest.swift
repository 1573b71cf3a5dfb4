// The checks of `selftest`, and their result.

import FoundationEssentials
import Glibc
import MempoolAnalysis
import MempoolRecorder
import MempoolReporters
import MempoolWorkloads

/// The outcome of `selftest`. Its property names are the keys of the JSON form.
struct SelftestResult: Encodable, Equatable {
    enum Verdict: String, Encodable {
        case passed
        case failed
        case inconclusive
    }

    /// One line of the result.
    struct Check: Encodable, Equatable {
        var name: String
        var passed: Bool
        /// What was seen, and what to do if it is not right.
        var detail: String
        /// `file:line` that was to be named.
        var expected: String?
    }

    var schemaVersion = 1
    var verdict: Verdict
    var checks: [Check]

    /// A line for each check, then the verdict.
    func renderText(style: TextStyle) -> String {
        let width = checks.map(\.name.count).max() ?? 0
        var text = ""
        for check in checks {
            let sign = style.unicode ? (check.passed ? "✓" : "✗") : (check.passed ? "ok" : "!!")
            let painted = style.color ? "\u{1B}[1;\(check.passed ? 32 : 31)m\(sign)\u{1B}[0m" : sign
            let padding = String(repeating: " ", count: width - check.name.count)
            text += "\(painted) \(check.name)\(padding)  \(check.detail)\n"
        }
        let failed = checks.count { !$0.passed }
        let verdict =
            switch verdict {
            case .passed: "PASSED: \(checks.count) checks"
            case .failed: "FAILED: \(failed) of \(checks.count) checks"
            case .inconclusive: "INCONCLUSIVE: nothing could be observed"
            }
        return text + "\n" + verdict + "\n"
    }
}

/// Runs the checks, each in a process of its own.
struct Selftest {
    /// What is promised, whatever the user has in MEMPOOL_DEBUG: that may ask for less.
    private let debugOptions = DebugOptions("level=full")

    /// Runs everything.
    ///
    /// - Throws: `DoctorFailure` if no process could be started.
    func run(progress: inout Progress) throws -> SelftestResult {
        var checks: [SelftestResult.Check] = []
        var reports: [Report] = []
        for form in PlantedFaults.Form.allCases {
            let debugOptions = form == .heldTooLong ? debugOptions.setting("held", to: Self.heldLimit) : debugOptions
            let diagnosis = try observe(
                [form.rawValue], debugOptions, label: form.rawValue, progress: &progress)
            reports.append(diagnosis.report)
            checks.append(check(Self.name(of: form), form, diagnosis))
        }
        let killed = try observe(
            [PlantedFaults.Form.leak.rawValue, "--kill"], debugOptions, label: "kill", progress: &progress)
        checks.append(check("leak, killed by kill -9", .leak, killed))
        let correct = try observe(["none"], debugOptions, label: "correct", progress: &progress)
        checks.append(checkCorrect(correct))
        reports.append(correct.report)
        let guarded = try observe(
            [PlantedFaults.Form.useAfterPut.rawValue], debugOptions.setting("level", to: "paranoid"),
            label: "guard pages", progress: &progress)
        checks.append(checkGuardPages(guarded))

        let recorders = reports.compactMap(\.recorder)
        guard let recorder = recorders.first else {
            let result = SelftestResult(verdict: .inconclusive, checks: checks)
            return result
        }
        checks.append(checkUnwinder(recorder))
        checks.append(checkDebugInformation(reports))
        checks.append(checkPlace())
        return SelftestResult(verdict: checks.allSatisfy(\.passed) ? .passed : .failed, checks: checks)
    }

    // MARK: - Planted mistakes

    /// Seconds a buffer may be held; short, as the check that needs it waits for it.
    private static let heldLimit = "0.2"
    /// What the process with that limit does.
    static let heldSeconds = 0.25

    private static func name(of form: PlantedFaults.Form) -> String {
        switch form {
        case .doublePutAfterReissue: "double-put, re-issued"
        case .useAfterPutTouch: "use-after-put, at the access"
        case .underrun: "overrun, at the front"
        default: form.kind.rawValue
        }
    }

    /// Runs this very executable with the hidden command.
    private func observe(
        _ arguments: [String], _ debugOptions: DebugOptions, label: String, progress: inout Progress
    ) throws -> Diagnosis {
        let words = [CommandLine.arguments.first ?? "mempool-doctor", PlantCommand.name] + arguments
        let process = ObservedProcess(
            executable: Array("/proc/self/exe".utf8CString),
            arguments: words.map { Array($0.utf8CString) },
            environment: [],
            sendsOutputToStandardError: true
        )
        let observer = Observer(debugOptions: debugOptions, keepsExitCode: false, sourceRoot: nil)
        let observation: Observation
        do {
            let place = try RecordingPlace(keeping: nil)
            observation = try observer.observe(process, place: place, label: label, progress: &progress)
            place.announce()
        } catch let failure as SpawnFailure {
            throw DoctorFailure("cannot start \(label): \(failure.error)", status: DoctorStatus.inconclusive)
        }
        if observation.outcome.wasInterrupted {
            throw DoctorFailure("interrupted", status: DoctorStatus.inconclusive)
        }
        return observation.diagnoses[0].diagnosis
    }

    private func check(_ name: String, _ form: PlantedFaults.Form, _ diagnosis: Diagnosis) -> SelftestResult.Check {
        let site = PlantedFaults.site(of: form)
        func result(_ passed: Bool, _ detail: String) -> SelftestResult.Check {
            SelftestResult.Check(name: name, passed: passed, detail: detail, expected: site.description)
        }
        if let failure = diagnosis.failure { return result(false, "not observed: \(failure)") }
        let findings = diagnosis.report.findings
        guard let finding = findings.first, findings.count == 1, finding.kind.rawValue == form.kind.rawValue else {
            let found = findings.isEmpty ? "nothing" : findings.map(\.kind.rawValue).joined(separator: ", ")
            return result(false, "found \(found) instead of one \(form.kind.rawValue)")
        }
        guard finding.count == 1 else { return result(false, "counted \(finding.count) instead of 1") }
        if form.kind == .doublePut, finding.reissued != (form == .doublePutAfterReissue) {
            return result(false, "found, but it says \(finding.reissued == true ? "" : "not ")re-issued")
        }
        guard let file = finding.site?.file, let line = finding.site?.line else {
            return result(false, "found, but without file and line; it is at \(site)")
        }
        let name = file.split(separator: "/").last.map(String.init) ?? file
        guard "\(name):\(line)" == site.description else {
            return result(false, "found, but named at \(name):\(line) instead of \(site)")
        }
        return result(true, site.description)
    }

    private func checkCorrect(_ diagnosis: Diagnosis) -> SelftestResult.Check {
        let passed = diagnosis.report.verdict == .healthy
        let detail = passed ? "nothing reported" : diagnosis.failure ?? diagnosis.report.verdictReason
        return SelftestResult.Check(name: "correct program", passed: passed, detail: detail)
    }

    // MARK: - The machine

    /// Whether a touch of a buffer that was put is stopped, as level paranoid promises.
    private func checkGuardPages(_ diagnosis: Diagnosis) -> SelftestResult.Check {
        let finding = diagnosis.report.findings.first
        let passed = finding?.kind == .useAfterPut && finding?.caughtBy == .guardPage
        let detail: String
        if passed {
            detail = "a touch after the put stops at its instruction"
        } else if let failure = diagnosis.failure {
            detail = "not observed: \(failure)"
        } else if let recorder = diagnosis.report.recorder, recorder.guardedGets == 0 {
            detail =
                "the system gives no memory for them; raise vm.max_map_count or the limit on address space (ulimit -v)"
        } else {
            detail = "a touch after the put was not stopped, so level paranoid finds no more than level full"
        }
        return SelftestResult.Check(name: "guard pages", passed: passed, detail: detail)
    }

    private func checkUnwinder(_ recorder: RecorderReport) -> SelftestResult.Check {
        let passed = recorder.unwinder != "frame-pointers"
        return SelftestResult.Check(
            name: "unwinder", passed: passed,
            detail: passed
                ? recorder.unwinder
                : "frame pointers only: frames of code without them are missing. Install libunwind: "
                    + "apt install libunwind8, or dnf install libunwind")
    }

    private func checkDebugInformation(_ reports: [Report]) -> SelftestResult.Check {
        let stacks = reports.flatMap(\.findings).flatMap { [$0.stacks.get, $0.stacks.put, $0.stacks.secondPut] }
        let own = stacks.compactMap { $0 }.joined().filter { $0.module.hasPrefix("mempool-doctor") }
        let named = own.count { $0.line != nil }
        return SelftestResult.Check(
            name: "debug information", passed: named > 0,
            detail: named > 0
                ? "present in this executable"
                : "missing in this executable, so reports have no lines: it was stripped, or built with "
                    + "-gnone. Install it with scripts/install, which strips nothing")
    }

    /// Where a program records to when nobody names a place.
    private func checkPlace() -> SelftestResult.Check {
        func result(_ passed: Bool, _ detail: String) -> SelftestResult.Check {
            SelftestResult.Check(name: "place of recordings", passed: passed, detail: detail)
        }
        guard let path = DefaultRecordingPlace.directory else {
            return result(
                false,
                "none of $XDG_RUNTIME_DIR, /dev/shm and the temporary directory can be written to; "
                    + "name one with MEMPOOL_DEBUG=recording=FILE")
        }
        let isInMemory = Self.fileSystem(of: path).map { ["tmpfs", "ramfs"].contains($0) } ?? false
        return result(true, "\(path), " + (isInMemory ? "in memory" : "on a disk: recording costs a little more"))
    }

    /// The type of the file system that holds a directory, from the kernel's list of mounts; nil if it is not there.
    private static func fileSystem(of path: String) -> Substring? {
        var status = stat()
        guard stat(path, &status) == 0, let mounts = FileManager.default.contents(atPath: "/proc/self/mountinfo")
        else { return nil }
        // As glibc's gnu_dev_major and gnu_dev_minor take a number apart.
        let device = UInt64(status.st_dev)
        let major = (device >> 8) & 0xFFF | (device >> 32) & 0xFFFF_F000
        let minor = device & 0xFF | (device >> 12) & 0xFFFF_FF00
        for line in String(decoding: mounts, as: UTF8.self).split(separator: "\n") {
            // "22 1 0:21 / /dev/shm rw,nosuid - tmpfs tmpfs rw"
            let fields = line.split(separator: " ")
            guard fields.count > 4, fields[2] == "\(major):\(minor)", let dash = fields.firstIndex(of: "-"),
                dash + 1 < fields.count
            else { continue }
            return fields[dash + 1]
        }
        return nil
    }
}

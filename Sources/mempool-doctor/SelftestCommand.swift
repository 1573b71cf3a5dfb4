// `mempool-doctor selftest`: does this machine report what is promised?

import ArgumentParser
import FoundationEssentials
import Glibc
import MempoolAnalysis
import MempoolReporters
import MempoolWorkloads

/// Plants every mistake on this machine and checks its report.
struct SelftestCommand: DoctorCommand {
    static let configuration = CommandConfiguration(
        commandName: "selftest",
        abstract: "Check that this machine reports every kind of mistake at its line.",
        discussion: """
            Each mistake is made once in a process of its own, and its report must have the right kind, count, file and \
            line. Also checked: a correct program, a program that is killed, guard pages, the unwinder, the place of \
            recordings. It takes a few seconds.

            EXIT STATUS
            0 everything passed, 1 something did not, 2 it could not be run. 64 usage, 70 internal error.

            EXAMPLES
              mempool-doctor selftest
              mempool-doctor selftest --format json --output selftest.json
            """
    )

    @OptionGroup(title: "Output options")
    var outputOptions: OutputOptions

    func perform() throws -> Int32 {
        var output = try ReportOutput(outputOptions)
        var progress = Progress()
        let result = try Selftest().run(progress: &progress)
        switch output.format {
        case .json: try output.write(JSONReporter.render(result))
        case .text: try output.write(result.renderText(style: output.style))
        }
        switch result.verdict {
        case .passed: return DoctorStatus.healthy
        case .failed: return DoctorStatus.findings
        case .inconclusive: return DoctorStatus.inconclusive
        }
    }
}

/// The hidden command that is the observed child of `selftest`.
struct PlantCommand: DoctorCommand {
    static let name = "__plant"
    static let configuration = CommandConfiguration(
        commandName: name, abstract: "Make one mistake in this process, as `selftest` does.", shouldDisplay: false)

    @Argument(help: "The form of the mistake, or none.")
    var form: String

    @Flag(help: "End by SIGKILL.")
    var kill = false

    func perform() throws -> Int32 {
        // One mistake ends the process by SIGSEGV. Nobody wants its memory, nor what the Swift runtime has to say about it.
        var noCore = rlimit(rlim_cur: 0, rlim_max: 0)
        setrlimit(__rlimit_resource_t(RLIMIT_CORE.rawValue), &noCore)
        signal(SIGSEGV, SIG_DFL)
        if let form = PlantedFaults.Form(rawValue: form) {
            PlantedFaults.plantInDefaultPool(form, heldSeconds: Selftest.heldSeconds)
        } else {
            PlantedFaults.useDefaultPoolWell()
        }
        if kill { Glibc.kill(getpid(), SIGKILL) }
        return DoctorStatus.healthy
    }
}

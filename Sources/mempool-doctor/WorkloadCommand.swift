// The hidden command that is the observed child of `run`.

import ArgumentParser
import FoundationEssentials
import Glibc
import MempoolWorkloads

/// How a workload ended, handed from the child to the doctor as JSON in a file.
enum WorkloadResult: Codable {
    case summary(WorkloadSummary)
    case failure(WorkloadError)
}

/// Runs one workload in this process. It is spawned like any user's program, with the recorder switched on by
/// MEMPOOL_DEBUG.
struct WorkloadCommand: DoctorCommand {
    static let name = "__workload"
    static let configuration = CommandConfiguration(
        commandName: name,
        abstract: "Run one workload in this process, as `run` does.",
        shouldDisplay: false
    )

    @Argument(help: "The workload.")
    var workload: String

    @Option(help: "WorkloadOptions as JSON.")
    var options: String

    @Option(help: "The file to write the result to, as JSON.")
    var result: String

    func perform() throws -> Int32 {
        let options = try JSONDecoder().decode(WorkloadOptions.self, from: Data(self.options.utf8))
        let result: WorkloadResult
        do {
            result = .summary(try WorkloadCatalog.run(workload, options))
        } catch {
            result = .failure(error)
        }
        let encoded = String(decoding: try JSONEncoder().encode(result), as: UTF8.self)
        do {
            let descriptor = open(self.result, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
            guard descriptor >= 0 else { throw SystemError.last }
            defer { close(descriptor) }
            try Descriptor.write(encoded, to: descriptor)
        } catch let error as SystemError {
            throw DoctorFailure(
                "\(workload): cannot write its result to \(self.result): \(error); set TMPDIR to a directory with room",
                status: DoctorStatus.internalError)
        }
        return DoctorStatus.healthy
    }
}

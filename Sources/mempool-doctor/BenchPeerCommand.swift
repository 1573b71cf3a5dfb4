// The hidden command that is one contender of `bench`.

import ArgumentParser
import MempoolBenchmarks

/// Measures one thing in this process, asked over its standard streams.
struct BenchPeerCommand: DoctorCommand {
    static let name = "__bench-peer"
    static let configuration = CommandConfiguration(
        commandName: name,
        abstract: "Measure one contender of `bench` in this process.",
        shouldDisplay: false
    )

    @Argument(help: "The words of a WorkerTask.")
    var task: [String]

    func perform() throws -> Int32 {
        guard let task = WorkerTask(arguments: task) else {
            throw DoctorFailure("\(Self.name): not a task: \(task.joined(separator: " "))", status: DoctorStatus.usage)
        }
        return Worker.serve(task) ? DoctorStatus.healthy : DoctorStatus.inconclusive
    }
}

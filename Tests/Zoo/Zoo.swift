// The zoo: one program that is any of many small ones, each with known truth.
// `zoo list` names them, `zoo fault KIND PLACE` makes a mistake, `zoo correct NAME` makes none; the rest is for campaigns.

import Glibc
import Mempool
import MempoolRecorder

@main
enum Zoo {
    static func main() async throws {
        let arguments = CommandLine.arguments.dropFirst().map { $0 }
        switch arguments.first {
        case "list" where arguments.count == 1:
            for place in Place.all {
                for kind in Mistake.Kind.allCases where !place.impossible.contains(kind) {
                    print("fault", kind.rawValue, place.name, kind.verb, Place.repetitions, kind.debugKeys)
                }
            }
            for specimen in Correct.all { print("correct", specimen.debugKeys + ":", specimen.name) }
        case "fault" where arguments.count == 3:
            guard let kind = Mistake.Kind(rawValue: arguments[1]),
                let place = Place.all.first(where: { $0.name == arguments[2] })
            else { usage("no such specimen") }
            try await place.make(kind)
        case "correct" where arguments.count == 2:
            guard let specimen = Correct.all.first(where: { $0.name == arguments[1] }) else {
                usage("no such specimen")
            }
            try await specimen.run()
        case "victim" where arguments.count == 4:
            guard let threads = Int(arguments[2]), let slots = Int(arguments[3]) else { usage("not a number") }
            Victim(truthAt: arguments[1], threads: threads, slots: slots).run()
        case "threads" where arguments.count == 2: Stress.useManyThreads(Int(arguments[1]) ?? 0)
        case "plugin" where arguments.count == 2: Stress.leakThroughPlugin(arguments[1])
        case "first-get" where arguments.count == 2: Stress.loadBeforeFirstGet(arguments[1])
        case "libraries" where arguments.count == 2: Stress.loadLibraries(arguments[1])
        case "hold" where arguments.count == 2: Stress.holdWhile(arguments[1])
        case "hoard" where arguments.count == 2: Stress.hoard(Int(arguments[1]) ?? 0)
        case "touch" where arguments.count == 2: await Touch.make(arguments[1])
        case "quarantine" where arguments.count == 2: Touch.measureQuarantine(Int(arguments[1]) ?? 1)
        case "exhaust" where arguments.count == 2: Touch.exhaust(Int(arguments[1]) ?? 0)
        case "zones" where arguments.count == 2: Touch.outgrowZones(Int(arguments[1]) ?? 1)
        case "raw" where arguments.count == 1: Touch.useRaw()
        case "sampled-leak" where arguments.count == 2: Sampled.leak(Int(arguments[1]) ?? 0)
        case "sampled-threads" where arguments.count == 2: Sampled.leakOnThreads(Int(arguments[1]) ?? 0)
        case "sampled-bad-puts" where arguments.count == 2: Sampled.putBadly(Int(arguments[1]) ?? 0)
        case "signals" where arguments.count == 3:
            guard let handler = Signals.Handler(rawValue: arguments[1]), let count = Int(arguments[2]) else {
                usage("no such handler")
            }
            Signals.churnUnderFire(handler, signals: count)
        case "crash" where arguments.count == 1: Stress.crashOnPurpose()
        default:
            usage("wrong arguments")
        }
    }

    private static func usage(_ reason: String) -> Never {
        let usage =
            "usage: zoo list | fault KIND PLACE | correct NAME | victim FILE THREADS SLOTS"
            + " | threads N | plugin FILE | first-get FILE | libraries FOLDER | hold FILE | hoard N | signals nothing|pool|shared N | crash | touch NAME | quarantine N | exhaust N"
            + " | zones N | raw | sampled-leak N | sampled-threads N | sampled-bad-puts N"
        let bytes = Array("zoo: \(reason)\n\(usage)\n".utf8)
        write(STDERR_FILENO, bytes, bytes.count)
        exit(64)
    }
}

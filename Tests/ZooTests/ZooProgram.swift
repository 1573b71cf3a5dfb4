// The zoo's executable of one configuration: where it is, what specimens it has, and how one is run and judged.

import Foundation
import Glibc
import MempoolAnalysis
import MempoolRecording

/// One small program with known truth.
struct Specimen: Hashable, Sendable {
    /// What must be reported; nil for a correct program.
    struct Fault: Hashable, Sendable {
        /// The column: the kind, or one of its forms.
        var form: String
        /// The row.
        var place: String
        /// What the marked line does: get, put or touch.
        var verb: String
        var count: Int

        /// The kind in the report.
        var kind: String {
            switch form {
            case "double-put-reissued": "double-put"
            case "use-after-put-touch", "use-after-put-touch-reissued": "use-after-put"
            case "underrun": "overrun"
            default: form
            }
        }

        /// Whether the report says that the buffer had another owner meanwhile; nil where it makes no difference.
        var isReissued: Bool? {
            switch form {
            case "double-put", "use-after-put-touch": false
            case "double-put-reissued", "use-after-put-touch-reissued": true
            default: nil
            }
        }
    }

    var name: String
    var arguments: [String]
    /// What MEMPOOL_DEBUG must say as well.
    var debugKeys = ""
    var fault: Fault?
}

/// How a specimen was reported.
enum Outcome: Hashable, Sendable {
    case right
    /// Found and counted, but named at another line: which one.
    case otherSite(String)
    /// Not found, miscounted, something else found, or no end in order.
    case wrong(String)

    /// The cell of the table.
    var mark: String {
        switch self {
        case .right: "ok"
        case .otherSite: "site"
        case .wrong: "wrong"
        }
    }
}

/// The executable of one configuration.
struct ZooProgram: Sendable {
    /// `debug` or `release`.
    let configuration: String

    /// Seconds after which a specimen has hung.
    private static let limitSeconds = 60

    /// The folder of the package.
    static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path
    static let sources = root + "/Tests/Zoo"

    /// The folder of this test's executable: `…/debug` or `…/release`.
    private static let buildFolder: String = {
        let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
        return (own as NSString).deletingLastPathComponent
    }()

    /// The executable that was built with the tests.
    static let ofTests = ZooProgram(configuration: (buildFolder as NSString).lastPathComponent)
    /// The release build beside it.
    static let release = ZooProgram(configuration: "release")

    var path: String { (Self.buildFolder as NSString).deletingLastPathComponent + "/\(configuration)/zoo" }

    /// Whether the executable exists and is not older than its sources, whose lines are the truth.
    var isCurrent: Bool {
        func changed(_ path: String) -> Date? {
            (try? FileManager.default.attributesOfItem(atPath: path))?[.modificationDate] as? Date
        }
        guard let built = changed(path), let names = try? FileManager.default.contentsOfDirectory(atPath: Self.sources)
        else { return false }
        return names.allSatisfy { (changed(Self.sources + "/" + $0) ?? .distantFuture) <= built }
    }

    /// What the executable says it can be.
    func specimens() throws -> [Specimen] {
        let output = try run(["list"], environment: [:]).output
        return output.split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ", maxSplits: 2, omittingEmptySubsequences: false).map(String.init)
            guard words.count == 3 else { return nil }
            guard words[0] == "fault" else {
                return Specimen(
                    name: words[2], arguments: ["correct", words[2]], debugKeys: String(words[1].dropLast()))
            }
            let parts = words[2].split(separator: " ", omittingEmptySubsequences: false).map(String.init)
            guard parts.count == 4, let count = Int(parts[2]) else { return nil }
            return Specimen(
                name: "\(words[1]) in \(parts[0])", arguments: ["fault", words[1], parts[0]], debugKeys: parts[3],
                fault: Specimen.Fault(form: words[1], place: parts[0], verb: parts[1], count: count))
        }
    }

    /// Runs all specimens, a few at a time.
    func outcomes(of specimens: [Specimen], marks: SiteMarks) throws -> [Specimen: Outcome] {
        let scratch = NSTemporaryDirectory() + "/zoo-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: scratch, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: scratch) }
        let results = Results()
        DispatchQueue.concurrentPerform(iterations: specimens.count) { number in
            let outcome = outcome(of: specimens[number], recordingTo: "\(scratch)/\(number)", marks: marks)
            results.add(specimens[number], outcome)
        }
        return results.all
    }

    /// Runs one specimen with the recorder on and compares the report with the truth.
    private func outcome(of specimen: Specimen, recordingTo path: String, marks: SiteMarks) -> Outcome {
        let report: Report
        do {
            let keys = ["full", "quiet", "recording=\(path)", specimen.debugKeys].filter { !$0.isEmpty }
            let end = try run(
                specimen.arguments,
                environment: ["MEMPOOL_DEBUG": keys.joined(separator: ","), "PATH": "/usr/bin:/bin"])
            // 3 is the status of the specimen that is about one.
            guard [0, 3].contains(end.status) else {
                return .wrong("ended with \(end.status): \(end.output.suffix(300))")
            }
            report = try Analyzer.report(recordingAt: path, options: AnalysisOptions())
            try FileManager.default.removeItem(atPath: path)
        } catch {
            return .wrong("\(error)")
        }
        guard let fault = specimen.fault else {
            // Of a program that got nothing there is nothing to say.
            let gotNothing = report.verdictReason == "The program got no buffer, so nothing was observed."
            return report.verdict == .healthy || gotNothing
                ? .right : .wrong("\(report.verdict): \(report.verdictReason)")
        }
        guard report.findings.allSatisfy({ $0.kind.rawValue == fault.kind }) else {
            return .wrong("found \(report.findings.map(\.kind.rawValue))")
        }
        let count = report.findings.map(\.count).reduce(0, +)
        guard count == fault.count else { return .wrong("counted \(count) instead of \(fault.count)") }
        guard report.findings.allSatisfy({ $0.reissued == fault.isReissued }) else {
            return .wrong("re-issue mistaken")
        }
        guard let site = marks.site(of: fault) else { return .wrong("no mark in the sources") }
        let other = report.findings.first { $0.site?.file != site.file || $0.site?.line != site.line }
        guard let other else { return .right }
        let name = other.site.map { frame in
            "\(((frame.file ?? "?") as NSString).lastPathComponent):\(frame.line ?? 0) \(frame.function)"
        }
        return .otherSite(name ?? "none")
    }

    /// Runs the executable to its end; both streams together.
    private func run(_ arguments: [String], environment: [String: String]) throws -> (status: Int32, output: String) {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/timeout")
        process.arguments = ["-s", "KILL", "\(Self.limitSeconds)", path] + arguments
        process.environment = environment
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        process.standardInput = FileHandle.nullDevice
        try process.run()
        let output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        let isKilled = process.terminationReason == .uncaughtSignal
        return (isKilled ? 128 + process.terminationStatus : process.terminationStatus, output)
    }
}

/// Outcomes from several threads.
private final class Results: @unchecked Sendable {
    // Unchecked: only touched with the lock held.
    private let lock = NSLock()
    private var outcomes: [Specimen: Outcome] = [:]

    func add(_ specimen: Specimen, _ outcome: Outcome) { lock.withLock { outcomes[specimen] = outcome } }

    var all: [Specimen: Outcome] { lock.withLock { outcomes } }
}

/// The marked lines of the zoo's sources: `// SITE get PLACE`, and the same with `put` and `touch`.
struct SiteMarks: Sendable {
    struct Site: Hashable, Sendable {
        var file: String
        var line: Int
    }

    private var sites: [String: Site] = [:]
    /// Marks that are there twice.
    private(set) var duplicates: [String] = []

    init() throws {
        for name in try FileManager.default.contentsOfDirectory(atPath: ZooProgram.sources).sorted() {
            let file = ZooProgram.sources + "/" + name
            let text = try String(contentsOfFile: file, encoding: .utf8)
            for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
                guard let mark = line.range(of: "  // SITE ") else { continue }
                let key = String(line[mark.upperBound...])
                if sites[key] != nil { duplicates.append(key) }
                sites[key] = Site(file: file, line: index + 1)
            }
        }
    }

    /// Where a fault is made.
    func site(of fault: Specimen.Fault) -> Site? { sites["\(fault.verb) \(fault.place)"] }

    var count: Int { sites.count }
}

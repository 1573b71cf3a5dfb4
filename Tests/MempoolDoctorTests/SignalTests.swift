// Signals: the doctor outlives them, hands them on, and still reports.

import Foundation
import Glibc
import Testing

@Suite struct SignalTests {
    private let scratch: Scratch

    init() throws { scratch = try Scratch() }

    /// Waits until the observed program has created `name`.
    private func waitForFile(_ name: String) throws {
        let deadline = Date(timeIntervalSinceNow: 30)
        while !FileManager.default.fileExists(atPath: scratch.file(name)) {
            try #require(Date() < deadline, "the program did not start")
            usleep(2_000)
        }
    }

    /// A program that says it is ready and then waits for a signal; `trap` is what it does then.
    private func start(_ trap: String, signal: String, terminal: String? = nil) throws -> DoctorProcess {
        let script = "trap '\(trap)' \(signal); : > ready; while :; do sleep 0.01; done"
        let process = try DoctorProcess(
            ["exec"] + FakeProgram.arguments(script),
            in: scratch,
            environment: ["FIXTURE": try scratch.healthyRecording()],
            terminal: terminal
        )
        try waitForFile("ready")
        return process
    }

    @Test(arguments: [(SIGINT, "INT"), (SIGTERM, "TERM"), (SIGHUP, "HUP"), (SIGQUIT, "QUIT")])
    func `A signal sent to the doctor alone reaches the program, and the report still comes`(
        number: Int32,
        name: String
    ) throws {
        let process = try start("record $$; exit 0", signal: name)
        kill(process.processID, number)
        let result = try process.finish()
        #expect(result.status == 0)
        #expect(result.errors == "")
        #expect(result.output.contains("HEALTHY"))
    }

    @Test func `A program that dies of the signal gives 128 and its number`() throws {
        let process = try start(":", signal: "USR1")
        kill(process.processID, SIGTERM)
        let result = try process.finish()
        #expect(result.status == 143)
        #expect(result.errors.hasPrefix("mempool-doctor: no recording appeared: "))
    }

    @Test func `Control-C on a terminal reaches the program once and not the doctor`() throws {
        let terminal = try Pseudoterminal()
        let process = try start("echo got >> signals; record $$; exit 0", signal: "INT", terminal: terminal.path)
        terminal.type("\u{03}")
        let output = terminal.readToEnd()
        #expect(try process.finish().status == 0)
        #expect(try scratch.read("signals") == "got\n")
        #expect(output.contains("HEALTHY"))
    }

    @Test(arguments: [(SIGINT, "0000000180000002"), (SIGPIPE, "0000000180001000")])
    func `The program starts with the signals as the doctor got them`(ignored: Int32, mask: String) throws {
        let process = try DoctorProcess(
            ["exec", "--", "/bin/grep", "-E", "SigBlk|SigIgn", "/proc/self/status"],
            in: scratch,
            ignoring: ignored
        )
        // Signals 32 and 33 are the C library's own.
        #expect(try process.finish().output == "SigBlk:\t0000000000000000\nSigIgn:\t\(mask)\n")
    }

    @Test func `A reader that has gone is an error of the doctor, which leaves nothing behind`() throws {
        // Of a pair whose other end is closed; a child that another test starts meanwhile gets neither.
        var pair: [Int32] = [0, 0]
        let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
        try #require(socketpair(AF_UNIX, kind, 0, &pair) == 0)
        close(pair[0])
        defer { close(pair[1]) }
        let process = try DoctorProcess(
            ["exec"] + FakeProgram.arguments("record $$"), in: scratch,
            environment: ["FIXTURE": try scratch.healthyRecording()], output: pair[1])
        let result = try process.finish()
        #expect(result.status == 70)
        #expect(result.errors == "mempool-doctor: cannot write the report to stdout: Broken pipe\n")
        #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.file("tmp")) == [])
    }

    /// Waits until something lies below `folder`, given by its path.
    private func waitForEntry(in folder: String, _ isWanted: (String) -> Bool) throws {
        let deadline = Date(timeIntervalSinceNow: 60)
        while try !FileManager.default.subpathsOfDirectory(atPath: folder).contains(where: isWanted) {
            try #require(Date() < deadline, "it did not start")
            usleep(2_000)
        }
    }

    @Test(arguments: [SIGINT, SIGTERM, SIGHUP])
    func `A benchmark that is stopped leaves nothing behind`(number: Int32) throws {
        let process = try DoctorProcess(
            ["bench", "pair", "--rounds", "100000", "--sizes", "512", "1K"], in: scratch)
        try waitForEntry(in: scratch.file("tmp")) { $0.hasPrefix("mempool-doctor-") }
        kill(process.processID, number)
        let result = try process.finish()
        #expect(result.status == 2)
        #expect(result.output == "")
        #expect(result.errors.hasSuffix("mempool-doctor: interrupted\n"), "\(result.errors)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.file("tmp")) == [])
    }

    @Test func `A workload that is stopped leaves nothing in the directory that was named`() throws {
        let directory = scratch.file("files")
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: false)
        let process = try DoctorProcess(
            ["run", "segment", "--operations", "100000000", "--directory", directory], in: scratch)
        try waitForEntry(in: directory) { $0.contains("mempool-workload-") }
        kill(process.processID, SIGINT)
        #expect(try process.finish().status == 2)
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory) == [])
        #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.file("tmp")) == [])
    }

    @Test func `A parent that ignores SIGCHLD does not hide how the program ended`() throws {
        let process = try DoctorProcess(["exec", "--", "/bin/sh", "-c", "exit 3"], in: scratch, ignoring: SIGCHLD)
        #expect(try process.finish().status == 3)
    }
}

/// A terminal that the test plays the keyboard and the screen of.
final class Pseudoterminal {
    private let descriptor: Int32
    /// TIOCGPTN and TIOCSPTLCK of Linux: what ptsname and unlockpt, which glibc hides from Swift, are made of.
    private static let getNumber: UInt = 0x8004_5430
    private static let unlock: UInt = 0x4004_5431

    /// What a process opens as its terminal.
    let path: String

    init() throws {
        descriptor = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
        try #require(descriptor >= 0)
        var number: Int32 = 0
        var isLocked: Int32 = 0
        try #require(ioctl(descriptor, Self.unlock, &isLocked) == 0 && ioctl(descriptor, Self.getNumber, &number) == 0)
        path = "/dev/pts/\(number)"
    }

    deinit { close(descriptor) }

    func type(_ text: String) {
        _ = text.withCString { write(descriptor, $0, strlen($0)) }
    }

    /// Everything that was written until the last process closed its end.
    func readToEnd() -> String {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = read(descriptor, &chunk, chunk.count)
            // EIO is how a terminal says that nobody has it open any more.
            guard count > 0 else { break }
            bytes += chunk[..<count]
        }
        return String(decoding: bytes, as: UTF8.self).replacing("\r\n", with: "\n")
    }
}

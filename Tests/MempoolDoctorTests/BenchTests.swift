// Smoke tests of `bench`: that everything is measured, never how fast.

import Foundation
import Testing

@Suite struct BenchTests {
    private let scratch: Scratch

    init() throws { scratch = try Scratch() }

    @Test func `A quick run measures rows of every group asked for`() throws {
        let result = try doctor(
            "bench", "pair", "mixed", "forms", "--only", "handoff", "recorder", "--quick", "--sizes", "512", "64K",
            "--format", "json", in: scratch
        )
        #expect(result.status == 0, "\(result.errors)")
        let json = try #require(result.json)
        #expect(json["schemaVersion"] as? Int == 1)
        #expect(json["failures"] as? [String] == [])
        let rows = try #require(json["rows"] as? [[String: Any]])
        let groups = Set(rows.compactMap { $0["group"] as? String })
        #expect(groups.isSuperset(of: ["pair", "mixed", "forms", "recorder"]))
        #expect(groups.isSubset(of: ["pair", "mixed", "forms", "recorder", "handoff"]))
        for row in rows {
            let measurements = try #require(row["measurements"] as? [[String: Any]])
            #expect(measurements.count >= 2)
            #expect(measurements.allSatisfy { ($0["nanoseconds"] as? Double ?? 0) > 0 && $0["samples"] as? Int == 3 })
            #expect(row["ratio"] is Double)
        }
        let sizes = rows.filter { $0["group"] as? String == "pair" && $0["threads"] as? Int == 1 }
        #expect(sizes.compactMap { $0["size"] as? Int } == [512, 65536])
        let recorder = try #require(json["recorder"] as? [String: Any])
        #expect(recorder["buffers"] as? Int == 10_000)
        let left = try? FileManager.default.contentsOfDirectory(atPath: scratch.file("runtime/mempool"))
        #expect(left ?? [] == [], "recordings that nobody removes")
        for key in ["firstGetNanoseconds", "residentBytes", "recordingBytes", "reportSeconds", "reportPeakBytes"] {
            #expect(recorder[key] as? Double ?? 0 > 0, "\(key)")
        }
    }

    @Test func `Groups without a row are no measurement`() throws {
        let result = try doctor("bench", "flatness", "--quick", "--sizes", "512", in: scratch)
        #expect(result.status == 2)
        #expect(result.errors.contains("none of the groups has a row on this machine and at these sizes"))
    }

    @Test func `Groups with rows of their own, and the memory after a burst, are measured`() throws {
        let result = try doctor(
            "bench", "fifo", "pages", "threads", "zeroing", "memory", "--quick", "--rounds", "1",
            "--sizes", "512", "64K", "--format", "json", in: scratch
        )
        #expect(result.status == 0, "\(result.errors)")
        let json = try #require(result.json)
        #expect(
            Set(json.keys) == [
                "schemaVersion", "configuration", "machine", "noise", "rows", "memory", "peers", "missing", "failures",
                "flatness",
            ])
        #expect(json["failures"] as? [String] == [])
        let rows = try #require(json["rows"] as? [[String: Any]])
        func labels(_ group: String) -> [String] {
            rows.filter { $0["group"] as? String == group }.compactMap { $0["label"] as? String }
        }
        #expect(labels("fifo") == ["512 B", "64 KiB"])
        // A page needs a buffer of some.
        #expect(labels("pages") == ["64 KiB"])
        #expect(labels("threads") == ["1 thread", "4 threads", "8 threads", "16 threads", "64 threads"])
        #expect(labels("zeroing") == ["zeroing on get", "zeroing on put"])
        #expect(rows.count == 10)
        for row in rows {
            let measurements = try #require(row["measurements"] as? [[String: Any]])
            #expect(measurements.count >= 2)
            #expect(measurements.allSatisfy { $0["nanoseconds"] as? Double ?? 0 > 0 && $0["samples"] as? Int == 1 })
            #expect(row["ratio"] is Double)
        }
        let memory = try #require(json["memory"] as? [String: Any])
        #expect(memory["burstBytes"] as? Int == 64 << 20)
        let idle = try #require(memory["idleBytes"] as? Int)
        #expect(memory["peakBytes"] as? Int ?? 0 >= idle + 48 << 20)
        for key in ["trimmedBytes", "threadsBytes"] { #expect(memory[key] as? Int ?? 0 > 0, "\(key)") }
        #expect(memory["idleBuffers"] as? Int == 100_000)
        #expect(memory["idleOverhead"] is Double)
        let points = try #require(memory["points"] as? [[String: Any]])
        #expect(points.compactMap { $0["seconds"] as? Double } == [0, 0.5, 1, 1.5])
        #expect(points.allSatisfy { $0["residentBytes"] as? Int ?? 0 > 0 })
    }

    @Test func `How much is done is drawn on a terminal, and wiped`() throws {
        let arguments = ["bench", "zeroing", "--quick", "--rounds", "1", "--output", "table.txt"]
        let terminal = try Pseudoterminal()
        let process = try DoctorProcess(
            arguments, in: scratch, environment: ["TERM": "xterm"], terminal: terminal.path)
        let shown = terminal.readToEnd()
        #expect(try process.finish().status == 0, "\(shown)")
        let empty = String(repeating: "░", count: 24)
        let half = String(repeating: "█", count: 12) + String(repeating: "░", count: 12)
        #expect(
            shown.hasSuffix(
                "\r⠋ \(empty) 0 %  zeroing zeroing on get\u{1B}[K\r⠙ \(half) 50 %  zeroing zeroing on put\u{1B}[K\r\u{1B}[K"
            ),
            "\(shown)")
        let silent = try DoctorProcess(arguments, in: scratch).finish()
        #expect(silent.status == 0)
        #expect(!silent.errors.contains("zeroing"), "\(silent.errors)")
    }

    @Test func `The table goes to the file, notes to stderr`() throws {
        let result = try doctor("bench", "swift", "--quick", "--sizes", "1K", "-o", "table.txt", in: scratch)
        #expect(result.status == 0)
        #expect(result.output == "")
        let table = try scratch.read("table.txt")
        #expect(table.hasPrefix("swift: what Swift has by itself, 1 thread, ns\n"))
        #expect(table.contains("\n  1 KiB "))
        #expect(table.contains("\nmachine: "))
    }

    /// Hands everything on to the C library, under names that the dynamic linker finds first.
    private static let forwarder = """
        #include <stddef.h>
        extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
        extern void __libc_free(void *);
        void *malloc(size_t bytes) { return __libc_malloc(bytes); }
        void *calloc(size_t count, size_t bytes) { return __libc_calloc(count, bytes); }
        void *realloc(void *memory, size_t bytes) { return __libc_realloc(memory, bytes); }
        void free(void *memory) { __libc_free(memory); }
        """

    @Test func `Peers are preloaded and measured, each in a column of its own`() throws {
        let source = try scratch.write(Self.forwarder, to: "tiny.c")
        let library = scratch.file("libtiny.so")
        let compiler = Process()
        compiler.executableURL = URL(filePath: "/usr/bin/env")
        compiler.arguments = ["clang", "-shared", "-fPIC", "-O1", "-fno-builtin", "-o", library, source]
        try compiler.run()
        compiler.waitUntilExit()
        try #require(compiler.terminationStatus == 0)
        let other = scratch.file("other")
        try FileManager.default.createDirectory(atPath: other, withIntermediateDirectories: false)
        try FileManager.default.copyItem(atPath: library, toPath: other + "/libtiny.so.1")

        let arguments = [
            "bench", "pair", "--quick", "--sizes", "512", "--peer", library, "--peer", other + "/libtiny.so.1",
        ]
        let json = try DoctorProcess(arguments + ["--format", "json"], in: scratch).finish()
        #expect(json.status == 0, "\(json.errors)")
        #expect(json.json?["failures"] as? [String] == [])
        let row = try #require((json.json?["rows"] as? [[String: Any]])?.first)
        let measurements = try #require(row["measurements"] as? [[String: Any]])
        #expect(measurements.compactMap { $0["contender"] as? String }.suffix(2) == ["tiny", "tiny (2)"])
        #expect(measurements.allSatisfy { $0["nanoseconds"] as? Double ?? 0 > 0 })

        let text = try DoctorProcess(arguments, in: scratch).finish().output
        let header = try #require(text.split(separator: "\n").dropFirst().first)
        #expect(header.contains(/\ tiny +tiny \(2\) +ratio$/), "\(text)")
        #expect(text.contains("\npeer:    tiny is \(library)\npeer:    tiny (2) is \(other)/libtiny.so.1\n"))
    }

    @Test func `A peer that cannot be preloaded is usage, and named`() throws {
        let file = try scratch.write("no library", to: "libfake.so")
        let result = try doctor("bench", "fifo", "--quick", "--peer", file, in: scratch)
        #expect(
            result
                == DoctorResult(
                    status: 64,
                    output: "",
                    errors: "mempool-doctor: --peer: \(file) is not a shared library for this machine\n"
                )
        )
    }

    @Test(arguments: [
        ["bench", "nonsense"], ["bench", "--rounds", "0"], ["bench", "--sizes", "0"], ["bench", "--sizes", "17M"],
        ["bench", "--sizes", "9999999999999999999M"], ["bench", "--only", "nonsense"],
    ])
    func `A mistake in the arguments has status 64`(arguments: [String]) throws {
        let result = try DoctorProcess(arguments, in: scratch).finish()
        #expect(result.status == 64)
        #expect(result.output == "")
        #expect(result.errors.hasPrefix("Error: "), "\(result.errors)")
    }
}

// `SampleProgram`: an optimized program with nested inlined functions, compiled by the toolchain that runs the tests.

import Foundation
import MempoolRecording
import TestSupport
import Testing

@testable import MempoolAnalysis

/// The program, and where it was in its innermost function.
struct SampleProgram {
    let directory: TemporaryDirectory
    var path: String { directory.path + "/program" }
    private(set) var modules: [Recording.Module] = []
    /// Return addresses, innermost first.
    private(set) var words: [UInt64] = []

    /// Compiled and run once.
    static func shared() throws -> SampleProgram { try result.get() }
    private static let result = Result { try SampleProgram() }

    /// What its frames are called, with lines and whether they are inlined.
    static let names = [
        "leaf() 3 false", "specialized static Pool.take<A>(_:) 6 true", "closure #1 in user() 18 true",
        "Pool.use(_:) 11 true", "user() 17 false",
    ]

    private static let source = """
        import Runtime
        @inline(never) func blackhole<T>(_ value: T) { withUnsafePointer(to: value) { print("#", $0 == UnsafePointer(bitPattern: 1)) } }
        @inline(never) func leaf() throws -> Backtrace { try Backtrace.capture() }
        struct Pool {
            @inline(__always) static func take<T>(_ value: T) throws -> Backtrace {
                let trace = try leaf()
                blackhole(value)
                return trace
            }
            @inline(__always) func use(_ body: () throws -> Backtrace) rethrows -> Backtrace {
                let trace = try body()
                blackhole(1)
                return trace
            }
        }
        @inline(never) func user() throws -> Backtrace {
            try Pool().use {
                let inner = try Pool.take(7)
                blackhole(3)
                return inner
            }
        }
        let trace = try user()
        for image in ImageMap.capture() {
            print("image", image.baseAddress, image.endOfText, image.path ?? "", (image.uniqueID ?? []).map(String.init).joined(separator: ","))
        }
        for case .returnAddress(let address) in trace.frames { print("frame", address) }
        """

    /// - Parameters:
    ///   - source: Prints images and frames as the program does that is shared.
    ///   - optimization: An option of the compiler.
    init(source: String = Self.source, optimization: String = "-O") throws {
        directory = try TemporaryDirectory()
        let file = try directory.write(Array(source.utf8), to: "main.swift")
        try Self.run("swiftc", optimization, "-g", "-module-name", "sample", file, "-o", directory.path + "/program")
        func number(_ text: Substring) -> UInt64 { UInt64(text.dropFirst(2), radix: 16) ?? 0 }
        for line in try Self.run(directory.path + "/program").split(separator: "\n") {
            let fields = line.split(separator: " ", omittingEmptySubsequences: false)
            if fields[0] == "image", fields.count == 5 {
                let base = number(fields[1])
                modules.append(
                    Recording.Module(
                        base: base, start: base, end: number(fields[2]), path: String(fields[3]),
                        buildID: fields[4].split(separator: ",").compactMap { UInt8($0) }
                    )
                )
            } else if fields[0] == "frame" {
                words.append(number(fields[1]))
            }
        }
    }

    /// Runs a program to its end and returns its output.
    @discardableResult
    static func run(_ words: String...) throws -> String {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = words
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        let output = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0, "\(words)")
        return String(decoding: output, as: UTF8.self)
    }

    /// Whether a tool is installed.
    static func has(_ tool: String) -> Bool { (try? run("which", tool)) != nil }

    func bytes() throws -> [UInt8] { [UInt8](try Data(contentsOf: URL(fileURLWithPath: path))) }

    /// What the symbolizer says when another file lies in the program's place: the frames up to `main`, as in `names`.
    func names(inFile file: String) -> (frames: [String], unnamed: [UnnamedModule]) {
        let modules = modules.map { module in
            var module = module
            if module.path == path { module.path = file }
            return module
        }
        let result = ElfSymbolizer().name(Set(words), in: modules)
        let frames = words.flatMap { result.frames[$0] ?? [] }.prefix {
            $0.function != "main" && $0.function != "sample_main"
        }
        return (
            frames.map { $0.isUnnamed ? $0.function : "\($0.function) \($0.line ?? 0) \($0.inlined)" },
            result.unnamedModules
        )
    }
}

// Tests of RuntimeSymbolizer: with program counters of the test process itself, and of an optimized program compiled for the purpose.

import Foundation
import MempoolRecording
import Runtime
import TestSupport
import Testing

@testable import MempoolAnalysis

/// The stack words of the caller, as a recorder would store them.
@inline(never)
private func captureWords() throws -> [UInt64] {
    try Backtrace.capture(algorithm: .fast, limit: 32).frames.compactMap { frame in
        switch frame {
        case .returnAddress(let address): UInt64(address)
        case .asyncResumePoint(let address): UInt64(address).map { $0 | StackWord.asyncBit }
        default: nil
        }
    }
}

/// The images of this process.
private func modulesOfThisProcess() -> [Recording.Module] {
    ImageMap.capture().map { image in
        let base = UInt64(image.baseAddress) ?? 0
        return Recording.Module(
            base: base, start: base, end: UInt64(image.endOfText) ?? 0, path: image.path ?? "",
            buildID: image.uniqueID ?? []
        )
    }
}

struct RuntimeSymbolizerTests {
    @inline(never)
    private func capturing() throws -> (words: [UInt64], line: Int) {
        let words = try captureWords()
        return (words, #line - 1)
    }

    @inline(never)
    private func suspended() async throws -> [UInt64] {
        await Task.yield()
        return try captureWords()
    }

    @inline(never)
    private func waiting() async throws -> (words: [UInt64], line: Int) {
        let words = try await suspended()
        return (words, #line - 1)
    }

    private func frames(_ words: [UInt64], _ modules: [Recording.Module]) -> [[Frame]] {
        let names = RuntimeSymbolizer().name(Set(words), in: modules)
        return words.map { names.frames[$0] ?? [] }
    }

    @Test func `Frames of this process get function, file, line and column`() throws {
        let (words, line) = try capturing()
        let frames = frames(words, modulesOfThisProcess()).flatMap { $0 }
        let frame = try #require(frames.first { $0.function == "RuntimeSymbolizerTests.capturing()" })
        #expect(frame.file == #filePath)
        #expect(frame.line == line)
        #expect((frame.column ?? 0) > 0)
        #expect(!frame.async)
        #expect(frame.isUserCode)
        // Not the last one for certain: a test that runs deep in the stack of another is captured in part.
        #expect(frames.contains { $0.isSystem })
    }

    @Test func `An async parent is named with the line where it waits`() async throws {
        let (words, line) = try await waiting()
        let frames = frames(words, modulesOfThisProcess()).flatMap { $0 }
        let parent = try #require(frames.first { $0.function == "RuntimeSymbolizerTests.waiting()" })
        #expect(parent.async)
        #expect(parent.line == line)
        let child = try #require(frames.first { $0.function == "RuntimeSymbolizerTests.suspended()" })
        #expect(!child.async)
    }

    @Test func `A changed, a missing and an unidentified binary keep their names to themselves`() throws {
        let (words, _) = try capturing()
        let executable = try #require(ModuleTable(modulesOfThisProcess()).module(of: words[0]))
        func result(_ change: (inout Recording.Module) -> Void) -> NamedAddresses {
            var module = executable
            change(&module)
            return RuntimeSymbolizer().name([words[0]], in: [module])
        }
        let changed = result { $0.buildID[0] ^= 1 }
        #expect(changed.unnamedModules.map(\.reason) == [.changed])
        #expect(changed.unnamedModules.first?.explanation.contains("has changed since the recording") == true)
        let missing = result { $0.path = "/nowhere/app" }
        #expect(missing.unnamedModules.map(\.reason) == [.missing])
        let unidentified = result { $0.buildID = [] }
        #expect(unidentified.unnamedModules.map(\.reason) == [.noBuildID])
        let offset = "+0x" + String(words[0] - executable.base, radix: 16)
        for names in [changed, missing, unidentified] {
            let frame = try #require(names.frames[words[0]]?.first)
            #expect(frame.function.hasSuffix(offset))
            #expect(frame.file == nil)
            #expect(frame.isUnnamed)
        }
    }

    @Test func `An address outside of all modules stays a number`() {
        let names = RuntimeSymbolizer().name([0x1234, 0, .max], in: modulesOfThisProcess())
        #expect(names.frames[0x1234] == [Frame(function: "0x1234")])
        #expect(names.frames[.max] == [Frame(function: "0x7fffffffffffffff", async: true)])
    }

    @Test func `Many modules and long paths survive the compact form`() throws {
        // 200 images need two groups of seven bits; a path of 300 bytes needs five pieces.
        let images = (0..<200).map { index -> CompactBacktrace.Image in
            let base = UInt64(index + 1) << 32
            let path = "/" + String(repeating: "x", count: 300) + "\(index)"
            return CompactBacktrace.Image(base: base, endOfText: base + 0x1000, buildID: [UInt8(index)], path: path)
        }
        let encoded = try JSONEncoder().encode(Data(CompactBacktrace.imageMap(images.reversed())).base64EncodedString())
        let map = try JSONDecoder().decode(ImageMap.self, from: encoded)
        #expect(map.map(\.path) == images.map(\.path))
        #expect(map.map { UInt64($0.baseAddress) } == images.map(\.base))
        #expect(map.map { UInt64($0.endOfText) } == images.map(\.endOfText))
        #expect(map.map(\.uniqueID) == images.map(\.buildID))
    }
}

/// An optimized program with nested inlined functions, compiled by the toolchain that runs the tests.
struct InlinedFunctionTests {
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

    private static func run(_ executable: String, _ arguments: [String]) throws -> String? {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: executable)
        process.arguments = arguments
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        let output = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return process.terminationStatus == 0 ? String(decoding: output, as: UTF8.self) : nil
    }

    private static func compile(in directory: TemporaryDirectory) throws -> String {
        let file = try directory.write(Array(source.utf8), to: "main.swift")
        let program = directory.path + "/program"
        _ = try #require(
            try run("/usr/bin/env", ["swiftc", "-O", "-g", "-module-name", "sample", file, "-o", program]))
        return program
    }

    @Test func `Inlined functions are named from the inside out, each with its own line`() throws {
        let directory = try TemporaryDirectory()
        let program = try Self.compile(in: directory)
        let output = try #require(try Self.run(program, []))
        var modules: [Recording.Module] = []
        var words: [UInt64] = []
        func number(_ text: Substring) -> UInt64 { UInt64(text.dropFirst(2), radix: 16) ?? 0 }
        for line in output.split(separator: "\n") {
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
        let names = RuntimeSymbolizer().name(Set(words), in: modules)
        let frames = words.flatMap { names.frames[$0] ?? [] }.prefix {
            $0.function != "main" && $0.function != "sample_main"
        }
        #expect(
            frames.map { "\($0.function) \($0.line ?? 0) \($0.inlined)" } == [
                "leaf() 3 false", "specialized static Pool.take<A>(_:) 6 true", "closure #1 in user() 18 true",
                "Pool.use(_:) 11 true", "user() 17 false",
            ]
        )
    }

    @Test func `No mutation of debug information brings the reader down`() throws {
        let directory = try TemporaryDirectory()
        let program = try Self.compile(in: directory)
        let original = [UInt8](try Data(contentsOf: URL(fileURLWithPath: program)))
        let addresses = Set((0..<200).map { UInt64(0x1800 + $0 * 16) })
        #expect(DwarfImage(path: program)?.locations(of: addresses).isEmpty == false)
        var generator = SeededGenerator(seed: 4)
        // Debug information is in the second half; the section table at the end.
        for _ in 0..<(runsLongTests ? 3000 : 150) {
            var bytes = original
            for _ in 0..<Int.random(in: 1...40, using: &generator) {
                let position = Int.random(in: bytes.count / 4..<bytes.count, using: &generator)
                bytes[position] = Bool.random(using: &generator) ? 0xFF : UInt8.random(in: 0...255, using: &generator)
            }
            let path = try directory.write(bytes, to: "mutant")
            _ = ElfImage(path: path)
            _ = DwarfImage(path: path)?.locations(of: addresses)
        }
    }
}

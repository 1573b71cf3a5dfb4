// Tests of ElfSymbolizer: with program counters of the test process itself, and of an optimized program compiled for the purpose.

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

struct ElfSymbolizerTests {
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
        let names = ElfSymbolizer().name(Set(words), in: modules)
        return words.map { names.frames[$0] ?? [] }
    }

    @Test func `Frames of this process get function, file, line and column`() throws {
        let (words, line) = try capturing()
        let frames = frames(words, modulesOfThisProcess()).flatMap { $0 }
        let frame = try #require(frames.first { $0.function == "ElfSymbolizerTests.capturing()" })
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
        let parent = try #require(frames.first { $0.function == "ElfSymbolizerTests.waiting()" })
        #expect(parent.async)
        #expect(parent.line == line)
        let child = try #require(frames.first { $0.function == "ElfSymbolizerTests.suspended()" })
        #expect(!child.async)
    }

    /// A session whose `deinit` runs amid a function of the user's.
    private static let releasing = """
        import Runtime
        nonisolated(unsafe) var traces: [Backtrace] = []
        final class Session {
            deinit { traces.append(try! Backtrace.capture()) }
        }
        @inline(never) func runBroker(rounds: Int) {
            var sessions = ["a": Session()]
            sessions["a"] = nil
            print("#", sessions.count, rounds)
        }
        runBroker(rounds: 3)
        for image in ImageMap.capture() {
            print("image", image.baseAddress, image.endOfText, image.path ?? "", (image.uniqueID ?? []).map(String.init).joined(separator: ","))
        }
        for case .returnAddress(let address) in traces[0].frames { print("frame", address) }
        """

    @Test(arguments: ["-O", "-Onone"])
    func `The caller of a deinit is the user's, also where the compiler put code between its lines`(
        optimization: String
    ) throws {
        let program = try SampleProgram(source: Self.releasing, optimization: optimization)
        let names = ElfSymbolizer().name(Set(program.words), in: program.modules)
        let stack = program.words.flatMap { names.frames[$0] ?? [] }
        let release = try #require(stack.firstIndex { $0.function == "Session.deinit" })
        #expect(stack[release].line == 4)
        let caller = try #require(stack[release...].first { $0.function == "runBroker(rounds:)" })
        #expect(caller.isUserFunction && !caller.isCompilerGenerated)
        #expect(caller.file == program.directory.path + "/main.swift")
        // Optimized code has no line there, and the lines around it are of other calls.
        #expect(caller.line == (optimization == "-O" ? nil : 8))
        #expect(caller.isUserCode == (optimization == "-Onone"))
        let frees = stack.filter { $0.function.contains("__deallocating_deinit") }
        #expect(frees.allSatisfy { !$0.isUserFunction } && (optimization == "-O" || !frees.isEmpty))
    }

    @Test(arguments: [false, true]) func `Debug information that takes too much work is named, and lines are missing`(
        areUnitsRead: Bool
    ) throws {
        let program = try SampleProgram.shared()
        let budget = DwarfBudget(steps: 1_000_000)
        #expect(DwarfImage(try RecordingFile(path: program.path), budget: budget) != nil)
        let steps = 1_000_000 - budget.steps
        let names = ElfSymbolizer(lineSteps: areUnitsRead ? steps : steps - 1).name(
            Set(program.words), in: program.modules)
        let frames = program.words.compactMap { names.frames[$0]?.last }
        let user = try #require(frames.first { $0.function == "user()" })
        #expect(user.line == nil)
        let lost = frames.count { $0.module == "program" && !$0.isUnnamed && $0.line == nil }
        #expect(lost > 1 && names.unreadDebugFiles == [program.path: lost])
        let sound = ElfSymbolizer().name(Set(program.words), in: program.modules)
        #expect(sound.unreadDebugFiles.isEmpty)
    }

    @Test func `A changed, a missing and an unidentified binary keep their names to themselves`() throws {
        let (words, _) = try capturing()
        let executable = try #require(ModuleTable(modulesOfThisProcess()).module(of: words[0]))
        func result(_ change: (inout Recording.Module) -> Void) -> NamedAddresses {
            var module = executable
            change(&module)
            return ElfSymbolizer().name([words[0]], in: [module])
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
        let names = ElfSymbolizer().name([0x1234, 0, .max], in: modulesOfThisProcess())
        #expect(names.frames[0x1234] == [Frame(function: "0x1234")])
        #expect(names.frames[.max] == [Frame(function: "0x7fffffffffffffff", async: true)])
    }

    @Test func `Where two libraries were one after the other, nothing is named`() throws {
        let (words, _) = try capturing()
        let modules = modulesOfThisProcess()
        let executable = try #require(ModuleTable(modules).module(of: words[0]))
        var other = executable
        other.path = "/nowhere/plugin.so"
        other.start = words[0] - 0x10
        other.end = words[0] + 0x10
        let names = ElfSymbolizer().name([words[0]], in: modules + [other])
        #expect(names.frames[words[0]] == [Frame(function: "0x" + String(words[0], radix: 16))])
        #expect(names.unnamedModules.map(\.reason) == [.shared, .shared])
        #expect(Set(names.unnamedModules.map(\.path)) == [executable.path, other.path])
        #expect(names.unnamedModules.map(\.frames) == [1, 1])
        #expect(
            names.unnamedModules.allSatisfy { $0.explanation.contains("another library were at the same addresses") })
        // The same file at the same place is no other one.
        let again = ElfSymbolizer().name([words[0]], in: modules + [executable])
        #expect(again.frames[words[0]]?.last?.function == "captureWords()")
    }

    @Test func `Modules of one path and two build-ids are judged each by its own`() throws {
        let (words, _) = try capturing()
        let executable = try #require(ModuleTable(modulesOfThisProcess()).module(of: words[0]))
        var old = executable
        old.buildID[0] ^= 1
        let distance: UInt64 = 1 << 44
        old.base += distance
        old.start += distance
        old.end += distance
        let names = ElfSymbolizer().name([words[0], words[0] + distance], in: [old, executable])
        #expect(names.frames[words[0]]?.last?.function == "captureWords()")
        #expect(names.frames[words[0] + distance]?.first?.isUnnamed == true)
        #expect(names.unnamedModules.map(\.reason) == [.changed])
    }
}

struct ModuleTableTests {
    private func module(_ start: UInt64, _ end: UInt64, _ path: String) -> Recording.Module {
        Recording.Module(base: start, start: start, end: end, path: path, buildID: [1])
    }

    @Test func `An address has the one module that it lies in, or none`() {
        let table = ModuleTable([
            module(0x3000, 0x4000, "c"), module(0x1000, 0x2000, "a"), module(0x1800, 0x2800, "b"),
            module(0x3000, 0x4000, "c"),
        ])
        let addresses: [UInt64] = [
            0xFFF, 0x1000, 0x17FF, 0x1800, 0x1FFF, 0x2000, 0x27FF, 0x2800, 0x3000, 0x3FFF, 0x4000,
        ]
        let paths = addresses.map { table.module(of: $0 | StackWord.asyncBit)?.path }
        #expect(paths == [nil, "a", "a", nil, nil, "b", "b", nil, "c", "c", nil])
        // A return address may lie behind the end.
        #expect(table.module(of: 0x4000)?.path == "c")
        #expect(table.module(of: 0x1000) == nil)
        #expect(ModuleTable([]).module(of: 5) == nil)
        guard case .several(let first, let second) = table.owner(of: 0x1900) else {
            Issue.record("Two modules were there.")
            return
        }
        #expect([first.path, second.path] == ["a", "b"])
    }
}

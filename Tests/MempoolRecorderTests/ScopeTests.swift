// Scopes and notes: which buffers belong to them, what comes back late, and how many there can be.

import CaptureFixtures
import Foundation
import Mempool
import MempoolRecording
import Synchronization
import Testing

private struct Refusal: Error {}

/// Buffers that wait for their put.
private let held = Mutex<[Buffer]>([])
private let calls = Atomic(0)

private func hold(_ size: Int) {
    let buffer = getBuffer(size)
    held.withLock { $0.append(buffer) }
}

private func putHeld() {
    let buffers = held.withLock { held in
        defer { held = [] }
        return held
    }
    buffers.forEach(putBuffer)
}

private actor Counter {
    var count = 0

    func inScope() async -> Int {
        await Diagnostics.withScope("actor") {
            count += 1
            await Task.yield()
            hold(count)
            return count
        }
    }
}

/// Leaks as "bytes scope note", the larger ones first.
private func leaks() throws -> [String] {
    var bytes: [String: Int] = [:]
    for leak in try Diagnostics.check() { bytes["\(leak.scope ?? "-") \(leak.note ?? "-")", default: 0] += leak.bytes }
    return bytes.sorted { $0.value > $1.value }.map { "\($0.value) \($0.key)" }
}

@Suite("Scopes and notes")
struct ScopeTests {
    private func contexts(_ path: String) throws -> [Recording.Context] {
        try Recording(path: path).contexts.filter { $0.record.state != 0 }
    }

    @Test("buffers of the body and of child tasks belong to the scope; those of detached tasks and threads do not")
    func tasks() async {
        await #expect(processExitsWith: .exitCode(0)) {
            record("full,quiet")
            await Diagnostics.withScope("upload") {
                leakHere(512)
                async let child: Void = leakHere(1024)
                await child
                await withTaskGroup(of: Void.self) { group in
                    group.addTask { leakHere(4096) }
                }
                await Task { leakHere(4096) }.value
                await Task.detached { leakHere(16384) }.value
                await withCheckedContinuation { done in
                    Thread.detachNewThread {
                        leakHere(16384)
                        done.resume()
                    }
                }
                await Task.yield()
                leakHere(65536)
            }
            leakHere(65536)
            // What the standard buckets hold.
            let outside = 65536 + 16384 + 16384
            let inside = 65536 + 4096 + 4096 + 1024 + 512
            must(try leaks() == ["\(outside) - -", "\(inside) upload -"], "\(try leaks())")
            exit(0)
        }
    }

    @Test("of nested scopes the innermost counts, and each knows the one around it")
    func nested() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.recording as String] in
            record("full,quiet,recording=\(path)")
            Diagnostics.withScope("outer") {
                leakHere(512)
                Diagnostics.withScope("inner") { leakHere(1024) }
                leakHere(4096)
            }
            must(try leaks() == ["4608 outer -", "1024 inner -"], "\(try leaks())")
            exit(0)
        }
        let contexts = try Recording(path: scratch.recording).contexts
        #expect(contexts.map(\.name) == ["", "outer", "inner"])
        #expect(contexts.map(\.record.scope) == [0, 0, 1])
        #expect(contexts.map(\.record.state) == [0, 2, 2])
        #expect(contexts.map(\.record.outstandingAtEnd) == [0, 2, 1])
        #expect(contexts[1].record.endTime >= contexts[2].record.endTime && contexts[1].record.beginTime > 0)
    }

    @Test("a task that outlives its scope is unscoped from the scope's end on")
    func outlived() async {
        await #expect(processExitsWith: .exitCode(0)) {
            record("full,quiet")
            let (mayGoOn, go) = AsyncStream.makeStream(of: Void.self)
            let task = Diagnostics.withScope("short") {
                leakHere(512)
                return Task {
                    for await _ in mayGoOn { break }
                    leakHere(1024)
                }
            }
            go.yield()
            await task.value
            must(try leaks() == ["1024 - -", "512 short -"], "\(try leaks())")
            exit(0)
        }
    }

    @Test("what comes back after the scope ended is counted as late, with the longest time")
    func lateReturn() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.recording as String] in
            record("full,quiet,recording=\(path)")
            Diagnostics.withScope("late") {
                hold(10)
                Diagnostics.withNote({ "n" }) { hold(20) }
                putBuffer(getBuffer(30))
                leakHere(512)
            }
            // More than a tick of the recording's clock.
            usleep(50_000)
            putHeld()
            must(try leaks() == ["512 late -"])
            exit(0)
        }
        let scope = try #require(try contexts(scratch.recording).first { $0.name == "late" }).record
        #expect(scope.outstandingAtEnd == 3 && scope.lateReturns == 2)
        #expect(scope.slowestReturn >= 30_000_000 && scope.slowestReturn < 60_000_000_000)
    }

    @Test("a checked scope throws with what is outstanding of it and of the scopes within")
    func checkedScope() async {
        await #expect(processExitsWith: .exitCode(0)) {
            record("full,quiet")
            leakHere(512)
            must(
                try Diagnostics.withCheckedScope("clean") { () -> Int in
                    putBuffer(getBuffer(10))
                    return 7
                } == 7)
            let synchronous = failure {
                try Diagnostics.withCheckedScope("upload") {
                    leakHere(1024)
                    Diagnostics.withScope("part") { leakHere(4096) }
                }
            }
            let error = synchronous as? OutstandingBuffersError
            must(error?.scope == "upload" && error?.findings.map(\.scope) == ["part", "upload"])
            let text = "\(error.map(String.init(describing:)) ?? "")"
            must(
                text.hasPrefix("2 buffers outstanding at the end of scope upload\n  leak: 1 buffer, 4 KiB, got in "),
                text)
            must(text.hasSuffix(", scope upload"), text)
            do {
                try await Diagnostics.withCheckedScope("asynchronous") {
                    await Task { leakHere(4096) }.value
                }
                must(false, "throws nothing")
            } catch let error as OutstandingBuffersError {
                must(error.findings.map(\.bytes) == [4096])
            }
            // The body's own error is the one to see.
            must(
                failure {
                    try Diagnostics.withCheckedScope("refused") {
                        leakHere(10)
                        throw Refusal()
                    }
                } is Refusal)
            exit(0)
        }
    }

    @Test("scopes keep the type of errors, the actor and values that are not Sendable")
    func types() async {
        await #expect(processExitsWith: .exitCode(0)) {
            record("full,quiet")
            let counter = Counter()
            let first = await counter.inScope()
            let second = await counter.inScope()
            must(first == 1 && second == 2)
            do throws(Refusal) {
                try Diagnostics.withScope("a") { () throws(Refusal) in throw Refusal() }
            } catch {}
            do throws(Refusal) {
                try await Diagnostics.withNote({ "n" }) { () async throws(Refusal) in throw Refusal() }
            } catch {}
            must(try leaks() == ["1024 actor -"])
            exit(0)
        }
    }

    @Test("a note is made at each get, in its scope; equal ones are stored once")
    func notes() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.recording as String] in
            record("full,quiet,recording=\(path)")
            let route = Mutex("/a")
            await Diagnostics.withScope("server") {
                await Diagnostics.withNote({ "route=\(route.withLock { $0 })" }) {
                    leakHere(512)
                    leakHere(512)
                    route.withLock { $0 = "/b" }
                    await Task { leakHere(4096) }.value
                    Diagnostics.withNote({ "inner" }) { leakHere(16384) }
                    Diagnostics.withNote({ "" }) { leakHere(65536) }
                }
            }
            Diagnostics.withNote({ "alone" }) { leakHere(262144) }
            must(
                try leaks() == [
                    "262144 - alone", "65536 server -", "16384 server inner", "4096 server route=/b",
                    "1024 server route=/a",
                ], "\(try leaks())")
            exit(0)
        }
        let contexts = try contexts(scratch.recording)
        #expect(contexts.map(\.note).filter { !$0.isEmpty } == ["route=/a", "route=/b", "inner", "alone"])
        #expect(contexts.filter { !$0.note.isEmpty }.map(\.record.scope) == [1, 1, 1, 0])
        #expect(contexts.first?.record.outstandingAtEnd == 5)
    }

    @Test("a note that throws does not hide the finding; one that gets buffers is not asked for them")
    func failingNotes() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.recording as String] in
            record("full,quiet,recording=\(path)")
            Diagnostics.withScope("s") {
                Diagnostics.withNote({ throw Refusal() }) {
                    leakHere(512)
                    leakHere(512)
                }
                Diagnostics.withNote({
                    calls.add(1, ordering: .relaxed)
                    leakHere(4096)
                    putBuffer(getBuffer(10))
                    return "deep"
                }) { leakHere(16384) }
            }
            must(calls.load(ordering: .relaxed) == 1)
            must(try leaks() == ["16384 s deep", "5120 s -"], "\(try leaks())")
            exit(0)
        }
        #expect(try Recording(path: scratch.recording).header.failedNotes == 2)
    }

    @Test("names and notes are cut at 200 bytes, behind a character")
    func longTexts() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.recording as String] in
            record("full,quiet,recording=\(path)")
            Diagnostics.withScope(String(repeating: "x", count: 199) + "é") {
                Diagnostics.withNote({ String(repeating: "🇩🇪", count: 100) }) { leakHere(1) }
            }
            Diagnostics.withScope(String(repeating: "y", count: 200)) { leakHere(1) }
            exit(0)
        }
        let contexts = try contexts(scratch.recording)
        #expect(contexts.map(\.name) == [String(repeating: "x", count: 199), "", String(repeating: "y", count: 200)])
        // A flag is one character of eight bytes.
        #expect(contexts[1].note == String(repeating: "🇩🇪", count: 25))
    }

    @Test("a finding names the scope of the get, however many scopes came after")
    func findingsInScopes() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.recording as String] in
            record("full,quiet,recording=\(path)")
            let buffer = Diagnostics.withScope("first") { Diagnostics.withNote({ "n" }) { getBuffer(10) } }
            putBuffer(buffer)
            putBuffer(buffer)
            for number in 0..<20_000 { Diagnostics.withScope("scope \(number)") { putBuffer(getBuffer(10)) } }
            let finding = try Diagnostics.check()[0]
            must(finding.kind == .doublePut && finding.scope == "first" && finding.note == "n", "\(finding)")
            exit(0)
        }
        let recording = try Recording(path: scratch.recording)
        let finding = try #require(recording.findings.first)
        #expect(recording.contexts[Int(finding.context)].note == "n")
        #expect(recording.header.dropped.contexts == 0)
    }

    @Test("records of ended scopes are used again, and never name a buffer of an earlier scope")
    func reuse() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.recording as String] in
            record("full,quiet,recording=\(path)")
            let old = Diagnostics.withScope("old") { getBuffer(10) }
            putBuffer(old)
            leakHere(10)
            for number in 0..<20_000 {
                Diagnostics.withScope("scope \(number)") {
                    Diagnostics.withNote({ "note \(number)" }) {
                        if number % 1000 == 0 { leakHere(512) } else { putBuffer(getBuffer(1024)) }
                    }
                }
            }
            putBuffer(old)
            let findings = try Diagnostics.check()
            must(findings.first { $0.kind == .doublePut }?.scope == nil, "\(findings[0])")
            let scoped = findings.filter { $0.scope != nil }
            must(Set(scoped.map(\.scope)) == Set((0..<20).map { "scope \($0 * 1000)" }), "\(scoped)")
            must(Set(scoped.map(\.note)) == Set((0..<20).map { "note \($0 * 1000)" }))
            exit(0)
        }
        let recording = try Recording(path: scratch.recording)
        #expect(recording.header.dropped.contexts == 0 && recording.header.dropped.strings == 0)
        #expect(recording.contexts.count < 5000)
    }

    @Test("with every record in use, one more scope is dropped and its buffers are unscoped")
    func dropped() async throws {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [path = scratch.recording as String] in
            record("full,quiet,recording=\(path)")
            for _ in 1..<RecordingLimits.contexts { Diagnostics.withScope("a") { hold(10) } }
            Diagnostics.withScope("b") { leakHere(100_000) }
            must(try leaks() == ["33553920 a -", "262144 - -"], "\(try leaks())")
            let error = failure { try Diagnostics.withCheckedScope("c") {} }
            must(error as? DiagnosticsError == .incomplete(dropped: 1))
            must(try Diagnostics.check().count == 2, "a check of everything does not need scopes")
            putHeld()
            Diagnostics.withScope("d") { leakHere(1000) }
            must(try leaks() == ["262144 - -", "1024 d -"], "\(try leaks())")
            exit(0)
        }
        #expect(try Recording(path: scratch.recording).header.dropped.contexts == 1)
    }
}

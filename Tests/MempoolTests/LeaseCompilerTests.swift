// What must not compile with leases: each mistake is given to the compiler, and its message is compared loosely.

import Foundation
import Testing

/// The compiler's verdict on a few lines that import the module under test.
private struct Compilation {
    var succeeded: Bool
    var messages: String

    /// Compiles the body of a function whose parameter `pool` is a pool.
    ///
    /// The checks of consumption run on the compiler's intermediate language, so type checking alone does not show them.
    init(_ body: String) throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("lease-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let source = folder.appendingPathComponent("snippet.swift")
        let lines = body.split(separator: "\n").map { "    " + $0 }.joined(separator: "\n")
        try """
        import Mempool
        func use(_ value: Int) {}
        func finish(_ lease: consuming Lease) async {}
        func run(_ work: @escaping @Sendable () -> Void) {}
        func test(_ pool: BufferPool) async {
        \(lines)
        }
        """.write(to: source, atomically: true, encoding: .utf8)

        // The modules lie beside the running test bundle.
        let products = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = [
            "swiftc", "-swift-version", "6", "-emit-sil", "-o", "/dev/null",
            "-I", products.appendingPathComponent("Modules").path,
            "-Xcc", "-fmodule-map-file=\(products.path)/CMempoolPlatform.build/module.modulemap",
            // A cache of its own: several builds may be tested at once.
            "-module-cache-path", products.appendingPathComponent("ModuleCache").path,
            source.path,
        ]
        let output = folder.appendingPathComponent("messages")
        try Data().write(to: output)
        let handle = try FileHandle(forWritingTo: output)
        process.standardError = handle
        process.standardOutput = handle
        try process.run()
        process.waitUntilExit()
        succeeded = process.terminationStatus == 0
        messages = String(decoding: try Data(contentsOf: output), as: UTF8.self)
    }
}

/// A mistake, and part of what the compiler says about it.
private struct Mistake: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var body: String
    var message: String
}

@Suite("Leases and the compiler")
struct LeaseCompilerTests {
    @Test("right uses compile, so that what fails below fails for its mistake")
    func control() throws {
        let compilation = try Compilation(
            """
            let first = pool.lease(1)
            use(first.count)
            first.put()
            var second = pool.lease(2)
            second.withMutableBytes { span in use(span.byteCount) }
            second.withBytes { span in use(span.byteCount) }
            await finish(second)
            let third = pool.lease(3)
            run { use(third.count) }
            let fourth = pool.lease(4)
            let moved = fourth
            moved.put()
            """
        )
        #expect(compilation.succeeded, "\(compilation.messages)")
    }

    private static let mistakes = [
        Mistake(
            testDescription: "a second put",
            body: "let lease = pool.lease(1)\nlease.put()\nlease.put()",
            message: "consumed more than once"
        ),
        Mistake(
            testDescription: "a put on one path and again after it",
            body: "let lease = pool.lease(1)\nif lease.count > 0 { lease.put() }\nlease.put()",
            message: "consumed more than once"
        ),
        Mistake(
            testDescription: "a put in a loop",
            body: "let lease = pool.lease(1)\nfor _ in 0..<2 { lease.put() }",
            message: "consumed in a loop"
        ),
        Mistake(
            testDescription: "a use after the put",
            body: "let lease = pool.lease(1)\nlease.put()\nuse(lease.count)",
            message: "used after consume"
        ),
        Mistake(
            testDescription: "a use after it was handed to somebody else",
            body: "let lease = pool.lease(1)\nawait finish(lease)\nuse(lease.count)",
            message: "used after consume"
        ),
        Mistake(
            testDescription: "a second owner",
            body: "let lease = pool.lease(1)\nlet other = lease\nuse(other.count)\nuse(lease.count)",
            message: "used after consume"
        ),
        Mistake(
            testDescription: "a put by an escaping closure, which might run twice",
            body: "let lease = pool.lease(1)\nrun { lease.put() }",
            message: "cannot be consumed when captured by an escaping closure"
        ),
        Mistake(
            testDescription: "a put by a task, which captures it",
            body: "let lease = pool.lease(1)\nTask { lease.put() }",
            message: "cannot be consumed when captured by an escaping closure"
        ),
        Mistake(
            testDescription: "leases in an array, which copies its elements",
            body: "let lease = pool.lease(1)\nlet all = [lease]\nuse(all.count)",
            message: "Copyable"
        ),
        Mistake(
            testDescription: "a put while the bytes are in use",
            body: "var lease = pool.lease(1)\nlease.withMutableBytes { span in lease.put() }",
            message: "overlapping accesses to 'lease'"
        ),
        Mistake(
            testDescription: "a read while the bytes are being changed",
            body: "var lease = pool.lease(1)\nlease.withMutableBytes { span in use(lease.count) }",
            message: "overlapping accesses to 'lease'"
        ),
        Mistake(
            testDescription: "a span that leaves its closure",
            body: "let lease = pool.lease(1)\nvar kept = RawSpan()\nlease.withBytes { kept = $0 }\nuse(kept.byteCount)",
            message: "escapes its scope"
        ),
        Mistake(
            testDescription: "a change through a lease that is a constant",
            body: "let lease = pool.lease(1)\nlease.withMutableBytes { span in use(span.byteCount) }",
            message: "cannot use mutating member on immutable value"
        ),
    ]

    @Test("mistakes do not compile", arguments: mistakes)
    private func doesNotCompile(mistake: Mistake) throws {
        let compilation = try Compilation(mistake.body)
        #expect(!compilation.succeeded, "\(mistake.testDescription) compiles")
        #expect(compilation.messages.contains(mistake.message), "\(compilation.messages)")
    }
}

// What a get and its put cost in steady state, counted by a program that stands before malloc and the mutex.

import Foundation
import Testing

@Suite("Cost in steady state")
struct AllocationTests {
    @Test("a get and its put take no heap allocation and no lock, on every path that is fast")
    func noAllocationNoLock() throws {
        let directory = try #require(Self.executableDirectory)
        let process = Process()
        process.executableURL = directory.appendingPathComponent("allocation-probe")
        process.environment = ["MEMPOOL_DEBUG": "off"]
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        // Sanitizers replace malloc themselves; this test says nothing there.
        guard !text.hasPrefix("not counting:") else { return }
        #expect(
            text == """
                default pool: 0 allocations, 0 locks
                instance: 0 allocations, 0 locks
                other layout: 0 allocations, 0 locks
                withBuffer: 0 allocations, 0 locks
                lease: 0 allocations, 0 locks
                malloc, to see that counting works: 10000 allocations, 0 locks

                """
        )
    }

    private static var executableDirectory: URL? {
        try? URL(fileURLWithPath: FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"))
            .deletingLastPathComponent()
    }
}

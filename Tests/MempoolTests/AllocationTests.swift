// What a get and its put cost in steady state, counted by a program that stands before malloc, the mutex and system calls.

import Foundation
import Testing

@Suite("Cost in steady state")
struct AllocationTests {
    @Test("a get and its put take no heap allocation, no lock and no system call, on every path that is fast")
    func noAllocationNoLock() throws {
        let text = try probe("off")
        // Sanitizers replace malloc themselves; this test says nothing there.
        guard !text.hasPrefix("not counting:") else { return }
        #expect(
            text == """
                default pool: 0 allocations, 0 locks, 0 system calls
                instance: 0 allocations, 0 locks, 0 system calls
                other layout: 0 allocations, 0 locks, 0 system calls
                withBuffer: 0 allocations, 0 locks, 0 system calls
                lease: 0 allocations, 0 locks, 0 system calls
                malloc and yield, to see that counting works: 10000 allocations, 0 locks, 10000 system calls

                """
        )
    }

    @Test(
        "recorded gets and puts allocate nothing either; locks and system calls are the unwinder's, one in a thousand at most"
    )
    func recorded() throws {
        let recording = FileManager.default.temporaryDirectory.path + "/probe-\(UUID().uuidString).mempool"
        defer { try? FileManager.default.removeItem(atPath: recording) }
        let text = try probe("full,quiet,recording=\(recording)")
        guard !text.hasPrefix("not counting:") else { return }
        let lines = text.split(separator: "\n")
        #expect(lines.count == 6)
        var systemCalls: [Int] = []
        for line in lines.dropLast() {
            // "default pool: 0 allocations, 4 locks, 0 system calls"; each line is 80,000 pairs.
            let numbers = line.split { !$0.isNumber }.compactMap { Int($0) }
            try #require(numbers.count == 3)
            #expect(numbers[0] == 0, "\(line)")
            // Threads ask each other for credits, and the unwinder is asked now and then.
            #expect(numbers[1] <= 80, "\(line)")
            #expect(numbers[2] <= 80, "\(line)")
            systemCalls.append(numbers[2])
        }
        // Where the unwinder learnt nothing new there is not a single one.
        #expect(systemCalls.contains(0), "\(text)")
    }

    /// What the probe prints.
    private func probe(_ debug: String) throws -> String {
        let directory = try #require(Self.executableDirectory)
        let process = Process()
        process.executableURL = directory.appendingPathComponent("allocation-probe")
        process.environment = ["MEMPOOL_DEBUG": debug]
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return text
    }

    private static var executableDirectory: URL? {
        try? URL(fileURLWithPath: FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"))
            .deletingLastPathComponent()
    }
}

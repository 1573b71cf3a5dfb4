// Reports to render in tests, with every kind of finding.

import MempoolAnalysis

/// Reports whose renderings are compared in full.
enum SampleReports {
    static let main = Frame(
        function: "main", file: "/src/app/Sources/app/main.swift", line: 90, column: 1, module: "app")
    static let start = Frame(function: "__libc_start_call_main", module: "libc.so.6", isSystem: true)
    static let handle = Frame(
        function: "Server.handle(_:)", file: "/src/app/Sources/app/Server.swift", line: 20, async: true, module: "app"
    )
    static let thunk = Frame(
        function: "partial apply for closure #1 in Server.run()", module: "app", isCompilerGenerated: true)
    static let read = Frame(
        function: "readHeader()", file: "/src/app/Sources/app/Reader.swift", line: 12, column: 5, inlined: true,
        module: "app"
    )
    static let write = Frame(
        function: "Writer.flush()", file: "/src/app/Sources/app/Writer.swift", line: 41, column: 9, module: "app"
    )
    static let generic = Frame(
        function: "specialized Dictionary.forEach<A, B>(transforming:with:until:) over a great many Elements",
        file: "/elsewhere/Library.swift", line: 7, column: 3, module: "app"
    )
    static let unnamed = Frame(function: "libold.so+0x1f40", module: "libold.so")

    static func process(_ ending: ProcessEnding) -> ProcessReport {
        ProcessReport(
            processID: 4711, commandLine: "app --serve", executable: "/src/app/.build/debug/app", ending: ending,
            durationSeconds: 83.2, startedAt: "2024-01-01T00:00:00Z"
        )
    }

    static func recorder() -> RecorderReport {
        var recorder = RecorderReport(
            recording: "/run/user/1000/mempool/app-4711.mempool", level: "full", unwinder: "libunwind", frameLimit: 64,
            fileBytes: 462_848, heapBytes: 65536
        )
        recorder.frames = 40
        recorder.poison.bytes = 1024
        recorder.canary.bytes = 256
        return recorder
    }

    static func pool() -> PoolReport {
        var pool = PoolReport(name: "default")
        pool.stats.allocations = 30
        pool.stats.gets = 1_001_234
        pool.stats.puts = 1_001_229
        pool.stats.inUse = 4
        pool.stats.oversized = 2
        pool.stats.discarded = 3
        pool.discards.wrongCapacity = 1
        pool.discards.oversized = 2
        var small = BucketReport(capacity: 512)
        small.gets = 1_000_000
        small.puts = 999_999
        small.inUse = 1
        small.highWater = 12
        small.allocations = 12
        small.hitPercent = 100
        small.wastePercent = 35.5
        small.trimmed = 3
        var large = BucketReport(capacity: 16_777_216)
        large.gets = 1234
        large.puts = 1230
        large.inUse = 3
        large.highWater = 8
        large.allocations = 16
        large.hitPercent = 98.7
        large.wrongCapacity = 1
        large.wastePercent = 0
        var oversized = BucketReport(capacity: 0)
        oversized.gets = 2
        oversized.puts = 2
        oversized.allocations = 2
        oversized.highWater = 1
        oversized.hitPercent = 0
        oversized.wastePercent = 0
        pool.buckets = [small, BucketReport(capacity: 1024), BucketReport(capacity: 2048), large]
        pool.oversized = oversized
        pool.requestSizes = [
            RequestSizeBin(from: 5, to: 5, count: 250_000), RequestSizeBin(from: 320, to: 351, count: 750_000),
            RequestSizeBin(from: 15_728_640, to: 16_777_215, count: 1234),
            RequestSizeBin(from: 33_554_432, to: 37_748_735, count: 2),
        ]
        return pool
    }

    static func healthy() -> Report {
        var report = Report(verdict: .healthy, verdictReason: "Every buffer that was got was put, once and whole.")
        report.process = process(ProcessEnding(kind: .exited, status: 0))
        report.pools = [pool()]
        report.recorder = recorder()
        report.sourceRoot = "/src/app"
        return report
    }

    static func leak() -> Finding {
        var leak = Finding(
            kind: .leak, pool: "default", count: 1000, bytes: 4_096_000,
            stacks: FindingStacks(get: [read, generic, thunk, handle, main, start, start])
        )
        leak.requestedBytes = 3_500_000
        leak.site = read
        leak.happened = "1,000 buffers were got here and never put."
        leak.advice = "Put the buffer on every path out of the function."
        leak.oldestAgeSeconds = 83
        leak.newestAgeSeconds = 0.25
        leak.threads = [4711, 4712]
        leak.threadCount = 12
        return leak
    }

    static func findings() -> Report {
        var report = healthy()
        report.verdict = .findings
        report.verdictReason = "1 double put, 1,000 buffers leaked."
        report.process = process(ProcessEnding(kind: .died, signal: 9))
        var twice = Finding(
            kind: .doublePut, pool: "default", count: 1, bytes: 512,
            stacks: FindingStacks(
                get: [read, main, start], put: [write, main, start], secondPut: [unnamed, write, main, start])
        )
        twice.site = write
        twice.happened = "A buffer was put a second time; the second put was refused. Re-issued in between: no."
        twice.advice = "Decide which of the two puts owns the buffer and remove the other."
        twice.oldestAgeSeconds = 12.04
        twice.newestAgeSeconds = 12.04
        twice.threads = [4713]
        twice.threadCount = 1
        twice.secondsBetweenPuts = 0.004
        report.findings = [twice, leak()]
        report.recorder?.dropped.stacks = 1200
        report.recorder?.unnamedFrames = 1
        report.recorder?.unnamedModules = [
            UnnamedModule(
                path: "/lib/libold.so", reason: .missing,
                explanation: "/lib/libold.so is gone, so its frames have no names.", frames: 1
            )
        ]
        report.recorder?.damage = ["The file ends inside section ledger."]
        report.notes = ["The program died without a clean exit; what it held then is listed as leaked."]
        return report
    }
}

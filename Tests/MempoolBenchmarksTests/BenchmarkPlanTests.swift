// Tests of what is measured against what.

import MempoolRecorder
import MempoolRecording
import Testing

@testable import MempoolBenchmarks

struct BenchmarkPlanTests {
    private func options(_ groups: [BenchmarkGroup], processors: Int = 2) -> BenchmarkOptions {
        var options = BenchmarkOptions()
        options.groups = groups
        options.processors = processors
        return options
    }

    @Test func `Every group has rows, and every row a subject and somebody to compare it with`() {
        // Memory is a curve and no row.
        #expect(BenchmarkPlan(options([.memory])).burstMegabytes == 1024)
        for group in BenchmarkGroup.allCases where group != .memory {
            let rows = BenchmarkPlan(options([group])).rows
            #expect(!rows.isEmpty, "\(group)")
            #expect(rows.allSatisfy { $0.group == group && $0.contenders.count >= 2 })
        }
    }

    @Test func `Pairs are measured at all sizes with one thread and with two`() {
        let rows = BenchmarkPlan(options([.pair])).rows
        #expect(rows.map(\.threads) == [Int](repeating: 1, count: 9) + [Int](repeating: 2, count: 9))
        #expect(rows.prefix(9).map(\.size) == BenchmarkSizes.all)
    }

    @Test func `Flatness is measured with all sizes in one row, and only if there are some`() {
        var options = options([.flatness])
        let rows = BenchmarkPlan(options).rows
        #expect(rows.map(\.threads) == [1, 2])
        #expect(rows.allSatisfy { $0.contenders.map(\.task.size) == BenchmarkSizes.all })
        #expect(rows.allSatisfy { row in row.contenders.allSatisfy { $0.task.threads == row.threads } })
        #expect(rows[0].contenders.map(\.name).prefix(3) == ["512 B", "1 KiB", "4 KiB"])
        options.sizes = [512]
        #expect(BenchmarkPlan(options).rows.isEmpty)
    }

    @Test func `One processor is not asked to measure two threads`() {
        let plan = BenchmarkPlan(options([.pair, .handoff, .recorder], processors: 1))
        #expect(plan.rows.allSatisfy { $0.threads == 1 })
    }

    @Test func `A preloaded allocator is measured with its library and the recorder asleep`() throws {
        var options = options([.fifo])
        options.allocators = [.system, Allocator(name: "other", path: "/opt/libother.so")]
        let row = try #require(BenchmarkPlan(options).rows.first)
        #expect(row.contenders.map(\.name) == ["mempool", "glibc", "other"])
        #expect(row.contenders.map(\.preload) == [nil, nil, "/opt/libother.so"])
        #expect(row.contenders.allSatisfy { $0.debug == "off" })
    }

    @Test func `The recorder is measured beside every instrument, and against itself with less to do`() throws {
        var options = options([.recorder])
        options.instruments = [
            Instrument(name: "Sanitizer", program: "/x/leak", environment: ["A=b"], limit: 1),
            Instrument(name: "tool", program: "/x/plain", preload: "/x/tool.so", limit: 0.25),
        ]
        let rows = BenchmarkPlan(options).rows.filter { $0.contenders.first?.name == "full" }
        #expect(rows.map(\.threads) == [1, 2])
        let row = try #require(rows.last)
        #expect(row.size == 512)
        #expect(
            row.contenders.map(\.name) == ["full", "Sanitizer", "tool", "full,poison=0,canary=0", "asleep"])
        #expect(row.contenders.map(\.limit) == [nil, 1, 0.25, nil, nil])
        #expect(row.contenders.map(\.program) == ["", "/x/leak", "/x/plain", "", ""])
        #expect(row.contenders.map(\.preload) == [nil, nil, "/x/tool.so", nil, nil])
        #expect(row.contenders[0].debug == "full,quiet,frames=16")
        #expect(row.contenders[3].debug == "full,quiet,frames=16,poison=0,canary=0")
        #expect(row.contenders[4].debug == "off")
    }

    @Test func `Level sampled is measured against asleep where there is such a level`() throws {
        let sampled = BenchmarkPlan(options([.recorder])).rows.filter { $0.contenders.first?.name == "sampled" }
        #expect(sampled.count == (RecorderOptions.levels.contains(.sampled) ? 1 : 0))
        #expect(sampled.allSatisfy { $0.contenders.last?.limit == 2 && $0.contenders.last?.debug == "off" })
    }

    @Test func `What the recorder is told is understood`() {
        for debug in [Contender.recording, "\(Contender.recording),\(Contender.unchecked)"] {
            let options = RecorderOptions(parsing: debug, defaultLevel: .off)
            #expect(options.complaints.isEmpty)
            #expect(options.level == .full && options.frameLimit == Worker.recordedDepth)
        }
    }

    @Test func `Start, memory and report belong to the recorder's group, and are small when it is to be quick`() {
        #expect(!BenchmarkPlan(options([.pair])).measuresRecorder)
        var options = options([.recorder])
        #expect(BenchmarkPlan(options).measuresRecorder)
        #expect(BenchmarkPlan(options).outstandingBuffers == 1_000_000)
        options.isQuick = true
        #expect(BenchmarkPlan(options).outstandingBuffers == 10_000)
    }

    @Test func `Groups come in a fixed order, each once`() {
        let plan = BenchmarkPlan(options([.swift, .mixed, .swift]))
        #expect(plan.rows.first?.group == .mixed)
        #expect(plan.rows.filter { $0.group == .swift }.count == 9)
    }

    @Test func `A task survives the way over the command line`() {
        for subject in SubjectName.allCases {
            for workload in WorkloadName.allCases {
                let task = WorkerTask(subject: subject, workload: workload, size: 512, threads: 2)
                #expect(WorkerTask(arguments: task.arguments) == task)
            }
        }
    }

    @Test(arguments: [
        [], ["plain"], ["plain", "pair", "0", "1"], ["plain", "pair", "512", "0"], ["x", "pair", "1", "1"],
    ])
    func `Other words are no task`(arguments: [String]) {
        #expect(WorkerTask(arguments: arguments) == nil)
    }

    @Test func `The streams of sizes have the distribution they are named after`() {
        let sizes = SizeStream.lognormal.sorted()
        #expect((1900...2200).contains(Int(sizes[sizes.count / 2])))
        #expect((75_000...95_000).contains(Int(sizes[sizes.count * 99 / 100])))
        #expect(sizes.last.map { $0 <= 16_777_216 } == true)
        let smallest = SizeStream.zipf.filter { $0 == 512 }.count
        let second = SizeStream.zipf.filter { $0 == 1024 }.count
        #expect(Set(SizeStream.zipf.map(Int.init)) == Set(BenchmarkSizes.all))
        #expect((1.9...2.1).contains(Double(smallest) / Double(second)))
    }
}

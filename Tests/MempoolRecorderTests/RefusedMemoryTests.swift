// A system that refuses the recorder or the pool something, call by call, each time in a process of its own.

import CMempoolPlatform
import Foundation
import Mempool
import MempoolRecording
import Synchronization
import Testing

/// fork(2), which Swift does not import because most programs must not use it.
@_silgen_name("fork") private func forkProcess() -> pid_t

/// Runs a function on a new thread and waits for its end.
private func onNewThread(_ body: @escaping @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer?) {
    var thread = pthread_t()
    guard pthread_create(&thread, nil, body, nil) == 0, pthread_join(thread, nil) == 0 else { _exit(20) }
}

/// Gets and puts with all that the recorder has to keep of them: pools, stacks, scopes, notes, threads, more slots than the ledger has
/// room for at first, and one mistake.
private func usePools() {
    for configuration in [PoolConfiguration(name: "first"), PoolConfiguration(name: "other", zeroing: .onPut)] {
        do {
            use(try BufferPool(configuration: configuration))
        } catch {
            // The pool that zeroes found no address space.
            guard "\(error)".hasSuffix("Cannot allocate memory") else { _exit(21) }
        }
    }
}

private func use(_ pool: BufferPool) {
    var held: [Buffer] = []
    for size in [100, 5_000, 70_000, 17 << 20] {
        Diagnostics.withScope("scope of \(size)") {
            Diagnostics.withNote({ "note" }) {
                for _ in 0..<(size == 100 ? 1_200 : 3) {
                    if let buffer = try? pool.tryGet(size) { held.append(buffer) }
                }
            }
        }
    }
    for (number, buffer) in held.enumerated() { buffer[buffer.count - 1] = UInt8(number & 255) }
    for (number, buffer) in held.enumerated() {
        guard buffer[buffer.count - 1] == UInt8(number & 255) else { _exit(22) }
        pool.put(buffer)
    }
    if let first = held.first { pool.put(first) }
    let stats = pool.stats()
    guard stats.inUse == 0, stats.gets == stats.puts, stats.discards.doublePut <= 1 else { _exit(23) }
    guard stats.discarded == stats.discards.doublePut + stats.discards.oversized else { _exit(24) }
}

@Suite("A system that refuses")
struct RefusedMemoryTests {
    /// What a process of its own does while the `failing`th call is refused, and then with nothing refused.
    private static func run(_ failing: Int, _ path: String) -> Never {
        alarm(60)
        // What a trap says is not for the log.
        dup2(open("/dev/null", O_WRONLY), 2)
        setenv("MEMPOOL_DEBUG", "full,quiet,recording=\(path)", 1)
        SystemMemory.refuse(failing..<failing + 1)
        onNewThread { _ in
            usePools()
            return nil
        }
        let calls = SystemMemory.refusableCalls
        SystemMemory.refuse(0..<0)
        onNewThread { _ in
            usePools()
            return nil
        }
        exit(calls > failing ? 0 : 9)
    }

    @Test(.timeLimit(.minutes(3))) func `Whatever call the system refuses, pools and what was recorded of them agree`()
        async
    {
        let scratch = ScratchDirectory()
        await #expect(processExitsWith: .exitCode(0)) { [folder = scratch.path as String] in
            var traps = 0
            var withoutRecording = 0
            for failing in 0..<1_000 {
                let path = folder + "/\(failing)"
                let child = forkProcess()
                if child == 0 { RefusedMemoryTests.run(failing, path) }
                var status: CInt = 0
                waitpid(child, &status, 0)
                if status & 0x7F != 0 {
                    // Without the slot table there is no pool, which ends the process.
                    must(status & 0x7F != SIGALRM, "call \(failing) waits")
                    traps += 1
                    continue
                }
                must(status == 0 || status == 9 << 8, "call \(failing): \(status >> 8)")
                if let recording = try? Recording(path: path) {
                    try RefusedMemoryTests.examine(recording, failing)
                } else {
                    withoutRecording += 1
                }
                unlink(path)
                if status != 0 {
                    // Four arrays of the slot table, and one of the red zones.
                    must(traps == 5, "\(traps) traps")
                    // The file's header, history, stacks, high water, scopes.
                    must(withoutRecording <= 6, "\(withoutRecording) without recording")
                    must(failing > 30, "\(failing) calls")
                    exit(0)
                }
            }
            exit(2)
        }
    }

    private static func examine(_ recording: Recording, _ failing: Int) throws {
        must(recording.isCleanExit, "call \(failing)")
        must(recording.forEachLedgerRecord { _, _ in }.outstanding == 0, "call \(failing): outstanding")
        let pools = recording.pools.filter { !$0.isUnused }
        must(
            pools.allSatisfy { ["default", "first", "other"].contains($0.name) || $0.name.isEmpty }, "call \(failing)")
        must(pools.count { $0.name.isEmpty } <= Int(recording.header.dropped.strings), "call \(failing): names")
        for pool in pools {
            let gets = pool.rows.reduce(0) { $0 + $1.gets }
            let puts = pool.rows.reduce(0) { $0 + $1.puts + $1.wrongCapacityPuts }
            must(gets == puts && gets > 0, "call \(failing): \(pool.name) has \(gets) gets, \(puts) puts")
        }
        // In the second turn nothing was refused; a file that found no room waits a second before it asks again.
        let doublePuts = recording.findings.filter { $0.kind == FindingKind.doublePut.rawValue }.reduce(0) {
            $0 + $1.count
        }
        must(doublePuts >= 3 || recording.header.dropped.total > 0, "call \(failing): \(doublePuts) double puts")
        must(
            doublePuts <= 4 && recording.findings.allSatisfy { $0.kind == FindingKind.doublePut.rawValue },
            "call \(failing)")
    }

    @Test func `A pool that found no room in the recording is in it as little when a later one finds some`()
        async throws
    {
        let scratch = ScratchDirectory()
        let path = scratch.recording
        await #expect(processExitsWith: .exitCode(0)) { [path = path as String] in
            record("full,quiet,recording=\(path)")
            func make(_ name: String) throws -> BufferPool {
                try BufferPool(configuration: PoolConfiguration(name: name))
            }
            var pools = [try make("fits")]
            // Room is made for some twenty at a time, by the only calls that a pool without buffers makes.
            SystemMemory.refuse(0..<1)
            while SystemMemory.refusableCalls == 0, pools.count < 60 {
                pools.append(try make(pools.count < 10 ? "fits" : "\(pools.count)"))
            }
            must(SystemMemory.refusableCalls == 1 && pools.count > 10)
            SystemMemory.refuse(0..<0)
            let lost = pools.count - 1
            // A file that had no room is not asked again before a second is over.
            usleep(1_100_000)
            pools.append(try make("later"))
            for pool in pools.suffix(2) {
                let buffers = (0..<5).map { pool.get($0 * 1_000 + 1) }
                pool.put(buffers[0])
                buffers.forEach(pool.put)
            }
            pools.remove(at: lost)
            exit(0)
        }
        let recording = try Recording(path: path)
        #expect(recording.header.dropped.pools == 1)
        let used = recording.pools.filter { !$0.isUnused }
        #expect(used.allSatisfy { !$0.name.isEmpty }, "\(used.map(\.name))")
        let later = try #require(used.last)
        #expect(later.name == "later" && later.rows.reduce(0) { $0 + $1.gets } == 5)
        // Mistakes are found in both.
        #expect(recording.findings.reduce(0) { $0 + $1.count } == 2)
        #expect(recording.forEachLedgerRecord { _, _ in }.outstanding == 0)
    }
}

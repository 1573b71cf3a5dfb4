// A program to be killed: it gets and puts on several threads and keeps a diary in a file that outlives it.
// Whoever kills it compares the recording with the diary.

import Dispatch
import Glibc
import Mempool
import Synchronization

/// The diary is an array of entries of four 64-bit words, `threads * slots` of them: state, request, address, times used.
///
/// The states: 0 none, 1 a get has begun, 2 outstanding, 3 a put has begun. Each is stored before the step that it
/// announces, or after the one that it confirms, so that at any moment state 2 means outstanding and 0 means not.
struct Victim: @unchecked Sendable {
    // Unchecked: the memory lives as long as the process, and each thread writes its own entries.
    private let entries: UnsafeMutablePointer<UInt64>
    private let threadCount: Int
    private let slotCount: Int

    private static let wordsPerEntry = 4

    init(truthAt path: String, threads: Int, slots: Int) {
        threadCount = threads
        slotCount = slots
        let byteCount = threads * slots * Self.wordsPerEntry * MemoryLayout<UInt64>.stride
        let descriptor = open(path, O_RDWR | O_CREAT, 0o600)
        precondition(descriptor >= 0 && ftruncate(descriptor, off_t(byteCount)) == 0, "the diary cannot be made")
        let memory = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0)
        guard let memory, memory != MAP_FAILED else { fatalError("the diary cannot be mapped") }
        entries = memory.assumingMemoryBound(to: UInt64.self)
    }

    /// Goes on until it is killed.
    func run() -> Never {
        for thread in 0..<threadCount { _ = startThread { work(thread) } }
        while true { pause() }
    }

    private func work(_ thread: Int) {
        var numbers = Numbers(seed: thread)
        var held = [Buffer?](repeating: nil, count: slotCount)
        while true {
            let slot = numbers.next(below: slotCount)
            let entry = entries + (thread * slotCount + slot) * Self.wordsPerEntry
            if let buffer = held[slot] {
                write(3, to: entry)
                putBuffer(buffer)
                write(0, to: entry)
                held[slot] = nil
            } else {
                let request = 1 + numbers.next(below: 5_000)
                write(1, to: entry)
                let buffer = getBuffer(request)
                entry[1] = UInt64(request)
                entry[2] = UInt64(UInt(bitPattern: buffer.address))
                entry[3] += 1
                write(2, to: entry)
                held[slot] = buffer
            }
        }
    }

    /// Stores a state behind everything that came before and before everything that comes.
    private func write(_ state: UInt64, to entry: UnsafeMutablePointer<UInt64>) {
        atomicMemoryFence(ordering: .sequentiallyConsistent)
        entry.pointee = state
        atomicMemoryFence(ordering: .sequentiallyConsistent)
    }
}

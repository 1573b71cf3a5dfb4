// Programs that touch a buffer where they must not, through plain pointers, and programs for level sampled.
// The line of the touch goes to standard output before it happens.

import Glibc
import Mempool

enum Touch {
    /// Makes the touch of a name; the process should not survive it.
    static func make(_ name: String) async {
        switch name {
        case "read-after-put": readAfterPut()
        case "write-after-put": writeAfterPut()
        case "copy-after-put": copyAfterPut()
        case "late-write": lateWrite()
        case "async-write": await asyncWrite()
        case "overrun": overrun(request: 128, by: 1)
        case "large-overrun": overrun(request: 8192, by: 1)
        case "underrun": underrun()
        case "elsewhere": elsewhere()
        case "thread-write": threads(1) { _ in writeAfterPut() }
        case "chained-write":
            installHandler()
            writeAfterPut()
        case "chained-elsewhere":
            installHandler()
            elsewhere()
        default: fatalError("no such touch")
        }
    }

    /// Prints the number of the next line.
    private static func announce(_ line: Int = #line) {
        print(line + 1)
        fflush(nil)
    }

    private static func pointer(_ buffer: Buffer) -> UnsafeMutableRawPointer {
        buffer.withUnsafeMutableBytes { $0.baseAddress.unsafelyUnwrapped }
    }

    @inline(never)
    static func readAfterPut() {
        let buffer = getBuffer(700)
        let bytes = pointer(buffer)
        putBuffer(buffer)
        announce()
        usleep(UInt32(bytes.load(fromByteOffset: 17, as: UInt8.self)))
    }

    @inline(never)
    static func writeAfterPut() {
        let buffer = getBuffer(700)
        let bytes = pointer(buffer).assumingMemoryBound(to: UInt8.self)
        putBuffer(buffer)
        announce()
        bytes[17] = 1
    }

    /// The instruction that faults is the C library's.
    @inline(never)
    static func copyAfterPut() {
        let buffer = getBuffer(20_000)
        let bytes = pointer(buffer)
        putBuffer(buffer)
        announce()
        memset(bytes, 1, 20_000)
    }

    /// The slot has another owner by then; the memory is still out of reach.
    @inline(never)
    static func lateWrite() {
        let buffer = getBuffer(700)
        let bytes = pointer(buffer).assumingMemoryBound(to: UInt8.self)
        putBuffer(buffer)
        let other = getBuffer(700)
        precondition(other.address == buffer.address || other.count == buffer.count)
        announce()
        bytes[17] = 1
    }

    @inline(never)
    static func asyncWrite() async {
        let buffer = getBuffer(700)
        let bytes = pointer(buffer).assumingMemoryBound(to: UInt8.self)
        putBuffer(buffer)
        await Task.yield()
        announce()
        bytes[17] = 1
    }

    @inline(never)
    static func overrun(request: Int, by count: Int) {
        let buffer = getBuffer(request)
        let bytes = pointer(buffer).assumingMemoryBound(to: UInt8.self)
        bytes[request - 1] = 1
        announce()
        bytes[request + count - 1] = 1
    }

    @inline(never)
    static func underrun() {
        let buffer = getBuffer(4096)
        let bytes = pointer(buffer).assumingMemoryBound(to: UInt8.self)
        bytes[0] = 1
        announce()
        bytes[-1] = 1
    }

    private nonisolated(unsafe) static var earlierHandler = sigaction()

    /// Installs a handler after the pool's recorder has its own, which says so and then calls that one.
    private static func installHandler() {
        putBuffer(getBuffer(1))
        var action = sigaction()
        action.__sigaction_handler.sa_sigaction = { signal, info, context in
            write(STDOUT_FILENO, "handled\n", 8)
            let earlier = Touch.earlierHandler
            if earlier.sa_flags & SA_SIGINFO != 0 {
                earlier.__sigaction_handler.sa_sigaction?(signal, info, context)
            } else {
                _exit(70)
            }
        }
        action.sa_flags = SA_SIGINFO
        sigaction(SIGSEGV, &action, &earlierHandler)
    }

    /// No buffer is there.
    @inline(never)
    static func elsewhere() {
        putBuffer(getBuffer(700))
        announce()
        UnsafeMutablePointer<UInt8>(bitPattern: 64).unsafelyUnwrapped.pointee = 1
    }

    // MARK: - The quarantine

    /// Puts buffers of 4 KiB until the memory of the first one serves again, and prints how many it took; at most `limit`.
    static func measureQuarantine(_ limit: Int) {
        let first = getBuffer(4096)
        let address = pointer(first)
        putBuffer(first)
        for count in 1...limit {
            let next = getBuffer(4096)
            putBuffer(next)
            if pointer(next) == address {
                print(count)
                return
            }
        }
        print("none")
    }

    /// Holds more buffers than can have guard pages, writes to each, and puts them all.
    static func exhaust(_ count: Int) {
        let buffers = (0..<count).map { _ in getBuffer(100) }
        for buffer in buffers { buffer[99] = 1 }
        for buffer in buffers { putBuffer(buffer) }
    }

    /// Holds more buffers than can have red zones, writes behind the first and the last of them, and puts them all.
    static func outgrowZones(_ count: Int) {
        let buffers = (0..<count).map { _ in getBuffer(512) }
        for buffer in [buffers[0], buffers[count - 1]] {
            pointer(buffer).storeBytes(of: 1, toByteOffset: 512, as: UInt8.self)
        }
        for buffer in buffers { putBuffer(buffer) }
    }

    /// Gets and puts plain memory between guard pages, each mistake once.
    static func useRaw() {
        let pool = BufferPool.shared
        let bytes = pool.getRaw(700)
        bytes.initializeMemory(as: UInt8.self, repeating: 1)
        pool.putRaw(bytes.baseAddress)
        // Twice, and then with the slot in other hands.
        pool.putRaw(bytes.baseAddress)
        let other = pool.getRaw(700)
        pool.putRaw(bytes.baseAddress)
        pool.putRaw(other.baseAddress)
        let sliced = pool.getRaw(700)
        pool.putRaw(sliced.baseAddress.map { $0 + 64 })
        let large = pool.getRaw(20 << 20)
        pool.putRaw(large.baseAddress)
    }
}

enum Sampled {
    /// Leaks `few` buffers at one place and three times as many at another, with as many that are put in between.
    static func leak(_ few: Int) {
        for number in 0..<few {
            leakAtOne()
            putBuffer(getBuffer(300))
            for _ in 0..<3 { leakAtOther() }
            if number % 2 == 0 { BufferPool.shared.putRaw(BufferPool.shared.getRaw(100).baseAddress) }
        }
    }

    @inline(never) private static func leakAtOne() { getBuffer(200)[0] = 1 }

    @inline(never) private static func leakAtOther() { getBuffer(600)[0] = 1 }

    /// Leaks one buffer on each of many threads, one after the other.
    static func leakOnThreads(_ count: Int) {
        for _ in 0..<count / 8 { threads(8) { _ in leakAtOne() } }
    }

    /// Puts the same buffer twice, a slice, and foreign memory, `count` times each.
    static func putBadly(_ count: Int) {
        let pool = BufferPool(), other = BufferPool()
        for _ in 0..<count {
            let buffer = pool.get(100)
            pool.put(buffer)
            pool.put(buffer)
            pool.put(pool.get(100).dropFirst(1))
            let stray = other.get(100)
            pool.put(stray)
            other.put(stray)
            withUnsafeTemporaryAllocation(byteCount: 16, alignment: 16) { pool.put(Buffer(wrapping: $0)) }
        }
    }
}

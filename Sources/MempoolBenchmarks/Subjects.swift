// What is measured: everything that can hand out memory and take it back, in the form that the workloads call.

internal import CMempoolBenchmarks
internal import Glibc
internal import Mempool

/// Something that hands out memory, is given one touch, and takes it back, in one go.
///
/// The workloads are generic over subjects and are specialized for each, so that ours is measured as callers have it,
/// inlined, and the others as direct calls.
protocol PairSubject: Sendable {
    func pair(_ size: Int)
}

/// Something whose memory can be held for a while.
protocol BlockSubject: PairSubject {
    associatedtype Block

    func get(_ size: Int) -> Block
    func put(_ block: consuming Block)
    func withAddress(of block: inout Block, _ body: (UnsafeMutableRawPointer) -> Void)
}

extension BlockSubject {
    @inline(__always)
    func pair(_ size: Int) {
        var block = get(size)
        withAddress(of: &block) { cbench_touch($0) }
        put(block)
    }
}

// MARK: - The pool

/// The default pool through its free functions.
struct PlainSubject: BlockSubject {
    @inline(__always)
    func get(_ size: Int) -> Buffer { getBuffer(size) }

    @inline(__always)
    func put(_ block: consuming Buffer) { putBuffer(block) }

    @inline(__always)
    func withAddress(of block: inout Buffer, _ body: (UnsafeMutableRawPointer) -> Void) {
        block.withUnsafeMutableBytes { body($0.baseAddress.unsafelyUnwrapped) }
    }
}

/// A pool of the caller's own, not the default one.
struct InstanceSubject: BlockSubject {
    let pool: BufferPool

    init(zeroing: Zeroing = .never) {
        var configuration = PoolConfiguration()
        configuration.zeroing = zeroing
        // Only a bad layout or a negative limit is refused.
        pool = (try? BufferPool(configuration: configuration)) ?? BufferPool()
    }

    @inline(__always)
    func get(_ size: Int) -> Buffer { pool.get(size) }

    @inline(__always)
    func put(_ block: consuming Buffer) { pool.put(block) }

    @inline(__always)
    func withAddress(of block: inout Buffer, _ body: (UnsafeMutableRawPointer) -> Void) {
        block.withUnsafeMutableBytes { body($0.baseAddress.unsafelyUnwrapped) }
    }
}

/// A pool of the caller's own, whose buffers the caller zeroes: what a pool that does so may cost.
struct MemsetSubject: PairSubject {
    let pool = BufferPool()

    @inline(__always)
    func pair(_ size: Int) {
        let buffer = pool.get(size)
        buffer.withUnsafeMutableBytes { bytes in
            guard let base = bytes.baseAddress else { return }
            memset(base, 0, bytes.count)
            cbench_touch(base)
        }
        pool.put(buffer)
    }
}

/// The default pool through `withBuffer`.
struct WithBufferSubject: PairSubject {
    @inline(__always)
    func pair(_ size: Int) {
        withBuffer(size) { buffer in
            buffer.withUnsafeMutableBytes { cbench_touch($0.baseAddress.unsafelyUnwrapped) }
        }
    }
}

/// The default pool through `Lease`.
struct LeaseSubject: PairSubject {
    @inline(__always)
    func pair(_ size: Int) {
        let lease = leaseBuffer(size)
        lease.buffer.withUnsafeMutableBytes { cbench_touch($0.baseAddress.unsafelyUnwrapped) }
        lease.put()
    }
}

// MARK: - Everything else

/// The process's malloc: the C library's, or that of a preloaded allocator.
struct MallocSubject: BlockSubject {
    @inline(__always)
    func get(_ size: Int) -> UnsafeMutableRawPointer { malloc(size).unsafelyUnwrapped }

    @inline(__always)
    func put(_ block: consuming UnsafeMutableRawPointer) { free(block) }

    @inline(__always)
    func withAddress(of block: inout UnsafeMutableRawPointer, _ body: (UnsafeMutableRawPointer) -> Void) { body(block) }
}

/// `UnsafeMutableRawPointer.allocate`, aligned as malloc aligns.
struct AllocateSubject: BlockSubject {
    @inline(__always)
    func get(_ size: Int) -> UnsafeMutableRawPointer { .allocate(byteCount: size, alignment: 16) }

    @inline(__always)
    func put(_ block: consuming UnsafeMutableRawPointer) { block.deallocate() }

    @inline(__always)
    func withAddress(of block: inout UnsafeMutableRawPointer, _ body: (UnsafeMutableRawPointer) -> Void) { body(block) }
}

/// `[UInt8](repeating: 0, count:)`.
struct ArraySubject: BlockSubject {
    @inline(__always)
    func get(_ size: Int) -> [UInt8] { [UInt8](repeating: 0, count: size) }

    @inline(__always)
    func put(_ block: consuming [UInt8]) {}

    @inline(__always)
    func withAddress(of block: inout [UInt8], _ body: (UnsafeMutableRawPointer) -> Void) {
        block.withUnsafeMutableBytes { body($0.baseAddress.unsafelyUnwrapped) }
    }
}

/// Memory that the system has just mapped and takes back at once: what a first touch costs.
struct FreshSubject: BlockSubject {
    @inline(__always)
    func get(_ size: Int) -> UnsafeMutableRawBufferPointer {
        let base = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        return UnsafeMutableRawBufferPointer(start: base == MAP_FAILED ? nil : base, count: size)
    }

    @inline(__always)
    func put(_ block: consuming UnsafeMutableRawBufferPointer) {
        if let base = block.baseAddress { munmap(base, block.count) }
    }

    @inline(__always)
    func withAddress(of block: inout UnsafeMutableRawBufferPointer, _ body: (UnsafeMutableRawPointer) -> Void) {
        if let base = block.baseAddress { body(base) }
    }
}

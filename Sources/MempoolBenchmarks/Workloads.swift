// The measured loops. Each is a class generic over its subject and runs on one thread.

internal import CMempoolBenchmarks
internal import CMempoolPlatform
internal import Glibc

/// A loop of one thread that can be run again and again; what it holds stays held in between.
///
/// Closures, not a protocol: a closure made where the subject's type is known is compiled for that type, but the
/// methods of a generic class that are called through a protocol are not, and would measure themselves.
struct Workload {
    var run: (_ operations: Int) -> Void
    /// Gives back what is held.
    var finish: () -> Void = {}
}

/// Get, touch the first byte, put.
///
/// The size is hidden from the optimiser every time: a pool's caller may know it while compiling, an allocator never
/// does, and the figures should not depend on that.
final class PairWorkload<Subject: PairSubject> {
    private let subject: Subject
    private let size: Int

    init(_ subject: Subject, size: Int) {
        self.subject = subject
        self.size = size
    }

    @inline(__always)
    func run(_ operations: Int) {
        let subject = subject
        let size = size
        for _ in 0..<operations { subject.pair(cbench_hide(size)) }
    }
}

/// The pair at the end of a chain of calls, so that a recorder has a stack of that many frames to walk.
final class DeepPairWorkload<Subject: PairSubject> {
    private let pairs: PairWorkload<Subject>
    private let depth: Int

    init(_ subject: Subject, size: Int, depth: Int) {
        pairs = PairWorkload(subject, size: size)
        self.depth = depth
    }

    func run(_ operations: Int) { descend(depth, operations) }

    @inline(never)
    private func descend(_ depth: Int, _ operations: Int) {
        if depth == 0 {
            pairs.run(operations)
        } else {
            descend(cbench_hide(depth - 1), operations)
        }
        cbench_barrier()
    }
}

/// Pairs of sizes from a table, one after the other.
final class MixedWorkload<Subject: PairSubject> {
    private let subject: Subject
    private let sizes: UnsafeMutableBufferPointer<UInt32>
    private var next = 0

    /// - Parameter sizes: a power of two of them.
    init(_ subject: Subject, sizes: [UInt32]) {
        self.subject = subject
        self.sizes = .allocate(capacity: sizes.count)
        _ = self.sizes.initialize(from: sizes)
    }

    deinit { sizes.deallocate() }

    @inline(__always)
    func run(_ operations: Int) {
        guard let table = sizes.baseAddress else { return }
        let mask = sizes.count - 1
        let subject = subject
        var index = next
        for _ in 0..<operations {
            subject.pair(Int(table[index & mask]))
            index &+= 1
        }
        next = index & mask
    }
}

/// A fixed number of blocks outstanding: the oldest is put, another one is got and touched.
final class FirstInFirstOutWorkload<Subject: BlockSubject> {
    private let subject: Subject
    private let size: Int
    private let depth: Int
    private let touchesPages: Bool
    private let ring: UnsafeMutablePointer<Subject.Block>
    private var oldest = 0

    init(_ subject: Subject, size: Int, depth: Int, touchesPages: Bool) {
        self.subject = subject
        self.size = size
        self.depth = depth
        self.touchesPages = touchesPages
        ring = .allocate(capacity: depth)
        for index in 0..<depth {
            ring.advanced(by: index).initialize(to: subject.get(size))
            subject.withAddress(of: &ring[index]) { touchesPages ? cbench_touch_pages($0, size) : cbench_touch($0) }
        }
    }

    deinit { ring.deallocate() }

    func finish() {
        for index in 0..<depth { subject.put((ring + index).move()) }
    }

    @inline(__always)
    func run(_ operations: Int) {
        let subject = subject
        let size = size
        let depth = depth
        let touchesPages = touchesPages
        let ring = ring
        var index = oldest
        for _ in 0..<operations {
            let place = ring + index
            subject.put(place.move())
            place.initialize(to: subject.get(cbench_hide(size)))
            subject.withAddress(of: &place.pointee) {
                touchesPages ? cbench_touch_pages($0, size) : cbench_touch($0)
            }
            index &+= 1
            if index == depth { index = 0 }
        }
        oldest = index
    }
}

// MARK: - Producer and consumer

/// A ring between one producer and one consumer, without locks.
///
/// Each side writes its own index and keeps a copy of the other's, which it reads again only when the ring looks full or
/// empty. A side tells how far it is only after whole batches: the ring should cost little beside what is measured.
final class HandoffRing<Block>: @unchecked Sendable {
    // Unchecked: a place belongs to the producer until `produced` is stored (release) and to the consumer until
    // `consumed` is; each index has one writer.
    let capacity: UInt64
    /// One less than the places that are handed over at a time.
    let batchMask: UInt64
    let places: UnsafeMutablePointer<Block>
    /// `produced` and `consumed`, 128 bytes apart so that they share no cache line, nor a pair of neighbouring ones.
    let indexes: UnsafeMutablePointer<UInt64>

    /// - Parameters:
    ///   - capacity: Places; a power of two.
    ///   - batch: Places handed over at a time; a power of two, and at most half of the capacity.
    init(capacity: Int, batch: Int) {
        self.capacity = UInt64(capacity)
        batchMask = UInt64(batch) &- 1
        places = .allocate(capacity: capacity)
        indexes = UnsafeMutableRawPointer.allocate(byteCount: 256, alignment: 128)
            .bindMemory(to: UInt64.self, capacity: 32)
        indexes.initialize(repeating: 0, count: 32)
    }

    deinit {
        places.deallocate()
        indexes.deallocate()
    }

    var produced: UnsafeMutablePointer<UInt64> { indexes }
    var consumed: UnsafeMutablePointer<UInt64> { indexes + 16 }

    /// Spins until `index` has passed `value`, and lets others run now and then: there may be fewer cores than threads.
    static func wait(_ index: UnsafeMutablePointer<UInt64>, beyond value: UInt64) -> UInt64 {
        var spins = 0
        while true {
            let current = cmempool_load64_acquire(index)
            if current > value { return current }
            cbench_pause()
            spins += 1
            if spins % 1000 == 0 { sched_yield() }
        }
    }
}

/// Gets and touches blocks, and hands them over.
final class ProducerWorkload<Subject: BlockSubject> {
    private let subject: Subject
    private let size: Int
    private let ring: HandoffRing<Subject.Block>
    private var produced: UInt64 = 0
    private var consumed: UInt64 = 0

    init(_ subject: Subject, size: Int, ring: HandoffRing<Subject.Block>) {
        self.subject = subject
        self.size = size
        self.ring = ring
    }

    @inline(__always)
    func run(_ operations: Int) {
        let subject = subject
        let size = size
        let places = ring.places
        let capacity = ring.capacity
        let producedIndex = ring.produced
        let consumedIndex = ring.consumed
        var produced = produced
        var consumed = consumed
        let batchMask = ring.batchMask
        for _ in 0..<operations {
            var block = subject.get(cbench_hide(size))
            subject.withAddress(of: &block) { cbench_touch($0) }
            if produced &- consumed == capacity {
                consumed = HandoffRing<Subject.Block>.wait(consumedIndex, beyond: produced &- capacity)
            }
            (places + Int(produced & (capacity &- 1))).initialize(to: block)
            produced &+= 1
            if produced & batchMask == 0 { cmempool_store64_release(producedIndex, produced) }
        }
        cmempool_store64_release(producedIndex, produced)
        self.produced = produced
        self.consumed = consumed
    }
}

/// Takes blocks over, reads their first byte and puts them.
final class ConsumerWorkload<Subject: BlockSubject> {
    private let subject: Subject
    private let ring: HandoffRing<Subject.Block>
    private var produced: UInt64 = 0
    private var consumed: UInt64 = 0

    init(_ subject: Subject, ring: HandoffRing<Subject.Block>) {
        self.subject = subject
        self.ring = ring
    }

    @inline(__always)
    func run(_ operations: Int) {
        let subject = subject
        let places = ring.places
        let mask = ring.capacity &- 1
        let producedIndex = ring.produced
        let consumedIndex = ring.consumed
        var produced = produced
        var consumed = consumed
        let batchMask = ring.batchMask
        for _ in 0..<operations {
            if produced == consumed {
                produced = HandoffRing<Subject.Block>.wait(producedIndex, beyond: consumed)
            }
            var block = (places + Int(consumed & mask)).move()
            consumed &+= 1
            if consumed & batchMask == 0 { cmempool_store64_release(consumedIndex, consumed) }
            subject.withAddress(of: &block) { cbench_read($0) }
            subject.put(block)
        }
        cmempool_store64_release(consumedIndex, consumed)
        self.produced = produced
        self.consumed = consumed
    }
}

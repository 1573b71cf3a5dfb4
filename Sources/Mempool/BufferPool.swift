// `BufferPool`: the pool that programs use, and the inlined fast path of get and put.

public import CMempoolPlatform

/// A pool of byte buffers in buckets: nine from 512 B to 16 MiB, unless its configuration has another layout.
///
/// ```swift
/// let pool = BufferPool.shared
/// let buffer = pool.get(4000)          // 4000 bytes, in a buffer of the 4 KiB bucket
/// defer { pool.put(buffer) }
/// ```
///
/// Gets and puts go through the calling thread's magazines: no lock, no atomic read-modify-write. Thread-safe; a buffer may be put on
/// another thread than it was got on. Most programs need only the default pool and its free functions ``getBuffer(_:)`` and
/// ``putBuffer(_:)``; a pool of one's own keeps the stats of a subsystem apart.
public final class BufferPool: Sendable {
    @usableFromInline let core: PoolCore
    @usableFromInline let index: Int
    /// Whether the highest bit of a size tells its bucket, as all capacities are powers of two.
    @usableFromInline let isByHighestBit: Bool
    /// Whether that is all there is to a get: threads have caches of the pool, and it does not zero.
    @usableFromInline let isPlain: Bool
    @usableFromInline let zeroing: Zeroing

    /// The default pool, behind the free functions.
    public static let shared = BufferPool(isDefault: true, PoolConfiguration(name: "default"))

    private init(_ core: PoolCore, _ configuration: PoolConfiguration) {
        self.core = core
        index = core.index
        isByHighestBit = configuration.layout.capacities.allSatisfy { $0 > 1 && $0 & ($0 - 1) == 0 }
        zeroing = configuration.zeroing
        isPlain = core.index < Int(CMEMPOOL_CACHED_POOLS) && isByHighestBit && zeroing == .never
        ForkSafety.install
        // The recorder takes locks, for which a signal handler of this thread would wait for ever.
        InterruptedCalls.around {
            PoolHook.installed?.didCreatePool(
                core.index, core.name, configuration.layout.capacities, configuration.zeroing == .onPut)
        }
        // Last: from here on other threads use the pool, which a recorder must know by then.
        if core.index == 0 { cmempool_set_default_core(Unmanaged.passUnretained(core).toOpaque()) }
    }

    private convenience init(isDefault: Bool, _ configuration: PoolConfiguration) {
        guard let core = Self.register(isDefault: isDefault, configuration) else {
            fatalError("mempool: \(Self.tooManyPools)")
        }
        self.init(core, configuration)
    }

    /// Nil if there are as many pools as there can be.
    private static func register(isDefault: Bool, _ configuration: PoolConfiguration) -> PoolCore? {
        PoolHook.startRecorder
        return InterruptedCalls.around {
            PoolRegistry.register(isDefault: isDefault, configuration) {
                PoolCore(index: $0, configuration: configuration)
            }
        }
    }

    private static let tooManyPools =
        "more than \(PoolRegistry.poolLimit) pools, those included that ended with buffers outstanding;"
        + " share pools, and put all buffers of a pool before it ends"

    /// Makes a pool with the default configuration.
    ///
    /// Traps when there are 1,024 pools, those included that ended while buffers of theirs were outstanding.
    public convenience init() {
        self.init(isDefault: false, PoolConfiguration())
    }

    /// Makes a pool.
    ///
    /// - Throws: ``PoolConfigurationError`` if an entry of the configuration is out of range, if there are 1,024 pools, those
    ///   included that ended while buffers of theirs were outstanding, or if the system refuses the 128 MiB of address space in which
    ///   pools with ``Zeroing/onPut`` remember what was asked for.
    public convenience init(configuration: PoolConfiguration) throws(PoolConfigurationError) {
        try configuration.validate()
        if configuration.zeroing == .onPut {
            do {
                try ZeroingRequests.reserve()
            } catch {
                throw PoolConfigurationError(
                    description: "zeroing: no address space for it: \(SystemMemory.text(of: error.errorNumber))")
            }
        }
        guard let core = Self.register(isDefault: false, configuration) else {
            throw PoolConfigurationError(description: Self.tooManyPools)
        }
        self.init(core, configuration)
    }

    deinit {
        core.release()
    }

    // MARK: - Get and put

    /// Hands out a buffer of `size` bytes.
    ///
    /// - Parameter size: Bytes. 0 gives an empty buffer that need not be put. Above the largest bucket the buffer is
    ///   *oversized*: mapped for this get and unmapped at its put. Traps if negative or if the system has no memory.
    /// - Returns: A buffer whose ``Buffer/count`` is `size`; its contents are whatever was there before, unless the pool zeroes.
    @inlinable @inline(__always)
    public func get(_ size: Int) -> Buffer {
        if let buffer = isPlain ? Self.fastGet(size, pool: index) : fastSpecialGet(size) { return buffer }
        let buffer = slowGet(size)
        // A function that ends with its get is the one to be named, not its caller.
        cmempool_keep_frame()
        return buffer
    }

    /// As ``get(_:)``, for callers that can go on without the memory.
    ///
    /// Traps like it if the size is negative or absurd, and if the very first get of the process cannot reserve the address space of
    /// the slot table, 320 MiB.
    /// - Throws: ``PoolAllocationError`` if the system refuses the memory. Nothing is counted then.
    public func tryGet(_ size: Int) throws(PoolAllocationError) -> Buffer {
        try get(size, from: cmempool_frame())
    }

    @inline(__always)
    private func get(_ size: Int, from frame: UnsafeMutableRawPointer) throws(PoolAllocationError) -> Buffer {
        let buffer = try core.get(size, from: frame)
        cmempool_keep_frame()
        // Without a ticket it was mapped for a signal handler, and is zero.
        if zeroing != .never, buffer.ticket != 0 { prepareZeroing(buffer) }
        return buffer
    }

    /// Takes a buffer back. It must not be used afterwards.
    ///
    /// Never traps: a wrong put is discarded, counted by reason in ``stats()``, and explained by the recorder if it is on.
    ///
    /// Of two puts of one buffer, one that begins after the other has returned is always refused; between threads, if news of the
    /// first reached the second in the usual way, as by a lock. Two threads that put it at the same instant are told apart only
    /// while a recorder watches every get, at levels full and paranoid: otherwise there is no atomic exchange, and both may be
    /// taken. The get that meets the second copy drops it and counts a double put, unless another get takes the first copy at that
    /// instant, or the second copy lay on the shelf while the buffer was got a multiple of 256 times. If the buffer was handed out and
    /// put again before the second put had ended, the put of its next owner is refused, and its slot is lost.
    ///
    /// - Parameter buffer: A buffer of this pool, whole or a ``Buffer/prefix(_:)`` of it.
    @inlinable @inline(__always)
    public func put(_ buffer: Buffer) {
        if isPlain ? Self.fastPut(buffer, pool: index) : fastSpecialPut(buffer) { return }
        slowPut(buffer)
        cmempool_keep_frame()
    }

    /// Lends a buffer to `body` and puts it when `body` ends, also by throwing.
    ///
    /// - Parameters:
    ///   - size: Bytes, as in ``get(_:)``.
    ///   - body: What to do with the buffer; it must not keep it.
    @inlinable @inline(__always)
    public func withBuffer<R, E: Error>(_ size: Int, _ body: (inout Buffer) throws(E) -> R) throws(E) -> R {
        let whole = get(size)
        // The body may narrow its own copy; what goes back is the whole buffer.
        defer { put(whole) }
        var buffer = whole
        return try body(&buffer)
    }

    // MARK: - Stats

    /// Reads the pool's counters. Exact whenever no call is in flight.
    ///
    /// - Complexity: O(buffers of the pool); takes the buckets' locks one after the other.
    public func stats() -> PoolStats { InterruptedCalls.around { core.stats() } }

    /// Reads the counters of each bucket, smallest capacity first.
    ///
    /// - Complexity: O(buffers of the pool).
    public func bucketStats() -> [BucketStats] { InterruptedCalls.around { core.bucketStats() } }

    // MARK: - Memory

    /// Gives all idle memory back to the system now: the shelves, and what the calling thread keeps. What other threads keep stays
    /// with them.
    ///
    /// Gets and puts of other threads may wait up to a millisecond at a time.
    ///
    /// - Returns: Bytes given back.
    /// - Complexity: O(buffers of the pool), with a system call for each run of idle ones that lie side by side.
    @discardableResult
    public func trim() -> Int { core.trim() }

    /// The most bytes of idle memory that all pools keep together. A lower limit holds for what becomes idle from now on.
    ///
    /// At first a quarter of the machine's memory: room for two pools at their own default limit of an eighth, with three
    /// quarters left for what is in use and for everybody else. A container's limit is not looked at; set this in one. Traps if it is set
    /// below 0.
    public static var totalIdleLimit: ByteLimit {
        get {
            let limit = IdleBudget.processLimit.load(ordering: .relaxed)
            return limit == .max ? .unlimited : .bytes(limit)
        }
        set {
            precondition(newValue.value >= 0, "totalIdleLimit must be 0 bytes or more")
            IdleBudget.processLimit.store(newValue.value, ordering: .relaxed)
        }
    }

    // MARK: - The two paths

    /// A get from the calling thread's magazine, or nil. For layouts of powers of two.
    @inlinable @inline(__always)
    static func fastGet(_ size: Int, pool: Int) -> Buffer? {
        let cache = cmempool_fast_cache(pool)
        // The highest bit alone tells the bucket. A size that none serves, 0 and negative ones included, finds the empty
        // magazine behind the last.
        return take(size, cache, cmempool_first_magazine(cache, BucketLayout.highestBit(size)))
    }

    /// As `fastGet`, for any layout.
    @inlinable @inline(__always)
    static func fastGetBySearch(_ size: Int, pool: Int) -> Buffer? {
        let cache = cmempool_fast_cache(pool)
        var magazine = cmempool_first_magazine(cache, BucketLayout.highestBit(size))
        let end = cmempool_magazine_at(cache, Int(cache.pointee.bucket_count))
        while magazine != end, BufferShape.capacity(magazine.pointee.shape) < size { magazine += 1 }
        return take(size, cache, magazine)
    }

    /// As `fastGet`, for pools of any kind.
    @inlinable @inline(__always)
    func fastSpecialGet(_ size: Int) -> Buffer? {
        guard index < Int(CMEMPOOL_CACHED_POOLS) else { return nil }
        let fast = isByHighestBit ? Self.fastGet(size, pool: index) : Self.fastGetBySearch(size, pool: index)
        guard let buffer = fast else { return nil }
        if zeroing != .never { prepareZeroing(buffer) }
        return buffer
    }

    @inlinable @inline(__always)
    static func take(
        _ size: Int, _ cache: UnsafeMutablePointer<cmempool_cache>, _ magazine: UnsafeMutablePointer<cmempool_magazine>
    ) -> Buffer? {
        let last = cmempool_magazine_last(magazine)
        let ticket = last.pointee
        let slot = UInt32(truncatingIfNeeded: ticket)
        let entry = cmempool_next_get_at(cache, slot)
        let generation = Ticket.generation(ticket)
        // Otherwise the magazine is empty, and this is no ticket; or the slot was kept twice: see `PoolCore.isDuplicate(_:)`. The slow path
        // finds out.
        guard _fastPath(cmempool_load32(entry) == generation) else { return nil }
        let base = cmempool_base_at(cache, slot)
        // The caller's first store. Where it finds its line far away, as in a ring of page-aligned buffers, whose first lines all share
        // one set of the first-level cache, the stores behind it have to wait; this does not.
        cmempool_prefetch_for_write(base)
        // The slot is this thread's until the put; relaxed because stats read it from other threads.
        cmempool_store32(entry, generation &+ 2)
        cmempool_magazine_pop_at(magazine, last)
        return Buffer(base: base, count: size, shape: magazine.pointee.shape, ticket: ticket)
    }

    /// A put into the calling thread's magazine; false if something speaks against it.
    @inlinable @inline(__always)
    static func fastPut(_ buffer: Buffer, pool: Int) -> Bool {
        let cache = cmempool_fast_cache(pool)
        let magazine = cmempool_put_magazine(cache, BufferShape.bucket(buffer.shape))
        // Whole, of this pool and bucket, in one comparison.
        guard magazine.pointee.shape == buffer.shape else { return false }
        let end = cmempool_magazine_end(magazine)
        guard cmempool_magazine_has_room_at(magazine, end) else { return false }
        let entry = cmempool_next_put_at(cache, UInt32(truncatingIfNeeded: buffer.ticket))
        // Put already: somebody moved the generation on.
        guard cmempool_load32(entry) == buffer.generation else { return false }
        let (next, carries) = buffer.generation.addingReportingOverflow(2)
        guard _fastPath(!carries) else { return false }
        cmempool_store32(entry, next)
        cmempool_magazine_push_at(magazine, end, Ticket.next(buffer.ticket))
        return true
    }

    /// As `fastPut`, for pools of any kind.
    @inlinable @inline(__always)
    func fastSpecialPut(_ buffer: Buffer) -> Bool {
        guard index < Int(CMEMPOOL_CACHED_POOLS) else { return false }
        return zeroing == .onPut ? fastZeroingPut(buffer) : Self.fastPut(buffer, pool: index)
    }

    /// As `fastPut`, for pools that zero. The slot is nobody's while its bytes are overwritten.
    @inlinable @inline(__always)
    func fastZeroingPut(_ buffer: Buffer) -> Bool {
        guard let base = buffer.base else { return false }
        let cache = cmempool_fast_cache(index)
        let magazine = cmempool_put_magazine(cache, BufferShape.bucket(buffer.shape))
        guard magazine.pointee.shape == buffer.shape, cmempool_magazine_has_room(magazine) else { return false }
        let slot = UInt32(truncatingIfNeeded: buffer.ticket)
        let entry = cmempool_next_put_at(cache, slot)
        let (next, carries) = buffer.generation.addingReportingOverflow(2)
        guard cmempool_load32(entry) == buffer.generation, !carries else { return false }
        cmempool_store32(entry, next)
        cmempool_zero(base, buffer.count, slot)
        // A signal handler may have put something meanwhile.
        if cmempool_magazine_has_room(magazine) {
            cmempool_magazine_push(magazine, Ticket.next(buffer.ticket))
        } else {
            keepZeroed(Ticket.next(buffer.ticket), BufferShape.bucket(buffer.shape))
        }
        return true
    }

    @usableFromInline @inline(never)
    func keepZeroed(_ ticket: UInt64, _ bucket: Int) {
        // It takes a lock, for which a handler's put would wait for ever.
        InterruptedCalls.around { core.keep(ticket, bucket: bucket) }
    }

    @usableFromInline @inline(never)
    func slowGet(_ size: Int) -> Buffer {
        if isPlain, let buffer = unsampledGet(size, pool: index) { return buffer }
        return slowestGet(size)
    }

    @inline(never)
    func slowestGet(_ size: Int) -> Buffer {
        let frame = cmempool_frame()
        if zeroing == .never, index < Int(CMEMPOOL_CACHED_POOLS),
            let buffer = PoolCore.watchedGet(size, pool: index, frame)
        {
            return buffer
        }
        let buffer = anyGet(size, frame)
        cmempool_keep_frame()
        return buffer
    }

    @inline(never)
    private func anyGet(_ size: Int, _ frame: UnsafeMutableRawPointer) -> Buffer {
        do {
            return try get(size, from: frame)
        } catch {
            fatalError("mempool: a get of \(size) bytes failed: \(error)")
        }
    }

    @usableFromInline @inline(never)
    func slowPut(_ buffer: Buffer) {
        let frame = cmempool_frame()
        if zeroing != .onPut, index < Int(CMEMPOOL_CACHED_POOLS),
            PoolCore.watchedPut(buffer, pool: index, frame, core: .passUnretained(core))
        {
            return
        }
        core.put(buffer, from: frame)
        cmempool_keep_frame()
    }

    // MARK: - Zeroing

    @inlinable @inline(__always)
    func prepareZeroing(_ buffer: Buffer) {
        if zeroing == .onGet {
            cmempool_clear(buffer.base.unsafelyUnwrapped, buffer.count)
        } else {
            // A buffer's own count will not do at the put: a prefix may be put in its place.
            cmempool_remember_request(UInt32(truncatingIfNeeded: buffer.ticket), buffer.count)
        }
    }
}

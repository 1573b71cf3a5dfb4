// `PoolCore`: what a pool is made of, and the slow path of get and put.

internal import CMempoolPlatform
internal import Glibc
internal import Synchronization

/// The shared part of one pool. Outlives its `BufferPool` while buffers are outstanding. Thread-safe.
@usableFromInline
final class PoolCore: Sendable {
    @usableFromInline let index: Int
    let name: String
    /// By ascending capacity. Not an array: loading an object from one counts a reference, in a line that all threads share.
    nonisolated(unsafe) let buckets: UnsafeMutableBufferPointer<BucketCore>
    let oversized: OversizedCore
    let budget: IdleBudget
    let zeroing: Zeroing
    /// Nanoseconds between two ticks of the decay, half of the configured time; nil for never.
    let decayTickNanoseconds: UInt64?
    let lastDecayTick = Atomic<UInt64>(0)
    let firstBuckets: [UInt8]
    /// The slot table's arrays; a global would ask each time whether it has been set.
    private nonisolated(unsafe) let nextGets = SlotTable.nextGets
    private nonisolated(unsafe) let nextPuts = SlotTable.nextPuts
    private nonisolated(unsafe) let generationsHigh = SlotTable.generationsHigh
    private nonisolated(unsafe) let bases = SlotTable.bases
    /// Added to the shape of every buffer: `BufferShape.watched`, or nothing.
    private let shapeFlags: UInt64

    let doublePuts = Atomic<UInt64>(0)
    let foreignPuts = Atomic<UInt64>(0)
    let wrongPoolPuts = Atomic<UInt64>(0)
    let lostPuts = Atomic<UInt64>(0)
    /// The `BufferPool`, as long as it lives, and each put of a handler that waits for an interrupted call: to the program it was
    /// made, so it may end the pool before that call ends. Whoever is the last to go ends the pool.
    private let userCount = Atomic<Int>(1)

    init(index: Int, configuration: PoolConfiguration) {
        self.index = index
        name = configuration.name.isEmpty ? "#\(index)" : configuration.name
        budget = IdleBudget(configuration.idleLimit)
        zeroing = configuration.zeroing
        switch configuration.decay {
        case .after(let seconds): decayTickNanoseconds = UInt64(seconds * 0.5e9)
        case .never: decayTickNanoseconds = nil
        }
        firstBuckets = configuration.layout.firstBuckets
        let hook = PoolHook.installed
        shapeFlags = hook?.watchesEveryBuffer == true ? BufferShape.watched : 0
        let redZone = hook?.redZoneBytes ?? 0
        let limit = hook?.redZoneLimit ?? 0
        oversized = OversizedCore(redZoneBytes: redZone)
        let capacities = configuration.layout.capacities
        buckets = .allocate(capacity: capacities.count)
        for (bucket, capacity) in capacities.enumerated() {
            buckets.initializeElement(
                at: bucket, to: BucketCore(capacity: capacity, redZoneBytes: redZone, redZoneLimit: limit))
        }
    }

    deinit {
        buckets.deinitialize()
        buckets.deallocate()
    }

    func shape(ofBucket bucket: Int) -> UInt64 {
        BufferShape.word(capacity: buckets[bucket].capacity, pool: index, bucket: bucket) | shapeFlags
    }

    func shape(ofOversized capacity: Int) -> UInt64 {
        BufferShape.word(capacity: capacity, pool: index, bucket: BufferShape.noBucket) | shapeFlags
    }

    /// The bucket that serves a size of at least 1; the number of buckets if it is oversized.
    func bucket(for size: Int) -> Int {
        var bucket = Int(firstBuckets[BucketLayout.highestBit(size)])
        while bucket < buckets.count, buckets[bucket].capacity < size { bucket += 1 }
        return bucket
    }

    // MARK: - Get

    /// Serves every get that the fast path does not: the first one of a thread, an empty magazine, sizes outside the
    /// buckets, and all gets while a recorder watches.
    ///
    /// - Parameter frame: Of the pool's function that the caller called.
    func get(_ size: Int, from frame: UnsafeMutableRawPointer) throws(PoolAllocationError) -> Buffer {
        guard cmempool_enter() else { return try InterruptedCalls.get(size) }
        defer { InterruptedCalls.leave() }
        guard size != 0 else {
            return Buffer(wrapping: UnsafeMutableRawBufferPointer(start: nil, count: 0))
        }
        Self.checkSize(size)
        let bucket = self.bucket(for: size)
        return bucket < buckets.count ? try get(size, bucket: bucket, frame) : try getOversized(size, frame)
    }

    /// The largest request, bytes: as a buffer's shape holds it, rounded up to whole pages.
    static let sizeLimit = Int(BufferShape.capacityMask) - 4095

    /// Traps if no buffer can be of that size.
    @inline(__always)
    static func checkSize(_ size: Int) {
        guard size >= 0, size <= sizeLimit else {
            fatalError("mempool: a buffer of \(size) bytes was asked for; sizes are 0 to \(sizeLimit)")
        }
    }

    private func get(
        _ size: Int, bucket: Int, _ frame: UnsafeMutableRawPointer
    ) throws(PoolAllocationError) -> Buffer {
        var ticket: UInt64
        var didAllocate = false
        repeat {
            if let cache = ThreadCaches.current(for: self) {
                let magazine = cmempool_magazine_at(cache, bucket)
                if cmempool_magazine_has_slot(magazine) {
                    ticket = cmempool_magazine_pop(magazine)
                } else {
                    open(magazine, bucket: bucket)
                    let vacancies = cache.pointee.vacancies + bucket
                    (ticket, didAllocate) = try buckets[bucket].take(magazine, vacancies, budget: budget)
                }
            } else {
                (ticket, didAllocate) = try buckets[bucket].take(nil, nil, budget: budget)
            }
        } while isDuplicate(ticket)
        return handOut(
            ticket, size, shape: shape(ofBucket: bucket), bucketRow: bucket, didAllocate: didAllocate, isPooled: true,
            frame)
    }

    private func getOversized(_ size: Int, _ frame: UnsafeMutableRawPointer) throws(PoolAllocationError) -> Buffer {
        let (slot, capacity) = try oversized.allocate(size)
        return handOut(
            SlotTable.nextTicket(of: slot), size, shape: shape(ofOversized: capacity), bucketRow: buckets.count,
            didAllocate: true, isPooled: false, frame)
    }

    /// Whether an idle slot was kept twice and its other copy was handed out; counts it then, and this copy is to be dropped.
    ///
    /// The inlined put compares the generation and stores the next one, not in one step: of two puts at the same instant both may
    /// do so, and both keep the slot, under the same ticket. Whoever meets the second copy finds that the slot has another one.
    @inline(__always)
    private func isDuplicate(_ ticket: UInt64) -> Bool {
        let next = cmempool_load32(nextGets + Ticket.slot(ticket))
        guard _slowPath(next != Ticket.generation(ticket)) else { return false }
        doublePuts.add(1, ordering: .relaxed)
        return true
    }

    private func handOut(
        _ ticket: UInt64, _ size: Int, shape: UInt64, bucketRow: Int, didAllocate: Bool, isPooled: Bool,
        _ frame: UnsafeMutableRawPointer
    ) -> Buffer {
        let slot = Ticket.slot(ticket)
        cmempool_store32(nextGets + slot, Ticket.generation(ticket) &+ 2)
        var isTold = true
        var shape = shape
        if cmempool_sample_interval() > 0 {
            isTold = SampledGets.isNext()
            // The put, which compares shapes, knows a sampled buffer by the same bit.
            if isTold { shape |= BufferShape.watched }
        }
        if isTold { tellGet(slot, size, shape, ticket, bucketRow, didAllocate, isPooled, frame) }
        return Buffer(base: bases[slot], count: size, shape: shape, ticket: ticket)
    }

    /// Tells a recorder of a get that just happened. It may give the buffer another place.
    private func tellGet(
        _ slot: Int, _ size: Int, _ shape: UInt64, _ ticket: UInt64, _ bucketRow: Int, _ didAllocate: Bool,
        _ isPooled: Bool, _ frame: UnsafeMutableRawPointer
    ) {
        let base = bases[slot]
        if !didAllocate, isPooled, let base, let didGet = cmempool_watcher_of_magazine_gets(),
            didGet(ticket, size, base, shape, frame)
        {
            return
        }
        guard let didGet = cmempool_watcher_of_gets() else { return }
        var event = GetEvent(
            slot: slot,
            generation: SlotTable.generation(of: slot),
            request: size,
            address: UInt(bitPattern: base),
            capacity: BufferShape.capacity(shape),
            pool: index,
            bucketRow: bucketRow,
            didAllocate: didAllocate,
            isPooled: isPooled,
            frame: frame
        )
        if let place = cmempool_placer_of_gets(), let elsewhere = place(&event) {
            bases[slot] = elsewhere
            event.address = UInt(bitPattern: elsewhere)
        }
        didGet(&event)
    }

    // MARK: - Put

    /// Serves every put that the fast path does not: a full magazine, all bad puts, oversized buffers, and all puts while
    /// a recorder watches.
    ///
    /// - Parameter frame: Of the pool's function that the caller called.
    func put(_ buffer: Buffer, from frame: UnsafeMutableRawPointer) {
        guard cmempool_enter() else { return InterruptedCalls.put(buffer, pool: self) }
        putInside(buffer, from: frame)
        InterruptedCalls.leave()
    }

    /// As ``put(_:from:)``, for a thread that is inside of the pool.
    func putInside(_ buffer: Buffer, from frame: UnsafeMutableRawPointer) {
        guard buffer.ticket != 0 else {
            guard buffer.capacity > 0, !InterruptedCalls.unmap(buffer) else { return }
            return refuse(buffer, .foreign, frame)
        }
        let slot = buffer.slotNumber
        guard SlotTable.isOutstanding(buffer.ticket) else { return refuse(buffer, .doublePut, frame) }
        guard BufferShape.pool(buffer.shape) == index else { return refuse(buffer, .wrongPool, frame) }

        let bucket = BufferShape.bucket(buffer.shape)
        let isOversized = bucket == BufferShape.noBucket
        let capacity = isOversized ? oversized.capacity(of: slot) : buckets[bucket].capacity
        // One of two racing puts wins this; the other one is the double put.
        guard let capacity, advance(slot, from: buffer.generation, bucket: bucket) else {
            return refuse(buffer, .doublePut, frame)
        }
        // The slot is nobody's now, so nothing of a next owner is overwritten.
        if zeroing == .onPut, let base = bases[slot] {
            cmempool_zero(base, buffer.count, UInt32(truncatingIfNeeded: slot))
        }
        let isWhole = buffer.capacity == capacity
        let isWatched = buffer.shape & BufferShape.watched != 0
        if isWatched || !isWhole, !(isWhole && !isOversized && isSettledPut(buffer, frame)) {
            tellPut(buffer, capacity, isOversized ? buckets.count : bucket, isPooled: !isOversized, frame)
        }
        if isOversized {
            oversized.free(slot: slot)
        } else if isWhole {
            keep(Ticket.next(buffer.ticket), bucket: bucket)
        } else {
            buckets[bucket].wrongCapacityPuts.add(1, ordering: .relaxed)
            buckets[bucket].discard(slot: slot)
        }
    }

    /// Whether a recorder had nothing special to do for the put of a whole buffer, and did it.
    private func isSettledPut(_ buffer: Buffer, _ frame: UnsafeMutableRawPointer) -> Bool {
        guard let base = buffer.base, let didPut = cmempool_watcher_of_magazine_puts() else { return false }
        return didPut(buffer.ticket, base, buffer.shape, frame)
    }

    /// Tells a recorder of a put that just happened, and ends a place that it gave the buffer.
    fileprivate func tellPut(
        _ buffer: Buffer, _ capacity: Int, _ bucketRow: Int, isPooled: Bool, _ frame: UnsafeMutableRawPointer
    ) {
        guard let didPut = cmempool_watcher_of_puts() else { return }
        let slot = buffer.slotNumber
        var event = PutEvent(
            slot: slot,
            generation: SlotTable.generation(of: slot) &- 1,
            address: UInt(bitPattern: buffer.base),
            givenCapacity: buffer.capacity,
            capacity: capacity,
            pool: index,
            bucketRow: bucketRow,
            isPooled: isPooled,
            frame: frame
        )
        didPut(&event)
        if let takeBack = cmempool_placer_of_puts(), let home = takeBack(slot) { bases[slot] = home }
    }

    /// Moves a slot's generation on from an outstanding one; false if somebody else did.
    @inline(__always)
    private func advance(_ slot: Int, from generation: UInt32, bucket: Int) -> Bool {
        guard _fastPath(generation != .max) else { return carry(slot, bucket: bucket) }
        return cmempool_exchange32(nextPuts + slot, generation, generation &+ 2)
    }

    /// As above, from the end of the low half. Under the lock that stats hold: they would see one half without the other.
    @inline(never)
    private func carry(_ slot: Int, bucket: Int) -> Bool {
        func carry() -> Bool {
            guard cmempool_exchange32(nextPuts + slot, .max, 1) else { return false }
            cmempool_store32(generationsHigh + slot, cmempool_load32(generationsHigh + slot) &+ 1)
            return true
        }
        // Generations of oversized buffers are not counted.
        return bucket < buckets.count ? buckets[bucket].state.withLock { _ in carry() } : carry()
    }

    /// Keeps the slot of a buffer that was put, under its next ticket.
    func keep(_ ticket: UInt64, bucket: Int) {
        if let cache = ThreadCaches.current(for: self) {
            let magazine = cmempool_magazine_at(cache, bucket)
            guard open(magazine, bucket: bucket) else { return shelve(ticket, bucket: bucket) }
            if !cmempool_magazine_has_room(magazine) {
                // Half stays, so that neither a run of puts nor a run of gets crosses the shelf every time.
                takeBack(magazine, bucket: bucket, keeping: (magazine.pointee.limit - magazine.pointee.bottom) / 2)
            }
            cmempool_magazine_push(magazine, ticket)
        } else {
            shelve(ticket, bucket: bucket)
        }
    }

    /// Lets a magazine keep buffers, if the idle budget has room for a full one. What threads may keep counts as idle
    /// whether they keep it or not, so the fast path has nothing to count.
    @discardableResult
    private func open(_ magazine: UnsafeMutablePointer<cmempool_magazine>, bucket: Int) -> Bool {
        guard magazine.pointee.limit == magazine.pointee.bottom else { return true }
        let limit = buckets[bucket].magazineLimit
        guard budget.reserve(1, of: limit * buckets[bucket].accountedBytes) == 1 else { return false }
        magazine.pointee.limit = magazine.pointee.bottom + limit
        return true
    }

    private func close(_ magazine: UnsafeMutablePointer<cmempool_magazine>, bucket: Int) {
        guard magazine.pointee.limit > magazine.pointee.bottom else { return }
        magazine.pointee.limit = magazine.pointee.bottom
        budget.release(1, of: buckets[bucket].magazineLimit * buckets[bucket].accountedBytes)
    }

    /// Moves all but `kept` slots of a magazine to the shelf.
    private func takeBack(_ magazine: UnsafeMutablePointer<cmempool_magazine>, bucket: Int, keeping kept: Int) {
        let (shelved, trimmed) = buckets[bucket].shelve(magazine, keeping: kept, budget: budget)
        didShelve(bucket, shelved: shelved, trimmed: trimmed)
    }

    private func shelve(_ ticket: UInt64, bucket: Int) {
        let isShelved = buckets[bucket].shelve(ticket, budget: budget)
        didShelve(bucket, shelved: isShelved ? 1 : 0, trimmed: isShelved ? 0 : 1)
    }

    private func didShelve(_ bucket: Int, shelved: Int, trimmed: Int) {
        if trimmed > 0, let hook = PoolHook.installed {
            for _ in 0..<trimmed { hook.didTrim(index, bucket) }
        }
        // Magazines, which count as well, do not decay.
        if shelved > 0, decayTickNanoseconds != nil { IdleDecayThread.startIfNeeded(idleBytes: budget.usedBytes) }
    }

    /// Empties and closes the magazines of a cache.
    func takeBack(_ cache: UnsafeMutablePointer<cmempool_cache>) {
        for bucket in buckets.indices {
            let magazine = cmempool_magazine_at(cache, bucket)
            // Closed first: what the thread could keep is room for the shelf now.
            close(magazine, bucket: bucket)
            takeBack(magazine, bucket: bucket, keeping: 0)
            buckets[bucket].takeBack(cache.pointee.vacancies + bucket)
        }
    }

    /// As ``takeBack(_:)``, for a thread that stopped anywhere in a get or a put: of a slot that was on its way in or out,
    /// only the generation tells where it belongs.
    func takeBackInterrupted(_ cache: UnsafeMutablePointer<cmempool_cache>) {
        for bucket in buckets.indices {
            let magazine = cmempool_magazine_at(cache, bucket)
            let tickets = magazine.pointee.bottom
            var kept = 0
            for index in 0..<(magazine.pointee.top - tickets) where SlotTable.isIdle(tickets[index]) {
                tickets[kept] = tickets[index]
                kept += 1
            }
            magazine.pointee.top = tickets + kept
        }
        takeBack(cache)
    }

    // MARK: - Giving idle memory back

    /// Gives back what was not needed since the last tick, if the next one is due. Returns nanoseconds until the next, or
    /// nil if the pool does not decay.
    func decay(now: UInt64) -> UInt64? {
        guard let tick = decayTickNanoseconds else { return nil }
        let last = lastDecayTick.load(ordering: .relaxed)
        guard now >= last + tick else { return last + tick - now }
        lastDecayTick.store(now, ordering: .relaxed)
        for bucket in buckets.indices { _ = buckets[bucket].decay(budget: budget) }
        return tick
    }

    /// Whether anything lies on a shelf, or a bucket keeps credit that others could use.
    var hasIdleMemory: Bool {
        buckets.indices.contains {
            buckets[$0].state.withLock { $0.stacks.shelfCount > 0 || !$0.credit.isEmpty }
        }
    }

    /// Gives back the shelves and the calling thread's magazines. Returns bytes.
    func trim() -> Int {
        InterruptedCalls.around {
            let cache = ThreadCaches.current(for: self)
            return buckets.indices.reduce(0) { released, bucket in
                var released = released
                if let cache {
                    let magazine = cmempool_magazine_at(cache, bucket)
                    close(magazine, bucket: bucket)
                    released += buckets[bucket].trim(magazine)
                    buckets[bucket].takeBack(cache.pointee.vacancies + bucket)
                }
                return released + buckets[bucket].trim(budget: budget)
            }
        }
    }

    private func refuse(_ buffer: Buffer, _ reason: RefusedPut.Reason, _ frame: UnsafeMutableRawPointer) {
        switch reason {
        case .doublePut: doublePuts.add(1, ordering: .relaxed)
        case .foreign: foreignPuts.add(1, ordering: .relaxed)
        case .wrongPool: wrongPoolPuts.add(1, ordering: .relaxed)
        }
        guard let hook = PoolHook.installed else { return }
        let bucket = BufferShape.bucket(buffer.shape)
        hook.didRefuse(
            RefusedPut(
                reason: reason,
                slot: buffer.slotNumber,
                ticketGeneration: buffer.generation,
                generation: buffer.ticket == 0 ? 0 : SlotTable.generation(of: buffer.slotNumber),
                address: UInt(bitPattern: buffer.base),
                count: buffer.count,
                givenCapacity: buffer.capacity,
                pool: index,
                issuingPool: buffer.ticket == 0 ? index : BufferShape.pool(buffer.shape),
                bucketRow: min(bucket, buckets.count),
                frame: frame
            )
        )
    }

    // MARK: - Stats and end

    func bucketStats() -> [BucketStats] { buckets.indices.map { buckets[$0].stats() } }

    func stats() -> PoolStats {
        var stats = PoolStats()
        for counts in bucketStats() {
            stats.allocations += counts.allocations
            stats.gets += counts.gets
            stats.puts += counts.puts
            stats.inUse += counts.inUse
            stats.trimmed += counts.trimmed
            stats.discards.wrongCapacity += counts.wrongCapacity
        }
        stats.oversized = oversized.gets.load(ordering: .relaxed)
        stats.allocations += stats.oversized
        stats.discards.doublePut = doublePuts.load(ordering: .relaxed)
        stats.discards.foreign = foreignPuts.load(ordering: .relaxed)
        stats.discards.wrongPool = wrongPoolPuts.load(ordering: .relaxed)
        stats.discards.oversized = oversized.puts.load(ordering: .relaxed)
        stats.discarded = stats.discards.total
        stats.lostPuts = lostPuts.load(ordering: .relaxed)
        return stats
    }

    /// Has the pool not end before an equal number of calls of ``release()``. For callers that know it to be there.
    func retain() { userCount.add(1, ordering: .relaxed) }

    /// Ends the pool with its last user: nobody can call it any more. Memory of outstanding buffers stays valid.
    func release() {
        // What the others did comes before.
        guard userCount.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 else { return }
        InterruptedCalls.around { destroyInside() }
    }

    private func destroyInside() {
        ThreadCaches.poolWillEnd(self)
        RawAddresses.forget(pool: index)
        if cmempool_sample_interval() > 0 { PoolHook.installed?.willDestroyPool(totals()) }
        var outstanding = oversized.destroy()
        for bucket in buckets.indices { outstanding += buckets[bucket].destroy(budget: budget) }
        PoolHook.installed?.didDestroyPool(index, outstanding)
        // With buffers outstanding, the registry keeps this core, and so their memory and their pool's index.
        if outstanding == 0 { PoolRegistry.remove(index: index) }
    }
}

// MARK: - The usual get and put that a recorder is told of

// Of no object: all that they need is in the thread's cache.
extension PoolCore {
    /// What the inlined get does, and the hook. Nil, with nothing done, if the magazine has nothing or there is more to be told.
    @inline(__always)
    static func watchedGet(_ size: Int, pool: Int, _ frame: UnsafeMutableRawPointer) -> Buffer? {
        let sampleInterval = cmempool_sample_interval()
        guard let didGet = cmempool_watcher_of_magazine_gets(), sampleInterval == 0 || SampledGets.isNextDue,
            let cache = cmempool_owned_cache(pool), cmempool_enter()
        else { return nil }
        defer { InterruptedCalls.leave() }
        // A size that no bucket serves, 0 and negative ones included, finds the empty magazine behind the last.
        let magazine = cmempool_own_magazine(cache, BucketLayout.highestBit(size))
        // The magazines of pools whose gets are sampled do not know which buffers are watched.
        let shape = magazine.pointee.shape | BufferShape.watched
        guard cmempool_magazine_has_slot(magazine), BufferShape.capacity(shape) >= size else { return nil }
        let ticket = cmempool_magazine_top(magazine)
        let slot = UInt32(truncatingIfNeeded: ticket)
        let entry = cmempool_next_get_at(cache, slot)
        let generation = Ticket.generation(ticket)
        // Otherwise the slot was kept twice; see `isDuplicate(_:)`.
        guard _fastPath(cmempool_load32(entry) == generation), let base = cmempool_base_at(cache, slot) else {
            return nil
        }
        guard _fastPath(didGet(ticket, size, base, shape, frame)) else { return nil }
        if sampleInterval > 0 { SampledGets.drawNext(sampleInterval) }
        _ = cmempool_magazine_pop(magazine)
        cmempool_store32(entry, generation &+ 2)
        return Buffer(base: base, count: size, shape: shape, ticket: ticket)
    }

    /// What the inlined put does, and the hook. False, with nothing done, if something speaks against it.
    ///
    /// Unlike the inlined put, this sees two threads that put at once: one of them wins the exchange.
    @inline(__always)
    static func watchedPut(
        _ buffer: Buffer, pool: Int, _ frame: UnsafeMutableRawPointer, core: @autoclosure () -> Unmanaged<PoolCore>
    ) -> Bool {
        let shape = buffer.shape
        guard let didPut = cmempool_watcher_of_magazine_puts(), shape & BufferShape.watched != 0,
            let base = buffer.base, let cache = cmempool_owned_cache(pool), cmempool_enter()
        else { return false }
        defer { InterruptedCalls.leave() }
        let bucket = BufferShape.bucket(shape)
        let magazine = cmempool_put_magazine(cache, bucket)
        guard magazine.pointee.shape | BufferShape.watched == shape, cmempool_magazine_has_room(magazine),
            buffer.generation != .max
        else { return false }
        let entry = cmempool_next_put_at(cache, UInt32(truncatingIfNeeded: buffer.ticket))
        guard cmempool_exchange32(entry, buffer.generation, buffer.generation &+ 2) else { return false }
        if _fastPath(didPut(buffer.ticket, base, shape, frame)) {
            cmempool_magazine_push(magazine, Ticket.next(buffer.ticket))
        } else {
            core()._withUnsafeGuaranteedRef { $0.putTold(buffer, bucket: bucket, frame) }
        }
        return true
    }

    /// Ends a put of a whole buffer that has more to be told.
    @inline(never)
    private func putTold(_ buffer: Buffer, bucket: Int, _ frame: UnsafeMutableRawPointer) {
        tellPut(buffer, buffer.capacity, bucket, isPooled: true, frame)
        // A program's handler of findings may have used this pool meanwhile.
        keep(Ticket.next(buffer.ticket), bucket: bucket)
    }
}

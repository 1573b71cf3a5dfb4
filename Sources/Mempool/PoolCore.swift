// `PoolCore`: what a pool is made of, and the slow path of get and put.

internal import CMempoolPlatform
internal import Glibc
internal import Synchronization

/// The shared part of one pool. Outlives its `BufferPool` while buffers are outstanding. Thread-safe.
@usableFromInline
final class PoolCore: Sendable {
    @usableFromInline let index: Int
    let name: String
    let buckets: [BucketCore]
    let oversized = OversizedCore()
    /// Bytes on the shelves of all buckets.
    let shelfBytes = Atomic<Int>(0)
    let shelfLimitBytes: Int

    let doublePuts = Atomic<UInt64>(0)
    let foreignPuts = Atomic<UInt64>(0)
    let wrongPoolPuts = Atomic<UInt64>(0)

    init(index: Int, configuration: PoolConfiguration) {
        self.index = index
        name = configuration.name.isEmpty ? "#\(index)" : configuration.name
        shelfLimitBytes = configuration.shelfLimitBytes
        buckets = BucketLayout.capacities.map(BucketCore.init(capacity:))
    }

    func shape(ofBucket bucket: Int) -> UInt64 {
        BufferShape.word(capacity: buckets[bucket].capacity, pool: index, bucket: bucket)
    }

    // MARK: - Get

    /// Serves every get that the fast path does not: the first one of a thread, an empty magazine, sizes outside the
    /// buckets, and all gets while a recorder watches.
    func get(_ size: Int) throws -> Buffer {
        guard size != 0 else {
            return Buffer(wrapping: UnsafeMutableRawBufferPointer(start: nil, count: 0))
        }
        guard size > 0, size <= Int(BufferShape.capacityMask) - 4095 else {
            fatalError("mempool: a buffer of \(size) bytes was asked for; sizes are 0 to \(BufferShape.capacityMask)")
        }
        PoolHook.startRecorder
        let bucket = BucketLayout.bucket(for: size)
        return bucket < buckets.count ? try get(size, bucket: bucket) : try getOversized(size)
    }

    private func get(_ size: Int, bucket: Int) throws -> Buffer {
        var didAllocate = false
        let slot: Int
        if let cache = ThreadCaches.current(for: self) {
            let magazine = cmempool_magazine_at(cache, bucket)
            if magazine.pointee.count == 0 {
                didAllocate = try buckets[bucket].refill(magazine, shelfBytes: shelfBytes)
            }
            magazine.pointee.count -= 1
            slot = Int(cmempool_magazine_slots(magazine)[Int(magazine.pointee.count)])
        } else {
            var magazine = cmempool_magazine()
            magazine.limit = 1
            didAllocate = try withUnsafeMutablePointer(to: &magazine) {
                let didAllocate = try buckets[bucket].refill($0, shelfBytes: shelfBytes)
                // Without a cache there is nowhere to keep more than the one.
                takeBack($0, bucket: bucket, keeping: 1)
                return didAllocate
            }
            slot = withUnsafeMutablePointer(to: &magazine) { Int(cmempool_magazine_slots($0)[0]) }
        }
        return handOut(
            slot, size, shape: shape(ofBucket: bucket), bucketRow: bucket, didAllocate: didAllocate
        )
    }

    private func getOversized(_ size: Int) throws -> Buffer {
        let (slot, _, capacity) = try oversized.allocate(size)
        let shape = BufferShape.word(capacity: capacity, pool: index, bucket: BufferShape.noBucket)
        return handOut(slot, size, shape: shape, bucketRow: buckets.count, didAllocate: true)
    }

    private func handOut(_ slot: Int, _ size: Int, shape: UInt64, bucketRow: Int, didAllocate: Bool) -> Buffer {
        let entry = SlotTable.slots + slot
        let generation = cmempool_load32(&entry.pointee.generation) &+ 1
        cmempool_store32(&entry.pointee.generation, generation)
        let buffer = Buffer(
            base: entry.pointee.base,
            count: size,
            shape: shape,
            ticket: UInt64(generation) << 32 | UInt64(truncatingIfNeeded: slot)
        )
        if let hook = PoolHook.installed {
            hook.didGet(
                GetEvent(
                    slot: slot,
                    generation: UInt64(entry.pointee.generation_high) << 32 | UInt64(generation),
                    request: size,
                    address: UInt(bitPattern: buffer.base),
                    capacity: buffer.capacity,
                    pool: index,
                    bucketRow: bucketRow,
                    didAllocate: didAllocate
                )
            )
        }
        return buffer
    }

    // MARK: - Put

    /// Serves every put that the fast path does not: a full magazine, all bad puts, oversized buffers, and all puts while
    /// a recorder watches.
    func put(_ buffer: Buffer) {
        guard buffer.ticket != 0 else {
            guard buffer.capacity > 0 else { return }
            return refuse(buffer, .foreign)
        }
        let entry = SlotTable.slots + buffer.slotNumber
        guard cmempool_load32_acquire(&entry.pointee.generation) == buffer.generation else {
            return refuse(buffer, .doublePut)
        }
        guard BufferShape.pool(buffer.shape) == index else { return refuse(buffer, .wrongPool) }

        let bucket = BufferShape.bucket(buffer.shape)
        let isOversized = bucket == BufferShape.noBucket
        let capacity = isOversized ? oversized.capacity(of: buffer.slotNumber) : buckets[bucket].capacity
        let high = entry.pointee.generation_high
        // One of two racing puts wins this; the other one is the double put.
        guard let capacity, advance(entry, from: buffer.generation) else { return refuse(buffer, .doublePut) }
        if let hook = PoolHook.installed {
            hook.didPut(
                PutEvent(
                    slot: buffer.slotNumber,
                    generation: UInt64(high) << 32 | UInt64(buffer.generation),
                    address: UInt(bitPattern: buffer.base),
                    givenCapacity: buffer.capacity,
                    capacity: capacity,
                    pool: index,
                    bucketRow: isOversized ? buckets.count : bucket
                )
            )
        }
        let isWhole = buffer.capacity == capacity
        if isOversized {
            oversized.free(slot: buffer.slotNumber)
        } else if isWhole {
            keep(buffer.slotNumber, bucket: bucket)
        } else {
            buckets[bucket].wrongCapacityPuts.add(1, ordering: .relaxed)
            buckets[bucket].discard(slot: buffer.slotNumber)
        }
    }

    /// Moves a slot's generation on from an outstanding one; false if somebody else did.
    private func advance(_ entry: UnsafeMutablePointer<cmempool_slot>, from generation: UInt32) -> Bool {
        guard cmempool_exchange32(&entry.pointee.generation, generation, generation &+ 1) else { return false }
        if generation == .max { entry.pointee.generation_high &+= 1 }
        return true
    }

    private func keep(_ slot: Int, bucket: Int) {
        if let cache = ThreadCaches.current(for: self) {
            let magazine = cmempool_magazine_at(cache, bucket)
            if magazine.pointee.count >= magazine.pointee.limit {
                // Half stays, so that neither a run of puts nor a run of gets crosses the shelf every time.
                takeBack(magazine, bucket: bucket, keeping: Int(magazine.pointee.limit) / 2)
            }
            cmempool_magazine_slots(magazine)[Int(magazine.pointee.count)] = UInt32(truncatingIfNeeded: slot)
            magazine.pointee.count += 1
        } else {
            var slot = UInt32(truncatingIfNeeded: slot)
            withUnsafePointer(to: &slot) { shelve(UnsafeBufferPointer(start: $0, count: 1), bucket: bucket) }
        }
    }

    /// Moves all but `kept` slots of a magazine to the shelf, the coldest first.
    private func takeBack(_ magazine: UnsafeMutablePointer<cmempool_magazine>, bucket: Int, keeping kept: Int) {
        let count = Int(magazine.pointee.count)
        guard count > kept else { return }
        let slots = cmempool_magazine_slots(magazine)
        shelve(UnsafeBufferPointer(start: slots, count: count - kept), bucket: bucket)
        for index in 0..<kept { slots[index] = slots[count - kept + index] }
        magazine.pointee.count = UInt32(truncatingIfNeeded: kept)
    }

    /// Empties the magazines of a cache.
    func takeBack(_ cache: UnsafeMutablePointer<cmempool_cache>) {
        for bucket in buckets.indices { takeBack(cmempool_magazine_at(cache, bucket), bucket: bucket, keeping: 0) }
    }

    private func shelve(_ slots: UnsafeBufferPointer<UInt32>, bucket: Int) {
        let trimmed = buckets[bucket].shelve(slots, shelfBytes: shelfBytes, limit: shelfLimitBytes)
        if trimmed > 0, let hook = PoolHook.installed {
            for _ in 0..<trimmed { hook.didTrim(index, bucket) }
        }
    }

    private func refuse(_ buffer: Buffer, _ reason: RefusedPut.Reason) {
        switch reason {
        case .doublePut: doublePuts.add(1, ordering: .relaxed)
        case .foreign: foreignPuts.add(1, ordering: .relaxed)
        case .wrongPool: wrongPoolPuts.add(1, ordering: .relaxed)
        }
        PoolHook.startRecorder
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
                bucketRow: min(bucket, buckets.count)
            )
        )
    }

    // MARK: - Stats and end

    func stats() -> PoolStats {
        var stats = PoolStats()
        for bucket in buckets {
            let counts = bucket.stats()
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
        return stats
    }

    /// Ends the pool: nobody can call it any more. Memory of outstanding buffers stays valid.
    func destroy() {
        ThreadCaches.poolWillEnd(self)
        var outstanding = oversized.destroy()
        for bucket in buckets { outstanding += bucket.destroy() }
        PoolHook.installed?.didDestroyPool(index)
        // With buffers outstanding, the registry keeps this core, and so their memory and their pool's index.
        if outstanding == 0 { PoolRegistry.remove(index: index) }
    }
}

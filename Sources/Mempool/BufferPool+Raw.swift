// Buffers as plain memory, for C: a get that gives a pointer, and a put that finds the buffer by its address.

internal import CMempoolPlatform

extension BufferPool {
    /// Hands out a buffer as plain memory, for code that cannot carry a ``Buffer``, such as a C library.
    ///
    /// It is a get like any other, in a signal handler too. To be put with ``putRaw(_:)``.
    ///
    /// - Parameter size: Bytes, as in ``get(_:)``. 0 gives a nil address.
    /// - Returns: `size` bytes; their contents are whatever was there before.
    @inlinable
    public func getRaw(_ size: Int) -> UnsafeMutableRawBufferPointer {
        let buffer = get(size)
        return UnsafeMutableRawBufferPointer(start: buffer.base, count: buffer.count)
    }

    /// Takes a buffer back by the address of its first byte, however it was got: by ``getRaw(_:)``, or by ``get(_:)``
    /// and handed on as a pointer.
    ///
    /// Mistakes are refused and counted as in ``put(_:)``: an address that is no pool's is a foreign put, one of another
    /// pool's memory a wrong-pool put, one inside an outstanding buffer a wrong-capacity put. But an address carries no
    /// ticket, so less is promised: a second put is caught only until the memory is handed out again; after that it takes
    /// the buffer from its new owner, whose own put is then the double put. The second put of an oversized buffer is a
    /// foreign put, as its memory is gone. Where this matters, keep the ``Buffer``.
    ///
    /// A signal handler may call this where it may call ``put(_:)``; mempool(7) says where that is. If it interrupted a get or a put,
    /// the address waits until that ends, and only then its buffer is looked for.
    ///
    /// - Parameter address: Of the first byte. nil is the put of an empty buffer and does nothing.
    /// - Complexity: O(log memory of the pool), with a lock; an address that is not the pool's searches all pools.
    public func putRaw(_ address: UnsafeMutableRawPointer?) {
        guard let address else { return }
        // The search takes locks, which the interrupted call may hold, and for which a handler's get or put would wait for ever.
        guard cmempool_enter() else { return InterruptedCalls.put(address, pool: core) }
        let buffer = core.bufferInside(toPutAt: address)
        InterruptedCalls.leave()
        put(buffer)
    }
}

/// What a pool's slabs looked like at some moment, by address, so that an address is found without searching them all.
///
/// A table is only a hint: slabs come and go, so whatever it says is checked against the bucket itself, under the bucket's
/// lock; an address that is not found makes the table anew. Thread-safe.
enum RawAddresses {
    struct Entry {
        var start: UInt
        var byteCount: UInt
        var bucket: Int
        var firstSlot: Int
    }

    /// Ascending by start, by pool index.
    private static let tables = Guarded<[Int: [Entry]]>([:])

    static func lockForFork() { tables.lockForFork() }

    static func unlockAfterFork() { tables.unlockAfterFork() }

    /// The entry whose memory holds an address.
    static func entry(at address: UInt, of pool: PoolCore) -> Entry? {
        tables.withLock { tables in search(tables[pool.index] ?? [], address) }
    }

    /// The same, after reading the slabs of the pool again.
    ///
    /// - Complexity: O(n log n) for n slabs.
    static func freshEntry(at address: UInt, of pool: PoolCore) -> Entry? {
        var table: [Entry] = []
        for index in pool.buckets.indices {
            table += pool.buckets[index].state.withLock { state in
                state.slabs.map {
                    Entry(
                        start: UInt(bitPattern: $0.base), byteCount: UInt($0.byteCount), bucket: index,
                        firstSlot: $0.firstSlot
                    )
                }
            }
        }
        table.sort { $0.start < $1.start }
        let found = search(table, address)
        let finished = table
        tables.withLock { $0[pool.index] = finished }
        return found
    }

    /// Drops the table of a pool that ends.
    static func forget(pool: Int) { tables.withLock { $0[pool] = nil } }

    private static func search(_ table: [Entry], _ address: UInt) -> Entry? {
        guard let entry = table.last(upTo: address, by: \.start), address - entry.start < entry.byteCount else {
            return nil
        }
        return entry
    }

    /// A buffer whose put is a foreign put.
    static func foreign(_ address: UnsafeMutableRawPointer) -> Buffer {
        // One byte: nothing is known about the memory but that it is there.
        Buffer(wrapping: UnsafeMutableRawBufferPointer(start: address, count: 1))
    }
}

extension PoolCore {
    /// What a put of an address is the put of: a buffer of this pool, of another one, or foreign memory. For a thread that is inside
    /// of the pool, as this takes locks.
    func bufferInside(toPutAt address: UnsafeMutableRawPointer) -> Buffer {
        buffer(at: address) ?? PoolRegistry.buffer(at: address) ?? RawAddresses.foreign(address)
    }

    /// The buffer that an address belongs to, with the ticket it has or had last; nil if this pool never handed it out.
    ///
    /// An address inside the buffer gives the slice that begins there.
    fileprivate func buffer(at address: UnsafeMutableRawPointer) -> Buffer? {
        let number = UInt(bitPattern: address)
        if let placed = PoolHook.installed?.placer?.owner(number) { return buffer(at: address, placed) }
        if let entry = RawAddresses.entry(at: number, of: self), let found = buffer(at: address, in: entry) {
            return found
        }
        if let (slot, capacity) = oversized.slot(at: number) {
            // Outstanding, so handed out with this memory; if it is not, that get has not returned yet.
            let inherited = UInt32(truncatingIfNeeded: SlotTable.generation(of: slot)) & ~1
            return buffer(
                at: address, slot: slot, bucket: BufferShape.noBucket, capacity: capacity, inherited: inherited)
        }
        guard let entry = RawAddresses.freshEntry(at: number, of: self) else { return nil }
        return buffer(at: address, in: entry)
    }

    /// As above, for a buffer that a recorder placed elsewhere; its ticket is known even if the slot was handed out again.
    private func buffer(at address: UnsafeMutableRawPointer, _ placed: PlacedBuffer) -> Buffer? {
        let isOversized = placed.bucketRow == buckets.count
        let offset = Int(UInt(bitPattern: address) &- placed.base)
        guard placed.pool == index, placed.bucketRow <= buckets.count, (0...placed.capacity).contains(offset) else {
            return nil
        }
        return Buffer(
            base: address - offset,
            count: placed.capacity,
            shape: isOversized ? shape(ofOversized: placed.capacity) : shape(ofBucket: placed.bucketRow),
            ticket: Ticket.word(placed.slot, UInt32(truncatingIfNeeded: placed.generation))
        ).dropFirst(offset)
    }

    private func buffer(at address: UnsafeMutableRawPointer, in entry: RawAddresses.Entry) -> Buffer? {
        // The table may be that of an earlier pool with this index, which had other buckets.
        guard entry.bucket < buckets.count else { return nil }
        let (bucket, number) = (entry.bucket, UInt(bitPattern: address))
        guard let (slot, inherited) = buckets[bucket].slot(at: number, inSlabOf: entry.firstSlot) else { return nil }
        return buffer(
            at: address, slot: slot, bucket: bucket, capacity: buckets[bucket].capacity, inherited: inherited)
    }

    /// - Parameter inherited: The slot's generation when its memory was mapped: what came before was another pool's.
    private func buffer(
        at address: UnsafeMutableRawPointer, slot: Int, bucket: Int, capacity: Int, inherited: UInt32
    ) -> Buffer? {
        var generation = UInt32(truncatingIfNeeded: SlotTable.generation(of: slot))
        // Even: not outstanding. Its last ticket is the one before, if it ever had any.
        if generation & 1 == 0 {
            guard generation != inherited else { return nil }
            generation &-= 1
        }
        let shape = bucket == BufferShape.noBucket ? shape(ofOversized: capacity) : shape(ofBucket: bucket)
        var base = SlotTable.bases[slot]
        // The buffer is elsewhere: who knows its place in the pool had it from a get before this one.
        if let home = PoolHook.installed?.placer?.home(slot) {
            guard generation != inherited &+ 1 else { return nil }
            generation &-= 2
            base = home
        }
        let whole = Buffer(
            base: base,
            count: capacity,
            // Whether its get was sampled is not to be seen here; a recorder knows.
            shape: PoolHook.installed == nil ? shape : shape | BufferShape.watched,
            ticket: Ticket.word(slot, generation)
        )
        // Between the end of a buffer and the next one there may be a gap that is nobody's; and the buffer may have gone elsewhere
        // since its slot was looked up.
        guard let base, (0..<capacity).contains(address - base) else { return nil }
        return whole.dropFirst(address - base)
    }
}

extension Array {
    /// How many elements have a key that is not above a value, in an array that ascends by that key.
    func count<Key: Comparable>(upTo value: Key, by key: (Element) -> Key) -> Int {
        var low = 0
        var high = count
        while low < high {
            let middle = (low + high) / 2
            if key(self[middle]) <= value { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// The last one of these.
    func last<Key: Comparable>(upTo value: Key, by key: (Element) -> Key) -> Element? {
        let count = count(upTo: value, by: key)
        return count > 0 ? self[count - 1] : nil
    }
}

extension PoolRegistry {
    /// The buffer of any pool that an address belongs to.
    fileprivate static func buffer(at address: UnsafeMutableRawPointer) -> Buffer? {
        let pools = state.withLock { $0.pools }
        for pool in pools {
            if let found = pool?.buffer(at: address) { return found }
        }
        return nil
    }
}

extension BucketCore {
    /// The slot whose memory holds an address, if the slab that is said to hold it still does; and the slot's generation when it was
    /// mapped.
    fileprivate func slot(at address: UInt, inSlabOf firstSlot: Int) -> (slot: Int, inherited: UInt32)? {
        state.withLock { state in
            guard let slab = state.slabs.last(upTo: firstSlot, by: \.firstSlot) else { return nil }
            let start = UInt(bitPattern: slab.base)
            guard address >= start, address - start < UInt(slab.byteCount) else { return nil }
            let slot = slab.firstSlot + Int(address - start) / slab.strideBytes
            return slot < slab.firstSlot + slab.slotCount ? (slot, slab.inheritedGeneration(of: slot)) : nil
        }
    }
}

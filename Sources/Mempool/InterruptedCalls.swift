// `InterruptedCalls`: gets and puts of signal handlers that interrupt a get or a put of their own thread.

internal import CMempoolPlatform
internal import Synchronization

/// What a signal handler gets and puts while the thread that it interrupts is inside of the pool, perhaps with a lock held.
///
/// Such a get maps memory of its own, which no recorder sees; such a put waits until the interrupted call ends. No more than
/// `CMEMPOOL_DEFERRED_PUTS` can wait: what comes beyond them is lost and counted, and the buffer stays outstanding. A put of an
/// address is kept as that, and its buffer looked for when it is made. Both are async-signal-safe. Only calls that take the slow path are protected, hence all of them while a recorder watches every get.
package enum InterruptedCalls {
    /// Runs `body`, which takes locks of the pool or of the recorder, so that handlers do not.
    @inline(__always)
    package static func around<R, E: Error>(_ body: () throws(E) -> R) throws(E) -> R {
        // A handler that does this itself waits for a lock at worst, as without.
        guard cmempool_enter() else { return try body() }
        defer { leave() }
        return try body()
    }

    /// Ends what a successful `cmempool_enter` began.
    @inline(__always)
    static func leave() {
        if !cmempool_leave() { putDeferred() }
    }

    /// Puts what handlers have left, until they leave nothing more.
    @inline(never)
    private static func putDeferred() {
        repeat {
            var put = cmempool_deferred_put()
            while cmempool_take_deferred(&put) {
                // It waits for this put with its end.
                guard let pool = PoolRegistry.pool(at: Int(put.pool)) else { continue }
                defer { pool.release() }
                let buffer =
                    if put.is_by_address != 0, let address = put.base {
                        pool.bufferInside(toPutAt: address)
                    } else {
                        Buffer(base: put.base, count: put.count, shape: put.shape, ticket: put.ticket)
                    }
                // The handler's frames are gone: the put counts as the interrupted call's.
                pool.putInside(buffer, from: cmempool_frame())
            }
        } while !cmempool_leave()
    }

    /// A buffer for a handler, with memory of its own.
    static func get(_ size: Int) throws(PoolAllocationError) -> Buffer {
        guard size != 0 else { return Buffer(wrapping: UnsafeMutableRawBufferPointer(start: nil, count: 0)) }
        PoolCore.checkSize(size)
        let capacity = (size + 4095) & ~4095
        let memory = try SystemMemory.map(capacity)
        // If there is no room to remember it, its put is a foreign put.
        cmempool_remember_mapping(memory, capacity)
        let whole = Buffer(wrapping: UnsafeMutableRawBufferPointer(start: memory, count: capacity))
        return whole.prefix(size)
    }

    /// Keeps a put for the interrupted call. If there is no room, it is lost, and the buffer stays outstanding.
    static func put(_ buffer: Buffer, pool: PoolCore) {
        // Nothing is left of a slice at the end of its buffer, but its ticket.
        guard buffer.ticket != 0 || buffer.capacity > 0 else { return }
        // What a handler got needs nothing of the pool.
        if buffer.ticket == 0, unmap(buffer) { return }
        deferPut(
            cmempool_deferred_put(
                base: buffer.base, count: buffer.count, shape: buffer.shape, ticket: buffer.ticket,
                pool: UInt32(pool.index), is_by_address: 0),
            pool)
    }

    /// Keeps the put of an address, whose buffer cannot be looked for now: that takes locks.
    static func put(_ address: UnsafeMutableRawPointer, pool: PoolCore) {
        if unmap(address) { return }
        deferPut(
            cmempool_deferred_put(
                base: address, count: 0, shape: 0, ticket: 0, pool: UInt32(pool.index), is_by_address: 1),
            pool)
    }

    private static func deferPut(_ put: cmempool_deferred_put, _ pool: PoolCore) {
        var put = put
        pool.retain()
        guard !cmempool_defer_put(&put) else { return }
        pool.release()
        pool.lostPuts.add(1, ordering: .relaxed)
        cmempool_record_lost_put()
    }

    /// Gives the memory of a handler's get back; false if it is none.
    static func unmap(_ buffer: Buffer) -> Bool {
        guard let base = buffer.base else { return false }
        return unmap(base)
    }

    private static func unmap(_ base: UnsafeMutableRawPointer) -> Bool {
        let byteCount = cmempool_forget_mapping(base)
        guard byteCount > 0 else { return false }
        SystemMemory.unmap(base, byteCount)
        return true
    }
}

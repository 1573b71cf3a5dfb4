// `ThreadCaches`: each thread's magazines, made at its first use of a pool and returned when it or the pool ends.

internal import CMempoolPlatform
internal import Glibc

/// Makes, finds and takes back thread caches.
///
/// A cache belongs to one thread and is touched by no other, with one exception: when a pool is destroyed, nobody can be
/// using it any more, and its caches are emptied by the destroying thread. The lock serialises that with threads that end.
///
/// The thread's own memory, which leads to its caches, is touched by the thread alone, as not every thread tells of its end: one
/// that first uses a pool in the last round of its destructors does not, nor does one that leaves without the C library. So an
/// emptied cache stays, *retired*, until its thread needs one of that number again or ends; and whoever makes caches looks now and
/// then whose threads are gone.
enum ThreadCaches {
    /// The first of all caches, which are linked. No Swift collection: a forked child walks this, and must not ask the Swift
    /// runtime for anything new, as another thread may have held one of its locks at the fork.
    private struct List {
        var first: Pointer = nil
        var count = 0
        /// How many there have to be for the next look.
        var nextLook = cachesBeforeLook
        /// The process that the caches' threads are of.
        var processID = getpid()
    }

    /// Caches before the first look for threads that are gone. After that there is one as their number doubles, so that each cache
    /// costs its share of a look: a call to the system or two.
    private static let cachesBeforeLook = 64

    /// Lock order: this lock, then a bucket's, then the slot table's.
    private static let all = Guarded(List())

    /// The calling thread's cache for a pool, or nil if the pool has none: its index is too high, or memory or
    /// the means to learn of the thread's end ran out.
    ///
    /// The result must not be kept: it is for use on this thread before the next suspension point.
    static func current(for pool: PoolCore) -> UnsafeMutablePointer<cmempool_cache>? {
        guard pool.index < Int(CMEMPOOL_CACHED_POOLS) else { return nil }
        if let cache = cmempool_owned_cache(pool.index) {
            guard cache.pointee.is_retired != 0 else { return cache }
            all.withLock { all in removeAll(from: &all, where: { $0 == cache }, then: detach) }
        }
        return make(for: pool, thread: cmempool_thread_current())
    }

    private static func make(
        for pool: PoolCore, thread: UnsafeMutablePointer<cmempool_thread>
    ) -> UnsafeMutablePointer<cmempool_cache>? {
        // A thread whose end was told gets no cache any more.
        guard thread.pointee.is_registered != 0 || cmempool_register_thread(thread) else { return nil }
        let bucketCount = pool.buckets.count
        let byteCount = cmempool_cache_bytes(UInt32(truncatingIfNeeded: bucketCount))
        guard let memory = SystemMemory.allocate(byteCount) else { return nil }
        let cache = memory.bindMemory(to: cmempool_cache.self, capacity: 1)
        cache.pointee.next_gets = SlotTable.nextGets
        cache.pointee.next_puts = SlotTable.nextPuts
        cache.pointee.bases = SlotTable.bases
        cache.pointee.thread = thread
        cache.pointee.thread_id = cmempool_thread_id()
        cache.pointee.is_retired = 0
        cache.pointee.pool_index = UInt32(truncatingIfNeeded: pool.index)
        cache.pointee.bucket_count = UInt32(truncatingIfNeeded: bucketCount)
        cache.pointee.vacancies = cmempool_cache_vacancies(cache)
        // Closed until a magazine is first needed: see `PoolCore.open(_:bucket:)`. The one behind the last stays so.
        for index in 0...bucketCount { cmempool_magazine_reset(cmempool_magazine_at(cache, index)) }
        for index in pool.buckets.indices {
            cmempool_magazine_at(cache, index).pointee.shape = pool.shape(ofBucket: index)
        }
        for (bit, bucket) in pool.firstBuckets.enumerated() {
            cmempool_set_first_bucket(cache, bit, Int(bucket), cmempool_sample_interval() == 0)
        }
        for named in 0..<64 { cmempool_set_put_bucket(cache, named, min(named, bucketCount)) }
        setOwned(thread, pool.index, cache)
        // While a recorder watches every buffer there is no fast path.
        if PoolHook.installed?.watchesEveryBuffer != true { setFast(thread, pool.index, cache) }
        all.withLock { all in
            if all.count >= all.nextLook { takeBackGone(&all) }
            cache.pointee.next = all.first
            all.first = cache
            all.count += 1
        }
        return cache
    }

    /// Takes back the magazines of threads that are gone without telling.
    private static func takeBackGone(_ all: inout List) {
        let processID = all.processID
        // In a child that was forked behind the C library's back, the thread that goes on has another identifier than its caches say.
        if processID == getpid() {
            removeAll(from: &all) {
                cmempool_is_thread_gone(Int(processID), $0.pointee.thread_id)
            } then: { cache in
                empty(cache) { $0.takeBackInterrupted(cache) }
                free(cache)
            }
        }
        all.nextLook = max(cachesBeforeLook, 2 * all.count)
    }

    /// Calls `body` with the pool that a cache is of, unless that has ended.
    private static func empty(_ cache: UnsafeMutablePointer<cmempool_cache>, _ body: (PoolCore) -> Void) {
        guard cache.pointee.is_retired == 0, let pool = PoolRegistry.pool(at: Int(cache.pointee.pool_index)) else {
            return
        }
        body(pool)
    }

    /// Returns the magazines of a thread that ends.
    static func threadWillExit(_ thread: UnsafeMutablePointer<cmempool_thread>) {
        InterruptedCalls.around { removeAll(of: thread) }
    }

    private static func removeAll(of thread: UnsafeMutablePointer<cmempool_thread>) {
        all.withLock { all in
            removeAll(from: &all) {
                $0.pointee.thread == thread
            } then: { cache in
                empty(cache) { $0.takeBack(cache) }
                detach(cache)
            }
        }
    }

    /// Returns all magazines of a pool that nobody can use any more.
    static func poolWillEnd(_ pool: PoolCore) {
        all.withLock { all in
            var next = all.first
            while let cache = next {
                next = cache.pointee.next
                guard Int(cache.pointee.pool_index) == pool.index, cache.pointee.is_retired == 0 else { continue }
                pool.takeBack(cache)
                cache.pointee.is_retired = 1
            }
        }
    }

    /// Unlinks the caches that are `chosen` and hands each to `body`, which frees it.
    private static func removeAll(
        from list: inout List, where chosen: (UnsafeMutablePointer<cmempool_cache>) -> Bool,
        then body: (UnsafeMutablePointer<cmempool_cache>) -> Void
    ) {
        var kept: Pointer = nil
        var next = list.first
        while let cache = next {
            next = cache.pointee.next
            if chosen(cache) {
                list.count -= 1
                body(cache)
            } else {
                cache.pointee.next = kept
                kept = cache
            }
        }
        list.first = kept
    }

    /// Frees a cache of the calling thread.
    private static func detach(_ cache: UnsafeMutablePointer<cmempool_cache>) {
        let index = Int(cache.pointee.pool_index)
        setFast(cache.pointee.thread, index, cmempool_cache_of_nobody())
        setOwned(cache.pointee.thread, index, nil)
        free(cache)
    }

    // MARK: - Fork

    static func lockForFork() { all.lockForFork() }

    static func unlockAfterFork() { all.unlockAfterFork() }

    /// In a forked child: takes back the magazines of the threads that the child does not have.
    static func takeBackAfterFork() {
        let survivor = cmempool_thread_current()
        let threadID = cmempool_thread_id()
        all.withLock { all in
            all.processID = getpid()
            removeAll(from: &all) {
                $0.pointee.thread_id = threadID
                return $0.pointee.thread != survivor
            } then: { cache in
                // The thread's own memory is gone with it, so there is nothing to detach from.
                empty(cache) { $0.takeBackInterrupted(cache) }
                free(cache)
            }
        }
    }

    // MARK: - The C structure's arrays

    private typealias Pointer = UnsafeMutablePointer<cmempool_cache>?

    private static func pointer(
        _ thread: UnsafeMutablePointer<cmempool_thread>, _ offset: Int?, _ index: Int
    ) -> UnsafeMutablePointer<Pointer> {
        (UnsafeMutableRawPointer(thread) + (offset ?? 0)).assumingMemoryBound(to: Pointer.self) + index
    }

    private static let ownedOffset = MemoryLayout<cmempool_thread>.offset(of: \.owned)
    private static let fastOffset = MemoryLayout<cmempool_thread>.offset(of: \.fast)

    private static func setOwned(_ thread: UnsafeMutablePointer<cmempool_thread>, _ index: Int, _ cache: Pointer) {
        pointer(thread, ownedOffset, index).pointee = cache
    }

    private static func setFast(_ thread: UnsafeMutablePointer<cmempool_thread>, _ index: Int, _ cache: Pointer) {
        pointer(thread, fastOffset, index).pointee = cache
    }
}

/// Called by the platform layer when a thread ends.
@_cdecl("cmempool_thread_exit")
func threadExit(_ thread: UnsafeMutablePointer<cmempool_thread>) {
    ThreadCaches.threadWillExit(thread)
}

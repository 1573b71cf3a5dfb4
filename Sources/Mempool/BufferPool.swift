// `BufferPool`: the pool that programs use, and the inlined fast path of get and put.

public import CMempoolPlatform
internal import Glibc

/// A pool of byte buffers in nine buckets from 512 B to 16 MiB.
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
    /// The pool's index, or one past the cached pools if it is too high for the fast path.
    @usableFromInline let index: Int

    /// The default pool, behind the free functions.
    public static let shared = BufferPool(isDefault: true, PoolConfiguration(name: "default"))

    private init(isDefault: Bool, _ configuration: PoolConfiguration) {
        PoolHook.startRecorder
        core = PoolRegistry.register(isDefault: isDefault) { PoolCore(index: $0, configuration: configuration) }
        index = core.index
        PoolHook.installed?.didCreatePool(core.index, core.name, core.buckets.map(\.capacity))
    }

    /// Makes a pool with the default configuration. Traps when 1,024 pools exist.
    public convenience init() {
        self.init(isDefault: false, PoolConfiguration())
    }

    /// Makes a pool. Traps when 1,024 pools exist.
    ///
    /// - Throws: ``PoolConfigurationError`` if an entry of the configuration is out of range.
    public convenience init(configuration: PoolConfiguration) throws {
        guard configuration.shelfLimitBytes >= 0 else {
            throw PoolConfigurationError(
                description: "shelfLimitBytes is \(configuration.shelfLimitBytes); it must be 0 or more"
            )
        }
        self.init(isDefault: false, configuration)
    }

    deinit {
        core.destroy()
    }

    // MARK: - Get and put

    /// Hands out a buffer of at least `size` bytes.
    ///
    /// - Parameter size: Bytes. 0 gives an empty buffer that need not be put. Above 16 MiB the buffer is *oversized*: mapped
    ///   for this get and unmapped at its put. Traps if negative or if the system has no memory.
    /// - Returns: A buffer whose ``Buffer/count`` is `size`; its contents are whatever was there before.
    @inlinable @inline(__always)
    public func get(_ size: Int) -> Buffer {
        if index < Int(CMEMPOOL_CACHED_POOLS), let buffer = Self.fastGet(size, pool: index) { return buffer }
        return slowGet(size)
    }

    /// Takes a buffer back. It must not be used afterwards.
    ///
    /// Never traps: a wrong put is discarded, counted by reason in ``stats()``, and explained by the recorder if it is on.
    /// - Parameter buffer: A buffer of this pool, whole or a ``Buffer/prefix(_:)`` of it.
    @inlinable @inline(__always)
    public func put(_ buffer: Buffer) {
        if index < Int(CMEMPOOL_CACHED_POOLS), Self.fastPut(buffer, pool: index) { return }
        slowPut(buffer)
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
    public func stats() -> PoolStats { core.stats() }

    /// Reads the counters of each bucket, smallest capacity first.
    ///
    /// - Complexity: O(buffers of the pool).
    public func bucketStats() -> [BucketStats] { core.buckets.map { $0.stats() } }

    // MARK: - The two paths

    @inlinable @inline(__always)
    static func fastGet(_ size: Int, pool: Int) -> Buffer? {
        guard let cache = cmempool_fast_cache(pool) else { return nil }
        let bucket = BucketLayout.bucket(for: size)
        guard bucket < BucketLayout.bucketCount else { return nil }
        let magazine = cmempool_magazine_at(cache, bucket)
        let count = magazine.pointee.count
        guard count > 0 else { return nil }
        let left = count &- 1
        magazine.pointee.count = left
        let slot = cmempool_magazine_slots(magazine)[Int(left)]
        let entry = cache.pointee.slots + Int(slot)
        // The slot is this thread's until the put; relaxed because stats read it from other threads.
        let generation = cmempool_load32(&entry.pointee.generation) &+ 1
        cmempool_store32(&entry.pointee.generation, generation)
        return Buffer(
            base: entry.pointee.base,
            count: size,
            shape: magazine.pointee.shape,
            ticket: UInt64(generation) &<< 32 | UInt64(slot)
        )
    }

    @inlinable @inline(__always)
    static func fastPut(_ buffer: Buffer, pool: Int) -> Bool {
        guard let cache = cmempool_fast_cache(pool) else { return false }
        let bucket = BufferShape.bucket(buffer.shape)
        guard bucket < BucketLayout.bucketCount else { return false }
        let magazine = cmempool_magazine_at(cache, bucket)
        // Whole, of this pool and bucket, in one comparison.
        guard magazine.pointee.shape == buffer.shape else { return false }
        let count = magazine.pointee.count
        guard count < magazine.pointee.limit else { return false }
        let entry = cache.pointee.slots + buffer.slotNumber
        let generation = buffer.generation
        // A put already, or time to carry into the high half.
        guard cmempool_load32(&entry.pointee.generation) == generation, generation != .max else { return false }
        cmempool_store32(&entry.pointee.generation, generation &+ 1)
        cmempool_magazine_slots(magazine)[Int(count)] = UInt32(truncatingIfNeeded: buffer.ticket)
        magazine.pointee.count = count &+ 1
        return true
    }

    @usableFromInline @inline(never)
    func slowGet(_ size: Int) -> Buffer {
        do {
            return try core.get(size)
        } catch let error as SystemAllocationError {
            fatalError(
                "mempool: the system refused \(error.byteCount) bytes for a get of \(size) bytes: "
                    + String(cString: strerror(error.errorNumber))
            )
        } catch {
            fatalError("mempool: \(error)")
        }
    }

    @usableFromInline @inline(never)
    func slowPut(_ buffer: Buffer) { core.put(buffer) }
}

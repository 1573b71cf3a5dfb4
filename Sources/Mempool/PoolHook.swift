// `PoolHook`: the one seam through which a recorder watches the pools.

internal import CMempoolPlatform

/// A buffer that was handed out.
package struct GetEvent {
    package var slot: Int
    /// Odd: the value the ticket's low half was taken from.
    package var generation: UInt64
    /// Bytes asked for.
    package var request: Int
    package var address: UInt
    /// Bytes the buffer holds.
    package var capacity: Int
    package var pool: Int
    /// The bucket's index; the number of buckets for an oversized buffer.
    package var bucketRow: Int
    package var didAllocate: Bool
    /// Whether the memory is a bucket's; oversized buffers' is their own.
    package var isPooled: Bool
    /// The frame of the pool's outermost function: where the caller's stack begins.
    package var frame: UnsafeMutableRawPointer
}

/// A buffer that was taken back, or given up because a slice of it was put.
package struct PutEvent {
    package var slot: Int
    /// Odd: the generation of the get this put ends.
    package var generation: UInt64
    package var address: UInt
    /// The capacity the put buffer claims; differs from `capacity` for a wrong-capacity put only.
    package var givenCapacity: Int
    package var capacity: Int
    package var pool: Int
    package var bucketRow: Int

    package var isWrongCapacity: Bool { givenCapacity != capacity }
    /// Whether the memory stays with the pool; oversized buffers' goes back to the system.
    package var isPooled: Bool
    /// The frame of the pool's outermost function: where the caller's stack begins.
    package var frame: UnsafeMutableRawPointer
}

/// A put that was refused: nothing was touched.
package struct RefusedPut {
    package enum Reason { case doublePut, foreign, wrongPool }
    package var reason: Reason
    /// 0 for foreign memory.
    package var slot: Int
    /// The low half of the ticket's generation.
    package var ticketGeneration: UInt32
    /// The slot's generation now; above the ticket's for a double put.
    package var generation: UInt64
    package var address: UInt
    package var count: Int
    package var givenCapacity: Int
    /// The pool that refused.
    package var pool: Int
    /// The pool that issued the buffer; equal to `pool` for foreign memory.
    package var issuingPool: Int
    package var bucketRow: Int
    /// The frame of the pool's outermost function: where the caller's stack begins.
    package var frame: UnsafeMutableRawPointer
}

/// A buffer that was touched through one of its own functions after its put.
package struct AccessEvent {
    package var slot: Int
    /// The low half of the ticket's generation.
    package var ticketGeneration: UInt32
    /// The slot's generation now; above the ticket's.
    package var generation: UInt64
    /// Where the touched bytes begin.
    package var address: UInt
    /// How far behind the first byte of what the caller has, which may be a slice.
    package var offset: Int
    /// How many bytes are touched.
    package var count: Int
    package var isRead: Bool
    /// Of what the caller has.
    package var capacity: Int
    package var pool: Int
    /// The bucket's index; nil for an oversized buffer.
    package var bucket: Int?
    /// The frame of the pool's outermost function: where the caller's stack begins.
    package var frame: UnsafeMutableRawPointer
}

/// How a recorder places buffers elsewhere than in their pool's memory while they are outstanding. Slots and tickets stay as they
/// are, and so does what a buffer says of its capacity; the place needs room for the request only.
package struct BufferPlacer: Sendable {
    /// Called with a `GetEvent` whose address is the buffer's place in its pool. Gives another place, or nil.
    package var place: @convention(c) (UnsafeRawPointer) -> UnsafeMutableRawPointer?
    /// Called with a slot at its put, after `didPut`. Gives its place in its pool if it was elsewhere.
    package var takeBack: @convention(c) (Int) -> UnsafeMutableRawPointer?
    /// Who has, or had last, the place elsewhere that an address lies in.
    package var owner: @Sendable (_ address: UInt) -> PlacedBuffer?
    /// The place in its pool of a slot's buffer that is elsewhere; nil if it is there.
    package var home: @Sendable (_ slot: Int) -> UnsafeMutableRawPointer?

    package init(
        place: @escaping @convention(c) (UnsafeRawPointer) -> UnsafeMutableRawPointer?,
        takeBack: @escaping @convention(c) (Int) -> UnsafeMutableRawPointer?,
        owner: @escaping @Sendable (UInt) -> PlacedBuffer?,
        home: @escaping @Sendable (Int) -> UnsafeMutableRawPointer?
    ) {
        self.place = place
        self.takeBack = takeBack
        self.owner = owner
        self.home = home
    }
}

/// A buffer that was placed elsewhere at a get.
package struct PlacedBuffer: Sendable {
    package var slot: Int
    /// Of that get.
    package var generation: UInt64
    package var base: UInt
    package var pool: Int
    package var bucketRow: Int
    package var capacity: Int

    package init(slot: Int, generation: UInt64, base: UInt, pool: Int, bucketRow: Int, capacity: Int) {
        self.slot = slot
        self.generation = generation
        self.base = base
        self.pool = pool
        self.bucketRow = bucketRow
        self.capacity = capacity
    }
}

/// What a recorder installs to be told of every get and put.
///
/// Called from the pools' slow path only, on the thread of the caller, with no lock held but for `willRelease`. While a hook that wants every get is
/// installed, no thread gets a fast path. The functions about gets, puts and touches may call a pool: a program's handler of findings
/// does.
package struct PoolHook: Sendable {
    /// Bytes before each buffer, and behind the last one of a slab, that belong to nobody: 0, or at least 64. Buffers on page
    /// boundaries have them at the end of a page of their own.
    package var redZoneBytes: Int
    /// The most bytes that red zones take in all pools, oversized buffers' apart; buffers mapped after that have none. See
    /// ``hasRedZones(slot:)``.
    package var redZoneLimit = Int.max
    /// Whether every get and put is told, and every buffer checks for a use after its put.
    package var watchesEveryBuffer: Bool
    /// Otherwise one get in so many is told, on average, and the put of that buffer, which checks as well. At least 1.
    package var sampleInterval = 1
    /// `zeroes`: the pool overwrites what was asked for at each put, so what lies idle is zero there.
    package var didCreatePool: @Sendable (_ pool: Int, _ name: String, _ capacities: [Int], _ zeroes: Bool) -> Void
    package var didDestroyPool: @Sendable (_ pool: Int, _ outstanding: Int) -> Void
    /// Called while gets are sampled, with all that a pool has counted, before it ends.
    package var willDestroyPool: @Sendable (_ totals: PoolTotals) -> Void = { _ in }
    /// Called with a `GetEvent`. The two that are called all the time are plain functions with a pointer: no context to count
    /// references of, no copy.
    package var didGet: @convention(c) (UnsafeRawPointer) -> Void
    /// Called with a `PutEvent`, before the buffer can be handed out again. While gets are sampled: for buffers whose get was told,
    /// for slices, and for what is put by its address, whoever got it.
    package var didPut: @convention(c) (UnsafeRawPointer) -> Void
    /// Called first for a buffer that comes out of the thread's magazine, hence one of a bucket with the memory it had before, or as a
    /// whole goes into it. What they need is in registers: capacity, pool and bucket in the shape, the low half of the generation in the
    /// ticket. Where they give false, `didGet` or `didPut` is called as well.
    package var didGetFromMagazine: MagazineGet?
    package var didPutIntoMagazine: MagazinePut?
    package typealias MagazineGet =
        @convention(c) (
            _ ticket: UInt64, _ request: Int, _ base: UnsafeMutableRawPointer, _ shape: UInt64,
            _ frame: UnsafeMutableRawPointer
        ) -> Bool
    package typealias MagazinePut =
        @convention(c) (
            _ ticket: UInt64, _ base: UnsafeMutableRawPointer, _ shape: UInt64, _ frame: UnsafeMutableRawPointer
        ) -> Bool
    package var didRefuse: @Sendable (RefusedPut) -> Void
    /// Places buffers elsewhere; nil to leave them where they are.
    package var placer: BufferPlacer?
    /// Called before the touch.
    package var didAccessAfterPut: @Sendable (AccessEvent) -> Void
    package var didTrim: @Sendable (_ pool: Int, _ bucketRow: Int) -> Void
    /// Called before the memory of an idle slot goes back to the system, in most cases with the bucket's lock held. The slot may be used again
    /// later, with other memory.
    package var willRelease: @Sendable (_ slot: Int) -> Void
    /// What `Diagnostics` asks.
    package var diagnostics: any DiagnosticsRecorder

    package init(
        redZoneBytes: Int,
        watchesEveryBuffer: Bool,
        didCreatePool: @escaping @Sendable (Int, String, [Int], Bool) -> Void,
        didDestroyPool: @escaping @Sendable (Int, Int) -> Void,
        didGet: @escaping @convention(c) (UnsafeRawPointer) -> Void,
        didPut: @escaping @convention(c) (UnsafeRawPointer) -> Void,
        didRefuse: @escaping @Sendable (RefusedPut) -> Void,
        didAccessAfterPut: @escaping @Sendable (AccessEvent) -> Void,
        didTrim: @escaping @Sendable (Int, Int) -> Void,
        willRelease: @escaping @Sendable (Int) -> Void,
        diagnostics: any DiagnosticsRecorder
    ) {
        self.redZoneBytes = redZoneBytes
        self.watchesEveryBuffer = watchesEveryBuffer
        self.didCreatePool = didCreatePool
        self.didDestroyPool = didDestroyPool
        self.didGet = didGet
        self.didPut = didPut
        self.didRefuse = didRefuse
        self.didAccessAfterPut = didAccessAfterPut
        self.didTrim = didTrim
        self.willRelease = willRelease
        self.diagnostics = diagnostics
    }

    /// The installed hook. Written once, by the recorder while `startRecorder` runs, hence before any pool reads it.
    package nonisolated(unsafe) static var installed: PoolHook? {
        didSet {
            cmempool_set_sample_interval(installed.map { $0.watchesEveryBuffer ? 0 : UInt32($0.sampleInterval) } ?? 0)
            cmempool_set_watchers(installed?.didGet, installed?.didPut)
            cmempool_set_magazine_watchers(installed?.didGetFromMagazine, installed?.didPutIntoMagazine)
            cmempool_set_placers(installed?.placer?.place, installed?.placer?.takeBack)
        }
    }

    /// Whether there are red zones around the buffer of a slot. Fixed while the slot has memory: to be asked when it was allocated.
    package static func hasRedZones(slot: Int) -> Bool { !RedZones.areMissing(ofSlot: slot) }

    /// Gives the recorder, if one is linked in, the chance to install a hook. Every pool that is made passes here first.
    static let startRecorder: Void = cmempool_start_recorder()
}

// `Buffer`: a pooled byte buffer, a small trivial value with the ticket that makes the pool honest,
// and `BufferShape`, the word that tells a whole buffer from a slice.

internal import CMempoolPlatform

/// The capacity, issuing pool and bucket of a buffer in one word, so that one comparison tells a whole buffer of this pool.
///
/// Bits 0–46 capacity in bytes, 47 watched, 48–57 pool index, 58–63 bucket.
@usableFromInline
package enum BufferShape {
    /// The bucket of oversized buffers and of memory that no pool issued: no pool has as many buckets.
    @usableFromInline package static let noBucket = 63
    @usableFromInline package static let capacityMask: UInt64 = (1 << 47) - 1
    /// Set in buffers that a recorder watches: their own functions check for a use after the put. In the buffer itself, so that
    /// a loop over its bytes asks once.
    @usableFromInline package static let watched: UInt64 = 1 << 47

    @inlinable @inline(__always)
    package static func word(capacity: Int, pool: Int, bucket: Int) -> UInt64 {
        UInt64(truncatingIfNeeded: capacity) | UInt64(truncatingIfNeeded: pool) &<< 48
            | UInt64(truncatingIfNeeded: bucket) &<< 58
    }

    @inlinable @inline(__always)
    package static func bucket(_ shape: UInt64) -> Int { Int(truncatingIfNeeded: shape &>> 58) }

    @inlinable @inline(__always)
    package static func pool(_ shape: UInt64) -> Int { Int(truncatingIfNeeded: (shape >> 48) & 0x3FF) }

    @inlinable @inline(__always)
    package static func capacity(_ shape: UInt64) -> Int { Int(truncatingIfNeeded: shape & capacityMask) }
}

/// A slot number in the low half of a word and a generation of it in the high half.
///
/// The generation counts gets and puts of the slot, and so is odd: idle slots are kept with the ticket that the next get gives.
@usableFromInline
enum Ticket {
    @inlinable @inline(__always)
    static func word(_ slot: Int, _ generation: UInt32) -> UInt64 {
        UInt64(generation) &<< 32 | UInt64(truncatingIfNeeded: slot)
    }

    @inlinable @inline(__always)
    static func slot(_ ticket: UInt64) -> Int { Int(truncatingIfNeeded: ticket & 0xFFFF_FFFF) }

    @inlinable @inline(__always)
    static func generation(_ ticket: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: ticket &>> 32) }

    /// The ticket that the next get gives, once the buffer with this one was put.
    @inlinable @inline(__always)
    static func next(_ ticket: UInt64) -> UInt64 { ticket &+ 2 &<< 32 }
}

/// A byte buffer from a pool.
///
/// A buffer is a small trivial value, like a slice in Go: copies share the same memory. It counts as *outstanding* from the
/// get to the put, whoever holds copies of it; after the put no copy may be used. Its ticket (slot number and
/// generation) lets ``BufferPool/put(_:)`` refuse a second put, even when the memory already belongs to somebody else.
///
/// ```swift
/// let buffer = getBuffer(message.count)
/// defer { putBuffer(buffer) }
/// buffer.withUnsafeMutableBytes { $0.copyBytes(from: message) }
/// ```
///
/// The contents after a get are whatever was there before. Buffers of 4 KiB and more are page-aligned, smaller ones at
/// least 64-byte aligned. Sharing one buffer between threads is up to the caller, as with any raw memory.
/// Prefer ``BufferPool/withBuffer(_:_:)``, which cannot forget the put.
public struct Buffer: @unchecked Sendable {
    // Unchecked: a raw pointer is not Sendable by itself; handing a buffer to another thread is the point of a pool.
    @usableFromInline let base: UnsafeMutableRawPointer?
    @usableFromInline let byteCount: Int
    @usableFromInline let shape: UInt64
    /// Slot number in the low half, generation in the high half; 0 for memory no pool issued.
    @usableFromInline let ticket: UInt64

    @inlinable @inline(__always)
    init(base: UnsafeMutableRawPointer?, count: Int, shape: UInt64, ticket: UInt64) {
        self.base = base
        self.byteCount = count
        self.shape = shape
        self.ticket = ticket
    }

    /// Wraps memory that no pool issued, so that it can be passed where a buffer is expected.
    ///
    /// - Parameter bytes: The memory; it must stay valid as long as the buffer is used. Putting the buffer is a *foreign
    ///   put*: the pool refuses it, counts it and never touches the memory.
    public init(wrapping bytes: UnsafeMutableRawBufferPointer) {
        self.init(
            base: bytes.count == 0 ? nil : bytes.baseAddress,
            count: bytes.count,
            shape: BufferShape.word(capacity: bytes.count, pool: 0, bucket: BufferShape.noBucket),
            ticket: 0
        )
    }

    /// The number of bytes asked for.
    @inlinable public var count: Int { byteCount }

    /// The number of bytes there are, at least ``count``: the bucket's capacity, less what slicing cut off at the front.
    @inlinable public var capacity: Int { BufferShape.capacity(shape) }

    /// Whether ``count`` is 0.
    @inlinable public var isEmpty: Bool { byteCount == 0 }

    /// The byte at an index of `0..<count`. Traps outside of it.
    @inlinable
    public subscript(index: Int) -> UInt8 {
        get {
            precondition(UInt(bitPattern: index) < UInt(bitPattern: byteCount), "Buffer index out of range")
            checkOwner(index, 1, isRead: true)
            return base.unsafelyUnwrapped.load(fromByteOffset: index, as: UInt8.self)
        }
        nonmutating set {
            precondition(UInt(bitPattern: index) < UInt(bitPattern: byteCount), "Buffer index out of range")
            checkOwner(index, 1, isRead: false)
            base.unsafelyUnwrapped.storeBytes(of: newValue, toByteOffset: index, as: UInt8.self)
        }
    }

    /// Calls the body with the ``count`` bytes of the buffer, for reading and writing. The pointer must not outlive the put.
    ///
    /// In a debug build a recorder at levels full and paranoid is told of a call after the put; in a release build that would cost
    /// everybody's accesses two instructions.
    @inlinable
    public func withUnsafeMutableBytes<R, E: Error>(
        _ body: (UnsafeMutableRawBufferPointer) throws(E) -> R
    ) throws(E) -> R {
        #if DEBUG
        checkOwner(0, byteCount, isRead: false)
        #endif
        return try body(UnsafeMutableRawBufferPointer(start: base, count: byteCount))
    }

    /// The first `length` bytes. Keeps the base and so the capacity: it may be put in place of the whole buffer.
    ///
    /// - Parameter length: Bytes, `0...count`. Traps outside of it.
    @inlinable
    public func prefix(_ length: Int) -> Buffer {
        precondition(length >= 0 && length <= byteCount, "Buffer prefix out of range")
        return Buffer(base: base, count: length, shape: shape, ticket: ticket)
    }

    /// All but the first `length` bytes. For a length above 0 this moves the base and shrinks the capacity, so
    /// that putting the result is a *wrong-capacity put*.
    ///
    /// - Parameter length: Bytes, `0...count`. Traps outside of it.
    @inlinable
    public func dropFirst(_ length: Int) -> Buffer {
        precondition(length >= 0 && length <= byteCount, "Buffer dropFirst out of range")
        guard let base else { return self }
        // The capacity is the low part of the word and at least `length`, so this borrows from nothing else.
        return Buffer(
            base: base + length,
            count: byteCount - length,
            shape: shape - UInt64(truncatingIfNeeded: length),
            ticket: ticket
        )
    }

    /// The bytes of a range of `0..<count`, counted from 0 again. Traps if the range does not lie inside.
    @inlinable
    public func slice(_ range: Range<Int>) -> Buffer {
        precondition(range.lowerBound >= 0 && range.upperBound <= byteCount, "Buffer slice out of range")
        return prefix(range.upperBound).dropFirst(range.lowerBound)
    }

    // MARK: - For the pool

    @inlinable @inline(__always)
    var slotNumber: Int { Ticket.slot(ticket) }

    @inlinable @inline(__always)
    var generation: UInt32 { Ticket.generation(ticket) }

    /// Tells the recorder if bytes are touched after the put. The touch goes on: what it does is what it would do without.
    @inlinable @inline(__always)
    func checkOwner(_ offset: Int, _ count: Int, isRead: Bool) {
        #if Recorder
        if _slowPath(shape & BufferShape.watched != 0) { checkOwnerOfWatched(offset, count, isRead: isRead) }
        #endif
    }

    @usableFromInline @inline(never)
    func checkOwnerOfWatched(_ offset: Int, _ count: Int, isRead: Bool) {
        guard ticket != 0, !SlotTable.isOutstanding(ticket), count > 0,
            // Not told is what a signal handler does that interrupted the pool, and with it perhaps the recorder.
            let hook = PoolHook.installed, cmempool_enter()
        else { return }
        hook.didAccessAfterPut(
            AccessEvent(
                slot: slotNumber,
                ticketGeneration: generation,
                generation: SlotTable.generation(of: slotNumber),
                address: UInt(bitPattern: base) + UInt(offset),
                offset: offset,
                count: count,
                isRead: isRead,
                capacity: capacity,
                pool: BufferShape.pool(shape),
                bucket: BufferShape.bucket(shape) == BufferShape.noBucket ? nil : BufferShape.bucket(shape),
                frame: cmempool_frame()
            )
        )
        cmempool_keep_frame()
        InterruptedCalls.leave()
    }
}

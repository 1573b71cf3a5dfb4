// `BufferBytes`: what the recorder writes into idle buffers and around outstanding ones, and how it finds what changed.

#if Recorder
internal import CMempoolPlatform
internal import Glibc
internal import MempoolRecording

/// Bytes that are not as they were left.
struct Damage {
    /// From the buffer's first byte; below 0 before it.
    var offset: Int
    /// From the first changed byte through the last one seen.
    var count: Int
    var expected: UInt8
    /// The first of them, at most 16.
    var found: (UInt64, UInt64) = (0, 0)
    var foundCount = 0
}

/// Poison in idle buffers, canaries behind the requests of outstanding ones, and red zones between buffers.
///
/// The work of a call is bounded by the two limits, whatever the bucket: of a request above the poison's limit the first half of
/// the limit and the last one are poisoned, as writes through old references begin at the front and appends end at the back.
struct BufferBytes: Sendable {
    /// Bytes.
    let poisonLimit: Int
    let canaryLimit: Int

    static var poison: UInt8 { UInt8(CMEMPOOL_POISON) }
    static var canary: UInt8 { UInt8(CMEMPOOL_CANARY) }
    @inline(__always) static var zoneBytes: Int { Int(CMEMPOOL_ZONE_BYTES) }

    // MARK: - Idle

    /// Overwrites what the last owner asked for.
    @inline(__always)
    func poison(_ base: UnsafeMutableRawPointer, request: Int, with byte: UInt8) {
        cmempool_poison(base, request, poisonLimit, byte)
    }

    /// Whether somebody wrote to a poisoned buffer, and where.
    @inline(__always)
    func damage(inPoisoned base: UnsafeRawPointer, request: Int, byte: UInt8) -> Damage? {
        if cmempool_poison_is_intact(base, request, poisonLimit, byte) { return nil }
        return foundDamage(inPoisoned: base, request: request, byte: byte)
    }

    @inline(never)
    private func foundDamage(inPoisoned base: UnsafeRawPointer, request: Int, byte: UInt8) -> Damage? {
        if request <= poisonLimit { return Self.damage(base, 0, request, byte) }
        let half = poisonLimit / 2
        guard let front = Self.damage(base, 0, half, byte) else {
            return Self.damage(base, request - half, half, byte)
        }
        guard let back = Self.damage(base, request - half, half, byte) else { return front }
        var both = front
        both.count = back.offset + back.count - front.offset
        return both
    }

    // MARK: - Outstanding

    /// Fills what lies behind the request, and the red zones if the memory is new.
    @inline(__always)
    func surround(_ base: UnsafeMutableRawPointer, request: Int, capacity: Int, hasNewZones: Bool) {
        guard canaryLimit > 0 else { return }
        cmempool_fill_slack(base, request, capacity, canaryLimit)
        if hasNewZones { Self.layZones(base, capacity) }
    }

    @inline(never)
    static func layZones(_ base: UnsafeMutableRawPointer, _ capacity: Int) {
        // Half of each is the neighbour's, whose own half may hold evidence.
        memset(base - zoneBytes, CInt(canary), zoneBytes)
        memset(base + capacity, CInt(canary), zoneBytes)
    }

    /// Whether somebody wrote before a buffer or behind its request, and where.
    @inline(__always)
    func damage(around base: UnsafeMutableRawPointer, request: Int, capacity: Int, hasZones: Bool) -> Damage? {
        if canaryLimit == 0 || cmempool_surroundings_are_intact(base, request, capacity, canaryLimit, hasZones) {
            return nil
        }
        return foundDamage(around: base, request: request, capacity: capacity, hasZones: hasZones)
    }

    @inline(never)
    private func foundDamage(
        around base: UnsafeMutableRawPointer, request: Int, capacity: Int, hasZones: Bool
    ) -> Damage? {
        let slack = min(capacity &- request, canaryLimit)
        if slack > 0, let damage = Self.damage(base, request, slack, Self.canary) { return damage }
        return hasZones ? Self.zoneDamage(base, capacity) : nil
    }

    /// The damage of a red zone, which is mended, so that it is told once. Nil if it is the neighbour's doing, whose own put
    /// then finds it.
    ///
    /// Where two buffers share one zone, a write that ran through all of it counts as an overrun of the one before: those are
    /// far more common than underruns.
    @inline(never)
    private static func zoneDamage(_ base: UnsafeMutableRawPointer, _ capacity: Int) -> Damage? {
        let isShared = capacity < 4096
        if !cmempool_zone_is_intact(base + capacity), let behind = damage(base, capacity, zoneBytes, canary) {
            let reachesNeighbour = isShared && isChanged(base + (capacity + 2 * zoneBytes - 1))
            if behind.offset == capacity || !reachesNeighbour {
                memset(base + capacity, CInt(canary), isShared ? 2 * zoneBytes : zoneBytes)
                return behind
            }
        }
        guard !cmempool_zone_is_intact(base - zoneBytes), let before = damage(base, -zoneBytes, zoneBytes, canary),
            !(isShared && isChanged(base - 2 * zoneBytes))
        else { return nil }
        memset(base - zoneBytes, CInt(canary), zoneBytes)
        return before
    }

    private static func isChanged(_ byte: UnsafeRawPointer) -> Bool {
        let value = byte.load(as: UInt8.self)
        return value != canary && value != 0
    }

    // MARK: - Comparing

    @inline(__always)
    static func damage(_ base: UnsafeRawPointer, _ start: Int, _ count: Int, _ byte: UInt8) -> Damage? {
        let first = cmempool_first_other(base + start, byte, count)
        if first == count { return nil }
        return describe(base, start, first, count, byte)
    }

    @inline(never)
    private static func describe(
        _ base: UnsafeRawPointer, _ start: Int, _ first: Int, _ count: Int, _ byte: UInt8
    ) -> Damage {
        let end = max(first + 1, cmempool_last_other(base + start, byte, count))
        var damage = Damage(offset: start + first, count: end - first, expected: byte)
        damage.foundCount = min(16, end - first)
        withUnsafeMutableBytes(of: &damage.found) {
            $0.copyMemory(from: UnsafeRawBufferPointer(start: base + start + first, count: damage.foundCount))
        }
        return damage
    }
}

extension FindingRecord {
    /// Enters what was found in the buffer's bytes.
    mutating func fill(_ damage: Damage) {
        offset = Int64(damage.offset)
        badBytes = UInt64(damage.count)
        expected = UInt64(damage.expected)
        found = damage.found
        foundCount = UInt32(damage.foundCount)
    }
}
#endif

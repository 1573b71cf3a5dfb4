// `GuardedMemory`: room for buffers between guard pages, so that a touch where none belongs stops the thread on the spot.

#if Recorder
internal import CMempoolPlatform
internal import Glibc
internal import Mempool
internal import MempoolRecording

/// Places outstanding buffers between two pages that nobody can touch, at level paranoid.
///
/// The end of a buffer lies as close before the second page as its alignment allows: buffers of 4 KiB and more begin on a multiple
/// of that, smaller ones on 64 bytes. The put takes all access away, and the memory stays out of reach in a queue, the quarantine,
/// before it serves another buffer.
///
/// Address space is reserved by *rooms*: room n has regions of 2^n pages, each with a page before and behind it. Without access
/// neighbouring regions are one mapping for the kernel, so only outstanding ones count against its limit of mappings: two
/// each. Thread-safe.
final class GuardedMemory: Sendable {
    private static let pageBytes = SystemMemory.pageBytes
    /// What large buffers begin on, also where pages are larger.
    private static let alignmentBytes = 4096
    /// Address space of one room: at most so much, and at most so many regions.
    private static let roomBytes = 16 << 30
    private static let roomRegions = 1 << 16
    /// Slots there can be: those of the pools' table.
    private static let slotLimit = 1 << 24

    private struct Room {
        var start: UInt = 0
        var regions: UnsafeMutablePointer<cmempool_region>?
        var count = 0
        /// Regions from here on have never been used.
        var next = 0
        /// Regions that left the quarantine.
        var free: [UInt32] = []
        /// No address space could be had.
        var isRefused = false
    }

    private struct State: ~Copyable {
        var rooms = [Room](repeating: Room(), count: Int(CMEMPOOL_ROOMS))
        var outstanding = 0
        var quarantine: [UnsafeMutablePointer<cmempool_region>] = []
        /// Where the queue begins.
        var oldest = 0
        var quarantinedBytes = 0
    }

    /// The process's own; set once, before the first get. Not found through the recorder, as a forked child has none but puts
    /// buffers that its parent placed.
    nonisolated(unsafe) static var shared: GuardedMemory?

    private let state = Guarded(State())
    private let share: Double
    private let quarantineLimit: Int
    /// A quarter of the mappings that the kernel allows a process.
    private let outstandingLimit: Int
    /// The region of each slot that is placed in one.
    private nonisolated(unsafe) let regions: UnsafeMutablePointer<UnsafeMutablePointer<cmempool_region>?>
    private nonisolated(unsafe) let header: UnsafeMutablePointer<RecordingHeader>

    init?(options: RecorderOptions, file: RecordingFile) {
        guard let regions = SystemMemory.reserve(UnsafeMutablePointer<cmempool_region>?.self, Self.slotLimit) else {
            return nil
        }
        self.regions = regions
        share = options.guardShare
        quarantineLimit = options.quarantineBytes
        outstandingLimit = Self.mappingLimit() / 4 / 2
        header = file.header
    }

    /// Mappings that the kernel allows a process.
    private static func mappingLimit() -> Int {
        let usual = 65_530
        let descriptor = open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return usual }
        defer { Glibc.close(descriptor) }
        var text = [UInt8](repeating: 0, count: 32)
        let count = read(descriptor, &text, text.count)
        let digits = text.prefix(max(0, count)).prefix { (48...57).contains($0) }
        return Int(String(decoding: digits, as: UTF8.self)) ?? usual
    }

    /// How the pools reach the process's own.
    static let placer = BufferPlacer(
        place: { event in
            guard cmempool_recorder_root() != nil, let guarded = shared else { return nil }
            return guarded.place(event.assumingMemoryBound(to: GetEvent.self).pointee)
        },
        takeBack: { slot in shared?.takeBack(slot) },
        owner: { address in
            guard let region = cmempool_region_at(address), region.pointee.state != CMEMPOOL_REGION_UNUSED.rawValue
            else { return nil }
            return PlacedBuffer(
                slot: Int(region.pointee.slot), generation: region.pointee.generation,
                base: region.pointee.base, pool: Int(region.pointee.pool),
                bucketRow: Int(region.pointee.bucket_row), capacity: Int(region.pointee.capacity)
            )
        },
        home: { slot in shared?.region(ofSlot: slot)?.pointee.home }
    )

    // MARK: - For the recorder

    /// The region of a slot's outstanding buffer; nil if that has no guard pages.
    func region(ofSlot slot: Int) -> UnsafeMutablePointer<cmempool_region>? {
        slot < Self.slotLimit ? regions[slot] : nil
    }

    /// Whether a touch of an address stops its thread, as the buffer there was put.
    static func isOutOfReach(_ address: UInt) -> Bool {
        guard shared != nil, let region = cmempool_region_at(address) else { return false }
        return cmempool_load32_acquire(&region.pointee.state) == CMEMPOOL_REGION_PUT.rawValue
    }

    // MARK: - Get

    private func place(_ event: GetEvent) -> UnsafeMutableRawPointer? {
        guard event.slot < Self.slotLimit, isChosen() else { return nil }
        let alignment = event.capacity < Self.alignmentBytes ? 64 : Self.alignmentBytes
        let used = (event.request + alignment - 1) / alignment * alignment
        let pages = (used + Self.pageBytes - 1) / Self.pageBytes
        let room = Int.bitWidth - (pages - 1).leadingZeroBitCount
        guard room < Int(CMEMPOOL_ROOMS), let region = takeRegion(room: room) else {
            count(\.unguardedGets)
            return nil
        }
        // Before anything can fail: it is what leads the region back to those that are free.
        region.pointee.room = UInt32(room)
        let high = end(of: region, room: room)
        let low = high - UInt(pages * Self.pageBytes)
        guard let start = UnsafeMutableRawPointer(bitPattern: low),
            mprotect(start, Int(high - low), PROT_READ | PROT_WRITE) == 0
        else {
            region.pointee.low = high
            region.pointee.high = high
            giveBack(region)
            count(\.unguardedGets)
            return nil
        }
        region.pointee.generation = event.generation
        region.pointee.base = high - UInt(used)
        region.pointee.low = low
        region.pointee.high = high
        region.pointee.request = UInt64(event.request)
        region.pointee.capacity = UInt64(event.capacity)
        region.pointee.home = UnsafeMutableRawPointer(bitPattern: event.address)
        region.pointee.slot = UInt32(event.slot)
        region.pointee.pool = UInt32(event.pool)
        region.pointee.bucket_row = UInt32(event.bucketRow)
        cmempool_store32_release(&region.pointee.state, CMEMPOOL_REGION_OUTSTANDING.rawValue)
        regions[event.slot] = region
        count(\.guardedGets)
        return UnsafeMutableRawPointer(bitPattern: region.pointee.base)
    }

    /// At random, as every second one would always be the same one of two in a loop.
    private func isChosen() -> Bool {
        if share >= 1 { return true }
        var generator = SystemRandomNumberGenerator()
        return Double.random(in: 0..<1, using: &generator) < share
    }

    private func takeRegion(room number: Int) -> UnsafeMutablePointer<cmempool_region>? {
        state.withLock { state in
            guard state.outstanding < outstandingLimit, makeRoom(number, &state) else { return nil }
            // Rather a short quarantine than a get without guard pages.
            while state.rooms[number].free.isEmpty, state.rooms[number].next == state.rooms[number].count {
                guard releaseOldest(&state) else { return nil }
            }
            let index: Int
            if let free = state.rooms[number].free.popLast() {
                index = Int(free)
            } else {
                index = state.rooms[number].next
                state.rooms[number].next += 1
            }
            state.outstanding += 1
            return state.rooms[number].regions.map { $0 + index }
        }
    }

    /// Reserves the address space of a room at its first use.
    private func makeRoom(_ number: Int, _ state: inout State) -> Bool {
        if state.rooms[number].regions != nil { return true }
        guard !state.rooms[number].isRefused else { return false }
        state.rooms[number].isRefused = true
        let regionBytes = ((1 << number) + 2) * Self.pageBytes
        let count = min(Self.roomRegions, Self.roomBytes / regionBytes)
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
        guard count > 0, let regions = SystemMemory.reserve(cmempool_region.self, count),
            let memory = mmap(nil, count * regionBytes, PROT_NONE, flags, -1, 0), memory != MAP_FAILED
        else { return false }
        state.rooms[number] = Room(start: UInt(bitPattern: memory), regions: regions, count: count)
        cmempool_set_room(UInt32(number), UInt(bitPattern: memory), UInt(regionBytes), UInt32(count), regions)
        return true
    }

    /// Where the second guard page of a region begins.
    private func end(of region: UnsafeMutablePointer<cmempool_region>, room number: Int) -> UInt {
        state.withLock { state in
            let room = state.rooms[number]
            let index = room.regions.map { region - $0 } ?? 0
            let regionBytes = ((1 << number) + 2) * Self.pageBytes
            return room.start + UInt((index + 1) * regionBytes - Self.pageBytes)
        }
    }

    private func count(_ field: WritableKeyPath<RecordingHeader, UInt64>) {
        let offset = MemoryLayout<RecordingHeader>.offset(of: field) ?? 0
        _ = cmempool_add64((UnsafeMutableRawPointer(header) + offset).assumingMemoryBound(to: UInt64.self), 1)
    }

    // MARK: - Put

    private func takeBack(_ slot: Int) -> UnsafeMutableRawPointer? {
        guard slot < Self.slotLimit, let region = regions[slot] else { return nil }
        regions[slot] = nil
        let home = region.pointee.home
        // A forked child has no quarantine, and its copy of the lock may be taken.
        guard cmempool_recorder_root() != nil else { return home }
        // First, so that a thread that faults finds the put.
        cmempool_store32_release(&region.pointee.state, CMEMPOOL_REGION_PUT.rawValue)
        let byteCount = Int(region.pointee.high - region.pointee.low)
        if let start = UnsafeMutableRawPointer(bitPattern: region.pointee.low) {
            // A fresh mapping and not a change of the old one, as the kernel joins it with its neighbours.
            let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED
            if mmap(start, byteCount, PROT_NONE, flags, -1, 0) == MAP_FAILED {
                mprotect(start, byteCount, PROT_NONE)
                madvise(start, byteCount, MADV_DONTNEED)
            }
        }
        giveBack(region)
        return home
    }

    private func giveBack(_ region: UnsafeMutablePointer<cmempool_region>) {
        state.withLock { state in
            state.outstanding -= 1
            state.quarantine.append(region)
            state.quarantinedBytes += Int(region.pointee.high - region.pointee.low)
            while state.quarantinedBytes > quarantineLimit, releaseOldest(&state) {}
        }
    }

    /// Lets the region that was put first serve again; false if the quarantine is empty.
    private func releaseOldest(_ state: inout State) -> Bool {
        guard state.oldest < state.quarantine.count else { return false }
        let region = state.quarantine[state.oldest]
        state.oldest += 1
        if state.oldest * 2 > state.quarantine.count {
            state.quarantine.removeFirst(state.oldest)
            state.oldest = 0
        }
        state.quarantinedBytes -= Int(region.pointee.high - region.pointee.low)
        let room = Int(region.pointee.room)
        if let first = state.rooms[room].regions { state.rooms[room].free.append(UInt32(region - first)) }
        return true
    }
}
#endif

// `Recorder`: the flight recorder of the process, installed into the pools' hook.

#if Recorder
internal import CMempoolPlatform
internal import Glibc
internal import Mempool
internal import MempoolRecording
internal import Synchronization

/// Writes every get and put of the process into a recording.
///
/// One per process, made at the first use of a pool and never freed. Thread-safe. The hot path takes no lock that threads
/// share, counts no reference and makes no call to the system: it finds the stack in the thread's cache, writes the slot's own
/// record and the thread's own counters. Everything that is rare goes through the cold lock, which is never
/// held while a stack is unwound.
final class Recorder: Sendable {
    let options: RecorderOptions
    let file: RecordingFile
    let ledger: Ledger
    let stacks: StackTable
    let shards: ShardTable
    let highWater: HighWater
    /// Level sampled only.
    let sampling: Sampling?
    /// How many gets a watched one stands for.
    private let weight: UInt64
    /// Level paranoid only.
    let guarded: GuardedMemory?
    let cold: Guarded<Cold>
    let scopes: ScopeTable
    let delivery = FindingDelivery()
    /// What is done at almost every get and put.
    nonisolated(unsafe) let usual: UnsafeMutablePointer<UsualCalls>
    /// Level sampled: slots of kept buffers without a record.
    let unsampledKept = Guarded<Set<Int>>([])
    let bytes: BufferBytes
    let caught = CaughtWriters()
    /// Held while idle memory is looked at from outside of its owner, so that it is there. Taken before the cold lock.
    let memory = Guarded(())
    let executable: String
    /// Nanoseconds a buffer may be held.
    private let heldLimit: UInt64
    /// By pool: what idle buffers are filled with.
    private nonisolated(unsafe) let poisonBytes: UnsafeMutablePointer<UInt8>
    /// Where the hot path reads and counts; they stay as they are.
    private nonisolated(unsafe) let publishedPools: UnsafeMutablePointer<UInt64>
    /// A pool that found no room has an entry of zeros if a later one found some.
    private nonisolated(unsafe) let pools: UnsafeMutablePointer<PoolRecord>
    private nonisolated(unsafe) let bucketCounters: UnsafeMutablePointer<BucketCounters>
    private nonisolated(unsafe) let histograms: UnsafeMutablePointer<UInt64>

    /// What changes rarely.
    struct Cold: ~Copyable {
        var strings: StringTable
        var modules: ModuleTable
        var findings: FindingTable
    }

    init(options: RecorderOptions, file: RecordingFile, unwinder: cmempool_unwinder) throws {
        guard let ledger = Ledger(file: file, isSampled: options.level == .sampled),
            let stacks = StackTable(file: file),
            let highWater = HighWater(file: file, unit: options.level == .sampled ? options.sampleInterval : 1),
            let scopes = ScopeTable(
                file: file,
                makeRoom: { byteCount in
                    var room: UInt32?
                    Recorder.withCurrent { recorder in
                        room = recorder.cold.withLock { $0.strings.room(byteCount) }
                    }
                    return room
                }
            )
        else {
            throw RecordingFileError(path: file.path ?? "", errorNumber: ENOMEM)
        }
        HotLayout.check()
        self.options = options
        self.file = file
        self.ledger = ledger
        self.stacks = stacks
        self.highWater = highWater
        sampling = options.level == .sampled ? Sampling(interval: options.sampleInterval, file: file) : nil
        guarded =
            options.level == .paranoid && options.guardShare > 0 ? GuardedMemory(options: options, file: file) : nil
        self.scopes = scopes
        bytes = BufferBytes(poisonLimit: options.poisonLimit, canaryLimit: options.canaryLimit)
        heldLimit = options.heldSeconds.map { UInt64($0 * 1e9) } ?? .max
        poisonBytes = .allocate(capacity: Self.poolNumbers)
        poisonBytes.initialize(repeating: BufferBytes.poison, count: Self.poolNumbers)
        weight = options.level == .sampled ? UInt64(options.sampleInterval) : 1
        usual = .allocate(capacity: 1)
        usual.initialize(
            to: UsualCalls(
                weight: weight, ledger: ledger, highWater: highWater, bytes: bytes, heldLimit: heldLimit,
                poisonBytes: poisonBytes))
        shards = ShardTable(file: file)
        publishedPools = file.published(.pools)
        pools = file.records(.pools, as: PoolRecord.self)
        bucketCounters = file.records(.counters, as: BucketCounters.self)
        histograms = file.records(.histograms, as: UInt64.self)
        executable = Self.executablePath()
        var strings = StringTable(file: file)
        var modules = ModuleTable(file: file)
        let header = file.header
        header.pointee.processID = UInt32(getpid())
        header.pointee.level = options.level.rawValue
        header.pointee.frameLimit = UInt32(options.frameLimit)
        header.pointee.unwinder = unwinder.rawValue
        header.pointee.startRealtime = Self.realtime()
        header.pointee.startMonotonic = cmempool_now()
        header.pointee.lastMonotonic = header.pointee.startMonotonic
        header.pointee.sampleInterval = options.level == .sampled ? UInt64(options.sampleInterval) : 1
        header.pointee.poisonLimit = options.poisonLimit == .max ? .max : UInt64(options.poisonLimit)
        header.pointee.canaryLimit = options.canaryLimit == .max ? .max : UInt64(options.canaryLimit)
        header.pointee.heldLimit = options.heldSeconds.map { UInt64($0 * 1e9) } ?? 0
        header.pointee.recorderHeapBytes = UInt64(
            ledger.heapBytes + StackTable.indexBytes + HighWater.byteCount + ScopeTable.heapBytes)
        header.pointee.commandLine = strings.add(CommandLine.arguments.joined(separator: " "))
        header.pointee.executable = strings.add(executable)
        modules.enter(LoadedImages(epoch: cmempool_module_epoch()), strings: &strings, executable: executable)
        cold = Guarded(Cold(strings: strings, modules: modules, findings: FindingTable(file: file)))
        // Last, so that a file whose set-up was cut short is not taken for a recording.
        cmempool_store64_release(file.base.assumingMemoryBound(to: UInt64.self), RecordingLayout.magic)
    }

    /// One more than the highest number a pool can have.
    private static let poolNumbers = 1024

    private static func executablePath() -> String {
        var buffer = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let count = buffer.withUnsafeMutableBytes {
            $0.baseAddress.map { buffer in
                readlink("/proc/self/exe", buffer.assumingMemoryBound(to: CChar.self), Int(PATH_MAX))
            } ?? 0
        }
        return String(decoding: buffer.prefix(max(0, count)), as: UTF8.self)
    }

    private static func realtime() -> UInt64 {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
    }

    // MARK: - The running recorder

    /// Calls `body` with the recorder, unless there is none or this is a forked child, which must not touch the parent's
    /// file. No reference is counted: the recorder lives as long as the process.
    @inline(__always)
    static func withCurrent(_ body: (Recorder) -> Void, inChild: () -> Void = { forked }) {
        guard let current else { return inChild() }
        current._withUnsafeGuaranteedRef(body)
    }

    /// The recorder; nil in a forked child.
    @inline(__always)
    private static var current: Unmanaged<Recorder>? { cmempool_recorder_root().map { .fromOpaque($0) } }

    /// Says once that a forked child is not recorded.
    private static let forked: Void = {
        printLine("process \(getpid()) was forked from a recorded one and is not recorded itself")
    }()

    /// A get in a forked child. Other tools still take what the parent had put, or had not asked for, for nobody's.
    @inline(never)
    private static func didGetInChild(_ event: UnsafePointer<GetEvent>) {
        if cmempool_has_tools(), let base = UnsafeMutableRawPointer(bitPattern: event.pointee.address) {
            cmempool_tools_show(base, event.pointee.capacity)
        }
        forked
    }

    /// Makes this the recorder that the hook's functions find.
    func becomeCurrent() {
        // Tools follow every buffer or none.
        if sampling == nil { cmempool_find_tools() }
        startCapturing()
        cmempool_set_lost_put_counter(file.header.field(\.lostPuts))
        cmempool_set_recorder_root(Unmanaged.passRetained(self).toOpaque(), usual)
        guard options.level == .paranoid else { return }
        cmempool_set_check_interval(1)
        GuardedMemory.shared = guarded
        if guarded != nil { watchFaults() }
    }

    static func hook(_ options: RecorderOptions) -> PoolHook {
        var hook = PoolHook(
            redZoneBytes: options.canaryLimit > 0 ? 64 : 0,
            watchesEveryBuffer: options.level >= .full,
            didCreatePool: { pool, name, capacities, zeroes in
                Recorder.withCurrent { $0.didCreatePool(pool, name, capacities, zeroes) }
            },
            didDestroyPool: { pool, outstanding in Recorder.withCurrent { $0.didDestroyPool(pool, outstanding) } },
            didGet: { event in
                let event = event.assumingMemoryBound(to: GetEvent.self)
                Recorder.withCurrent({ $0.didGet(event) }, inChild: { Recorder.didGetInChild(event) })
            },
            didPut: { event in Recorder.withCurrent { $0.didPut(event.assumingMemoryBound(to: PutEvent.self)) } },
            didRefuse: { put in Recorder.withCurrent { $0.didRefuse(put) } },
            didAccessAfterPut: { access in
                // The touch itself will tell, and more exactly.
                guard !GuardedMemory.isOutOfReach(access.address) else { return }
                Recorder.withCurrent { $0.didAccessAfterPut(access) }
            },
            didTrim: { pool, row in
                Recorder.withCurrent { if let row = $0.counters(pool, row) { atomicAdd(&row.pointee.trimmed, 1) } }
            },
            willRelease: { slot in Recorder.withCurrent { $0.willRelease(slot) } },
            diagnostics: RecorderDiagnostics()
        )
        // Guard pages and other tools have more to be told than these pass on.
        if options.level < .paranoid, !cmempool_has_tools() {
            hook.didGetFromMagazine = options.level == .sampled ? UsualCalls.didGetSampled : UsualCalls.didGet
            hook.didPutIntoMagazine = UsualCalls.didPut
        }
        if options.level < .paranoid { hook.redZoneLimit = redZoneLimit }
        if options.level == .sampled {
            hook.sampleInterval = options.sampleInterval
            hook.willDestroyPool = { totals in Recorder.withCurrent { $0.sampling?.poolWillEnd(totals) } }
        }
        if GuardedMemory.shared != nil { hook.placer = GuardedMemory.placer }
        return hook
    }

    /// Of 512-byte buffers these are the zones of 390,000: with the records of a million, less than 96 bytes a buffer.
    static let redZoneLimit = 24 << 20

    // MARK: - Events

    private func didCreatePool(_ pool: Int, _ name: String, _ capacities: [Int], _ zeroes: Bool) {
        if pool < Self.poolNumbers { poisonBytes[pool] = zeroes ? 0 : BufferBytes.poison }
        cold.withLock { cold in
            let rows = RecordingLimits.bucketRowsPerPool
            guard pool < RecordingLimits.pools, capacities.count < rows,
                file.reserve(.pools, count: pool + 1) != nil,
                file.reserve(.counters, count: (pool + 1) * rows) != nil,
                file.reserve(.histograms, count: (pool + 1) * SizeHistogram.binCount) != nil
            else {
                file.countDropped(&file.header.pointee.dropped.pools)
                return
            }
            var record = PoolRecord()
            record.name = cold.strings.add(name)
            record.bucketCount = UInt32(capacities.count)
            record.state = 1
            pools[pool] = record
            let counters = file.records(.counters, as: BucketCounters.self) + pool * rows
            for (row, capacity) in capacities.enumerated() { counters[row].capacity = UInt64(capacity) }
            // A pool that had the number before may have had more buckets.
            for row in capacities.count..<rows { counters[row].capacity = 0 }
            file.publish(.counters, count: max(Int(file.published(.counters).pointee), (pool + 1) * rows))
            file.publish(
                .histograms,
                count: max(Int(file.published(.histograms).pointee), (pool + 1) * SizeHistogram.binCount)
            )
            file.publish(.pools, count: max(Int(file.published(.pools).pointee), pool + 1))
        }
    }

    private func didDestroyPool(_ pool: Int, _ outstanding: Int) {
        self.pool(pool)?.pointee.state = 2
        if outstanding > 0 { findOutstanding(inDestroyed: pool) }
    }

    /// Any get.
    @inline(never)
    private func didGet(_ pointer: UnsafePointer<GetEvent>) {
        let stack = cmempool_capture_get(pointer.pointee.frame)
        let pool = pointer.pointee.pool
        let bucketRow = pointer.pointee.bucketRow
        let request = pointer.pointee.request
        let attention = usual.pointee.attention.load(ordering: .relaxed)
        let context = attention == 0 ? 0 : self.context(attention)
        let slot = pointer.pointee.slot
        if let record = ledger.record(slot) {
            let base = UnsafeMutableRawPointer(bitPattern: pointer.pointee.address)
            let capacity = pointer.pointee.capacity
            let region = guarded == nil ? nil : guardedRegion(slot)
            // Where the last owner had it, unless that was between guard pages too.
            if cmempool_has_tools(), let home = region?.pointee.home ?? base { cmempool_tools_show(home, capacity) }
            if record.pointee.flags & HotLayout.poisoned != 0 { checkPoison(record, slot) }
            // Where a buffer lies changes only when it is mapped. A record that missed the get before this one may have missed that.
            let isNew = pointer.pointee.didAllocate
            let isKnown = !isNew && record.pointee.sequence &>> 2 &+ 2 == pointer.pointee.generation
            let unzoned = isKnown ? record.pointee.flags & HotLayout.unzoned : flagOfZones(slot, isNew)
            ledger.recordGet(
                record, slot: slot, generation: pointer.pointee.generation, request: request,
                address: pointer.pointee.address, pool: pool, bucketRow: bucketRow, stack: stack,
                context: context, flags: unzoned
            )
            if let region {
                didGuard(region, record, pointer.pointee)
            } else if let base {
                bytes.surround(base, request: request, capacity: capacity, hasNewZones: isNew && unzoned == 0)
                if cmempool_has_tools() { cmempool_tools_did_get(base, request, capacity) }
            }
        } else {
            didDropGet(context)
        }
        guard pointer.pointee.isPooled, !pointer.pointee.didAllocate, let own = cmempool_counters_of(pool) else {
            return countGet(pointer.pointee)
        }
        usual.pointee.countGet(pool, bucketRow, request, own)
    }

    /// Counts any get: the first one of a thread, of fresh memory, of an oversized buffer, of a pool beyond those that have counters.
    @inline(never)
    private func countGet(_ event: GetEvent) {
        let pool = event.pool
        guard let row = counters(pool, event.bucketRow) else { return }
        if event.didAllocate { atomicAdd(&row.pointee.allocations, weight) }
        if row.pointee.capacity > 0, let own = ownCounters(pool) {
            return usual.pointee.countGet(pool, event.bucketRow, event.request, own)
        }
        atomicAdd(&row.pointee.gets, weight)
        atomicAdd(&row.pointee.requestedBytes, UInt64(truncatingIfNeeded: event.request) &* weight)
        if row.pointee.capacity == 0 {
            atomicAdd(&row.pointee.handedOutBytes, UInt64(event.capacity) &* weight)
        }
        atomicAdd(histograms + (pool * HotLayout.binCount + HotLayout.bin(of: event.request)), weight)
        highWater.didGet(pool: pool, row: event.bucketRow)
    }

    @inline(never)
    private func guardedRegion(_ slot: Int) -> UnsafeMutablePointer<cmempool_region>? {
        guarded?.region(ofSlot: slot)
    }

    /// The flag of a buffer that has no red zones; 0 for the others.
    @inline(never)
    private func flagOfZones(_ slot: Int, _ isNew: Bool) -> UInt8 {
        if bytes.canaryLimit == 0 || PoolHook.hasRedZones(slot: slot) { return 0 }
        if isNew { atomicAdd(&file.header.pointee.unzonedBuffers, 1) }
        return HotLayout.unzoned
    }

    @inline(never)
    private func didDropGet(_ context: UInt32) {
        file.countDropped(&file.header.pointee.dropped.ledger)
        if context != 0 { scopes.didPut(context) }
    }

    /// Any put.
    @inline(never)
    private func didPut(_ pointer: UnsafePointer<PutEvent>) {
        let stack = cmempool_capture_put(pointer.pointee.frame)
        guard pointer.pointee.givenCapacity == pointer.pointee.capacity else {
            return didPutWrongCapacity(pointer.pointee, stack)
        }
        let pool = pointer.pointee.pool
        let bucketRow = pointer.pointee.bucketRow
        let generation = pointer.pointee.generation
        let record = ledger.outstanding(slot: pointer.pointee.slot, generation: generation)
        if let record {
            let base = UnsafeMutableRawPointer(bitPattern: pointer.pointee.address)
            let request = Int(truncatingIfNeeded: record.pointee.request)
            let capacity = pointer.pointee.capacity
            let region = guarded == nil ? nil : guardedRegion(pointer.pointee.slot)
            // What has guard pages needs no tool, and its capacity may reach beyond them.
            let hasTools = cmempool_has_tools() && region == nil
            if hasTools, let base { cmempool_tools_show(base, capacity) }
            let hasZones = record.pointee.flags & HotLayout.unzoned == 0
            // Each by itself: to keep whether there is damage would cost more than to look.
            if let damage = damage(around: base, request: request, capacity: capacity, hasZones: hasZones, region) {
                return didPut(pointer, record, damage, isGuarded: region != nil, time: cmempool_now(), stack: stack)
            }
            let time = cmempool_now()
            if _slowPath(time &- record.pointee.getTime > heldLimit) {
                return didPut(pointer, record, nil, isGuarded: region != nil, time: time, stack: stack)
            }
            settle(pointer, record, base, request, isGuarded: region != nil, time: time, stack: stack)
            if record.pointee.context != 0 { scopes.didPut(record.pointee.context) }
        } else if sampling != nil {
            // While gets are sampled, a put by address may be that of any buffer.
            return
        }
        countPut(pool, bucketRow, isPooled: pointer.pointee.isPooled)
    }

    /// A put with findings. They are made last: who is told of them finds the buffer put, and not a leak as well.
    @inline(never)
    private func didPut(
        _ pointer: UnsafePointer<PutEvent>, _ record: UnsafeMutablePointer<LedgerRecord>, _ damage: Damage?,
        isGuarded: Bool, time: UInt64, stack: UInt32
    ) {
        let event = pointer.pointee
        let owned = record.pointee
        settle(
            pointer, record, UnsafeMutableRawPointer(bitPattern: event.address), Int(truncatingIfNeeded: owned.request),
            isGuarded: isGuarded, time: time, stack: stack)
        countPut(event.pool, event.bucketRow, isPooled: event.isPooled)
        if let damage { addOverrun(owned, event.slot, damage, event.capacity, stack) }
        if time &- owned.getTime > heldLimit { addHeld(owned, event, time, stack) }
        if owned.context != 0 { scopes.didPut(owned.context) }
    }

    /// Enters the put of a whole buffer whose bytes were looked at.
    @inline(__always)
    private func settle(
        _ pointer: UnsafePointer<PutEvent>, _ record: UnsafeMutablePointer<LedgerRecord>,
        _ base: UnsafeMutableRawPointer?,
        _ request: Int, isGuarded: Bool, time: UInt64, stack: UInt32
    ) {
        // Oversized buffers go back to the system now, and what has guard pages is out of reach from here on.
        let isPoisoned = bytes.poisonLimit > 0 && pointer.pointee.isPooled && !isGuarded
        if isPoisoned, let base { bytes.poison(base, request: request, with: poisonBytes[pointer.pointee.pool]) }
        let generation = pointer.pointee.generation
        ledger.recordPut(record, generation: generation, time: time, stack: stack, isPoisoned: isPoisoned)
        if cmempool_has_tools(), !isGuarded, let base {
            cmempool_tools_did_put(base, pointer.pointee.capacity, pointer.pointee.isPooled)
        }
    }

    /// Counts the put of a whole buffer.
    @inline(__always)
    private func countPut(_ pool: Int, _ bucketRow: Int, isPooled: Bool) {
        guard isPooled, let own = cmempool_counters_of(pool) else { return countAnyPut(pool, bucketRow) }
        usual.pointee.countPut(bucketRow, own)
    }

    @inline(never)
    private func countAnyPut(_ pool: Int, _ bucketRow: Int) {
        guard let row = counters(pool, bucketRow) else { return }
        if row.pointee.capacity > 0, let own = ownCounters(pool) { return usual.pointee.countPut(bucketRow, own) }
        atomicAdd(&row.pointee.puts, weight)
        highWater.didPut(pool: pool, row: bucketRow)
    }

    @inline(never)
    private func didPutWrongCapacity(_ event: PutEvent, _ stack: UInt32) {
        let record = ledger.outstanding(slot: event.slot, generation: event.generation)
        let context = record?.pointee.context ?? 0
        var overrun: (record: LedgerRecord, damage: Damage)?
        if let record {
            let region = guarded?.region(ofSlot: event.slot)
            if let base = UnsafeMutableRawPointer(bitPattern: UInt(record.pointee.address)) {
                let hasTools = cmempool_has_tools() && region == nil
                if hasTools { cmempool_tools_show(base, event.capacity) }
                let request = Int(truncatingIfNeeded: record.pointee.request)
                let hasZones = record.pointee.flags & HotLayout.unzoned == 0
                let damage = damage(
                    around: base, request: request, capacity: event.capacity, hasZones: hasZones, region)
                overrun = damage.map { (record.pointee, $0) }
                if hasTools { cmempool_tools_did_put(base, event.capacity, false) }
            }
            ledger.recordPut(
                record, generation: event.generation, time: cmempool_now(), stack: stack, isPoisoned: false)
        }
        if let row = counters(event.pool, event.bucketRow) {
            // Of an oversized buffer, which no bucket counted as got, a slice ends the life like the whole.
            if row.pointee.capacity > 0 {
                atomicAdd(&row.pointee.wrongCapacityPuts, 1)
            } else {
                atomicAdd(&row.pointee.puts, 1)
            }
            if sampling == nil || record != nil { highWater.didPut(pool: event.pool, row: event.bucketRow) }
        }
        if let overrun { addOverrun(overrun.record, event.slot, overrun.damage, event.capacity, stack) }
        var finding = FindingRecord()
        finding.kind = FindingKind.wrongCapacity.rawValue
        finding.pool = UInt32(event.pool)
        finding.issuingPool = UInt32(event.pool)
        finding.slot = UInt32(event.slot)
        finding.address = UInt64(event.address)
        finding.givenCapacity = UInt64(event.givenCapacity)
        finding.expectedCapacity = UInt64(event.capacity)
        finding.bytes = UInt64(event.capacity)
        if let owner = ledger.owner(slot: event.slot, generation: event.generation) {
            fill(&finding, from: owner)
        } else if sampling != nil {
            finding.flags |= FindingRecord.unsampledFlag
        }
        finding.firstPutStack = 0
        add(&finding, stack)
        if context != 0 { scopes.didPut(context) }
    }

    private func didRefuse(_ put: RefusedPut) {
        let stack = cmempool_capture_put(put.frame)
        var finding = FindingRecord()
        finding.pool = UInt32(put.pool)
        finding.issuingPool = UInt32(put.issuingPool)
        finding.slot = UInt32(put.slot)
        finding.address = UInt64(put.address)
        finding.request = UInt64(put.count)
        finding.givenCapacity = UInt64(put.givenCapacity)
        finding.bytes = UInt64(put.givenCapacity)
        switch put.reason {
        case .foreign:
            finding.kind = FindingKind.foreignPut.rawValue
            if let pool = pool(put.pool) { atomicAdd(&pool.pointee.foreignPuts, 1) }
        case .wrongPool:
            finding.kind = FindingKind.wrongPool.rawValue
            if let pool = pool(put.pool) { atomicAdd(&pool.pointee.wrongPoolPuts, 1) }
            if let owner = ledger.owner(slot: put.slot, generation: fullGeneration(put)) {
                fill(&finding, from: owner)
            } else if sampling != nil {
                finding.flags |= FindingRecord.unsampledFlag
            }
        case .doublePut:
            finding.kind = FindingKind.doublePut.rawValue
            if let row = counters(put.issuingPool == put.pool ? put.pool : -1, put.bucketRow) {
                atomicAdd(&row.pointee.doublePuts, 1)
            }
            fillDoublePut(&finding, put)
        }
        add(&finding, stack)
    }

    private func fillDoublePut(_ finding: inout FindingRecord, _ put: RefusedPut) {
        let first = fullGeneration(put)
        // The slot's generation is first + 1 while it waits, and grows by 2 with each owner after that.
        finding.reissues = (put.generation - min(first, put.generation)) / 2
        if let owner = ledger.owner(slot: put.slot, generation: first) {
            fill(&finding, from: owner)
        } else {
            // Sampled or not is no longer known either, but one of many is not is the usual case.
            finding.flags |= sampling == nil ? FindingRecord.historyLostFlag : FindingRecord.unsampledFlag
        }
        if finding.reissues > 0, let next = ledger.owner(slot: put.slot, generation: first &+ 2) {
            finding.reissueStack = next.getStack
        }
    }

    private func fullGeneration(_ put: RefusedPut) -> UInt64 {
        Self.fullGeneration(put.ticketGeneration, now: put.generation)
    }

    /// The whole generation a ticket's low half stands for: the last one that is not in the future; for a ticket that nobody
    /// was given, one that nobody had.
    static func fullGeneration(_ low: UInt32, now: UInt64) -> UInt64 {
        let candidate = (now >> 32) << 32 | UInt64(low)
        return candidate > now ? candidate &- (1 << 32) : candidate
    }

    func fill(_ finding: inout FindingRecord, from owner: Ownership) {
        finding.request = UInt64(owner.request)
        finding.getStack = owner.getStack
        finding.getThread = owner.getThread
        finding.getTime = owner.getTime
        finding.firstPutStack = owner.putStack
        finding.firstPutThread = owner.putThread
        finding.firstPutTime = owner.putTime
        finding.context = owner.context
    }

    /// Adds a finding about a put that happens now.
    func add(_ finding: inout FindingRecord, _ stack: UInt32) {
        finding.putStack = stack
        finding.putThread = cmempool_thread_id()
        add(finding)
    }

    /// Adds a finding that is seen now.
    ///
    /// - Parameter isUnderLock: Whether the pool or the recorder holds a lock, so that nothing of the program may be called.
    func add(_ finding: FindingRecord, isUnderLock: Bool = false) {
        var finding = finding
        finding.firstTime = cmempool_now()
        finding.context = scopes.context(finding.context, at: finding.getTime)
        let complete = finding
        if cold.withLock({ $0.findings.add(complete) }) { scopes.pin(complete.context) }
        noteTime(complete.firstTime)
        if options.abortKinds.contains(where: { $0.rawValue == complete.kind }) {
            abort(because: complete, isUnderLock: isUnderLock)
        }
        didFind(complete, isUnderLock: isUnderLock)
    }

    /// Notes when something was seen last. Threads find things at the same time, and readers look on: a whole word for both.
    func noteTime(_ time: UInt64) { cmempool_store64(file.header.field(\.lastMonotonic), time) }

    func poisonByte(ofPool pool: Int) -> UInt8 { pool < Self.poolNumbers ? poisonBytes[pool] : BufferBytes.poison }

    // MARK: - Stacks

    /// The pool's own frames around what the caller called, which a report cuts; kept beside the frames the user asked for. What
    /// is inlined in a release build has a frame in a debug build.
    #if DEBUG
    private static let ownFrameAllowance = 8
    #else
    private static let ownFrameAllowance = 2
    #endif

    private func startCapturing() {
        let header = file.header
        var captureOptions = cmempool_capture_options(
            limit: UInt32(min(options.frameLimit + Self.ownFrameAllowance, RecordingLimits.frames)),
            identify: { frames, count, mayEnter in
                var identifier: UInt32 = 0
                Recorder.withCurrent {
                    let frames = UnsafeBufferPointer(start: frames, count: Int(count))
                    identifier = $0.stacks.identifier(of: frames, mayAppend: mayEnter)
                }
                return identifier
            },
            did_load: { Recorder.withCurrent { $0.refreshModules() } },
            take_shard: { pool, shard in
                // Not in a forked child, whose copy of the table may be locked.
                guard cmempool_recorder_root() != nil else { return }
                Recorder.withCurrent { $0.shards.giveBack(pool: pool, shard) }
            },
            checks: header.field(\.captureChecks),
            mismatches: header.field(\.captureMismatches),
            slow: header.field(\.slowCaptures)
        )
        cmempool_start_capturing(&captureOptions)
    }

    /// Enters images loaded since the last time.
    func refreshModules() {
        let epoch = cmempool_module_epoch()
        guard cold.withLock({ $0.modules.epoch != epoch }) else { return }
        // Outside: the loader has a lock of its own, and a program that holds it may make a finding.
        let images = LoadedImages(epoch: epoch)
        cold.withLock { $0.modules.enter(images, strings: &$0.strings, executable: executable) }
    }

    // MARK: - Counters

    @inline(__always)
    private func counters(_ pool: Int, _ row: Int) -> UnsafeMutablePointer<BucketCounters>? {
        guard pool >= 0, UInt64(pool) < cmempool_load64_acquire(publishedPools), pools[pool].state != 0 else {
            return nil
        }
        return bucketCounters + (pool &* HotLayout.rowsPerPool &+ row)
    }

    /// The calling thread's own counters for a pool that has counters at all.
    @inline(__always)
    private func ownCounters(_ pool: Int) -> UnsafePointer<cmempool_counters>? {
        if let own = cmempool_counters_of(pool) { return own }
        return shards.take(pool: pool, highWater) ? cmempool_counters_of(pool) : nil
    }

    private func pool(_ pool: Int) -> UnsafeMutablePointer<PoolRecord>? {
        guard UInt64(pool) < cmempool_load64_acquire(publishedPools), pools[pool].state != 0 else { return nil }
        return pools + pool
    }
}

extension UnsafeMutablePointer<RecordingHeader> {
    /// Where a field of the header lies.
    fileprivate func field(_ path: KeyPath<RecordingHeader, UInt64>) -> UnsafeMutablePointer<UInt64> {
        (UnsafeMutableRawPointer(self) + (MemoryLayout<RecordingHeader>.offset(of: path) ?? 0))
            .assumingMemoryBound(to: UInt64.self)
    }
}

/// Adds to a counter that several threads count in.
@inline(__always)
func atomicAdd(_ counter: UnsafeMutablePointer<UInt64>, _ amount: UInt64) {
    _ = cmempool_add64(counter, amount)
}

/// Writes one line to standard error in a single call, so that lines of several processes do not mix.
func printLine(_ text: String) {
    var line = "mempool: " + text + "\n"
    line.withUTF8 { bytes in
        bytes.withMemoryRebound(to: CChar.self) { characters in
            if let start = characters.baseAddress { cmempool_print(start, characters.count) }
        }
    }
}
#endif

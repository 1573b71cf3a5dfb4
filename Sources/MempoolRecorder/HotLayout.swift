// `HotLayout`: numbers of the recording's layout that the hot path needs without a call into another module.

#if Recorder
internal import CMempoolPlatform
internal import MempoolRecording

/// Copies of constants of `MempoolRecording`, whose code is not inlined into this module.
enum HotLayout {
    @inline(__always) static var rowsPerPool: Int { 33 }
    @inline(__always) static var binCount: Int { 384 }
    @inline(__always) static var shardRows: Int { 8 }
    @inline(__always) static var shardRowWords: Int { 3 }
    @inline(__always) static var shardHistogram: Int { 128 }
    @inline(__always) static var inProgress: UInt64 { 1 }
    @inline(__always) static var outstanding: UInt64 { 2 }
    @inline(__always) static var returned: UInt64 { 3 }
    @inline(__always) static var poisoned: UInt8 { 1 }
    @inline(__always) static var kept: UInt8 { 2 }
    @inline(__always) static var unzoned: UInt8 { 16 }

    // Pairs of halves in a ledger record that are stored as one word: what loads them as one does not wait for two stores.

    @inline(__always) static var sequenceWord: Int { 0 }
    @inline(__always) static var requestWord: Int { 1 }
    @inline(__always) static var getTimeWord: Int { 3 }
    @inline(__always) static var putTimeWord: Int { 4 }
    /// The get's stack or thread in the low half, the put's in the high one.
    @inline(__always) static var stacksWord: Int { 5 }
    @inline(__always) static var threadsWord: Int { 6 }
    /// Context, pool, bucket and flags.
    @inline(__always) static var placeWord: Int { 7 }

    /// What stays in it from one owner to the next: pool, bucket, and whether there are red zones.
    @inline(__always) static var lastingPlace: UInt64 { 0x10FF_FFFF_0000_0000 }

    /// A word of a ledger record.
    @inline(__always)
    static func word(_ word: Int, of record: UnsafeMutablePointer<LedgerRecord>) -> UnsafeMutablePointer<UInt64> {
        UnsafeMutableRawPointer(record).assumingMemoryBound(to: UInt64.self) + word
    }

    /// Where the words of a row of a shard are.
    @inline(__always)
    static func row(_ row: Int, of shard: UnsafeMutablePointer<UInt64>) -> UnsafeMutablePointer<UInt64> {
        shard + (shardRows &+ row &* shardRowWords)
    }

    /// As `SizeHistogram.bin(of:)`, for sizes a pool accepts.
    @inline(__always)
    static func bin(of size: Int) -> Int {
        guard size >= 16 else { return size }
        let exponent = Int.bitWidth &- 1 &- size.leadingZeroBitCount
        let sub = (size &>> (exponent &- 3)) & 7
        return min(16 &+ (exponent &- 4) &* 8 &+ sub, binCount &- 1)
    }

    /// Traps if the layout has changed and this has not. Called once, when the recorder starts.
    static func check() {
        precondition(rowsPerPool == RecordingLimits.bucketRowsPerPool && binCount == SizeHistogram.binCount)
        precondition(shardRows == CounterShard.rowsWord && shardRowWords == CounterShard.wordsPerRow)
        precondition(shardHistogram == CounterShard.histogramWord && CounterShard.getsWord == 0)
        precondition(CounterShard.putsWord == 1 && CounterShard.requestedBytesWord == 2)
        precondition(inProgress == LedgerState.inProgress.rawValue && returned == LedgerState.returned.rawValue)
        precondition(poisoned == LedgerFlags.poisoned)
        // Threads have room for the shards of so many pools.
        precondition(RecordingLimits.pools <= Int(CMEMPOOL_CACHED_POOLS))
        precondition(kept == LedgerFlags.kept && unzoned == LedgerFlags.unzoned)
        typealias Record = LedgerRecord
        precondition(MemoryLayout<Record>.offset(of: \.sequence) == sequenceWord * 8)
        precondition(MemoryLayout<Record>.offset(of: \.request) == requestWord * 8)
        precondition(MemoryLayout<Record>.offset(of: \.getTime) == getTimeWord * 8)
        precondition(MemoryLayout<Record>.offset(of: \.putTime) == putTimeWord * 8)
        precondition(MemoryLayout<Record>.offset(of: \.getStack) == stacksWord * 8)
        precondition(MemoryLayout<Record>.offset(of: \.putStack) == stacksWord * 8 + 4)
        precondition(MemoryLayout<Record>.offset(of: \.getThread) == threadsWord * 8)
        precondition(MemoryLayout<Record>.offset(of: \.putThread) == threadsWord * 8 + 4)
        precondition(MemoryLayout<Record>.offset(of: \.context) == placeWord * 8)
        precondition(MemoryLayout<Record>.offset(of: \.pool) == placeWord * 8 + 4)
        precondition(MemoryLayout<Record>.offset(of: \.bucket) == placeWord * 8 + 6)
        precondition(MemoryLayout<Record>.offset(of: \.flags) == placeWord * 8 + 7)
        precondition(lastingPlace == 0x00FF_FFFF_0000_0000 | UInt64(unzoned) << 56)
        precondition(outstanding == LedgerState.outstanding.rawValue)
        for size in [1, 15, 16, 17, 511, 512, 513, 4096, 1 << 24, 1 << 47] {
            precondition(bin(of: size) == SizeHistogram.bin(of: size))
        }
    }
}
#endif

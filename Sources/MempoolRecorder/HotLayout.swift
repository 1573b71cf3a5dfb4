// `HotLayout`: numbers of the recording's layout that the hot path needs without a call into another module.

#if Recorder
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
        precondition(kept == LedgerFlags.kept)
        precondition(outstanding == LedgerState.outstanding.rawValue)
        for size in [1, 15, 16, 17, 511, 512, 513, 4096, 1 << 24, 1 << 47] {
            precondition(bin(of: size) == SizeHistogram.bin(of: size))
        }
    }
}
#endif

// The layout of a recording file: magic, version, section table and limits.
// Shared by the writer (MempoolRecorder) and the reader (`Recording`); knows nothing else.

/// Fixed facts about the file as a whole.
///
/// A recording is one sparse file. The header occupies the first page; ten sections follow at the offsets the header
/// states, each an array of fixed-size records with a *published* count that only grows. Whatever lies beyond a
/// published count has not been reserved on disk and must not be read. All integers are little-endian.
package enum RecordingLayout {
    /// `MEMPOOL` and a line feed, so that a text-mode transfer that rewrites line ends is noticed.
    package static let magic: UInt64 = 0x0A4C_4F4F_504D_454D
    /// Raised whenever a reader of the previous version would misread the file.
    package static let version: UInt32 = 2
    /// One page: the header is mapped, published and checked as a unit.
    package static let headerBytes = 4096
    /// Sections start on page boundaries, as mapping and space reservation work in pages.
    package static let pageBytes = 4096
    /// File name extension of recordings, without the dot.
    package static let fileExtension = "mempool"
}

/// The sections of a recording, in file order. The ledger is last, so that a file can be cut to its used length.
package enum RecordingSection: Int, CaseIterable, Sendable {
    /// Bytes; referred to by `StringReference`.
    case strings = 0
    /// `ModuleRecord`s: the ELF images the process had loaded.
    case modules
    /// `PoolRecord`s; a pool's position is its number.
    case pools
    /// `BucketCounters`: `RecordingLimits.bucketRowsPerPool` rows per pool, pool by pool.
    case counters
    /// `UInt64` bins of `SizeHistogram`, `SizeHistogram.binCount` per pool, pool by pool.
    case histograms
    /// Words of `CounterShard`s, whole shards only: what threads counted that have counters of their own.
    case shards
    /// `ContextRecord`s: scopes, and notes made at gets; record 0 is never used.
    case contexts
    /// `FindingRecord`s.
    case findings
    /// `UInt64` words of the stack table; see `StackWord`.
    case stacks
    /// `LedgerRecord`s, one per slot of the pool; the position is the slot number.
    case ledger

    /// Bytes of one record of this section.
    package var recordBytes: Int {
        switch self {
        case .strings: 1
        case .modules: MemoryLayout<ModuleRecord>.stride
        case .pools: MemoryLayout<PoolRecord>.stride
        case .counters: MemoryLayout<BucketCounters>.stride
        case .histograms: MemoryLayout<UInt64>.stride
        case .shards: CounterShard.wordCount * MemoryLayout<UInt64>.stride
        case .contexts: MemoryLayout<ContextRecord>.stride
        case .findings: MemoryLayout<FindingRecord>.stride
        case .stacks: MemoryLayout<UInt64>.stride
        case .ledger: MemoryLayout<LedgerRecord>.stride
        }
    }
}

/// The most a recording holds. What does not fit is counted in the header's dropped counters, and every report shows it.
package enum RecordingLimits {
    /// Paths of modules, pool names, the command line: about 1,000 paths of 256 bytes.
    package static let nameBytes = 256 * 1024
    /// PATH_MAX: the most bytes of a path that a program can open.
    package static let pathBytes = 4096
    /// Names, and a text for each context.
    package static let stringBytes = nameBytes + contexts * contextTextBytes
    /// A process with more than 1,024 shared objects has not been seen; one takes about 20.
    package static let modules = 1024
    /// Pools with numbers beyond this are still recorded in the ledger, but have no counters of their own.
    package static let pools = 64
    /// The most buckets a pool can have, and one more row for oversized buffers.
    package static let bucketRowsPerPool = 33
    /// Pairs of a running thread and a pool that it uses, with counters of their own: 1 MiB. Threads beyond share counters.
    package static let shards = 256
    /// Scopes that are open or that ended with buffers outstanding, and distinct notes: 4.5 MiB. Gets beyond are unscoped.
    package static let contexts = 65_536
    /// The most bytes of a scope's name or of a note.
    package static let contextTextBytes = 200
    /// Distinct (kind, stacks) groups; a program with more distinct mistakes is not read group by group.
    package static let findings = 4096
    /// 64 MiB of program counters: about 400,000 distinct stacks of 20 frames.
    package static let stackWords = 8 * 1024 * 1024
    /// Default of `max-ledger`: 4 Mi slots, 256 MiB of file when all are in use.
    package static let ledgerRecords = 4 * 1024 * 1024
    /// The most that `max-ledger` can be: the pools have no more slots.
    package static let mostLedgerRecords = 16 * 1024 * 1024
    /// The most frames, physical and async together, that `frames=` can ask for.
    package static let chosenFrames = 128
    /// Frames kept of one stack at most: those, and up to eight of the pool's own, which reports cut.
    package static let frames = chosenFrames + 8
}

/// A word of the stack table is either a program counter or the head of a stack.
///
/// A stack starts with a head word that holds its frame count; the frames follow, innermost first. Its identifier is the index of its head word.
/// Index 0 is never a stack: identifier 0 means "no stack was captured". A frame with the top bit set is the entry of an async
/// parent's resume function: a plain address. The others are return addresses, so the call lies one byte before.
package enum StackWord {
    package static let asyncBit: UInt64 = 1 << 63
}

/// What one thread after the other counted in one pool: `wordCount` words, a page.
///
/// Each word only grows, and only one thread at a time writes it. The counters of a row, or a bin, are the sum of what the
/// pool's own sections and all its shards hold.
package enum CounterShard {
    package static let wordCount = 512
    /// The word that holds the pool's number and 1; 0 in a shard that is not ready.
    package static let poolWord = 0
    /// Where the rows begin: `wordsPerRow` words for each of `RecordingLimits.bucketRowsPerPool`.
    package static let rowsWord = 8
    package static let wordsPerRow = 3
    /// The words of a row: gets, puts, and the sum of the sizes asked for, bytes.
    package static let getsWord = 0
    package static let putsWord = 1
    package static let requestedBytesWord = 2
    /// Where the bins of the size histogram begin.
    package static let histogramWord = 128
}

/// Where a string lies in the string section.
package struct StringReference: BitwiseCopyable, Sendable, Equatable {
    package var offset: UInt32
    package var length: UInt32

    package init(offset: UInt32 = 0, length: UInt32 = 0) {
        self.offset = offset
        self.length = length
    }
}

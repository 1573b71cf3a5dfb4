// `RecordingFile`: the mapped file that the recorder writes, and the reservation of its space.

#if Recorder
internal import CMempoolPlatform
internal import Glibc
internal import Mempool
internal import MempoolRecording
internal import Synchronization

/// A file that could not be made.
struct RecordingFileError: Error {
    var path: String
    var errorNumber: CInt
    /// Whether something has the name that can never be a recording.
    var isTakenByOther = false
    var text: String {
        isTakenByOther ? "it is a directory, a link or a device" : String(cString: strerror(errorNumber))
    }
}

/// A recording being written: address space for the most it can hold, and space on disk in steps as it grows.
///
/// Space is reserved before it is published, so that a full disk is an error number here and never a signal in the program.
/// Thread-safe: growing is serialised, and publishing a count is one release store.
final class RecordingFile: Sendable {
    /// Nil when no file could be made and the recording lives in private memory.
    let path: String?
    private let descriptor: CInt
    /// Which file it is.
    private let identity: Identity?
    /// Start of the mapping. Unchecked sharing is the file format's business: see the protocols of its records.
    nonisolated(unsafe) let base: UnsafeMutableRawPointer
    let byteCount: Int
    private let offsets: [Int]
    private let capacities: [Int]

    /// Bytes reserved of each section.
    private let reserved = Guarded<[Int]>(Array(repeating: 0, count: RecordingSection.allCases.count))
    /// Once closed, nothing grows any more: the file may be cut behind what is reserved.
    private let isClosed = Atomic<Bool>(false)
    /// When growing may be tried again after it failed: a full disk is asked once a second and not at each get.
    private let nextAttempt = Atomic<UInt64>(0)

    private struct Identity: Equatable {
        var device: dev_t
        var number: ino_t

        /// Of what is open under a descriptor now; nil if nothing is.
        init?(_ descriptor: CInt) {
            var status = stat()
            guard fstat(descriptor, &status) == 0 else { return nil }
            device = status.st_dev
            number = status.st_ino
        }
    }

    /// Creates a file that must not exist yet, or uses private memory if `path` is nil.
    init(path: String?, ledgerLimit: Int) throws {
        var offset = RecordingLayout.headerBytes
        var offsets: [Int] = []
        var capacities: [Int] = []
        let sizeLimit = path == nil ? nil : Self.fileSizeLimit()
        for section in RecordingSection.allCases {
            var capacity = Self.capacity(of: section, ledgerLimit: ledgerLimit)
            if let sizeLimit {
                // Growing beyond the limit would be a signal in the program, so what is large shares what there is: a
                // sixteenth each for scopes and their texts, a quarter of the rest for stacks, and what then remains, at
                // the end, for the ledger.
                let rest = (sizeLimit - offset) / section.recordBytes
                switch section {
                case .strings: capacity = min(capacity, RecordingLimits.nameBytes + rest / 16)
                case .contexts: capacity = min(capacity, rest / 16)
                case .stacks: capacity = min(capacity, rest / 4)
                case .ledger: capacity = min(capacity, rest)
                default: break
                }
            }
            offsets.append(offset)
            capacities.append(capacity)
            let page = RecordingLayout.pageBytes
            offset += (capacity * section.recordBytes + page - 1) / page * page
        }
        if let path, let sizeLimit, sizeLimit < Self.smallestFileBytes {
            throw RecordingFileError(path: path, errorNumber: EFBIG)
        }
        self.offsets = offsets
        self.capacities = capacities
        self.path = path
        byteCount = offset

        if let path {
            descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
            guard descriptor >= 0 else {
                let failure = errno
                // Of what is no regular file, such as a device, the name is no place for a file beside it either.
                var status = stat()
                let isOther =
                    failure == EEXIST && lstat(path, &status) == 0 && status.st_mode & S_IFMT != S_IFREG
                throw RecordingFileError(
                    path: path, errorNumber: isOther ? ENOTSUP : failure, isTakenByOther: isOther)
            }
            // Held as long as the process lives, so that no other one prunes the file: process identifiers mean nothing
            // in other containers.
            flock(descriptor, LOCK_EX | LOCK_NB)
            cmempool_write_in_place(descriptor)
        } else {
            descriptor = -1
        }
        identity = Identity(descriptor)
        do {
            guard descriptor < 0 || ftruncate(descriptor, off_t(byteCount)) == 0 else {
                throw RecordingFileError(path: path ?? "", errorNumber: errno)
            }
            let flags = descriptor < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED
            guard !cmempool_is_refused(),
                let memory = mmap(nil, byteCount, PROT_READ | PROT_WRITE, flags, descriptor, 0), memory != MAP_FAILED
            else {
                throw RecordingFileError(path: path ?? "", errorNumber: errno)
            }
            base = memory
            let failure =
                descriptor < 0 ? 0 : cmempool_reserve(descriptor, base, 0, UInt64(RecordingLayout.headerBytes))
            guard failure == 0 else {
                munmap(memory, byteCount)
                throw RecordingFileError(path: path ?? "", errorNumber: failure)
            }
        } catch {
            if descriptor >= 0 {
                Glibc.close(descriptor)
                if let path { unlink(path) }
            }
            throw error
        }
        base.storeBytes(of: emptyHeader(), as: RecordingHeader.self)
    }

    private static func capacity(of section: RecordingSection, ledgerLimit: Int) -> Int {
        switch section {
        case .strings: RecordingLimits.stringBytes
        case .modules: RecordingLimits.modules
        case .pools: RecordingLimits.pools
        case .counters: RecordingLimits.pools * RecordingLimits.bucketRowsPerPool
        case .histograms: RecordingLimits.pools * SizeHistogram.binCount
        case .shards: RecordingLimits.shards
        case .contexts: RecordingLimits.contexts
        case .findings: RecordingLimits.findings
        case .stacks: RecordingLimits.stackWords
        case .ledger: ledgerLimit
        }
    }

    /// Below this a recording holds too little to be worth a file: about 2.3 MiB of fixed sections come before the ledger.
    private static let smallestFileBytes = 4 << 20

    /// The process's limit on file sizes, in whole pages; nil if there is none.
    private static func fileSizeLimit() -> Int? {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit) == 0, limit.rlim_cur < rlim_t(Int.max)
        else {
            return nil
        }
        return Int(limit.rlim_cur) / RecordingLayout.pageBytes * RecordingLayout.pageBytes
    }

    private func emptyHeader() -> RecordingHeader {
        var header = RecordingHeader()
        for section in RecordingSection.allCases {
            var entry = SectionEntry()
            entry.offset = UInt64(offsets[section.rawValue])
            entry.capacity = UInt64(capacities[section.rawValue])
            entry.recordBytes = UInt32(section.recordBytes)
            header[section] = entry
        }
        return header
    }

    // MARK: - Access

    var header: UnsafeMutablePointer<RecordingHeader> {
        base.assumingMemoryBound(to: RecordingHeader.self)
    }

    /// Where the records of a section start. Only reserved records may be touched.
    func records<Record: BitwiseCopyable>(
        _ section: RecordingSection, as type: Record.Type
    ) -> UnsafeMutablePointer<Record> {
        (base + offsets[section.rawValue]).assumingMemoryBound(to: type)
    }

    func capacity(_ section: RecordingSection) -> Int { capacities[section.rawValue] }

    /// Where the published count of a section is.
    func published(_ section: RecordingSection) -> UnsafeMutablePointer<UInt64> {
        (base + Self.publishedOffset + section.rawValue * MemoryLayout<SectionEntry>.stride)
            .assumingMemoryBound(to: UInt64.self)
    }

    // Key paths are walked at run time, so once is enough.
    private static let publishedOffset =
        (MemoryLayout<RecordingHeader>.offset(of: \.sections) ?? 0)
        + (MemoryLayout<SectionEntry>.offset(of: \.published) ?? 0)

    func publish(_ section: RecordingSection, count: Int) {
        cmempool_store64_release(published(section), UInt64(count))
    }

    // MARK: - Growth

    /// Makes sure that the first `count` records of a section can be written; false if they do not fit or the disk is full.
    ///
    /// - Returns: How many records can be written now, or nil.
    func reserve(_ section: RecordingSection, count: Int) -> Int? {
        let index = section.rawValue
        guard count <= capacities[index] else { return nil }
        let limit = capacities[index] * section.recordBytes
        return reserved.withLock { reserved in
            var have = reserved[index]
            while have < count * section.recordBytes {
                guard !isClosed.load(ordering: .relaxed) else { return nil }
                // Doubling from 64 KiB to steps of 1 MiB: little for a short program, few system calls for a large one.
                let page = RecordingLayout.pageBytes
                let step = min(max(have, 64 << 10), 1 << 20)
                let end = min(have + step, (limit + page - 1) / page * page)
                if descriptor >= 0 {
                    let now = cmempool_now()
                    guard now >= nextAttempt.load(ordering: .relaxed) else { return nil }
                    let offset = UInt64(offsets[index] + have)
                    guard cmempool_reserve(ownDescriptor, base, offset, UInt64(end - have)) == 0 else {
                        nextAttempt.store(now + 1_000_000_000, ordering: .relaxed)
                        return nil
                    }
                }
                have = end
                reserved[index] = have
            }
            return min(have / section.recordBytes, capacities[index])
        }
    }

    /// The descriptor, or -1 if the program has closed it: by now it may be that of a file of the program's own, and what is
    /// mapped stays usable without.
    private var ownDescriptor: CInt { identity != nil && Identity(descriptor) == identity ? descriptor : -1 }

    /// Counts what found no room, in a field of the header. Not after the end, when nothing finds any.
    func countDropped(_ counter: UnsafeMutablePointer<UInt64>) {
        if !isClosed.load(ordering: .relaxed) { atomicAdd(counter, 1) }
    }

    // MARK: - End

    /// Cuts the file behind what is reserved of its last section. Nothing grows afterwards.
    func close() {
        reserved.withLock { reserved in
            isClosed.store(true, ordering: .relaxed)
            let descriptor = ownDescriptor
            guard descriptor >= 0, let used = reserved.last, let start = offsets.last else { return }
            // Threads may still write to what is reserved, so that stays. If it fails, the file only looks larger.
            _ = ftruncate(descriptor, off_t(start + used))
        }
    }

    /// Removes the file's name; what is mapped stays usable.
    func remove() {
        if let path { unlink(path) }
    }
}
#endif

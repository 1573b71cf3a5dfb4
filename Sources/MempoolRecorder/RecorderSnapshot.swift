// `Recorder.writeSnapshot`: a recording of this moment, in a file of its own.

#if Recorder
internal import CMempoolPlatform
internal import Glibc
internal import Mempool
internal import MempoolRecording

extension Recorder {
    /// Writes what is recorded so far into a new file, while other threads go on.
    ///
    /// The ledger is copied first and what its records name afterwards, so that every name leads somewhere. Each record of the
    /// ledger is one that its writer published. The header comes last: a file that was cut short is no recording.
    func writeSnapshot(to path: String) throws(DiagnosticsError) {
        refreshModules()
        let descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw .cannotWrite(path: path, errorNumber: errno) }
        defer { close(descriptor) }
        do throws(SnapshotFailure) {
            var writer = SnapshotWriter(recorder: self, descriptor: descriptor)
            try writer.write()
        } catch {
            unlink(path)
            throw .cannotWrite(path: path, errorNumber: error.errorNumber)
        }
    }
}

private struct SnapshotFailure: Error {
    var errorNumber: CInt
}

/// Copies the sections of a recording that is being written into a smaller file.
private struct SnapshotWriter {
    /// Bytes copied at a time; a multiple of the size of a ledger record.
    private static let chunkBytes = 1 << 20

    private let recorder: Recorder
    private let file: RecordingFile
    private let descriptor: CInt
    private var header = RecordingHeader()
    private var chunk = [UInt64](repeating: 0, count: chunkBytes / 8)

    init(recorder: Recorder, descriptor: CInt) {
        self.recorder = recorder
        file = recorder.file
        self.descriptor = descriptor
    }

    mutating func write() throws(SnapshotFailure) {
        let size = layOut()
        var limit = rlimit()
        // Writing beyond the process's limit would be a signal.
        if getrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit) == 0, limit.rlim_cur < rlim_t(size) {
            throw SnapshotFailure(errorNumber: EFBIG)
        }
        guard ftruncate(descriptor, off_t(size)) == 0 else { throw SnapshotFailure(errorNumber: errno) }
        try copyLedger()
        try copyFindings()
        let earlier = contexts()
        // Strings last: modules and pools name them.
        for section in RecordingSection.allCases.reversed() where ![.ledger, .findings, .contexts].contains(section) {
            try copy(section)
        }
        try copyContexts(earlier)
        try copyHeader()
    }

    /// Decides where the sections lie: one behind the other, each with room for what is published now and some more.
    private mutating func layOut() -> Int {
        let page = RecordingLayout.pageBytes
        var offset = RecordingLayout.headerBytes
        for section in RecordingSection.allCases {
            let published = Int(cmempool_load64_acquire(file.published(section)))
            var entry = SectionEntry()
            entry.offset = UInt64(offset)
            entry.capacity = UInt64(min(published + Self.growth(of: section), file.capacity(section)))
            entry.recordBytes = UInt32(section.recordBytes)
            header[section] = entry
            offset += (Int(entry.capacity) * section.recordBytes + page - 1) / page * page
        }
        return offset
    }

    /// Records that a section may gain while the ledger is copied, so that what late records name is there: a step of
    /// reservation of stacks, a page or so of the rest. Holes of the file.
    private static func growth(of section: RecordingSection) -> Int {
        switch section {
        case .ledger: 0
        case .stacks: (1 << 20) / section.recordBytes
        // A busy program makes thousands of scopes while a large ledger is copied.
        case .strings, .contexts: .max / 2
        case .findings: 1024
        default: 16
        }
    }

    private mutating func copyLedger() throws(SnapshotFailure) {
        let count = min(recorder.ledger.slotCount, Int(header[.ledger].capacity))
        let perChunk = Self.chunkBytes / MemoryLayout<LedgerRecord>.stride
        var slot = 0
        while slot < count {
            let wanted = min(perChunk, count - slot)
            let ledger = recorder.ledger
            chunk.withUnsafeMutableBytes { chunk in
                for index in 0..<wanted {
                    // One that stays in progress is one whose thread was stopped in it: neither got nor put.
                    chunk.storeBytes(
                        of: ledger.read(slot + index) ?? LedgerRecord(),
                        toByteOffset: index * MemoryLayout<LedgerRecord>.stride, as: LedgerRecord.self
                    )
                }
            }
            let stride = MemoryLayout<LedgerRecord>.stride
            try writeChunk(wanted * stride, at: Int(header[.ledger].offset) + slot * stride)
            slot += wanted
        }
        header[.ledger].published = UInt64(count)
    }

    private mutating func copyFindings() throws(SnapshotFailure) {
        let capacity = Int(header[.findings].capacity)
        var records: [FindingRecord] = []
        recorder.cold.withLock { cold in
            cold.findings.forEach { if records.count < capacity { records.append($0) } }
        }
        let stride = MemoryLayout<FindingRecord>.stride
        for (index, record) in records.enumerated() {
            try withUnsafeBytes(of: record) { bytes throws(SnapshotFailure) in
                try writeAll(bytes, at: Int(header[.findings].offset) + index * stride)
            }
        }
        header[.findings].published = UInt64(records.count)
    }

    private func contexts() -> [ContextRecord] {
        let published = min(cmempool_load64_acquire(file.published(.contexts)), header[.contexts].capacity)
        let source = file.records(.contexts, as: UInt64.self)
        return [ContextRecord](unsafeUninitializedCapacity: Int(published)) { records, count in
            count = Int(published)
            guard let to = records.baseAddress else { return }
            cmempool_copy_words(
                UnsafeMutableRawPointer(to).assumingMemoryBound(to: UInt64.self), source,
                count * MemoryLayout<ContextRecord>.stride / 8)
        }
    }

    /// Writes the contexts that were there before the strings were copied and still are: others have other texts.
    private mutating func copyContexts(_ earlier: [ContextRecord]) throws(SnapshotFailure) {
        let settled = zip(earlier, contexts()).map { $1.isUnchanged(since: $0) ? $1 : ContextRecord() }
        let failure = settled.withUnsafeBytes { bytes in
            Result { () throws(SnapshotFailure) in try writeAll(bytes, at: Int(header[.contexts].offset)) }
        }
        try failure.get()
        header[.contexts].published = UInt64(settled.count)
    }

    /// Copies a section whose records only grow, or of which each word is right by itself.
    private mutating func copy(_ section: RecordingSection) throws(SnapshotFailure) {
        let entry = header[section]
        let published = min(cmempool_load64_acquire(file.published(section)), entry.capacity)
        let source = file.records(section, as: UInt64.self)
        let byteCount = Int(published) * section.recordBytes
        var done = 0
        while done < byteCount {
            let wanted = min(Self.chunkBytes, byteCount - done)
            chunk.withUnsafeMutableBufferPointer { chunk in
                // Sections start on pages and are reserved in pages, so the last word is there.
                if let to = chunk.baseAddress { cmempool_copy_words(to, source + done / 8, (wanted + 7) / 8) }
            }
            try writeChunk(wanted, at: Int(entry.offset) + done)
            done += wanted
        }
        header[section].published = published
    }

    private mutating func copyHeader() throws(SnapshotFailure) {
        var copy = RecordingHeader()
        withUnsafeMutableBytes(of: &copy) { copy in
            guard let to = copy.assumingMemoryBound(to: UInt64.self).baseAddress else { return }
            let from = file.base.assumingMemoryBound(to: UInt64.self)
            cmempool_copy_words(to, from, MemoryLayout<RecordingHeader>.size / 8)
        }
        copy.sections = header.sections
        copy.lastMonotonic = cmempool_now()
        copy.endMonotonic = 0
        copy.flags = RecordingHeader.snapshotFlag | copy.flags & RecordingHeader.estimatedCountersFlag
        let complete = copy
        try withUnsafeBytes(of: complete) { bytes throws(SnapshotFailure) in try writeAll(bytes, at: 0) }
    }

    // MARK: - Writing

    private func writeChunk(_ byteCount: Int, at offset: Int) throws(SnapshotFailure) {
        let result = chunk.withUnsafeBytes { bytes in
            Result { () throws(SnapshotFailure) in
                try writeAll(UnsafeRawBufferPointer(rebasing: bytes[..<byteCount]), at: offset)
            }
        }
        try result.get()
    }

    private func writeAll(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(SnapshotFailure) {
        var done = 0
        while done < bytes.count {
            let count = pwrite(
                descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done, off_t(offset + done))
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw SnapshotFailure(errorNumber: count < 0 ? errno : ENOSPC) }
            done += count
        }
    }
}
#endif

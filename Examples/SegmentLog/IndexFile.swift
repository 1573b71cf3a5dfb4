// A file of fixed-size, ascending entries with binary search: what both indexes are made of.
// Every entry passes through a pool buffer, on the way in and on the way out.

internal import Mempool

/// One entry of an index.
protocol IndexEntry: Equatable, Sendable {
    /// Bytes on disk.
    static var encodedBytes: Int { get }
    /// - Parameter buffer: At least ``encodedBytes``.
    init(_ buffer: Buffer)
    /// - Parameter buffer: At least ``encodedBytes``.
    func encode(into buffer: Buffer)
}

/// A file of entries. For one thread at a time.
struct IndexFile<Entry: IndexEntry> {
    private let file: StoredFile
    private let pool: BufferPool
    /// Entries that count. The file is never shorter; it is longer where a failed append could not be taken back.
    private(set) var count: Int

    var path: String { file.path }

    /// Opens or creates the file. A last entry that is not whole is left out, and goes with the next ``truncate(to:)``.
    init(path: String, pool: BufferPool) throws(SegmentError) {
        self.file = try StoredFile(path: path)
        self.pool = pool
        self.count = try file.size() / Entry.encodedBytes
    }

    /// Reads one entry.
    func entry(at number: Int) throws(SegmentError) -> Entry {
        let buffer = pool.get(Entry.encodedBytes)
        defer { pool.put(buffer) }
        return try entry(at: number, through: buffer)
    }

    /// Finds the last entry that satisfies a condition which holds for a front part of the entries and for none after it.
    ///
    /// - Complexity: O(log `count`) reads of one entry, all through one pool buffer.
    func last(where belongsToFront: (Entry) -> Bool) throws(SegmentError) -> Entry? {
        let buffer = pool.get(Entry.encodedBytes)
        defer { pool.put(buffer) }
        var found: Entry?
        var low = 0
        var high = count
        while low < high {
            let middle = low + (high - low) / 2
            let candidate = try entry(at: middle, through: buffer)
            if belongsToFront(candidate) {
                found = candidate
                low = middle + 1
            } else {
                high = middle
            }
        }
        return found
    }

    /// Writes entries behind the last one. When it throws, some of them may be in the file: ``truncate(to:)`` is due.
    mutating func append(_ entries: [Entry]) throws(SegmentError) {
        // In pieces, because recovery may write all entries of a large log.
        var rest = entries[...]
        while !rest.isEmpty {
            try write(rest.prefix(Self.maximumEntriesPerWrite))
            rest = rest.dropFirst(Self.maximumEntriesPerWrite)
        }
    }

    /// Cuts off all entries after the first `count`, and whatever is no whole entry.
    ///
    /// When it throws, those entries do not count any more either; the next append overwrites them.
    mutating func truncate(to count: Int) throws(SegmentError) {
        self.count = count
        try file.truncate(to: count * Entry.encodedBytes)
    }

    /// Bytes after the last whole entry.
    func strayBytes() throws(SegmentError) -> Int { try file.size() - count * Entry.encodedBytes }

    /// Waits until the entries are on the disk.
    func synchronize() throws(SegmentError) { try file.synchronize() }

    // MARK: - Reading and writing

    /// What fits the 16 KiB bucket, whatever the entry.
    private static var maximumEntriesPerWrite: Int { (16 << 10) / Entry.encodedBytes }

    private mutating func write(_ entries: ArraySlice<Entry>) throws(SegmentError) {
        let buffer = pool.get(entries.count * Entry.encodedBytes)
        defer { pool.put(buffer) }
        for (number, entry) in entries.enumerated() {
            entry.encode(into: buffer.dropFirst(number * Entry.encodedBytes))
        }
        try file.write(buffer, at: count * Entry.encodedBytes)
        count += entries.count
    }

    private func entry(at number: Int, through buffer: Buffer) throws(SegmentError) -> Entry {
        try file.readAll(into: buffer, at: number * Entry.encodedBytes)
        return Entry(buffer)
    }
}

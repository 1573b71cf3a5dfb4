// `StackTable`: the distinct stacks of a recording, stored once each and found by hash.

#if Recorder
internal import CMempoolPlatform
internal import Glibc
internal import Mempool
internal import MempoolRecording

/// Gives equal stacks equal identifiers.
///
/// Looking a known stack up takes no lock. New ones are appended under a lock, which is rare: a program has few distinct stacks.
/// Thread-safe.
final class StackTable: Sendable {
    /// Index entries: hash in the high half, identifier in the low half; 0 is free. 8 MiB of address space, used pages only.
    private static let indexBits = 20
    private static let indexMask = (1 << indexBits) - 1
    /// Probes before a stack counts as dropped; at half load a longer run is not seen.
    private static let probeLimit = 64

    private let file: RecordingFile
    private nonisolated(unsafe) let words: UnsafeMutablePointer<UInt64>
    private nonisolated(unsafe) let index: UnsafeMutablePointer<UInt64>
    /// The next free word; word 0 stays empty, as identifier 0 is "no stack".
    private let next = Guarded(1)

    /// Private memory of the index, bytes.
    static let indexBytes = (1 << indexBits) * MemoryLayout<UInt64>.stride

    init?(file: RecordingFile) {
        guard let index = SystemMemory.reserve(UInt64.self, 1 << Self.indexBits) else { return nil }
        self.file = file
        self.index = index
        words = file.records(.stacks, as: UInt64.self)
    }

    /// The identifier of a stack, which is appended if it is new; 0 if it found no room.
    ///
    /// - Parameter mayAppend: False in a signal handler that interrupts this function, which may hold the lock.
    func identifier(of frames: UnsafeBufferPointer<UInt64>, mayAppend: Bool) -> UInt32 {
        guard frames.count > 0 else { return 0 }
        let hash = Self.hash(frames)
        if let known = find(frames, hash) { return known }
        guard mayAppend else {
            file.countDropped(&file.header.pointee.dropped.stacks)
            return 0
        }
        return append(frames, hash)
    }

    private func find(_ frames: UnsafeBufferPointer<UInt64>, _ hash: UInt64) -> UInt32? {
        var position = Int(truncatingIfNeeded: hash) & Self.indexMask
        for _ in 0..<Self.probeLimit {
            let entry = cmempool_load64_acquire(index + position)
            guard entry != 0 else { return nil }
            if entry >> 32 == hash >> 32 {
                let identifier = UInt32(truncatingIfNeeded: entry)
                let head = words + Int(identifier)
                if head[0] == UInt64(frames.count), let start = frames.baseAddress,
                    memcmp(head + 1, start, frames.count * 8) == 0
                {
                    return identifier
                }
            }
            position = (position + 1) & Self.indexMask
        }
        return nil
    }

    private func append(_ frames: UnsafeBufferPointer<UInt64>, _ hash: UInt64) -> UInt32 {
        let identifier = next.withLock { next -> UInt32 in
            // Another thread may have appended it meanwhile.
            if let known = find(frames, hash) { return known }
            let end = next + 1 + frames.count
            guard let room = file.reserve(.stacks, count: end) else { return 0 }
            var position = Int(truncatingIfNeeded: hash) & Self.indexMask
            var probes = 0
            while index[position] != 0 {
                position = (position + 1) & Self.indexMask
                probes += 1
                if probes == Self.probeLimit { return 0 }
            }
            let head = words + next
            for (offset, frame) in frames.enumerated() { head[1 + offset] = frame }
            cmempool_store64_release(head, UInt64(frames.count))
            // Everything reserved may be read; words without a head are zero.
            file.publish(.stacks, count: room)
            cmempool_store64_release(index + position, (hash >> 32) << 32 | UInt64(next))
            defer { next = end }
            return UInt32(next)
        }
        if identifier == 0 { file.countDropped(&file.header.pointee.dropped.stacks) }
        return identifier
    }

    /// A multiply-and-fold hash of the frames; never 0 in the high half, which marks free entries.
    private static func hash(_ frames: UnsafeBufferPointer<UInt64>) -> UInt64 {
        var hash: UInt64 = 0x9E37_79B9_7F4A_7C15
        for frame in frames {
            let product = (hash ^ frame).multipliedFullWidth(by: 0xD6E8_FEB8_6659_FD93)
            hash = product.high ^ product.low &+ 0x9E37_79B9_7F4A_7C15
        }
        return hash | 1 << 63
    }
}
#endif

// What differs for buffers between guard pages: their canaries end where the pages begin.

#if Recorder
internal import CMempoolPlatform
internal import Mempool
internal import MempoolRecording

extension Recorder {
    /// Fills what can be touched around a buffer that was just placed between guard pages.
    @inline(never)
    func didGuard(
        _ region: UnsafeMutablePointer<cmempool_region>, _ record: UnsafeMutablePointer<LedgerRecord>, _ event: GetEvent
    ) {
        record.pointee.flags |= LedgerFlags.guarded
        bytes.surround(region.pointee)
        // Its place in the pool serves some other time.
        if event.didAllocate, bytes.canaryLimit > 0, let home = region.pointee.home {
            BufferBytes.layZones(home, event.capacity)
        }
    }

    /// What was written before a buffer or behind its request, with guard pages or without.
    @inline(__always)
    func damage(
        around base: UnsafeMutableRawPointer?, request: Int, capacity: Int, hasZones: Bool,
        _ region: UnsafeMutablePointer<cmempool_region>?
    ) -> Damage? {
        if let region { return bytes.damage(around: region.pointee) }
        return base.flatMap { bytes.damage(around: $0, request: request, capacity: capacity, hasZones: hasZones) }
    }
}

extension BufferBytes {
    /// The bytes of a red zone before a buffer and of the canary behind its request that lie within the guard pages.
    private func slack(_ region: cmempool_region) -> (before: Int, behind: Int) {
        let end = region.base + UInt(region.request)
        return (min(Self.zoneBytes, Int(region.base - region.low)), min(canaryLimit, Int(region.high - end)))
    }

    fileprivate func surround(_ region: cmempool_region) {
        guard canaryLimit > 0, let base = UnsafeMutableRawPointer(bitPattern: region.base) else { return }
        let slack = slack(region)
        let canary = Self.canary
        (base - slack.before).initializeMemory(as: UInt8.self, repeating: canary, count: slack.before)
        (base + Int(region.request)).initializeMemory(as: UInt8.self, repeating: canary, count: slack.behind)
    }

    fileprivate func damage(around region: cmempool_region) -> Damage? {
        guard canaryLimit > 0, let base = UnsafeRawPointer(bitPattern: region.base) else { return nil }
        let slack = slack(region)
        return Self.damage(base, Int(region.request), slack.behind, Self.canary)
            ?? Self.damage(base, -slack.before, slack.before, Self.canary)
    }
}
#endif

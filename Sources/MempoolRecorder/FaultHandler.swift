// What a recorder does when a thread touches a guard page: the finding, and a short block on standard error.

#if Recorder
internal import CMempoolPlatform
internal import Glibc
internal import Mempool
internal import MempoolRecording

extension Recorder {
    /// Has faults in guarded memory reported, from here on. One line if that is not possible.
    func watchFaults() {
        let isWatching = cmempool_watch_faults { fault in
            Recorder.withCurrent { $0.didFault(fault.pointee) }
        }
        if !isWatching { printLine("faults in guard pages are not reported: \(String(cString: strerror(errno)))") }
    }

    /// Called on the thread that reports, while the one that faulted waits.
    private func didFault(_ fault: cmempool_fault) {
        guard let region = cmempool_region_at(fault.address)?.pointee else { return }
        let isPut = region.state == CMEMPOOL_REGION_PUT.rawValue
        var finding = FindingRecord()
        finding.kind = (isPut ? FindingKind.useAfterPut : .overrun).rawValue
        finding.pool = region.pool
        finding.issuingPool = region.pool
        finding.slot = region.slot
        finding.address = UInt64(region.base)
        finding.request = region.request
        finding.expectedCapacity = region.capacity
        finding.givenCapacity = region.capacity
        finding.bytes = region.capacity
        finding.offset = Int64(bitPattern: UInt64(fault.address &- region.base))
        finding.flags = FindingRecord.faultFlag | (fault.is_read ? FindingRecord.readFlag : 0)
        finding.accessStack = cmempool_capture_interrupted(
            fault.context, fault.stack_low, fault.stack_high, fault.runs_task)
        finding.accessThread = fault.thread_id
        finding.firstTime = cmempool_now()
        let slot = Int(region.slot)
        if let owner = ledger.owner(slot: slot, generation: region.generation) {
            finding.getStack = owner.getStack
            finding.getThread = owner.getThread
            finding.getTime = owner.getTime
            finding.context = scopes.context(owner.context, at: owner.getTime)
            if isPut {
                finding.putStack = owner.putStack
                finding.putThread = owner.putThread
                finding.firstPutTime = owner.putTime
            }
        } else {
            finding.flags |= FindingRecord.historyLostFlag
        }
        if isPut, let present = ledger.present(slot: slot), present.generation > region.generation {
            finding.reissues = (present.generation - region.generation) / 2
            if let next = ledger.owner(slot: slot, generation: region.generation + 2) {
                finding.reissueStack = next.getStack
            }
        }
        if !isPut { ledger.markInFinding(slot: slot, generation: region.generation) }
        let complete = finding
        _ = cold.withLock { $0.findings.add(complete) }
        noteTime(complete.firstTime)
        // The finding is safe; from here on a lock that the faulting thread holds costs no more than the block.
        if !options.isQuiet { printBlock(complete) }
        refreshModules()
    }

    private func printBlock(_ finding: FindingRecord) {
        let isPut = finding.kind == FindingKind.useAfterPut.rawValue
        let touch = finding.flags & FindingRecord.readFlag != 0 ? "read" : "write"
        let what = isPut ? "use after put" : finding.offset < 0 ? "underrun" : "overrun"
        var lines = [
            "\(what): \(touch) at offset \(finding.offset) of a buffer of \(finding.request) bytes",
            "  touched in " + place(of: finding.accessStack),
            "  got in " + place(of: finding.getStack),
        ]
        if isPut { lines.append("  put in " + place(of: finding.putStack)) }
        if let path = file.path { lines.append("files, lines and stacks: mempool-doctor report \(path)") }
        for line in lines { printLine(line) }
    }
}
#endif

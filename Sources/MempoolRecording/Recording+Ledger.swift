// Walks the ledger of a recording in pieces, while its program may still be writing it.

/// What a walk over the ledger met.
package struct LedgerScan: Sendable, Equatable {
    package var outstanding = 0
    package var returned = 0
    package var empty = 0
    /// Being written whenever it was looked at. In the file of a dead process: killed inside a get or put of this slot.
    package var inProgress = 0
    /// Records that the file did not deliver.
    package var missing = 0

    package init() {}
}

extension Recording {
    /// 1 MiB of records at a time: system calls do not show, and neither does the memory.
    private static let ledgerChunkRecords = 16 * 1024
    /// Looks at one record that its program keeps changing. A get or put takes well under a microsecond, a look several.
    private static let tornReadLimit = 3

    /// Calls `body` with the slot number and the record of every slot that is outstanding or was returned.
    ///
    /// Each record is one its program published: torn ones are read again, and given up as in progress after a few times.
    /// 1,000,000 records take some tens of milliseconds; memory stays at a few MiB.
    package func forEachLedgerRecord(_ body: (_ slot: Int, _ record: LedgerRecord) -> Void) -> LedgerScan {
        var scan = LedgerScan()
        let start = Self.offset(.ledger, header)
        let stride = MemoryLayout<LedgerRecord>.stride
        // After a clean exit nobody writes any more. Otherwise the writer may live.
        let mayChange = !isCleanExit
        var slot = 0
        while slot < ledgerCount {
            let wanted = min(Self.ledgerChunkRecords, ledgerCount - slot)
            let offset = start + slot * stride
            let before = mayChange ? file.records(of: LedgerRecord.self, count: wanted, at: offset) : []
            let records = file.records(of: LedgerRecord.self, count: wanted, at: offset)
            let after = mayChange ? file.records(of: LedgerRecord.self, count: wanted, at: offset) : []
            for (index, record) in records.enumerated() {
                var settled: LedgerRecord? = record
                if mayChange {
                    let isSettled =
                        index < before.count && index < after.count
                        && Self.isSettled(record, between: before[index].sequence, and: after[index].sequence)
                    if !isSettled { settled = readAgain(at: offset + index * stride) }
                }
                guard let settled, settled.state != .inProgress else {
                    scan.inProgress += 1
                    continue
                }
                switch settled.state {
                case .outstanding: scan.outstanding += 1
                case .returned: scan.returned += 1
                case .empty, .inProgress:
                    scan.empty += 1
                    continue
                }
                body(slot + index, settled)
            }
            guard records.count == wanted else {
                scan.missing = ledgerCount - slot - records.count
                break
            }
            slot += wanted
        }
        return scan
    }

    /// The record of one slot, or nil if it is outside the ledger or never settles.
    package func ledgerRecord(slot: Int) -> LedgerRecord? {
        guard slot >= 0, slot < ledgerCount else { return nil }
        return readAgain(at: Self.offset(.ledger, header) + slot * MemoryLayout<LedgerRecord>.stride)
    }

    /// Whether a record was published when it was copied: its sequence was the same before and after, and not the mark.
    static func isSettled(_ record: LedgerRecord, between before: UInt64, and after: UInt64) -> Bool {
        before == after && record.sequence == after && record.state != .inProgress
    }

    /// The record between two equal reads of its sequence, or nil if none was seen.
    private func readAgain(at offset: Int) -> LedgerRecord? {
        for _ in 0..<Self.tornReadLimit {
            // The sequence is the first word. Three system calls in a row keep the order of the protocol.
            guard let before = file.records(of: UInt64.self, count: 1, at: offset).first,
                let record = file.records(of: LedgerRecord.self, count: 1, at: offset).first,
                let after = file.records(of: UInt64.self, count: 1, at: offset).first
            else { return nil }
            if Self.isSettled(record, between: before, and: after) { return record }
        }
        return nil
    }
}

// Small recordings with known contents, as the recorder would leave them.

import Foundation
import MempoolRecording

/// Builds the bytes of a recording.
enum RecordingFixture {
    /// A recording of a program that got and put a buffer, made `foreignPuts` foreign puts, and exited cleanly unless it is said otherwise.
    static func bytes(
        foreignPuts: UInt64 = 0, version: UInt32 = RecordingLayout.version, processID: UInt32 = 0,
        isCleanExit: Bool = true, hasGet: Bool = true
    ) -> Data {
        var header = RecordingHeader()
        header.magic = RecordingLayout.magic
        header.version = version
        header.processID = processID
        header.level = RecorderLevel.full.rawValue
        header.unwinder = UnwinderKind.libunwind.rawValue
        header.frameLimit = 64
        header.startRealtime = 1_700_000_000_000_000_000
        header.startMonotonic = 1_000_000_000
        header.lastMonotonic = 3_000_000_000
        header.endMonotonic = 3_000_000_000
        header.flags = isCleanExit ? RecordingHeader.cleanExitFlag : 0

        var finding = FindingRecord()
        finding.kind = FindingKind.foreignPut.rawValue
        finding.count = foreignPuts
        finding.request = 100
        finding.givenCapacity = 100
        finding.bytes = 100 * foreignPuts

        // One page for each section that has records; the others share the offset and have no room.
        for section in RecordingSection.allCases {
            var entry = SectionEntry()
            let isAfterFindings = section.rawValue > RecordingSection.findings.rawValue
            entry.offset = UInt64(RecordingLayout.headerBytes + (isAfterFindings ? RecordingLayout.pageBytes : 0))
            entry.recordBytes = UInt32(section.recordBytes)
            if section == .ledger {
                entry.capacity = 1
                entry.published = 1
            }
            if section == .findings {
                entry.capacity = 1
                entry.published = foreignPuts > 0 ? 1 : 0
            }
            header[section] = entry
        }
        var data = Data()
        withUnsafeBytes(of: header) { data.append(contentsOf: $0) }
        data.append(Data(count: RecordingLayout.headerBytes - data.count))
        withUnsafeBytes(of: finding) { data.append(contentsOf: $0) }
        data.append(Data(count: RecordingLayout.headerBytes + RecordingLayout.pageBytes - data.count))
        // The ledger is the last section.
        var slot = LedgerRecord()
        if hasGet { slot.sequence = 1 << 2 | LedgerState.returned.rawValue }
        withUnsafeBytes(of: slot) { data.append(contentsOf: $0) }
        return data
    }
}

extension Scratch {
    /// Writes a healthy recording and returns its path.
    func healthyRecording() throws -> String { try recording(RecordingFixture.bytes(), "healthy.mempool") }

    /// Writes a recording with one finding and returns its path.
    func findingsRecording() throws -> String {
        try recording(RecordingFixture.bytes(foreignPuts: 2), "findings.mempool")
    }

    /// Writes `data` as a recording and returns its path.
    func recording(_ data: Data, _ name: String) throws -> String {
        try data.write(to: URL(filePath: file(name)))
        return file(name)
    }
}

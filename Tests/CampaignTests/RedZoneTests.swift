// Programs that outgrow the memory of the red zones.

import Foundation
import MempoolRecording
import Testing

@Suite struct RedZoneTests {
    /// The recording of a program that holds so many buffers of 512 B and writes behind the first and the last of them.
    private func record(_ count: Int, _ settings: String) throws -> Recording {
        let scratch = try Scratch()
        let path = scratch.file("recording")
        let end = try Program.run(
            ["zoo", "zones", "\(count)"], environment: ["MEMPOOL_DEBUG": "\(settings),quiet,recording=\(path)"],
            in: scratch)
        #expect(end.status == 0, "\(end)")
        return try Recording(path: path)
    }

    /// Overruns told; nil if there are other findings.
    private func overruns(_ recording: Recording) -> UInt64? {
        guard recording.findings.allSatisfy({ $0.kind == FindingKind.overrun.rawValue }) else { return nil }
        return recording.findings.reduce(0) { $0 + $1.count }
    }

    @Test func `Beyond their bound buffers have no red zones, the recording counts them, and nothing else changes`()
        throws
    {
        let recording = try record(450_000, "full")
        // 24 MiB are 347 slabs of 455 zones and a page each; what a thread was lent of the last one makes no difference.
        let unzoned = Int(recording.header.unzonedBuffers)
        #expect(unzoned > 450_000 - 400_000 && unzoned < 450_000 - 300_000, "\(unzoned)")
        // The write behind the first buffer went into its zone, the one behind the last into nobody's sight.
        #expect(overruns(recording) == 1)
        var flagged = 0
        _ = recording.forEachLedgerRecord { _, record in
            flagged += record.flags & LedgerFlags.unzoned != 0 ? 1 : 0
        }
        #expect(flagged == unzoned)
    }

    @Test func `At level paranoid there is no bound`() throws {
        let recording = try record(20_000, "paranoid,guard=0")
        #expect(recording.header.unzonedBuffers == 0)
        #expect(overruns(recording) == 2)
    }
}

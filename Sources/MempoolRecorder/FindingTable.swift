// `FindingTable`: the bad puts of a recording, grouped by their stacks.

#if Recorder
internal import MempoolRecording

/// Appends findings to the recording, or counts one more of a group it has. One thread at a time: the recorder's cold lock
/// guards it.
struct FindingTable {
    private struct Key: Hashable {
        var kind: UInt32
        var pool: UInt32
        var getStack: UInt32
        var firstPutStack: UInt32
        var putStack: UInt32
        var accessStack: UInt32
    }

    private let file: RecordingFile
    private var groups: [Key: Int] = [:]

    init(file: RecordingFile) { self.file = file }

    var count: Int { groups.count }

    /// Enters a finding. True if it is the first of its group.
    mutating func add(_ finding: FindingRecord) -> Bool {
        let key = Key(
            kind: finding.kind, pool: finding.pool,
            getStack: finding.getStack, firstPutStack: finding.firstPutStack, putStack: finding.putStack,
            accessStack: finding.accessStack
        )
        let records = file.records(.findings, as: FindingRecord.self)
        if let known = groups[key] {
            records[known].count &+= max(1, finding.count)
            records[known].bytes &+= finding.bytes
            records[known].lastTime = finding.firstTime
            records[known].reissues = max(records[known].reissues, finding.reissues)
            records[known].duration = max(records[known].duration, finding.duration)
            return false
        }
        guard file.reserve(.findings, count: groups.count + 1) != nil else {
            file.countDropped(&file.header.pointee.dropped.findings)
            return false
        }
        var finding = finding
        finding.count = max(1, finding.count)
        finding.lastTime = finding.firstTime
        records[groups.count] = finding
        groups[key] = groups.count
        file.publish(.findings, count: groups.count)
        return true
    }

    /// Calls `body` for each group.
    func forEach(_ body: (FindingRecord) -> Void) {
        let records = file.records(.findings, as: FindingRecord.self)
        for index in 0..<groups.count { body(records[index]) }
    }
}
#endif

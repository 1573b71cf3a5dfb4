// `StringTable`: the strings of a recording, appended once each.

#if Recorder
internal import CMempoolPlatform
internal import MempoolRecording

/// Appends strings to the recording's string section. One thread at a time: the recorder's cold lock guards it.
struct StringTable {
    let file: RecordingFile
    private var used = 0

    init(file: RecordingFile) { self.file = file }

    /// Appends a string; one that does not fit is counted as dropped and becomes the empty string.
    mutating func add(_ string: String) -> StringReference {
        var string = string
        return string.withUTF8 { bytes in
            guard bytes.count > 0 else { return StringReference() }
            guard file.reserve(.strings, count: used + bytes.count) != nil else {
                file.countDropped(&file.header.pointee.dropped.strings)
                return StringReference()
            }
            let start = file.records(.strings, as: UInt8.self) + used
            start.update(from: bytes.baseAddress ?? UnsafePointer(start), count: bytes.count)
            defer {
                used += bytes.count
                file.publish(.strings, count: used)
            }
            return StringReference(offset: UInt32(used), length: UInt32(bytes.count))
        }
    }

    /// Sets bytes aside for texts that change; nil if they do not fit. They belong to the caller.
    mutating func room(_ byteCount: Int) -> UInt32? {
        guard file.reserve(.strings, count: used + byteCount) != nil else { return nil }
        defer {
            used += byteCount
            file.publish(.strings, count: used)
        }
        return UInt32(used)
    }
}
#endif

// The first page of a recording: who wrote it, how it ended, where the sections are.

/// Where one section lies and how much of it is published.
package struct SectionEntry: BitwiseCopyable, Sendable, Equatable {
    /// Bytes from the start of the file.
    package var offset: UInt64 = 0
    /// Records that fit at most.
    package var capacity: UInt64 = 0
    /// Records that may be read; only grows. Written with a release store after the records.
    package var published: UInt64 = 0
    /// Bytes per record; a reader of the same version refuses another value.
    package var recordBytes: UInt32 = 0
    package var reserved: UInt32 = 0

    package init() {}
}

/// How much did not fit, by section.
package struct DroppedCounters: BitwiseCopyable, Sendable, Equatable {
    /// Gets whose slot number lies beyond the ledger.
    package var ledger: UInt64 = 0
    /// Captures whose stack found no room.
    package var stacks: UInt64 = 0
    package var findings: UInt64 = 0
    package var strings: UInt64 = 0
    package var modules: UInt64 = 0
    package var pools: UInt64 = 0
    /// Scopes and notes.
    package var contexts: UInt64 = 0

    package init() {}

    package var total: UInt64 { ledger &+ stacks &+ findings &+ strings &+ modules &+ pools &+ contexts }
}

/// How stacks were captured.
package enum UnwinderKind: UInt32, Sendable {
    case none = 0
    case libunwind = 1
    /// libunwind could not be loaded: frame pointers only, frames of code without them are missing.
    case framePointers = 2
}

/// How much the recorder does.
package enum RecorderLevel: UInt32, Sendable, CaseIterable, Comparable {
    case off = 0
    case sampled = 1
    case full = 2
    case paranoid = 3

    package var name: String {
        switch self {
        case .off: "off"
        case .sampled: "sampled"
        case .full: "full"
        case .paranoid: "paranoid"
        }
    }

    package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }

    package init?(name: String) {
        guard let level = Self.allCases.first(where: { $0.name == name }) else { return nil }
        self = level
    }
}

/// The header record at offset 0.
///
/// `magic` is stored last when the file is set up, so a file without it was never complete.
package struct RecordingHeader: BitwiseCopyable, Sendable {
    package var magic: UInt64 = 0
    package var version: UInt32 = RecordingLayout.version
    package var headerBytes: UInt32 = UInt32(RecordingLayout.headerBytes)
    package var processID: UInt32 = 0
    package var level: UInt32 = 0
    package var frameLimit: UInt32 = 0
    package var unwinder: UInt32 = 0
    /// Nanoseconds since 1970.
    package var startRealtime: UInt64 = 0
    /// Nanoseconds of CLOCK_MONOTONIC_COARSE; all other times of the file are on this clock.
    package var startMonotonic: UInt64 = 0
    /// The last time the recorder wrote anything but a ledger record.
    package var lastMonotonic: UInt64 = 0
    /// 0 until a clean exit.
    package var endMonotonic: UInt64 = 0
    /// `cleanExitFlag`, `snapshotFlag`, `estimatedCountersFlag`.
    package var flags: UInt64 = 0
    package var exitStatus: Int32 = 0
    package var reserved: UInt32 = 0
    /// Private memory of the recorder beside this file, bytes.
    package var recorderHeapBytes: UInt64 = 0
    package var commandLine = StringReference()
    package var executable = StringReference()
    package var dropped = DroppedCounters()
    /// Stacks found by their frame pointers that were compared with what the unwinder gives, and how many of them differed.
    package var captureChecks: UInt64 = 0
    package var captureMismatches: UInt64 = 0
    /// Captures for which frame pointers did not do, so that the unwinder was asked.
    package var slowCaptures: UInt64 = 0
    /// Level sampled: one get in so many carries a stack, on average; 1 at the other levels.
    package var sampleInterval: UInt64 = 1
    /// The bounds of what is poisoned of a buffer and what is checked behind its request, bytes; `UInt64.max` for whole.
    package var poisonLimit: UInt64 = 0
    package var canaryLimit: UInt64 = 0
    /// Nanoseconds a buffer may be held; 0 for any time.
    package var heldLimit: UInt64 = 0
    /// Gets between guard pages, and gets that were to be but found no room.
    package var guardedGets: UInt64 = 0
    package var unguardedGets: UInt64 = 0
    /// Buffers that an owner of the program's marked as kept for its life, outstanding now.
    package var keptBuffers: UInt64 = 0
    /// Notes whose closure threw.
    package var failedNotes: UInt64 = 0
    package var sections:
        (
            SectionEntry, SectionEntry, SectionEntry, SectionEntry, SectionEntry,
            SectionEntry, SectionEntry, SectionEntry, SectionEntry, SectionEntry
        ) = (.init(), .init(), .init(), .init(), .init(), .init(), .init(), .init(), .init(), .init())
    /// Buffers that were mapped without red zones, as these had used up their memory. Behind the sections: 0 in files that were
    /// written before there was a bound.
    package var unzonedBuffers: UInt64 = 0
    /// Puts that signal handlers made while their thread was inside of the pool, and that found no room to wait. 0 in files that were
    /// written before they were counted.
    package var lostPuts: UInt64 = 0

    package static let cleanExitFlag: UInt64 = 1
    /// The file is a copy that the program made of its recording while it ran; `lastMonotonic` is the moment.
    package static let snapshotFlag: UInt64 = 2
    /// Level sampled: all counters of buckets are estimates from the sampled gets, but for bad puts. After a clean exit the flag
    /// is gone: gets, puts, allocations and trimmed are exact then. Sizes asked for, histograms and high water stay estimates.
    package static let estimatedCountersFlag: UInt64 = 4

    package init() {}

    package subscript(_ section: RecordingSection) -> SectionEntry {
        get {
            withUnsafeBytes(of: sections) {
                $0.load(fromByteOffset: section.rawValue * MemoryLayout<SectionEntry>.stride, as: SectionEntry.self)
            }
        }
        set {
            withUnsafeMutableBytes(of: &sections) {
                $0.storeBytes(
                    of: newValue,
                    toByteOffset: section.rawValue * MemoryLayout<SectionEntry>.stride,
                    as: SectionEntry.self
                )
            }
        }
    }
}

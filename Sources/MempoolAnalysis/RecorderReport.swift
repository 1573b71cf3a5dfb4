// How the program was recorded: what the recorder did, what it cost, what did not fit and what could not be named.

/// How much of the program was seen, and at what price.
package struct RecorderReport: Codable, Equatable, Sendable {
    /// Path of the recording.
    package var recording: String
    package var level: String
    package var unwinder: String
    /// Frames kept of each stack at most.
    package var frameLimit: Int
    /// Disk or memory-backed bytes that the recording really occupies.
    package var fileBytes: Int
    /// Private memory of the recorder in the process, bytes.
    package var heapBytes: Int
    /// Level sampled: one get in so many was watched, on average; 1 at the other levels.
    package var sampleInterval = 1
    /// Whether the pools' figures are estimates from the gets that were watched. If not, high water and sizes still are at level
    /// sampled.
    package var isEstimate = false
    /// What is overwritten of a buffer at its put and compared before it is used again: the first and last bytes
    /// of what was asked for, half each.
    package var poison = CheckedBytes()
    /// What is filled behind the request at the get and compared at the put; with it, 32 bytes before the buffer and
    /// 32 behind its capacity.
    package var canary = CheckedBytes()
    /// Gets whose buffer lay between guard pages, and gets that found no room there.
    package var guardedGets = 0
    package var unguardedGets = 0
    /// Buffers that were mapped without red zones, as these had used up their memory: what is written behind the capacity of
    /// one of them, or before it, is not noticed at its put.
    package var unzonedBuffers = 0
    /// Puts of signal handlers that found no room to wait for the call that they interrupted: their buffers are outstanding, though
    /// the program put them.
    package var lostPuts = 0
    /// Seconds a buffer may be held; nil for any time.
    package var heldLimitSeconds: Double?
    /// Notes that the program wanted to make and that failed.
    package var failedNotes = 0
    /// What did not fit into the recording, by section.
    package var dropped = DroppedReport()
    /// Stacks found by frame pointers that were compared with the unwinder's, and how many of them differed.
    package var captureChecks = 0
    package var captureMismatches = 0
    /// Captures for which frame pointers did not do, so that the unwinder was asked, and all captures of gets and puts: about
    /// one for each interval of them at level sampled.
    package var slowCaptures = 0
    package var captures = 0
    /// Slots whose record was being written: by a live program now, by a dead one when it was killed.
    package var inProgress = 0
    /// Whether parts of the recording could not be read.
    package var partial = false
    /// What could not be read: sentences.
    package var damage: [String] = []
    /// Frames in the stacks of the findings, and how many of them have no name.
    package var frames = 0
    package var unnamedFrames = 0
    /// Modules to blame for them.
    package var unnamedModules: [UnnamedModule] = []

    package init(
        recording: String, level: String, unwinder: String, frameLimit: Int = 0, fileBytes: Int = 0, heapBytes: Int = 0
    ) {
        self.recording = recording
        self.level = level
        self.unwinder = unwinder
        self.frameLimit = frameLimit
        self.fileBytes = fileBytes
        self.heapBytes = heapBytes
    }
}

/// How much of each buffer is checked.
package struct CheckedBytes: Codable, Equatable, Sendable {
    /// Bytes at most; 0 if nothing is checked, and no bound if it is all.
    package var bytes = 0
    /// Whether the whole of it is checked.
    package var isWhole = false

    package init() {}

    /// From the recording's form, where the largest number stands for the whole.
    package init(limit: UInt64) {
        isWhole = limit == .max
        bytes = Int(clamping: limit)
    }
}

/// What found no room in the recording.
package struct DroppedReport: Codable, Equatable, Sendable {
    package var ledger = 0
    package var stacks = 0
    package var findings = 0
    package var strings = 0
    package var modules = 0
    package var pools = 0
    /// Scopes and notes.
    package var contexts = 0

    package init() {}

    package var total: Int { [ledger, stacks, findings, strings, modules, pools, contexts].reduce(0, Counter.sum) }
}

/// A module some of whose frames have no names, as these would be guesses, or are not there.
package struct UnnamedModule: Codable, Equatable, Sendable {
    package enum Reason: String, Codable, Sendable {
        /// The file on disk has another build-id than the one that ran.
        case changed
        /// The file is gone or cannot be read.
        case missing
        /// There is no build-id to prove that the file is the one that ran.
        case noBuildID = "no-build-id"
        /// The file is the one that ran, but it is stripped.
        case noSymbols = "no-symbols"
        /// Another module was at the same addresses before or after it.
        case shared = "shared-addresses"
    }

    package var path: String
    package var reason: Reason
    /// One sentence with the values that matter and what to do.
    package var explanation: String
    /// Frames of the findings that stay `module+0xoffset` for this reason.
    package var frames: Int

    package init(path: String, reason: Reason, explanation: String, frames: Int) {
        self.path = path
        self.reason = reason
        self.explanation = explanation
        self.frames = frames
    }
}

// A finding: one diagnosed mistake, grouped by its stacks, and the frames these consist of.

/// One diagnosed mistake with everything needed to repair it.
package struct Finding: Codable, Equatable, Sendable {
    /// Declared worst first: reports are sorted by this order.
    ///
    /// A buffer with two owners corrupts data now; one from a stranger or of another pool means that somebody's idea of
    /// ownership is wrong; a slice is a buffer lost at every put; a leak costs memory only.
    package enum Kind: String, Codable, Sendable, CaseIterable {
        case doublePut = "double-put"
        case useAfterPut = "use-after-put"
        case overrun
        case wrongPool = "wrong-pool"
        case foreignPut = "foreign-put"
        case wrongCapacity = "wrong-capacity"
        case poolDestroyed = "pool-destroyed"
        case leak
        case heldTooLong = "held-too-long"
    }

    package var kind: Kind
    /// Name of the pool that saw it.
    package var pool: String
    /// What happened, one or two sentences.
    package var happened: String
    /// What to do, one or two sentences.
    package var advice: String
    /// How often: for a leak the buffers that are outstanding.
    package var count: Int
    /// Capacity of all buffers concerned, bytes.
    package var bytes: Int
    /// What was asked for, bytes in all; leaks only.
    package var requestedBytes: Int?
    /// First frame of the user's own code; nil if no stack was captured.
    package var site: Frame?
    package var stacks: FindingStacks
    /// Age of the oldest and the newest occurrence at the end of the recording, seconds.
    package var oldestAgeSeconds: Double
    package var newestAgeSeconds: Double
    /// Linux identifiers of the threads that did it, ascending, at most `threadLimit`.
    package var threads: [Int] = []
    /// How many threads did it; more than `threads` holds if that is full.
    package var threadCount = 0
    /// Capacity of what was put, bytes; bad puts only.
    package var givenCapacity: Int?
    /// Capacity the pool issued, bytes.
    package var expectedCapacity: Int?
    /// Where in the buffer the slice that was put began, bytes; wrong capacity only.
    package var sliceOffset: Int?
    /// Whether the buffer had been handed out again before the second put; double put only.
    package var reissued: Bool?
    /// How often it had been handed out again.
    package var reissues: Int?
    /// Seconds from the first put to the second of the first occurrence; double put only.
    package var secondsBetweenPuts: Double?
    /// Whether the get and the first put are older than the recorder remembers; bad puts only.
    package var historyLost: Bool?
    /// The pool that issued the buffer; wrong pool only.
    package var issuingPool: String?

    /// Enough to recognise a thread pool; more identifiers tell nothing.
    package static let threadLimit = 8

    package init(kind: Kind, pool: String, count: Int, bytes: Int, stacks: FindingStacks) {
        self.kind = kind
        self.pool = pool
        self.count = count
        self.bytes = bytes
        self.stacks = stacks
        happened = ""
        advice = ""
        oldestAgeSeconds = 0
        newestAgeSeconds = 0
    }
}

/// The stacks that explain a finding; those that do not apply or were not captured are nil.
package struct FindingStacks: Codable, Hashable, Sendable {
    /// Who got the buffer.
    package var get: [Frame]?
    /// Who put it: for a double put the first put, which was right.
    package var put: [Frame]?
    /// The second put of a double put.
    package var secondPut: [Frame]?
    /// Who got the buffer between the two puts.
    package var reissue: [Frame]?

    package init(get: [Frame]? = nil, put: [Frame]? = nil, secondPut: [Frame]? = nil, reissue: [Frame]? = nil) {
        self.get = get
        self.put = put
        self.secondPut = secondPut
        self.reissue = reissue
    }
}

/// One frame of a stack, named as far as it can be.
package struct Frame: Codable, Hashable, Sendable {
    /// Demangled, or `module+0xoffset` if it has no name.
    package var function: String
    package var file: String?
    package var line: Int?
    /// 0 is unknown.
    package var column: Int?
    /// Expanded into the frame below it; shares its address.
    package var inlined: Bool
    /// An async parent, which waits and is on no thread's stack.
    package var async: Bool
    /// File name of the image.
    package var module: String
    /// Code of the pool or its recorder.
    package var isOwn: Bool
    /// Code of the system, the standard library or Foundation.
    package var isSystem: Bool
    /// Thunks and other code that nobody wrote.
    package var isCompilerGenerated: Bool

    package init(
        function: String, file: String? = nil, line: Int? = nil, column: Int? = nil, inlined: Bool = false,
        async: Bool = false, module: String = "", isOwn: Bool = false, isSystem: Bool = false,
        isCompilerGenerated: Bool = false
    ) {
        self.function = function
        self.file = file
        self.line = line
        self.column = column
        self.inlined = inlined
        self.async = async
        self.module = module
        self.isOwn = isOwn
        self.isSystem = isSystem
        self.isCompilerGenerated = isCompilerGenerated
    }

    /// Whether somebody who depends on the pool wrote it and can change it.
    package var isUserCode: Bool { !isOwn && !isSystem && !isCompilerGenerated && file != nil && (line ?? 0) > 0 }
}

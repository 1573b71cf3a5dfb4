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
    /// How often: for a leak the buffers that are outstanding. At level sampled what was seen; `estimatedCount` has the rest.
    package var count: Int
    /// Capacity of all buffers concerned, bytes.
    package var bytes: Int
    /// What `count` and `bytes` stand for, as only one get in some was watched; level sampled, and only for kinds that are found
    /// by watching gets.
    package var estimatedCount: Int?
    package var estimatedBytes: Int?
    /// What was asked for, bytes in all; outstanding buffers only.
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
    /// Where what was put lay, or the buffer whose bytes were touched, of the first case: `0x` and hexadecimal digits. Nil if
    /// unknown; bad puts, use after put and overrun only.
    package var address: String?
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
    /// Whether the get was not among those that were watched, so that nothing is known of it; level sampled only.
    package var isUnsampled: Bool?
    /// The pool that issued the buffer; wrong pool only.
    package var issuingPool: String?
    /// Bytes the first of the buffers was asked for; use after put, overrun and held too long.
    package var request: Int?
    /// The first byte that was touched or is not as it should be, from the buffer's first one; below 0 for an underrun. Use
    /// after put and overrun only.
    package var offset: Int?
    /// From that byte through the last one that was touched or seen to be wrong; nil if unknown.
    package var badBytes: Int?
    /// What all those bytes should be, two hexadecimal digits; nil if the touch itself was caught.
    package var expectedByte: String?
    /// What was found at `offset`, at most 16 bytes, as pairs of hexadecimal digits between blanks.
    package var foundBytes: String?
    /// What the touch was; nil if unknown.
    package var access: Access?
    /// What noticed it; use after put and overrun only.
    package var caughtBy: Detector?
    /// Seconds from the put to the touch, or until it was noticed; use after put only.
    package var secondsAfterPut: Double?
    /// The longest time that a buffer was held, seconds; held too long only.
    package var heldSeconds: Double?
    /// Whether the buffers are still held; held too long only.
    package var isStillHeld: Bool?
    /// Name of the scope that the buffers were got in.
    package var scope: String?
    /// Whether that scope has ended; nil without a scope.
    package var scopeEnded: Bool?
    /// Whether the buffers were got outside of all scopes, in a program that uses scopes; outstanding buffers only.
    package var isUnscoped: Bool?
    /// What the program noted at the gets: different texts, at most `noteLimit`.
    package var notes: [String] = []
    /// How many different notes there are.
    package var noteCount = 0
    /// Thread and time of each step of the first occurrence; nil for leaks.
    package var events: FindingEvents?

    /// What a touch did.
    package enum Access: String, Codable, Sendable { case read, write }

    /// What noticed a touch.
    package enum Detector: String, Codable, Sendable {
        /// The bytes of a buffer were overwritten at the put, and had changed when it was to be used again.
        case poison
        /// The bytes around the request were filled at the get, and had changed at the put.
        case canary
        /// One of the buffer's own functions, at the touch.
        case accessor
        /// The processor, at the touch: the program ended there.
        case guardPage = "guard-page"
    }

    /// Enough to recognise a thread pool; more identifiers tell nothing.
    package static let threadLimit = 8
    /// Enough to recognise what the buffers were for.
    package static let noteLimit = 8

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
    /// Who put it: for a double put the first put, which was right; for a use after put the put before it; for an overrun the
    /// put that noticed it.
    package var put: [Frame]?
    /// The second put of a double put.
    package var secondPut: [Frame]?
    /// Who got the buffer after the put and before the mistake.
    package var reissue: [Frame]?
    /// The touch itself, if it was caught.
    package var access: [Frame]?
    /// Where the pool was destroyed.
    package var destroy: [Frame]?

    package init(
        get: [Frame]? = nil, put: [Frame]? = nil, secondPut: [Frame]? = nil, reissue: [Frame]? = nil,
        access: [Frame]? = nil, destroy: [Frame]? = nil
    ) {
        self.get = get
        self.put = put
        self.secondPut = secondPut
        self.reissue = reissue
        self.access = access
        self.destroy = destroy
    }
}

/// The steps of a mistake; named as the stacks are, nil where nothing is known.
package struct FindingEvents: Codable, Equatable, Sendable {
    package var get: FindingEvent?
    package var put: FindingEvent?
    package var secondPut: FindingEvent?
    package var access: FindingEvent?
    package var destroy: FindingEvent?

    package init() {}

    /// Those that are known, in the order of time.
    package var all: [FindingEvent] { [get, put, secondPut, access, destroy].compactMap { $0 } }
}

/// Who did one step of a mistake, and when.
package struct FindingEvent: Codable, Equatable, Sendable {
    /// Linux identifier of the thread; nil if unknown.
    package var thread: Int?
    /// Seconds before the end of the recording; nil if unknown.
    package var ageSeconds: Double?

    package init(thread: Int?, ageSeconds: Double?) {
        self.thread = thread
        self.ageSeconds = ageSeconds
    }
}

/// One frame of a stack, named as far as it can be.
package struct Frame: Codable, Hashable, Sendable {
    /// Demangled, or `module+0xoffset` if it has no name.
    package var function: String
    package var file: String?
    /// Nil if unknown; `file` is the one that declares the function then, if that is known.
    package var line: Int?
    /// Nil if unknown, as the line is.
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

    /// Writes unknown places as null: a reader finds every key in every frame.
    package func encode(to encoder: any Encoder) throws {
        var values = encoder.container(keyedBy: CodingKeys.self)
        try values.encode(function, forKey: .function)
        try values.encode(file, forKey: .file)
        try values.encode(line, forKey: .line)
        try values.encode(column, forKey: .column)
        try values.encode(inlined, forKey: .inlined)
        try values.encode(async, forKey: .async)
        try values.encode(module, forKey: .module)
        try values.encode(isOwn, forKey: .isOwn)
        try values.encode(isSystem, forKey: .isSystem)
        try values.encode(isCompilerGenerated, forKey: .isCompilerGenerated)
    }

    /// Whether somebody who depends on the pool wrote it and can change it.
    package var isUserCode: Bool { isUserFunction && (line ?? 0) > 0 }

    /// Whether it is a function of theirs, also where the compiler put code of its own between its lines.
    package var isUserFunction: Bool { !isOwn && !isSystem && !isCompilerGenerated && file != nil }
}

// `PoolConfiguration`: what can be chosen about a pool.

internal import Glibc

/// A bound on bytes, or explicitly none.
public enum ByteLimit: Sendable, Equatable {
    /// At most so many bytes; 0 keeps nothing.
    case bytes(Int)
    /// No bound.
    case unlimited

    /// The bound as a number.
    var value: Int {
        switch self {
        case .bytes(let count): count
        case .unlimited: .max
        }
    }
}

/// When idle memory goes back to the system by itself.
public enum IdleDecay: Sendable, Equatable {
    /// At the latest after a buffer lay on a shelf for so many seconds, 0.01 to 1e9.
    ///
    /// What a living thread keeps for itself is not visited: at most 64 buffers or 4 MiB per bucket, whichever is less, or one larger
    /// buffer. It stays until the thread ends or calls ``BufferPool/trim()`` itself.
    case after(seconds: Double)
    /// Only by ``BufferPool/trim()``.
    case never
}

/// When a pool overwrites its buffers with zeros.
public enum Zeroing: Sendable, Equatable {
    /// Never: a buffer holds what was there before.
    case never
    /// At the put, the bytes that were asked for: nothing outlives its owner.
    case onPut
    /// At the get, the bytes that are asked for: every buffer starts as zeros.
    case onGet
}

/// The choices a pool is made with. The defaults are those of the default pool.
public struct PoolConfiguration: Sendable, Equatable {
    /// What reports call the pool; empty: `#` and the pool's number.
    public var name: String
    /// The capacities of the buckets.
    public var layout: BucketLayout
    /// The most bytes of idle memory: what lies on the shelves and what threads may keep. Beyond it, buffers that come back are
    /// *trimmed*: their memory goes back to the system.
    public var idleLimit: ByteLimit
    /// When idle memory goes back to the system by itself.
    public var decay: IdleDecay
    /// When buffers are overwritten with zeros.
    public var zeroing: Zeroing

    /// The default of ``idleLimit``: an eighth of the machine's memory, at most 1 GiB, which holds the largest burst that the
    /// standard buckets are meant for, 64 buffers of 16 MiB.
    public static let defaultIdleLimit = ByteLimit.bytes(min(SystemMemory.physicalBytes / 8, 1 << 30))
    /// The default of ``decay``: long enough to live through the pauses of a busy server, short enough to give a
    /// neighbour the memory of a burst.
    public static let defaultDecay = IdleDecay.after(seconds: 30)

    /// Makes a configuration.
    ///
    /// - Parameters:
    ///   - name: What reports call the pool; empty: `#` and the pool's number.
    ///   - layout: The capacities of the buckets.
    ///   - idleLimit: The most bytes of idle memory.
    ///   - decay: When idle memory goes back to the system by itself.
    ///   - zeroing: When buffers are overwritten with zeros.
    public init(
        name: String = "", layout: BucketLayout = .standard, idleLimit: ByteLimit = defaultIdleLimit,
        decay: IdleDecay = defaultDecay, zeroing: Zeroing = .never
    ) {
        self.name = name
        self.layout = layout
        self.idleLimit = idleLimit
        self.decay = decay
        self.zeroing = zeroing
    }

    func validate() throws(PoolConfigurationError) {
        if case .bytes(let count) = idleLimit, count < 0 {
            throw PoolConfigurationError(description: "idleLimit is \(count) bytes; it must be 0 or more")
        }
        if case .after(let seconds) = decay, !(seconds >= 0.01 && seconds <= 1e9) {
            throw PoolConfigurationError(description: "decay is after \(seconds) seconds; it must be 0.01 to 1e9")
        }
    }
}

/// A configuration that no pool can be made with.
public struct PoolConfigurationError: Error, Equatable, CustomStringConvertible {
    /// One sentence that names the offending entry and what would be valid.
    public var description: String
}

/// Memory that the system refused, or a slot that there was none left of.
public struct PoolAllocationError: Error, Equatable, CustomStringConvertible {
    /// Bytes that were asked for from the system.
    public let byteCount: Int
    /// The system's error number; `ENOSPC` if all slots are in use, 2^24 in all pools together, idle ones
    /// included.
    public let errorNumber: Int32

    /// One sentence with the bytes and the system's reason.
    public var description: String {
        errorNumber == ENOSPC
            ? "all \(SlotTable.slotLimit) slots of the process are in use, by outstanding and idle buffers of all pools"
            : "the system refused \(byteCount) bytes: \(SystemMemory.text(of: errorNumber))"
    }
}

// `PoolConfiguration`: what can be chosen about a pool.

/// The choices a pool is made with.
public struct PoolConfiguration: Sendable, Equatable {
    /// What reports call the pool; empty: `#` and the pool's number.
    public var name: String
    /// The most bytes of idle buffers the pool keeps beside what threads hold; beyond it, buffers that come back are
    /// *trimmed*: their memory goes back to the system. At least 0.
    public var shelfLimitBytes: Int

    /// Makes a configuration.
    ///
    /// - Parameters:
    ///   - name: What reports call the pool; empty: `#` and the pool's number.
    ///   - shelfLimitBytes: The most bytes of idle buffers beside what threads hold. The default of 1 GiB holds the largest
    ///     burst that the standard buckets are meant for: 64 buffers of 16 MiB.
    public init(name: String = "", shelfLimitBytes: Int = 1 << 30) {
        self.name = name
        self.shelfLimitBytes = shelfLimitBytes
    }
}

/// A configuration that no pool can be made with.
public struct PoolConfigurationError: Error, Equatable, CustomStringConvertible {
    /// One sentence that names the offending entry and what would be valid.
    public var description: String
}

// `Advice`: what could be better about the use of a pool without being a mistake, and the bounds above which it is said.

/// One thing about a pool's use that costs time or memory. Changes neither verdict nor exit status.
package struct Advice: Codable, Equatable, Sendable {
    /// In the order in which reports show them.
    package enum Kind: String, Codable, Sendable, CaseIterable {
        /// Of what was put, too much did not go back to a bucket.
        case discardedOften = "discarded-often"
        /// Too much was asked for that no bucket holds.
        case oversizedOften = "oversized-often"
        /// Too many gets of a bucket had to allocate although buffers had been there.
        case lowHitRate = "low-hit-rate"
        /// The buffers of a bucket that were out at a time take much memory.
        case highWater = "high-water"
        /// The pool was used too little to judge it.
        case tooFewOperations = "too-few-operations"
    }

    package var kind: Kind
    package var pool: String
    /// The bucket's capacity, bytes; nil if it concerns the whole pool.
    package var capacity: Int?
    /// How often it happened: puts discarded, oversized gets, gets that allocated; for a high water the buffers.
    package var count: Int
    /// Out of how many puts, gets and oversized gets, or gets of the bucket.
    package var operations: Int
    /// `count` of `operations`, per cent.
    package var percent: Double
    /// What happened, one sentence.
    package var happened: String
    /// Who causes it, as far as known, the main one first.
    package var sites: [AdviceSite] = []
    /// What the counts of the sites are parts of: puts of findings, or buffers whose last owner the recording knows. 0 if nothing
    /// is known.
    package var siteTotal = 0
    /// What to do, one sentence.
    package var advice: String

    package init(
        kind: Kind, pool: String, capacity: Int? = nil, count: Int, operations: Int, happened: String, advice: String
    ) {
        self.kind = kind
        self.pool = pool
        self.capacity = capacity
        self.count = count
        self.operations = operations
        percent = operations > 0 ? (Double(count) / Double(operations) * 1000).rounded() / 10 : 0
        self.happened = happened
        self.advice = advice
    }

    /// Operations below which nothing is judged: a rate of one per cent then rests on ten cases.
    package static let operationFloor = 1000
    /// Puts that are discarded, and requests that are oversized, of which more is too many, per cent.
    package static let discardPercent = 1.0
    package static let oversizedPercent = 1.0
    /// Gets that allocate again what had been there, of which more is too many, per cent: an allocation costs some hundred
    /// times what a get costs that is served.
    package static let missPercent = 10.0
    /// A quarter of what a pool keeps idle at most, by default.
    package static let highWaterBytes = 256 * 1024 * 1024
}

/// A place that causes what advice is about.
package struct AdviceSite: Codable, Equatable, Sendable {
    package var site: Frame
    package var count: Int

    package init(site: Frame, count: Int) {
        self.site = site
        self.count = count
    }
}

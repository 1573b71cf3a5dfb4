// Finds what could be better about the use of the pools: from their counters, then with the places from ledger and findings.

internal import MempoolRecording

/// Makes advice out of the figures of the pools.
struct AdviceBuilder {
    /// A pool's figures with its number in the recording.
    let pools: [(number: Int, report: PoolReport)]

    /// Advice whose places are not known yet.
    private struct Draft {
        var advice: Advice
        /// Whose users the ledger may know.
        var row: PoolRow?
    }

    /// The rows whose users the ledger is to be asked for.
    var rows: Set<PoolRow> { Set(pools.flatMap { drafts($0.report, $0.number) }.compactMap(\.row)) }

    /// All advice, pool by pool.
    func advice(groups: RecordedGroups, stacks: NamedStacks, findings: [Finding]) -> [Advice] {
        pools.flatMap { number, report in
            drafts(report, number).map { draft in
                var advice = draft.advice
                if let row = draft.row {
                    addUsers(of: row, groups, stacks, to: &advice)
                } else if advice.kind == .discardedOften {
                    addDiscards(findings, to: &advice)
                }
                return advice
            }
        }
    }

    // MARK: - Places

    private func addUsers(of row: PoolRow, _ groups: RecordedGroups, _ stacks: NamedStacks, to advice: inout Advice) {
        let counts = groups.users[row] ?? [:]
        advice.siteTotal = counts.values.reduce(0, Counter.sum)
        let sites = groups.mainUsers(of: row).compactMap { user in
            NamedStacks.site(of: stacks.frames(user.stack)).map { AdviceSite(site: $0, count: user.count) }
        }
        advice.sites = Self.merged(sites)
        if advice.sites.isEmpty { advice.siteTotal = 0 }
    }

    private func addDiscards(_ findings: [Finding], to advice: inout Advice) {
        let discards = findings.filter { finding in
            let isDiscard =
                switch finding.kind {
                case .doublePut, .wrongCapacity, .foreignPut, .wrongPool: true
                case .useAfterPut, .overrun, .poolDestroyed, .leak, .heldTooLong: false
                }
            return isDiscard && finding.pool == advice.pool
        }
        let sites = discards.compactMap { finding in finding.site.map { AdviceSite(site: $0, count: finding.count) } }
        advice.sites = Array(Self.merged(sites).prefix(RecordedGroups.userLimit))
        advice.siteTotal = advice.sites.isEmpty ? 0 : discards.map(\.count).reduce(0, Counter.sum)
    }

    /// One entry for each place, those with the highest counts first.
    static func merged(_ sites: [AdviceSite]) -> [AdviceSite] {
        var result: [AdviceSite] = []
        var positions: [Frame: Int] = [:]
        for site in sites {
            if let index = positions[site.site] {
                result[index].count = Counter.sum(result[index].count, site.count)
            } else {
                positions[site.site] = result.count
                result.append(site)
            }
        }
        // Equal counts keep their order.
        return result.enumerated().sorted { ($1.element.count, $0.offset) < ($0.element.count, $1.offset) }
            .map(\.element)
    }

    // MARK: - Rules

    private func drafts(_ pool: PoolReport, _ number: Int) -> [Draft] {
        let requests = Counter.sum(pool.stats.gets, pool.stats.oversized)
        guard requests > 0 else { return [] }
        guard requests >= Advice.operationFloor else {
            let advice = Advice(
                kind: .tooFewOperations, pool: pool.name, count: requests, operations: Advice.operationFloor,
                happened: "Too few operations to judge: \(Sentences.plural(requests, "get")) of "
                    + "\(Sentences.grouped(Advice.operationFloor)) that are needed.",
                advice: "Observe a longer run."
            )
            return [Draft(advice: advice)]
        }
        var drafts: [Draft] = []
        if let advice = discarded(pool) { drafts.append(Draft(advice: advice)) }
        if let advice = oversized(pool, requests: requests) {
            drafts.append(Draft(advice: advice, row: PoolRow(pool: number, row: pool.buckets.count)))
        }
        for (index, bucket) in pool.buckets.enumerated() where bucket.gets >= Advice.operationFloor {
            let row = PoolRow(pool: number, row: index)
            if let advice = lowHitRate(pool, bucket) { drafts.append(Draft(advice: advice, row: row)) }
            if let advice = highWater(pool, bucket) { drafts.append(Draft(advice: advice, row: row)) }
        }
        return drafts
    }

    private func discarded(_ pool: PoolReport) -> Advice? {
        let discards = pool.discards
        // The end of an oversized buffer is no mistake of the one who puts it.
        let count = [discards.wrongCapacity, discards.doublePut, discards.foreign, discards.wrongPool]
            .reduce(0, Counter.sum)
        let puts = [pool.stats.puts, discards.oversized, count].reduce(0, Counter.sum)
        guard puts >= Advice.operationFloor, Self.isAbove(Advice.discardPercent, count, of: puts) else { return nil }
        let advice =
            discards.wrongCapacity > count / 2
            ? "Keep the buffer that get returned and put that one: each slice that is put costs an allocation later."
            : "Correct the puts that the findings name."
        return Advice(
            kind: .discardedOften, pool: pool.name, count: count, operations: puts,
            happened: "\(Sentences.grouped(count)) of \(Sentences.plural(puts, "put")) "
                + "(\(Self.percent(count, of: puts))) were discarded.", advice: advice
        )
    }

    private func oversized(_ pool: PoolReport, requests: Int) -> Advice? {
        let count = pool.stats.oversized
        guard Self.isAbove(Advice.oversizedPercent, count, of: requests) else { return nil }
        let largest = pool.buckets.map(\.capacity).max() ?? 0
        let bucket = Self.capacity(for: pool.requestSizes.filter { $0.from > largest })
        let held = bucket.map { "Add a bucket of \(Units.bytes($0)) to the pool's layout, which holds 9 of 10 of them" }
        return Advice(
            kind: .oversizedOften, pool: pool.name, count: count, operations: requests,
            happened: "\(Sentences.grouped(count)) of \(Sentences.plural(requests, "get")) "
                + "(\(Self.percent(count, of: requests))) asked for more than the largest bucket's \(Units.bytes(largest)), "
                + "so each was allocated for itself.",
            advice: (held ?? "Add a larger bucket to the pool's layout")
                + ", or work in pieces of at most \(Units.bytes(largest))."
        )
    }

    /// The capacity that nine of ten of these requests fit into; nil without requests, or if no bucket can be so large.
    private static func capacity(for bins: [RequestSizeBin]) -> Int? {
        let total = bins.map { Double($0.count) }.reduce(0, +)
        var sum = 0.0
        for bin in bins {
            sum += Double(bin.count)
            // Bins end just below a round number.
            if sum >= total * 0.9 { return bin.to < 1 << 40 ? bin.to + 1 : nil }
        }
        return nil
    }

    private func lowHitRate(_ pool: PoolReport, _ bucket: BucketReport) -> Advice? {
        // What was out at a time had to be allocated once; what goes beyond was allocated again.
        let again = bucket.allocations - min(max(0, bucket.highWater), bucket.allocations)
        guard again > 0, Self.isAbove(Advice.missPercent, again, of: bucket.gets) else { return nil }
        let advice: String
        if bucket.wrongCapacity > again / 2 {
            advice =
                "Put whole buffers: \(Sentences.plural(bucket.wrongCapacity, "buffer")) went as slices and had to be replaced."
        } else if bucket.trimmed > again / 2 {
            advice =
                "Raise the pool's idleLimit: \(Sentences.plural(bucket.trimmed, "put")) found no room and gave the memory back."
        } else {
            advice = "Lengthen the pool's decay, or set it to never: the memory goes back to the system between bursts."
        }
        return Advice(
            kind: .lowHitRate, pool: pool.name, capacity: bucket.capacity, count: bucket.allocations,
            operations: bucket.gets,
            happened: "\(Sentences.grouped(bucket.allocations)) of \(Sentences.plural(bucket.gets, "get")) "
                + "(\(Self.percent(bucket.allocations, of: bucket.gets))) had to allocate, though at most "
                + "\(Sentences.plural(bucket.highWater, "buffer was", "buffers were")) out at a time.", advice: advice
        )
    }

    private func highWater(_ pool: PoolReport, _ bucket: BucketReport) -> Advice? {
        let bytes = Counter.product(max(0, bucket.highWater), max(0, bucket.capacity))
        guard bytes >= Advice.highWaterBytes else { return nil }
        return Advice(
            kind: .highWater, pool: pool.name, capacity: bucket.capacity, count: bucket.highWater,
            operations: bucket.gets,
            happened: "\(Sentences.plural(bucket.highWater, "buffer was", "buffers were")) out at a time, "
                + "\(Units.bytes(bytes)) of memory.",
            advice: "Put each buffer before the next get, or bound how much is done at a time; if the work needs that "
                + "much, there is nothing to do."
        )
    }

    // MARK: - Shares

    private static func isAbove(_ percent: Double, _ part: Int, of whole: Int) -> Bool {
        part > 0 && whole > 0 && Double(part) / Double(whole) * 100 >= percent
    }

    private static func percent(_ part: Int, of whole: Int) -> String {
        Units.decimal(Double(part) / Double(whole) * 100) + " %"
    }
}

// The words of a report: what happened and what to do, for each kind of finding. Kept in one place so that they stay alike.

/// Sentences about findings.
package enum Sentences {
    /// `1 buffer`, `1,000 buffers`.
    package static func plural(_ count: Int, _ one: String, _ many: String? = nil) -> String {
        count == 1 ? "1 \(one)" : "\(grouped(count)) \(many ?? one + "s")"
    }

    /// A number with commas between thousands.
    package static func grouped(_ number: Int) -> String {
        let digits = String(number.magnitude)
        var text = ""
        for (index, digit) in digits.enumerated() {
            if index > 0, (digits.count - index) % 3 == 0 { text.append(",") }
            text.append(digit)
        }
        return (number < 0 ? "-" : "") + text
    }

    /// `3 buffers leaked, 1 double put`, worst first, without a full stop.
    package static func summary(of findings: [Finding]) -> String {
        Finding.Kind.allCases.compactMap { kind in
            let ofKind = findings.filter { $0.kind == kind }
            let count = ofKind.map { $0.estimatedCount ?? $0.count }.reduce(0, Counter.sum)
            guard count > 0 else { return nil }
            let about = ofKind.contains { $0.estimatedCount != nil } ? "about " : ""
            return about + named(kind, count)
        }.joined(separator: ", ")
    }

    private static func named(_ kind: Finding.Kind, _ count: Int) -> String {
        switch kind {
        case .leak: return plural(count, "buffer leaked", "buffers leaked")
        case .doublePut: return plural(count, "double put")
        case .wrongPool: return plural(count, "put into a wrong pool", "puts into a wrong pool")
        case .foreignPut: return plural(count, "foreign put")
        case .wrongCapacity: return plural(count, "put of a wrong capacity", "puts of a wrong capacity")
        case .useAfterPut: return plural(count, "use after a put", "uses after a put")
        case .overrun: return plural(count, "overrun")
        case .poolDestroyed:
            return plural(count, "buffer outstanding in a destroyed pool", "buffers outstanding in destroyed pools")
        case .heldTooLong: return plural(count, "buffer held too long", "buffers held too long")
        }
    }

    /// What sentences need to know beside their finding.
    struct Circumstances {
        var isRunning = false
        /// Nobody knows what it would have done with its buffers.
        var hasDied = false
        /// One get in so many was watched.
        var sampleInterval = 1
        /// Seconds a buffer may be held.
        var heldLimitSeconds = 0.0
    }

    /// What happened.
    static func happened(_ finding: Finding, _ circumstances: Circumstances) -> String {
        // The cases of a finding have their stacks in common, and not what is said about bytes and times.
        let often = finding.count == 1 ? "" : "\(grouped(finding.count)) times; the first: "
        let lost =
            finding.isUnsampled == true
            ? " Its get was not among those that were watched."
            : finding.historyLost == true ? " Its get and first put are older than the history kept." : ""
        let place = finding.address.map { " at \($0)" } ?? ""
        switch finding.kind {
        case .leak: return leaked(finding, circumstances)
        case .heldTooLong: return heldTooLong(finding, circumstances)
        case .poolDestroyed where finding.isUnsampled == true:
            return
                "\(plural(finding.count, "buffer was", "buffers were")) outstanding when pool \(finding.pool) was destroyed. "
                + "The memory is lost. \(unwatched)"
        case .poolDestroyed:
            let were = amount(finding, circumstances) + (finding.count == 1 ? " got here was" : " got here were")
            return "\(were) outstanding when pool \(finding.pool) was destroyed. The memory is lost: "
                + "there is no pool to put into any more."
        case .doublePut:
            let reissues = finding.reissues ?? 0
            let again =
                reissues > 0
                ? "yes, \(reissues == 1 ? "once" : plural(reissues, "time")), so the second put was made with a buffer that belonged to somebody else."
                : "no."
            return
                "\(often)A buffer was put a second time; the second put was refused. Re-issued in between: \(again)\(lost)"
        case .wrongPool:
            let issuer = finding.issuingPool.map { "pool \($0)" } ?? "another pool"
            return "\(often)A buffer of \(issuer)\(place) was put into pool \(finding.pool). "
                + "The put was refused: the buffer is still outstanding in \(issuer).\(lost)"
        case .foreignPut:
            let size = finding.givenCapacity.map { $0 > 0 ? " of \(plural($0, "byte"))" : "" } ?? ""
            return
                "\(often)Memory\(size)\(place) that no pool issued was put. The put was refused and nothing was touched."
        case .wrongCapacity:
            let given = finding.givenCapacity.map { plural($0, "byte") } ?? "unknown size"
            let expected = finding.expectedCapacity.map { grouped($0) } ?? "?"
            let offset =
                finding.sliceOffset.map { $0 > 0 ? " It starts \(plural($0, "byte")) into the buffer." : "" } ?? ""
            return "\(often)A slice of \(given) was put instead of the buffer of \(expected).\(offset) "
                + "The buffer was discarded, not reused.\(lost)"
        case .useAfterPut: return often + usedAfterPut(finding) + lost
        case .overrun: return often + overrun(finding)
        }
    }

    /// Why frames that have functions have no lines.
    static func unreadDebugFile(_ path: String, frames: Int) -> String {
        "\(plural(frames, "frame has", "frames have")) a function and no line: the debug information of \(path) takes more steps to "
            + "read than a file of its size needs, so it was given up. Build the file again if it is yours."
    }

    /// Why what only the counters know has no place.
    static let unwatched = "None of the gets was among those that were watched, so the place is not known."

    /// How a program ended that did not reach a clean exit, as far as that is known, and what follows for the findings.
    static func death(_ ending: ProcessEnding) -> String {
        if ending.isReplaced {
            return
                "The process replaced this program by another one, which has a recording of its own; what this one held then "
                + "is listed as leaked."
        }
        guard ending.signal == nil, ending.status == nil else {
            return "The program died without a clean exit; what it held then is listed as leaked."
        }
        return
            "The program did not end in order, or this is a copy of the recording of one that runs; what it held then is "
            + "listed as leaked."
    }

    /// Why nothing is known of a process whose end nobody sees.
    static func outlived(by processID: Int) -> String {
        "Process \(processID) still ran when the program had ended, so what became of its buffers was not observed. Make the "
            + "program wait for it, or keep its recording (--keep) and report on that later."
    }

    /// The call that puts a buffer back: the plain function knows the default pool alone.
    private static func put(to pool: String) -> String {
        pool == "default" ? "putBuffer(buffer)" : "pool.put(buffer)"
    }

    /// What to do.
    static func advice(_ finding: Finding) -> String {
        switch finding.kind {
        case .leak where finding.isUnsampled == true, .poolDestroyed where finding.isUnsampled == true:
            "Run with MEMPOOL_DEBUG=full: it names the place."
        case .leak:
            "Put the buffer on every path out of the function, errors included: use withBuffer, or defer { \(put(to: finding.pool)) } right after the get."
        case .doublePut:
            finding.reissued == true
                ? "Decide which of the two puts owns the buffer and remove the other: the one who got it in between may have read or written a stranger's bytes."
                : "Decide which of the two puts owns the buffer and remove the other. A lease makes this a compile-time error."
        case .wrongPool:
            "Put the buffer into the pool it came from; keep the pool beside the buffer, or use withBuffer."
        case .foreignPut:
            "Put only what a get returned. If the memory came from elsewhere, free it there; if it is a copied buffer, put the original."
        case .wrongCapacity:
            "Keep the buffer that get returned and put that one. prefix(n) may be put; dropFirst(n) and slices that start later may not."
        case .useAfterPut: adviceOnUseAfterPut(finding)
        case .overrun: adviceOnOverrun(finding)
        case .poolDestroyed:
            "Put every buffer before the last reference to the pool goes, or let whoever holds the buffer hold the pool as well."
        case .heldTooLong:
            finding.isStillHeld == true
                ? "Look what the holder waits for. Put the buffer before the wait, or copy what has to be kept and put it."
                : "Put the buffer as soon as its bytes are used, before the function waits for anything. If the time is right, raise held=."
        }
    }
}

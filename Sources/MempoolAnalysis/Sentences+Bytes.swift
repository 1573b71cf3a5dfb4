// The words for bytes that were touched by somebody who did not own them: use after put, overrun, underrun.

extension Sentences {
    // MARK: - Use after put

    static func usedAfterPut(_ finding: Finding) -> String {
        switch finding.caughtBy {
        case .accessor:
            return "A buffer was \(pastVerb(finding)) after its put\(delay(finding)): \(range(finding)). "
                + "The buffer's own check noticed it, and let it go on.\(reissue(finding))"
        case .guardPage:
            return "A buffer was \(pastVerb(finding)) after its put\(delay(finding)): \(range(finding)). "
                + "A guard page stopped the program there.\(reissue(finding))"
        case .poison, .canary, nil:
            // The clock is too coarse for less.
            let noticed =
                finding.secondsAfterPut.map {
                    $0 < 0.001 ? " right after the put" : " \(Units.duration($0)) after the put"
                }
                ?? ""
            return "Somebody wrote into a buffer after its put: \(range(finding)). "
                + "Noticed\(noticed); who wrote is not known."
        }
    }

    static func adviceOnUseAfterPut(_ finding: Finding) -> String {
        switch finding.caughtBy {
        case .accessor, .guardPage:
            "Move the put behind this line, or copy what is needed after it. A lease makes this a compile-time error."
        case .poison, .canary, nil:
            "Look who still has the buffer, or a pointer into it, after this put. MEMPOOL_DEBUG=paranoid stops at the write itself."
        }
    }

    private static func pastVerb(_ finding: Finding) -> String {
        switch finding.access {
        case .read: "read"
        case .write: "written to"
        case nil: "touched"
        }
    }

    private static func delay(_ finding: Finding) -> String {
        finding.secondsAfterPut.map { $0 < 0.001 ? ", at once" : ", \(Units.duration($0)) later" } ?? ""
    }

    private static func reissue(_ finding: Finding) -> String {
        guard let reissues = finding.reissues, reissues > 0 else { return "" }
        return " It had been handed out again by then, so the bytes belonged to somebody else."
    }

    // MARK: - Overrun

    static func overrun(_ finding: Finding) -> String {
        let offset = finding.offset ?? 0
        let stopped = finding.caughtBy == .guardPage
        let noticed = stopped ? " A guard page stopped the program there." : " Noticed at the put."
        if offset < 0 {
            let what: String =
                switch finding.access {
                case .read: "read"
                case .write, nil: "written"
                }
            return
                "Memory before the first byte of a buffer was \(what): \(range(finding)).\(noticed)"
        }
        if finding.access == .read {
            return "\(asked(finding)), and more was read: \(range(finding)).\(noticed)"
        }
        if let end = writtenBytes(finding), isAdjacent(finding) {
            return "\(asked(finding)), \(grouped(end)) were written.\(noticed)"
        }
        return "\(asked(finding)), and bytes behind that were written: \(range(finding)).\(noticed)"
    }

    static func adviceOnOverrun(_ finding: Finding) -> String {
        guard let offset = finding.offset, offset >= 0 else {
            return "Look for an index or a pointer that falls below the buffer's first byte."
        }
        let verb = finding.access == .read ? "read" : "written"
        guard finding.count == 1 else {
            return "Ask for as many bytes as are \(verb), or bound what is \(verb) by the buffer's count."
        }
        guard let request = finding.request else { return "Ask for as many bytes as are \(verb)." }
        let bound = "bound what is \(verb) by the buffer's count, \(grouped(request))."
        guard let end = writtenBytes(finding) else { return "Ask for as many bytes as are \(verb), or \(bound)" }
        return "Ask for \(plural(end, "byte")), or \(bound)"
    }

    private static func asked(_ finding: Finding) -> String {
        guard let request = finding.request else { return "Fewer bytes were asked for than were used" }
        return plural(request, "byte was", "bytes were") + " asked for"
    }

    /// How many bytes the buffer would need for what was touched; nil before its first byte or if unknown.
    private static func writtenBytes(_ finding: Finding) -> Int? {
        guard let offset = finding.offset, offset >= 0, let bad = finding.badBytes, bad > 0 else { return nil }
        return Counter.sum(offset, bad)
    }

    /// Whether the damage begins where the request ends.
    private static func isAdjacent(_ finding: Finding) -> Bool { finding.offset == finding.request }

    // MARK: - Bytes

    /// `4 bytes from offset 100 on`, `1 byte at offset -1`.
    private static func range(_ finding: Finding) -> String {
        let offset = finding.offset ?? 0
        guard let bad = finding.badBytes, bad > 0 else { return "at offset \(grouped(offset))" }
        return bad == 1
            ? "1 byte at offset \(grouped(offset))" : "\(grouped(bad)) bytes from offset \(grouped(offset)) on"
    }

    /// `From offset 100 on: 47 45 54 20 ... "GET ...", should be fd.`; nil if the bytes are not known.
    package static func contents(_ finding: Finding) -> String? {
        guard let found = finding.foundBytes, !found.isEmpty, let offset = finding.offset else { return nil }
        let digits = found.split(separator: " ")
        let dots = finding.badBytes.map { $0 > digits.count } == true ? " ..." : ""
        let text = readable(digits.compactMap { UInt8($0, radix: 16) }).map { " \"\($0)\"\(dots)" } ?? ""
        let expected = finding.expectedByte.map { ", should be \($0)" } ?? ""
        return "\(digits.count == 1 ? "At" : "From") offset \(grouped(offset))\(digits.count == 1 ? "" : " on"): "
            + "\(found)\(dots)\(text)\(expected)."
    }

    /// Bytes that are text: whoever wrote them may be recognised by it.
    private static func readable(_ bytes: [UInt8]) -> String? {
        guard bytes.count >= 4, bytes.allSatisfy({ (0x20..<0x7F).contains($0) }) else { return nil }
        return String(decoding: bytes, as: UTF8.self)
    }
}

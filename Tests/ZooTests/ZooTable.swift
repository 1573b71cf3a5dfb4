// The table of the zoo: every kind at every place, as text for docs/zoo.md.

import Foundation

/// The outcomes of one configuration.
struct ZooTable: Sendable {
    let specimens: [Specimen]
    let outcomes: [Specimen: Outcome]

    /// Runs everything.
    init(_ program: ZooProgram) throws {
        specimens = try program.specimens()
        outcomes = try program.outcomes(of: specimens, marks: SiteMarks())
    }

    var faults: [Specimen] { specimens.filter { $0.fault != nil } }
    var correct: [Specimen] { specimens.filter { $0.fault == nil } }

    /// Specimens and what is wrong with their reports.
    func misses(among specimens: [Specimen]) -> [(specimen: Specimen, outcome: Outcome)] {
        specimens.compactMap { specimen in
            let outcome = outcomes[specimen] ?? .wrong("not run")
            return outcome == .right ? nil : (specimen, outcome)
        }
    }

    /// Markdown: totals, a row for each place, then every miss.
    var text: String {
        func unique(_ names: [String]) -> [String] {
            var seen: Set<String> = []
            return names.filter { seen.insert($0).inserted }
        }
        let forms = unique(faults.compactMap(\.fault?.form))
        let places = unique(faults.compactMap(\.fault?.place))
        let wrong = misses(among: faults)
        let found = wrong.count { if case .wrong = $0.outcome { false } else { true } } + faults.count - wrong.count
        var lines = [
            "\(faults.count) programs with a mistake: \(found) found and counted right, "
                + "\(faults.count - wrong.count) of them with the right file and line. "
                + "\(correct.count) correct programs: \(misses(among: correct).count) false alarms.", "",
            "| place | " + forms.joined(separator: " | ") + " |",
            "| --- |" + String(repeating: " --- |", count: forms.count),
        ]
        for place in places {
            let cells = forms.map { form in
                faults.first { $0.fault?.form == form && $0.fault?.place == place }
                    .map { outcomes[$0]?.mark ?? "wrong" } ?? "–"
            }
            lines.append("| \(place) | " + cells.joined(separator: " | ") + " |")
        }
        return lines.joined(separator: "\n") + "\n"
    }
}

/// The page with the tables.
enum ZooPage {
    static let path = ZooProgram.root + "/docs/zoo.md"
    /// Set, the tests write the tables into the page instead of comparing.
    static let isRewritten = ProcessInfo.processInfo.environment["MEMPOOL_ZOO_WRITE"] == "1"

    /// The part of a page between the marks of a configuration.
    static func section(_ configuration: String, of page: String) -> Range<String.Index>? {
        guard let begin = page.range(of: "<!-- table: \(configuration) -->\n"),
            let end = page.range(of: "<!-- end of table -->", range: begin.upperBound..<page.endIndex)
        else { return nil }
        return begin.upperBound..<end.lowerBound
    }

    /// The table of a configuration as the page has it, or after writing it there.
    static func table(_ configuration: String, current: String) throws -> String? {
        var page = try String(contentsOfFile: path, encoding: .utf8)
        guard let section = section(configuration, of: page) else { return nil }
        guard isRewritten else { return String(page[section]) }
        page.replaceSubrange(section, with: current)
        try page.write(toFile: path, atomically: true, encoding: .utf8)
        return current
    }
}

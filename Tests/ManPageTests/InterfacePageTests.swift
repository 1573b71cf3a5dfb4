// Tests that mempool.3 shows the interface that the modules Mempool and MempoolFoundation have, compared by name.

import Foundation
import Testing

@Suite("The manual page mempool(3)")
struct InterfacePageTests {
    /// The names that `declaration` lines declare: `public func get(_ size: Int)` → `get`.
    static func declaredNames(in lines: [String], onlyPublic: Bool) -> Set<String> {
        let keywords: Set<Substring> = ["func", "var", "let", "class", "struct", "enum", "typealias"]
        var names: Set<String> = []
        for line in lines where !onlyPublic || line.contains("public ") {
            // An initialiser and a subscript have no name of their own.
            let words = line.split { $0 == " " || $0 == "(" || $0 == ":" || $0 == "<" || $0 == "{" }
            guard let keyword = words.firstIndex(where: keywords.contains), keyword + 1 < words.endIndex else {
                continue
            }
            // Words before the keyword are modifiers and attributes; a comment or an expression is not a declaration.
            let modifiers = words[..<keyword]
            guard modifiers.allSatisfy({ $0.hasPrefix("@") || $0.allSatisfy(\.isLowercase) }) else { continue }
            names.insert(String(words[keyword + 1]))
        }
        return names
    }

    static func sourceLines() throws -> [String] {
        let files = try ["Sources/Mempool", "Sources/MempoolFoundation"].flatMap {
            try FileManager.default.contentsOfDirectory(
                at: Checkout.root.appendingPathComponent($0), includingPropertiesForKeys: nil
            )
        }
        return try files.filter { $0.pathExtension == "swift" }.flatMap {
            try String(contentsOf: $0, encoding: .utf8).components(separatedBy: "\n")
                .map { $0.trimmingCharacters(in: .whitespaces) }
                .filter { !$0.hasPrefix("//") }
        }
    }

    @Test("names every public declaration of the module")
    func everyDeclaration() throws {
        let page = try ManPage(named: "mempool.3").lines.joined(separator: "\n")
        let names = Self.declaredNames(in: try Self.sourceLines(), onlyPublic: true)
        #expect(names.contains("getBuffer"))
        let words = Set(page.split { !($0.isLetter || $0.isNumber) }.map(String.init))
        #expect(names.subtracting(words).isEmpty, "public names that the page does not mention")
    }

    @Test("shows in its synopsis nothing that the module does not have")
    func synopsis() throws {
        let synopsis = try ManPage(named: "mempool.3").section("SYNOPSIS")
            .map { $0.trimmingCharacters(in: .whitespaces) }
        let shown = Self.declaredNames(in: synopsis, onlyPublic: false)
        #expect(shown.contains("getBuffer"))
        let existing = Self.declaredNames(in: try Self.sourceLines(), onlyPublic: true)
        #expect(shown.subtracting(existing).isEmpty, "declarations of the synopsis that the module does not have")
    }
}

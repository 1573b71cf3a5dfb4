// Tests of LinkageNames: ordinary names are readable, names without bounds stay as they are.
// Without limits each hostile name here would take minutes or more memory than there is.

import MempoolRecording
import TestSupport
import Testing

@testable import MempoolAnalysis

struct LinkageNamesTests {
    /// A function of a dictionary whose values are dictionaries and so on; each level has the one below twice.
    private static func hostile(_ function: String, levels: Int = 24) -> String {
        let letters = "CDEFGHIJKLMNOPQRSTUVWXYZ".prefix(levels - 1)
        let types =
            String(repeating: "SDy", count: levels) + "SiSiG" + letters.map { "A\($0)G" }.joined()
        return "$s1m\(function.utf8.count)\(function)yy\(types)F"
    }

    /// The same in C++: a template whose two arguments are the level below.
    private static let hostileTemplate: String = {
        let digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
        return "_Z1f1aIiiE" + digits.prefix(30).map { "S_IS\($0)_S\($0)_E" }.joined()
    }()

    @Test func `Swift, C++ and plain names are readable`() {
        let names = LinkageNames(["$s3app4takeyyF", "_ZN3app4takeEi", "malloc", "_start", "", "take(_:)"])
        #expect(names["$s3app4takeyyF"].readable == "take()")
        #expect(names["$s3app4takeyyF"].full == "app.take() -> ()")
        #expect(names["_ZN3app4takeEi"].readable == "app::take(int)")
        #expect(names["_ZN3app4takeEi"].full == nil)
        for plain in ["malloc", "_start", "", "take(_:)", "never asked for"] {
            #expect(names[plain].readable == plain && names[plain].full == nil && !names[plain].isThunk)
        }
        #expect(names.refused == 0)
    }

    @Test func `Thunks are told apart`() {
        let thunk = "$sytIegr_Ieg_TR"
        let name = LinkageNames([thunk])[thunk]
        #expect(name.isThunk && name.full?.hasPrefix("reabstraction thunk helper") == true, "\(name)")
    }

    @Test func `A name that stands for more than there is room for is left as it is, and the others are readable`() {
        let swift = Self.hostile("f")
        let deep = "$s" + String(repeating: "Sg", count: 1 << 20)
        let names = LinkageNames([swift, Self.hostileTemplate, deep, "$s3app4takeyyF", "_Z4takev"])
        for name in [swift, Self.hostileTemplate, deep] {
            #expect(names[name].readable == name && names[name].full == nil)
        }
        #expect(names["$s3app4takeyyF"].readable == "take()")
        #expect(names["_Z4takev"].readable == "take()")
        #expect(names.refused >= 2)
    }

    @Test func `Nested types are readable as long as their text has an ordinary length`() {
        let name = Self.hostile("f", levels: 6)
        let names = LinkageNames([name])
        #expect(names.refused == 0)
        #expect(names[name].readable.hasPrefix("f"))
        let long = Self.hostile("f", levels: 14)
        #expect(LinkageNames([long]).refused == 1)
    }

    @Test func `A file full of hostile names costs no more than some of them`() {
        let hostile = (0..<500).map { Self.hostile("f\($0)") }
        let names = LinkageNames(Set(hostile + ["$s3app4takeyyF"]))
        #expect(names.refused >= 500)
        #expect(hostile.allSatisfy { names[$0].readable == $0 })
    }

    @Test func `A report says how many names are left as they are`() throws {
        var fixture = AnalysisFixture()
        fixture.builder.addSlot(stack: fixture.reading)
        let directory = try TemporaryDirectory()
        let recording = try Recording(path: directory.write(fixture.builder.bytes()))
        struct Refusing: Symbolizer {
            func name(_ words: Set<UInt64>, in modules: [Recording.Module]) -> NamedAddresses {
                var names = NamedAddresses()
                names.refusedNames = 2
                return names
            }
        }
        let report = Analyzer.report(of: recording, options: AnalysisOptions(), symbolizer: Refusing())
        #expect(
            report.notes == [
                "2 names of functions are shown in the linker's form: the readable one would take too long or too much "
                    + "memory."
            ])
    }
}

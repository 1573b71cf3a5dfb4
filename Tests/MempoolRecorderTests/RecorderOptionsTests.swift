// What MEMPOOL_DEBUG may say, and what is said about what it may not.

import MempoolRecorder
import MempoolRecording
import Testing

@Suite("MEMPOOL_DEBUG")
struct RecorderOptionsTests {
    private func parse(_ text: String, _ level: RecorderLevel = .off) -> RecorderOptions {
        RecorderOptions(parsing: text, defaultLevel: level)
    }

    @Test("an empty variable gives the defaults of the configuration")
    func empty() {
        #expect(parse("", .full).level == .full)
        let options = parse("")
        #expect(options.level == .off && options.recording == nil && options.exitCode == nil)
        #expect(options.frameLimit == 64 && options.ledgerLimit == 4_194_304 && !options.isQuiet)
        #expect(options.complaints.isEmpty)
    }

    @Test("every key is read")
    func everyKey() {
        let options = parse("level=full,recording=/a/b-%p.mempool,exitcode=23,frames=10,max-ledger=500,quiet")
        #expect(options.level == .full && options.recording == "/a/b-%p.mempool" && options.exitCode == 23)
        #expect(options.frameLimit == 10 && options.ledgerLimit == 500 && options.isQuiet)
        #expect(options.complaints.isEmpty)
        let bytes = parse(
            "full,poison=2k,canary=all,guard=0.25,quarantine=1m,held=1.5,sample=7,abort=overrun+leak,abort=double-put")
        #expect(bytes.poisonLimit == 2048 && bytes.canaryLimit == .max && bytes.quarantineBytes == 1 << 20)
        #expect(bytes.guardShare == 0.25 && bytes.heldSeconds == 1.5 && bytes.sampleInterval == 7)
        #expect(bytes.abortKinds == [.doublePut] && bytes.complaints.count == 1)
        #expect(parse("abort=overrun+use-after-put").abortKinds == [.overrun, .useAfterPut])
        #expect(parse("abort=all").abortKinds == Set(FindingKind.allCases))
        #expect(RecorderOptions.keys.count == 13, "a new key belongs into this test")
    }

    @Test("what is poisoned and checked by default depends on the level")
    func limits() {
        #expect(parse("full").poisonLimit == 1024 && parse("full").canaryLimit == 256)
        #expect(parse("off").poisonLimit == 0 && parse("off").canaryLimit == 0)
        #expect(parse("full,poison=0,canary=0").poisonLimit == 0)
        let sampled = parse("sampled,poison=1k,canary=all")
        #expect(sampled.poisonLimit == 0 && sampled.canaryLimit == 0)
    }

    @Test("a level alone is short for level=", arguments: ["off", "sampled", "full", "paranoid"])
    func short(level: String) {
        #expect(parse(level).level.name == level)
        #expect(parse("level=\(level)").level.name == level)
    }

    @Test("the last one of a repeated key counts")
    func repeated() { #expect(parse("frames=3,frames=4").frameLimit == 4) }

    @Test("blanks around an entry are not part of it")
    func blanks() {
        let options = parse("full, exitcode=5 ,  , recording=/a b")
        #expect(options.level == .full && options.exitCode == 5 && options.recording == "/a b")
        #expect(options.complaints.isEmpty)
    }

    @Test("units may be capitals")
    func capitals() {
        #expect(parse("full,poison=2K").poisonLimit == 2048 && parse("full,canary=1M").canaryLimit == 1 << 20)
        #expect(parse("quarantine=1G").quarantineBytes == 1 << 30)
    }

    @Test(
        "what asks for a recorder without naming a level is told apart",
        arguments: [
            ("", false), (",", false), ("quiet", false), ("quiet=1", false), ("full,exitcode=5", false),
            ("off,held=1", false),
            ("exitcode=5", true), ("quiet,recording=/a", true), ("Full", true), ("level=Full", true),
        ])
    func lacksLevel(text: String, isLacking: Bool) { #expect(RecorderOptions.lacksLevel(text) == isLacking) }

    @Test(
        "a bad value leaves its key at the default, as the line says, whatever was said of it before",
        arguments: [
            ("level=full", "level=x"), ("recording=a", "recording="), ("exitcode=3", "exitcode=256"),
            ("frames=3", "frames=129"), ("sample=3", "sample=0"), ("poison=3", "poison=x"), ("canary=3", "canary=x"),
            ("guard=0.5", "guard=2"), ("quarantine=3", "quarantine=x"), ("held=3", "held=0"),
            ("abort=overrun", "abort=leak"),
            ("max-ledger=3", "max-ledger=0"), ("quiet", "quiet=2"),
        ])
    func badAfterGood(good: String, bad: String) {
        var options = parse("\(good),\(bad)")
        #expect(parse(good) != parse(""))
        #expect(options.complaints.count == 1 && options.complaints[0].contains("the default is used"))
        options.complaints = []
        #expect(options == parse(""))
        #expect(parse("\(bad),\(good)").complaints.count == 1)
        var later = parse("\(bad),\(good)")
        later.complaints = []
        #expect(later == parse(good))
    }

    @Test("an equals sign in a path is part of it")
    func pathWithEquals() { #expect(parse("recording=/a=b").recording == "/a=b") }

    @Test("an unknown key is named together with the valid ones, and the others still count")
    func unknownKey() {
        let options = parse("levle=full,frames=5")
        #expect(options.frameLimit == 5)
        #expect(
            options.complaints == [
                "MEMPOOL_DEBUG: unknown key 'levle'; valid are level, recording, exitcode, frames, sample, poison, canary,"
                    + " guard, quarantine, held, abort, max-ledger, quiet, and the levels off, sampled, full, paranoid"
                    + " alone"
            ]
        )
    }

    @Test(
        "a bad value is named with what would be valid, and the key keeps its default",
        arguments: [
            ("level=loud", "level=loud", "one of off, sampled, full, paranoid"),
            ("recording=", "recording=", "a file path"),
            ("exitcode=0", "exitcode=0", "a number from 1 to 255"),
            ("exitcode=256", "exitcode=256", "a number from 1 to 255"),
            ("exitcode", "exitcode=", "a number from 1 to 255"), ("frames=0", "frames=0", "a number from 1 to 128"),
            ("frames=129", "frames=129", "a number from 1 to 128"),
            ("max-ledger=-1", "max-ledger=-1", "a number from 1 to 16777216"),
            ("max-ledger=16777217", "max-ledger=16777217", "a number from 1 to 16777216"),
            ("sample=0", "sample=0", "a number from 1 to 1000000"),
            (
                "poison=-1", "poison=-1", "a number of bytes, with k, m or g for KiB, MiB or GiB, or all"
            ),
            (
                "canary=9999999999g", "canary=9999999999g",
                "a number of bytes, with k, m or g for KiB, MiB or GiB, or all"
            ),
            ("quarantine", "quarantine=", "a number of bytes, with k, m or g for KiB, MiB or GiB, or all"),
            ("guard=1.5", "guard=1.5", "a share from 0 to 1"), ("guard=nan", "guard=nan", "a share from 0 to 1"),
            ("held=0", "held=0", "a number of seconds above 0"),
            (
                "abort=double-put+nothing", "abort=double-put+nothing",
                "one or more of double-put, wrong-capacity, foreign-put, wrong-pool, use-after-put, overrun, pool-destroyed,"
                    + " held-too-long joined by '+', or all"
            ),
            ("quiet=maybe", "quiet=maybe", "nothing, 0 or 1"),
        ]
    )
    func badValue(text: String, named: String, valid: String) {
        let options = parse(text)
        #expect(options.complaints == ["MEMPOOL_DEBUG: \(named) is not valid, the default is used; give \(valid)"])
        var defaults = parse("")
        defaults.complaints = options.complaints
        #expect(options == defaults)
    }
}

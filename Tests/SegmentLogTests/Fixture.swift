// What the tests of SegmentLog share: a private directory and pool per test, records from a seed.
// The pool of its own lets every test end with the question whether a buffer is missing.

import Glibc
import Mempool
import Testing

@testable import SegmentLog

/// A fresh directory and a pool of its own; removes the directory and checks the pool at the end.
struct Fixture {
    let directory: String
    let pool = BufferPool()
    var options = SegmentOptions()

    func open(baseOffset: UInt64 = 0) throws -> Segment {
        try Segment(directory: directory, baseOffset: baseOffset, options: options, pool: pool)
    }

    func path(_ suffix: String, baseOffset: UInt64 = 0) -> String {
        directory + "/" + Segment.stem(baseOffset: baseOffset) + suffix
    }

    /// The bytes of a file of the segment.
    func bytes(_ suffix: String) throws -> [UInt8] { try readFile(path(suffix)) }

    func write(_ bytes: [UInt8], _ suffix: String) throws { try writeFile(path(suffix), bytes) }
}

/// Runs a test in a fixture and checks that no buffer is outstanding afterwards, also when `body` throws.
func withFixture(sourceLocation: SourceLocation = #_sourceLocation, _ body: (inout Fixture) throws -> Void) throws {
    var fixture = Fixture(directory: try makeTemporaryDirectory())
    defer {
        removeDirectory(fixture.directory)
        let stats = fixture.pool.stats()
        #expect(stats.inUse == 0, "a buffer was not put back", sourceLocation: sourceLocation)
        #expect(stats.discarded == stats.oversized, "a buffer was put back wrongly", sourceLocation: sourceLocation)
        #expect(stats.gets == stats.puts, sourceLocation: sourceLocation)
    }
    try body(&fixture)
}

struct FileTrouble: Error {
    let path: String
    let number = errno
}

func makeTemporaryDirectory() throws -> String {
    var template = Array("/tmp/segment-log-test-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw FileTrouble(path: "mkdtemp") }
    return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

func removeDirectory(_ path: String) {
    for suffix in [".log", ".index", ".timeindex"] {
        for base in [0, 7, 1000] as [UInt64] { unlink(path + "/" + Segment.stem(baseOffset: base) + suffix) }
    }
    rmdir(path)
}

func readFile(_ path: String) throws -> [UInt8] {
    let descriptor = open(path, O_RDONLY)
    guard descriptor >= 0 else { throw FileTrouble(path: path) }
    defer { close(descriptor) }
    var all: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 64 << 10)
    while true {
        let count = chunk.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
        guard count > 0 else { return all }
        all += chunk[..<count]
    }
}

func writeFile(_ path: String, _ bytes: [UInt8]) throws {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    guard descriptor >= 0 else { throw FileTrouble(path: path) }
    defer { close(descriptor) }
    guard bytes.withUnsafeBytes({ write(descriptor, $0.baseAddress, $0.count) }) == bytes.count else {
        throw FileTrouble(path: path)
    }
}

/// SplitMix64: the same numbers for the same seed, everywhere.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

extension NewRecord {
    /// A small record whose content depends on its number.
    static func numbered(_ number: Int, valueBytes: Int = 20) -> NewRecord {
        NewRecord(
            timestamp: 1_000 + Int64(number) * 10,
            key: Array("key \(number)".utf8),
            value: (0..<valueBytes).map { UInt8(truncatingIfNeeded: number &* 31 &+ $0) }
        )
    }

    static func random(using generator: inout SeededGenerator) -> NewRecord {
        let valueBytes = Bool.random(using: &generator) ? 100 : 6_000
        return NewRecord(
            timestamp: Int64.random(in: 0...2_000, using: &generator),
            key: (0..<Int.random(in: 0...20, using: &generator)).map { _ in .random(in: 0...255, using: &generator) },
            value: (0..<Int.random(in: 0...valueBytes, using: &generator)).map { _ in
                .random(in: 0...255, using: &generator)
            }
        )
    }

    func at(offset: UInt64) -> Record { Record(offset: offset, timestamp: timestamp, key: key, value: value) }
}

extension UnsafeMutableRawBufferPointer {
    /// Writes a number; traps when it does not fit wholly inside.
    func storeBigEndian<Number: FixedWidthInteger & BitwiseCopyable>(_ number: Number, at position: Int) {
        precondition(position >= 0 && position <= count - MemoryLayout<Number>.size, "a field lies outside its buffer")
        storeBytes(of: number.bigEndian, toByteOffset: position, as: Number.self)
    }
}

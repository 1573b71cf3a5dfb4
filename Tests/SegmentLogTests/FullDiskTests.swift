// Tests of writes that fail half-way.
// A file size limit works for every user; being a limit of the process it needs a process of its own.

import Glibc
import Mempool
import Testing

@testable import SegmentLog

@Suite struct FullDiskTests {
    @Test("A write beyond the file size limit is rolled back to the last complete record")
    func fileSizeLimit() async {
        await #expect(processExitsWith: .success) {
            try withFixture { fixture in
                fixture.options.indexIntervalBytes = 100
                let segment = try fixture.open()
                for number in 0..<10 { try segment.append(.numbered(number)) }
                let files = try [".log", ".index", ".timeindex"].map { try fixture.bytes($0) }

                // The next record begins before the limit and ends after it: a partial write.
                signal(SIGXFSZ, SIG_IGN)
                try limitFileSize(to: segment.logBytes + 20)
                let error = #expect(throws: SegmentError.self) { try segment.append(.numbered(10)) }
                #expect(error?.code == .diskFull)
                #expect(error?.path == fixture.path(".log"))
                #expect(error?.position == files[0].count)
                #expect(throws: SegmentError.self) { try segment.appendBatch((10..<20).map { .numbered($0) }) }
                try limitFileSize(to: nil)

                #expect(try [".log", ".index", ".timeindex"].map { try fixture.bytes($0) } == files)
                #expect(segment.recordCount == 10)
                for number in 0..<10 { #expect(try segment.read(offset: UInt64(number)).offset == UInt64(number)) }

                // With room again it goes on, and a fresh look finds nothing to repair.
                for number in 10..<20 { try segment.append(.numbered(number)) }
                let reopened = try fixture.open()
                #expect(reopened.recovery.isClean)
                #expect(reopened.recordCount == 20)
            }
        }
    }

    @Test(
        "An append whose index entry finds no room takes its record back too",
        arguments: [".index", ".timeindex"]
    )
    func fullIndex(suffix: String) throws {
        try withFixture { fixture in
            fixture.options.indexIntervalBytes = 1
            try #require(symlink("/dev/full", fixture.path(suffix)) == 0)
            let segment = try fixture.open()
            try segment.append(.numbered(0))
            let log = try fixture.bytes(".log")
            for _ in 0..<3 {
                let error = #expect(throws: SegmentError.self) { try segment.append(.numbered(1)) }
                #expect(
                    error?.description
                        == "\(fixture.path(suffix)), byte 0: cannot write \(suffix == ".index" ? 8 : 12) bytes: "
                        + "No space left on device."
                )
                #expect(try fixture.bytes(".log") == log)
                #expect(segment.recordCount == 1)
            }
            #expect(try segment.read(offset: 0) == NewRecord.numbered(0).at(offset: 0))
            unlink(fixture.path(suffix))
            let reopened = try fixture.open()
            #expect(reopened.recovery.isClean)
            #expect(try reopened.append(.numbered(1)) == 1)
        }
    }

    @Test("While a failed append cannot be taken back, no further one is attempted") func impossibleRollback() throws {
        try withFixture { fixture in
            try #require(symlink("/dev/full", fixture.path(".log")) == 0)
            let segment = try fixture.open()
            let first = #expect(throws: SegmentError.self) { try segment.append(.numbered(0)) }
            #expect(first?.code == .diskFull)
            let second = #expect(throws: SegmentError.self) { try segment.append(.numbered(0)) }
            #expect(
                second?.description
                    == "\(fixture.path(".log")): cannot cut the file to 0 bytes: Invalid argument."
            )
            #expect(segment.recordCount == 0)
        }
    }

    @Test("A disk that is really full is reported as such, and space makes it go on", .enabled(if: canMount))
    func fullFileSystem() throws {
        try withFixture { fixture in
            let mountPoint = try makeTemporaryDirectory()
            defer { removeDirectory(mountPoint) }
            try #require(mount("tmpfs", mountPoint, "tmpfs", 0, "size=256k") == 0)
            defer { umount2(mountPoint, Int32(MNT_DETACH)) }
            let ballast = mountPoint + "/ballast"
            try writeFile(ballast, [UInt8](repeating: 0, count: 100_000))

            let segment = try Segment(directory: mountPoint, baseOffset: 0, pool: fixture.pool)
            var written = 0
            let error = #expect(throws: SegmentError.self) {
                while written < 1_000 {
                    try segment.append(.numbered(written, valueBytes: 1_000))
                    written += 1
                }
            }
            #expect(error?.code == .diskFull)
            #expect(error?.description.hasSuffix("No space left on device.") == true)
            #expect(written > 50)

            let stem = mountPoint + "/" + Segment.stem(baseOffset: 0)
            #expect(try readFile(stem + ".log").count == segment.logBytes)
            let reopened = try Segment(directory: mountPoint, baseOffset: 0, pool: fixture.pool)
            #expect(reopened.recovery.isClean)
            #expect(reopened.recordCount == written)

            unlink(ballast)
            #expect(try segment.append(.numbered(written, valueBytes: 1_000)) == UInt64(written))
            for number in 0...written {
                #expect(
                    try segment.read(offset: UInt64(number))
                        == NewRecord.numbered(number, valueBytes: 1_000).at(offset: UInt64(number))
                )
            }
        }
    }

    /// Whether this process may mount file systems; most may not.
    private static let canMount: Bool = {
        guard let directory = try? makeTemporaryDirectory() else { return false }
        defer { removeDirectory(directory) }
        guard mount("tmpfs", directory, "tmpfs", 0, "size=4k") == 0 else { return false }
        umount2(directory, Int32(MNT_DETACH))
        return true
    }()
}

/// Sets or lifts the limit on the size of the files this process writes.
private func limitFileSize(to bytes: Int?) throws {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit) == 0 else {
        throw FileTrouble(path: "getrlimit")
    }
    limit.rlim_cur = bytes.map { rlim_t($0) } ?? limit.rlim_max
    guard setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit) == 0 else {
        throw FileTrouble(path: "setrlimit")
    }
}

// Kills a program at random moments under load and compares its recording with the diary that it kept itself.

import Foundation
import Glibc
import MempoolRecording
import Testing

@Suite struct KillTests {
    private static let threads = 4
    private static let slots = 64

    /// A buffer as recording and diary both know it.
    private struct Held: Hashable {
        var request: UInt64
        var address: UInt64
    }

    /// What the diary says: certainly outstanding, and perhaps.
    private struct Diary {
        var certain: Set<Held> = []
        var underway = 0
        var operations = 0

        init(_ path: String) throws {
            let data = try Data(contentsOf: URL(filePath: path))
            data.withUnsafeBytes { bytes in
                let words = bytes.bindMemory(to: UInt64.self)
                for entry in stride(from: 0, to: words.count - 3, by: 4) {
                    operations += Int(words[entry + 3])
                    switch words[entry] {
                    case 0: break
                    case 2: certain.insert(Held(request: words[entry + 1], address: words[entry + 2]))
                    default: underway += 1
                    }
                }
            }
        }
    }

    @Test func `After kill -9 at any moment the recording is whole and lists every outstanding buffer`() throws {
        let kills = runsLong ? 1_000 : 20
        var generator = SystemRandomNumberGenerator()
        var operations = 0
        var outstanding = 0
        var recordings = 0
        var lateKills = 0
        for number in 0..<kills {
            let scratch = try Scratch()
            let victim = try Program(
                ["zoo", "victim", scratch.file("diary"), "\(Self.threads)", "\(Self.slots)"],
                environment: ["MEMPOOL_DEBUG": "full,quiet,recording=\(scratch.file("recording"))"], in: scratch)
            // Every fourth from before the recording exists, the others up to tens of thousands of operations later.
            let isEarly = number.isMultiple(of: 4)
            if !isEarly {
                waitForFile(scratch.file("diary"))
                lateKills += 1
            }
            usleep(UInt32.random(in: 0...(isEarly ? 20_000 : 100_000), using: &generator))
            kill(victim.processID, SIGKILL)
            #expect(try victim.finish().status == 1_000 + SIGKILL)
            guard FileManager.default.fileExists(atPath: scratch.file("recording")),
                let diary = try? Diary(scratch.file("diary"))
            else { continue }
            let recording: Recording
            do {
                recording = try Recording(path: scratch.file("recording"))
            } catch {
                // Killed while the recording was being made: then no buffer had been handed out yet.
                #expect(diary.certain.isEmpty, "kill \(number): \(error)")
                continue
            }
            recordings += 1
            var listed: Set<Held> = []
            let scan = recording.forEachLedgerRecord { _, record in
                guard record.state == .outstanding else { return }
                listed.insert(Held(request: record.request, address: record.address))
                #expect((recording.stack(record.getStack)?.count ?? 0) > 1, "kill \(number): a stack is missing")
            }
            let missing = diary.certain.subtracting(listed)
            #expect(missing.isEmpty, "kill \(number): not in the recording: \(missing)")
            let invented = listed.subtracting(diary.certain).count
            #expect(invented <= diary.underway, "kill \(number): \(invented) listed, \(diary.underway) underway")
            #expect(scan.inProgress <= Self.threads, "kill \(number): \(scan)")
            #expect(!recording.isPartial, "kill \(number): \(recording.damage)")
            #expect(!recording.isCleanExit)
            operations += diary.operations
            outstanding += diary.certain.count
        }
        print(
            "\(kills) kills, \(recordings) of them with a recording, after \(operations) gets: "
                + "\(outstanding) outstanding buffers, all listed")
        #expect(outstanding > 0, "the victims did nothing")
        // The diary is there a moment before the recording; a kill in between is rare.
        #expect(recordings * 2 >= lateKills, "\(recordings) recordings after \(lateKills) late kills")
    }

    /// Until it is there, or long enough for the slowest machine.
    private func waitForFile(_ path: String) {
        for _ in 0..<10_000 where access(path, F_OK) != 0 { usleep(1_000) }
    }
}

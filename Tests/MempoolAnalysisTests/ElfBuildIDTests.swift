// Tests of ElfBuildID: build-ids of real and of damaged files.

import Foundation
import MempoolRecording
import Runtime
import TestSupport
import Testing

@testable import MempoolAnalysis

struct ElfBuildIDTests {
    /// A note with a name and a description.
    private func note(type: UInt8, name: [UInt8], _ description: [UInt8]) -> [UInt8] {
        func padded(_ bytes: [UInt8]) -> [UInt8] { bytes + [UInt8](repeating: 0, count: (4 - bytes.count % 4) % 4) }
        return [UInt8(name.count), 0, 0, 0, UInt8(description.count), 0, 0, 0, type, 0, 0, 0]
            + padded(name) + padded(description)
    }

    @Test func `The build-ids of this process's images are those the toolchain reads`() throws {
        var compared = 0
        for image in ImageMap.capture() {
            guard let path = image.path, let identifier = image.uniqueID, let file = try? RecordingFile(path: path)
            else { continue }
            #expect(ElfBuildID.read(file) == identifier)
            compared += 1
        }
        #expect(compared > 3)
    }

    @Test func `The build-id is found behind other notes`() {
        let bytes =
            note(type: 1, name: Array("GNU\0".utf8), [9, 9, 9]) + note(type: 3, name: Array("GNU\0".utf8), [1, 2, 3])
        #expect(ElfBuildID.buildID(inNotes: bytes) == [1, 2, 3])
    }

    @Test func `Notes that lie about their length give no build-id`() {
        var bytes = note(type: 3, name: Array("GNU\0".utf8), [1, 2, 3, 4])
        bytes[4] = 200
        #expect(ElfBuildID.buildID(inNotes: bytes) == [])
        bytes = [UInt8](repeating: 0xFF, count: 40)
        #expect(ElfBuildID.buildID(inNotes: bytes) == [])
        #expect(ElfBuildID.buildID(inNotes: [1, 2, 3]) == [])
    }

    @Test func `What is no ELF file gives nothing`() throws {
        let directory = try TemporaryDirectory()
        let full = [UInt8](repeating: 0xFF, count: 200)
        for bytes: [UInt8] in [[], [0x7F, 0x45, 0x4C, 0x46, 2, 1], [0x7F, 0x45, 0x4C, 0x46, 2, 1] + full] {
            #expect(ElfBuildID.read(try RecordingFile(path: directory.write(bytes))) == nil)
        }
    }
}

// Tests of RuntimeSymbolizer with program counters of the test process itself.

import MempoolRecording
import Runtime
import Testing

@testable import MempoolAnalysis

/// The stack words of the caller, as the recorder would store them.
@inline(never)
func captureWords() throws -> [UInt64] {
    try Backtrace.capture(algorithm: .fast, limit: 32).frames.compactMap { frame in
        switch frame {
        case .returnAddress(let address): UInt64(address)
        case .asyncResumePoint(let address): UInt64(address).map { $0 | StackWord.asyncBit }
        default: nil
        }
    }
}

/// The images of this process.
func ownModules() -> [Recording.Module] {
    ImageMap.capture().map { image in
        let base = UInt64(image.baseAddress) ?? 0
        return Recording.Module(
            base: base, start: base, end: UInt64(image.endOfText) ?? 0, path: image.path ?? "",
            buildID: image.uniqueID ?? []
        )
    }
}

struct RuntimeSymbolizerTests {
    @inline(never)
    private func innerFunction() throws -> ([UInt64], Int) {
        let line = #line + 1
        let words = try captureWords()
        return (words, line)
    }

    @inline(never)
    private func suspended() async throws -> [UInt64] {
        await Task.yield()
        return try captureWords()
    }

    @Test func `Frames of this process get function, file and line`() throws {
        let (words, line) = try innerFunction()
        let named = RuntimeSymbolizer().name(Set(words), in: ownModules())
        for w in words { print(String(w, radix: 16), named.frames[w] as Any) }
        print(named.unnamedModules)
        _ = line
    }

    @Test func `async parents`() async throws {
        let words = try await suspended()
        let named = RuntimeSymbolizer().name(Set(words), in: ownModules())
        for w in words { print(String(w, radix: 16), named.frames[w] as Any) }
    }
}

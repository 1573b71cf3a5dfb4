// The comparisons that look for changed bytes, at every length and place.

import CMempoolPlatform
import Testing

@Suite(.serialized) struct ComparedBytesTests {
    private static let poison = UInt8(CMEMPOOL_POISON)
    private static let canary = UInt8(CMEMPOOL_CANARY)

    @Test(arguments: [false, true])
    func `The first and the last changed byte are found at every length, whatever the bytes around are`(isWide: Bool) {
        cmempool_use_wide_blocks(isWide)
        for start in [0, 1, 31] {
            for count in 0...300 {
                var bytes = [UInt8](repeating: 0, count: start + count + 32)
                for index in 0..<count { bytes[start + index] = Self.poison }
                bytes.withUnsafeMutableBytes { bytes in
                    guard let base = bytes.baseAddress.map({ $0 + start }) else { return }
                    #expect(cmempool_first_other(base, Self.poison, count) == count)
                    #expect(cmempool_last_other(base, Self.poison, count) == 0)
                    for index in 0..<count {
                        bytes[start + index] ^= 0x10
                        let first = cmempool_first_other(base, Self.poison, count)
                        let last = cmempool_last_other(base, Self.poison, count)
                        bytes[start + index] ^= 0x10
                        guard first == index, last == index + 1 else {
                            Issue.record("byte \(index) of \(count) changed; found: \(first), \(last)")
                            return
                        }
                    }
                }
            }
        }
    }

    @Test func `Each byte of the slack and of both red zones counts, and none beyond`() {
        let zone = Int(CMEMPOOL_ZONE_BYTES)
        let capacity = 128
        for request in [1, 96, 127, 128] {
            var bytes = [UInt8](repeating: Self.canary, count: 1 + zone + capacity + zone + 1)
            bytes.withUnsafeMutableBytes { bytes in
                guard let base = bytes.baseAddress.map({ $0 + 1 + zone }) else { return }
                for index in bytes.indices {
                    bytes[index] = 7
                    let offset = index - 1 - zone
                    let isWatched = (-zone..<0).contains(offset) || (request..<capacity + zone).contains(offset)
                    #expect(
                        cmempool_surroundings_are_intact(base, request, capacity, .max, true) == !isWatched,
                        "offset \(offset) of a request of \(request)")
                    let isSlack = (request..<capacity).contains(offset)
                    #expect(cmempool_surroundings_are_intact(base, request, capacity, .max, false) == !isSlack)
                    bytes[index] = Self.canary
                }
                // A zone that nobody has laid yet is as the system gave it.
                for index in 0..<zone { base.storeBytes(of: 0, toByteOffset: capacity + index, as: UInt8.self) }
                #expect(cmempool_surroundings_are_intact(base, request, capacity, .max, true))
            }
        }
    }
}

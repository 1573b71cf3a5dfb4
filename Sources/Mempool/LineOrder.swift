// `LineOrder`: which of a thread's idle slots go to the shelf together.

internal import CMempoolPlatform

/// Puts slots in an order in which those whose generations share a cache line lie together, the most complete lines first.
///
/// Buffers that one thread gets and another one puts come back in about the order in which they went, but a few change places
/// every time, until the buffers of a line are spread over both threads, which then pull it back and forth with each get and
/// put. A thread that shelves half of its slots by this order hands whole lines over, and so the order is mended faster than it
/// is lost.
enum LineOrder {
    /// The most slots that can be ordered: what a magazine holds.
    static let slotLimit = Int(CMEMPOOL_MAGAZINE_SLOTS)

    /// Lines are told apart by their lowest bits: two that have them in common count as one, which does no harm.
    private static let lineCount = 64

    /// Slots that follow each other and lie in one line. Mostly there are few, so all work is done by run and not by slot.
    private struct Run {
        var start: UInt8
        var count: UInt8
        var line: UInt8
    }

    /// Copies `count` slots in that order; not more than `slotLimit`.
    static func arrange(
        _ slots: UnsafePointer<UInt32>, count: Int, into ordered: UnsafeMutablePointer<UInt32>
    ) {
        withUnsafeTemporaryAllocation(of: Run.self, capacity: slotLimit) { runs in
            // By line: its slots, later the place of its next one. By number of slots: the place of the next such line.
            withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 2 * lineCount + slotLimit + 1) { scratch in
                guard let runs = runs.baseAddress, let sizes = scratch.baseAddress, count > 0 else { return }
                scratch.initialize(repeating: 0)
                let places = sizes + lineCount
                let starts = places + lineCount

                var runCount = 0
                var start = 0
                while start < count {
                    let line = lineNumber(slots[start])
                    var end = start + 1
                    while end < count, lineNumber(slots[end]) == line { end += 1 }
                    let run = Run(
                        start: UInt8(truncatingIfNeeded: start), count: UInt8(truncatingIfNeeded: end - start),
                        line: UInt8(truncatingIfNeeded: line & UInt32(lineCount - 1))
                    )
                    runs[runCount] = run
                    runCount += 1
                    sizes[Int(run.line)] &+= run.count
                    start = end
                }

                // A counting sort: the lines of one size take as many places as they have slots together.
                for index in 0..<runCount { starts[Int(sizes[Int(runs[index].line)])] &+= runs[index].count }
                var place: UInt8 = 0
                for size in (1...slotLimit).reversed() where starts[size] > 0 {
                    let next = place &+ starts[size]
                    starts[size] = place
                    place = next
                }
                for index in 0..<runCount {
                    let run = runs[index]
                    let line = Int(run.line)
                    // A line's first run takes places for all of its slots; one more than the place, as 0 means none yet.
                    if places[line] == 0 {
                        places[line] = starts[Int(sizes[line])] &+ 1
                        starts[Int(sizes[line])] &+= sizes[line]
                    }
                    let target = ordered + Int(places[line] &- 1)
                    for offset in 0..<Int(run.count) { target[offset] = slots[Int(run.start) + offset] }
                    places[line] &+= run.count
                }
            }
        }
    }

    @inline(__always)
    private static func lineNumber(_ slot: UInt32) -> UInt32 { slot / UInt32(SlotTable.slotsPerLine) }
}

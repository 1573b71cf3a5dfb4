// Gets and puts in steady state, and prints how many heap allocations, mutex locks and system calls that took.

import CAllocationProbe
import Glibc
import Mempool

/// Runs `body` often after a warm-up, and prints what it cost in all.
func measure(_ name: String, _ body: () -> Void) {
    // Long enough for comparisons of stacks with what the unwinder gives, one in a thousand captures: it learns a place at the first.
    for _ in 0..<1000 { body() }
    let allocations = probe_allocation_count()
    let locks = probe_lock_count()
    let systemCalls = probe_system_call_count()
    for _ in 0..<10_000 { body() }
    // Read before the text is made, which allocates.
    let allocated = probe_allocation_count() - allocations
    let locked = probe_lock_count() - locks
    let called = probe_system_call_count() - systemCalls
    print("\(name): \(allocated) allocations, \(locked) locks, \(called) system calls")
}

/// Calls `body` with a size of each standard bucket but the smallest. Not a loop over an array, which allocates in debug builds.
func eachSize(_ body: (Int) -> Void) {
    var size = 1024
    while size <= 16 << 20 {
        body(size)
        size *= 4
    }
}

guard probe_is_counting() else {
    print("not counting: a sanitizer has its own malloc")
    exit(0)
}

let pool = BufferPool()
let wide = try BufferPool(configuration: PoolConfiguration(layout: .powersOfTwo))
measure("default pool") { eachSize { putBuffer(getBuffer($0)) } }
measure("instance") { eachSize { pool.put(pool.get($0)) } }
measure("other layout") { eachSize { wide.put(wide.get($0)) } }
measure("withBuffer") { eachSize { withBuffer($0) { $0[0] = 1 } } }
measure("lease") { eachSize { leaseBuffer($0).put() } }
measure("malloc and yield, to see that counting works") {
    UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 8).deallocate()
    sched_yield()
}

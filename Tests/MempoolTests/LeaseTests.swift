// Leases: put once, at the end of their scope or before.

import Mempool
import Testing

@Suite("Leases")
struct LeaseTests {
    let pool = BufferPool()

    @Test("a lease goes back at the end of its scope")
    func scope() {
        do {
            let lease = pool.lease(1000)
            lease.buffer[999] = 1
            #expect(lease.count == 1000 && pool.stats().inUse == 1)
        }
        #expect(pool.stats().inUse == 0 && pool.stats().puts == 1)
    }

    @Test("a lease that is put goes back once")
    func explicitPut() {
        let lease = pool.lease(1000)
        lease.put()
        #expect(pool.stats().inUse == 0 && pool.stats().puts == 1 && pool.stats().discarded == 0)
    }

    @Test("a lease goes back when its scope ends by throwing")
    func throwing() {
        struct Failure: Error {}
        func work() throws {
            let lease = pool.lease(10)
            if lease.count == 10 { throw Failure() }
        }
        #expect(throws: Failure.self) { try work() }
        #expect(pool.stats().inUse == 0)
    }

    @Test("a task that a lease is passed to gives it back")
    func task() async {
        @Sendable func consume(_ lease: consuming Lease) async {
            await Task.yield()
            #expect(lease.count == 77)
        }
        await consume(pool.lease(77))
        #expect(pool.stats().inUse == 0 && pool.stats().puts == 1)
    }

    @Test("a lease keeps its pool alive")
    func poolLifetime() {
        var own: BufferPool? = BufferPool()
        weak let observed = own
        guard let lease = own?.lease(5) else { return }
        own = nil
        #expect(observed != nil && lease.count == 5)
        lease.put()
        #expect(observed == nil)
    }
}

// Leases: put once, at the end of their scope or before; and buffers lent to asynchronous work.

import Mempool
import Synchronization
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

    @Test("a lease lends its bytes as spans and as pointers")
    func bytes() throws {
        struct Failure: Error {}
        var lease = pool.lease(100)
        lease.withMutableBytes { span in
            #expect(span.byteCount == 100)
            span.storeBytes(of: 7, toByteOffset: 99, as: UInt8.self)
        }
        #expect(lease.withBytes { $0.unsafeLoad(fromByteOffset: 99, as: UInt8.self) } == 7)
        lease.withUnsafeMutableBytes { $0[98] = 6 }
        #expect(lease.withUnsafeBytes { $0.suffix(2).elementsEqual([6, 7]) })
        let error = #expect(throws: Failure.self) {
            let other = pool.lease(1)
            try other.withBytes { (_) throws(Failure) -> Void in throw Failure() }
        }
        #expect(error != nil)
        var empty = pool.lease(0)
        #expect(empty.withBytes { $0.byteCount } == 0)
        empty.withMutableBytes { #expect($0.byteCount == 0) }
    }

    @Test("a buffer that was got plainly can become a lease")
    func adopted() {
        do {
            let lease = pool.adopt(pool.get(30))
            #expect(lease.count == 30)
        }
        #expect(pool.stats().puts == 1 && pool.stats().inUse == 0)
    }

    @Test("a lease survives suspensions")
    func suspension() async {
        let lease = pool.lease(10)
        lease.buffer[9] = 3
        for _ in 0..<10 { await Task.yield() }
        #expect(lease.buffer[9] == 3)
        lease.put()
        #expect(pool.stats().puts == 1)
    }

    @Test("a closure that owns a lease gives it back when it goes")
    func closure() {
        func counter() -> @Sendable () -> Int {
            let lease = pool.lease(44)
            return { lease.count }
        }
        do {
            let count = counter()
            #expect(count() == 44 && count() == 44)
            #expect(pool.stats().inUse == 1)
        }
        #expect(pool.stats().inUse == 0 && pool.stats().puts == 1)
    }

    @Test("a box hands a lease to the first task that takes it")
    func box() async {
        final class Box: Sendable {
            let content: Mutex<Lease?>
            init(_ lease: consuming Lease) { content = Mutex(lease) }
            func take() -> Lease? {
                content.withLock { content in
                    let taken = content.take()
                    return taken
                }
            }
        }
        let box = Box(pool.lease(10))
        let winners = await withTaskGroup(of: Int.self) { group in
            for _ in 0..<10 {
                group.addTask {
                    guard let lease = box.take() else { return 0 }
                    lease.put()
                    return 1
                }
            }
            return await group.reduce(0, +)
        }
        #expect(winners == 1 && pool.stats().puts == 1 && pool.stats().discarded == 0)
    }
}

@Suite("Buffers lent to asynchronous work")
struct AsyncBufferTests {
    let pool = BufferPool()

    @Test("the buffer goes back when the work is done, also when it throws")
    func putAtTheEnd() async throws {
        struct Failure: Error {}
        let sum = await pool.withBuffer(10) { buffer -> Int in
            buffer[9] = 5
            await Task.yield()
            buffer = buffer.dropFirst(9)
            return Int(buffer[0])
        }
        #expect(sum == 5)
        let error = await #expect(throws: Failure.self) {
            try await pool.withBuffer(10) { _ async throws(Failure) in
                await Task.yield()
                throw Failure()
            }
        }
        #expect(error != nil)
        #expect(pool.stats().puts == 2 && pool.stats().inUse == 0 && pool.stats().discarded == 0)
    }

    @Test("the error keeps its type")
    func typedError() async {
        struct Failure: Error { var code: Int }
        do throws(Failure) {
            try await pool.withBuffer(10) { _ async throws(Failure) in throw Failure(code: 3) }
        } catch {
            #expect(error.code == 3)
        }
    }

    @Test("the work runs on its caller's actor, with state that is not Sendable")
    func isolation() async {
        final class Counter { var count = 0 }
        actor Account {
            let pool: BufferPool
            var balance = 0
            let counter = Counter()
            init(_ pool: BufferPool) { self.pool = pool }
            func deposit() async -> Int {
                await pool.withBuffer(8) { buffer in
                    buffer.storeBigEndian(UInt64(1), at: 0)
                    await Task.yield()
                    balance += Int(buffer.loadBigEndian(at: 0, as: UInt64.self))
                    counter.count += 1
                }
                return counter.count
            }
        }
        let account = Account(pool)
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<50 { group.addTask { _ = await account.deposit() } }
        }
        #expect(await account.balance == 50)
        #expect(pool.stats().puts == 50)
    }

    @Test("a cancelled task gives its buffer back")
    func cancellation() async {
        let task = Task {
            try await pool.withBuffer(10) { _ in
                while true {
                    try Task.checkCancellation()
                    await Task.yield()
                }
            }
        }
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
        #expect(pool.stats().puts == 1 && pool.stats().inUse == 0)
    }

    @Test("in asynchronous code a closure that does not suspend needs no await")
    func synchronous() async {
        #expect(pool.withBuffer(10) { $0.count } == 10)
    }
}

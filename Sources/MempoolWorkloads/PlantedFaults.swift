// The mistakes that workloads make on purpose: one small function each, the wrong line marked `PLANTED`.
// A report must name this file and that line.

internal import Glibc
package import Mempool

/// Functions that use a pool wrongly, and where they do.
///
/// None is inlined, and in none is the wrong call the last thing, so that optimised code keeps its frame as well.
/// They touch only buffers of their own: the data of the workload stays right.
package enum PlantedFaults {
    /// One way of making a mistake.
    package enum Form: String, Sendable, CaseIterable {
        case leak
        case doublePut
        case doublePutAfterReissue
        case wrongCapacity
        case foreignPut
        case wrongPool
        case useAfterPut
        case useAfterPutTouch
        case overrun
        case underrun
        case poolDestroyed
        case heldTooLong

        package var kind: PlantedFault.Kind {
            switch self {
            case .leak: .leak
            case .doublePut, .doublePutAfterReissue: .doublePut
            case .wrongCapacity: .wrongCapacity
            case .foreignPut: .foreignPut
            case .wrongPool: .wrongPool
            case .useAfterPut, .useAfterPutTouch: .useAfterPut
            case .overrun, .underrun: .overrun
            case .poolDestroyed: .poolDestroyed
            case .heldTooLong: .heldTooLong
            }
        }

        /// The forms of a kind, in the order in which they take turns.
        package static func all(of kind: PlantedFault.Kind) -> [Form] { allCases.filter { $0.kind == kind } }
    }

    /// Where a mistake is made: the line that its report names.
    package struct Site: Sendable, Equatable, CustomStringConvertible {
        package let fileID: String
        package let line: Int

        /// `PlantedFaults.swift:12`.
        package var description: String { "\(fileID.split(separator: "/").last ?? "")" + ":\(line)" }
    }

    /// The bytes that planted gets ask for.
    package static let requestBytes = 1_000

    /// The sites of all forms of a kind.
    package static func sites(of kind: PlantedFault.Kind) -> [Site] { Form.all(of: kind).map { site(of: $0) } }

    /// The site of a form.
    package static func site(of form: Form) -> Site { visit(form, pool: nil) }

    /// Makes the mistake, once.
    package static func plant(_ form: Form, in pool: BufferPool) { _ = visit(form, pool: pool) }

    /// Each function tells its site; only with a pool it makes its mistake as well.
    private static func visit(_ form: Form, pool: BufferPool?) -> Site {
        switch form {
        case .leak: leak(pool)
        case .doublePut: doublePut(pool)
        case .doublePutAfterReissue: doublePutAfterReissue(pool)
        case .wrongCapacity: wrongCapacity(pool)
        case .foreignPut: foreignPut(pool)
        case .wrongPool: wrongPool(pool)
        case .useAfterPut: useAfterPut(pool)
        case .useAfterPutTouch: useAfterPutTouch(pool)
        case .overrun: overrun(pool)
        case .underrun: underrun(pool)
        case .poolDestroyed: poolDestroyed(pool)
        case .heldTooLong: heldTooLong(pool)
        }
    }

    // MARK: - The mistakes

    @inline(never)
    private static func leak(_ pool: BufferPool?) -> Site {
        let site = Site(fileID: #fileID, line: #line + 2)
        guard let pool else { return site }
        let buffer = pool.get(requestBytes)  // PLANTED: nobody puts this buffer
        buffer[0] = 1
        return site
    }

    @inline(never)
    private static func doublePut(_ pool: BufferPool?) -> Site {
        let site = Site(fileID: #fileID, line: #line + 4)
        guard let pool else { return site }
        let buffer = pool.get(requestBytes)
        pool.put(buffer)
        pool.put(buffer)  // PLANTED: it was put on the line above
        return site
    }

    @inline(never)
    private static func doublePutAfterReissue(_ pool: BufferPool?) -> Site {
        let site = Site(fileID: #fileID, line: #line + 6)
        guard let pool else { return site }
        let buffer = pool.get(requestBytes)
        let memory = address(of: buffer)
        pool.put(buffer)
        let newOwners = getUntilReissued(memory, pool)
        pool.put(buffer)  // PLANTED: it was put two lines above and belongs to somebody else by now
        for owned in newOwners { pool.put(owned) }
        return site
    }

    @inline(never)
    private static func wrongCapacity(_ pool: BufferPool?) -> Site {
        let site = Site(fileID: #fileID, line: #line + 4)
        guard let pool else { return site }
        let buffer = pool.get(requestBytes)
        let body = buffer.dropFirst(16)
        pool.put(body)  // PLANTED: a slice, not the buffer that was got
        return site
    }

    @inline(never)
    private static func foreignPut(_ pool: BufferPool?) -> Site {
        let site = Site(fileID: #fileID, line: #line + 5)
        guard let pool else { return site }
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: requestBytes, alignment: 16)
        defer { memory.deallocate() }
        let buffer = Buffer(wrapping: memory)
        pool.put(buffer)  // PLANTED: no pool issued this memory
        return site
    }

    /// The pool whose buffer goes astray; one for all, as pools are few.
    private static let otherPool = BufferPool()

    @inline(never)
    private static func wrongPool(_ pool: BufferPool?) -> Site {
        let site = Site(fileID: #fileID, line: #line + 3)
        guard let pool else { return site }
        let buffer = otherPool.get(requestBytes)
        pool.put(buffer)  // PLANTED: another pool issued this buffer
        otherPool.put(buffer)
        return site
    }

    // MARK: - Mistakes that write, or end a pool: in a pool of their own, so that nobody else's bytes are touched

    @inline(never)
    private static func useAfterPut(_ pool: BufferPool?) -> Site {
        let site = Site(fileID: #fileID, line: #line + 5)
        guard pool != nil else { return site }
        let pool = ownPools.take()
        let buffer = pool.get(requestBytes)
        let memory = address(of: buffer)
        pool.put(buffer)  // PLANTED: the line below writes to it
        memory?.storeBytes(of: 1, toByteOffset: 100, as: UInt8.self)
        ownPools.giveBack(pool)
        return site
    }

    @inline(never)
    private static func useAfterPutTouch(_ pool: BufferPool?) -> Site {
        let site = Site(fileID: #fileID, line: #line + 5)
        guard pool != nil else { return site }
        let pool = ownPools.take()
        let buffer = pool.get(requestBytes)
        pool.put(buffer)
        buffer[1] = 1  // PLANTED: it was put on the line above
        ownPools.giveBack(pool)
        return site
    }

    @inline(never)
    private static func overrun(_ pool: BufferPool?) -> Site {
        let site = Site(fileID: #fileID, line: #line + 5)
        guard pool != nil else { return site }
        let pool = ownPools.take()
        let buffer = pool.get(requestBytes)
        address(of: buffer)?.storeBytes(of: 1, toByteOffset: requestBytes, as: UInt8.self)
        pool.put(buffer)  // PLANTED: the line above writes behind its last byte
        ownPools.giveBack(pool)
        return site
    }

    @inline(never)
    private static func underrun(_ pool: BufferPool?) -> Site {
        let site = Site(fileID: #fileID, line: #line + 7)
        guard pool != nil else { return site }
        let pool = ownPools.take()
        // The higher of two, so that what lies before it is the pool's own memory also without a recorder.
        let pair = [pool.get(requestBytes), pool.get(requestBytes)].sorted { isBelow($0, $1) }
        let buffer = pair[1]
        address(of: buffer).map { $0 - 1 }?.storeBytes(of: 1, as: UInt8.self)
        pool.put(buffer)  // PLANTED: the line above writes before its first byte
        pool.put(pair[0])
        ownPools.giveBack(pool)
        return site
    }

    @inline(never)
    private static func poolDestroyed(_ pool: BufferPool?) -> Site {
        let site = Site(fileID: #fileID, line: #line + 3)
        guard pool != nil else { return site }
        let pool = BufferPool()
        let buffer = pool.get(requestBytes)  // PLANTED: the pool ends here, with this buffer outstanding
        withExtendedLifetime(pool) { buffer[0] = 1 }
        return site
    }

    @inline(never)
    private static func heldTooLong(_ pool: BufferPool?) -> Site {
        let site = Site(fileID: #fileID, line: #line + 2)
        guard let pool else { return site }
        let buffer = pool.get(requestBytes)  // PLANTED: it is put long after
        held.withLock { $0.append((buffer, pool)) }
        return site
    }

    private static let held = Guarded<[(buffer: Buffer, pool: BufferPool)]>([])

    /// Puts what was planted as held too long, all of it together.
    ///
    /// - Parameter seconds: How long it is held from now on.
    package static func putHeld(after seconds: Double) {
        let buffers = held.withLock { held in
            defer { held = [] }
            return held
        }
        guard !buffers.isEmpty else { return }
        usleep(useconds_t(seconds * 1e6))
        for (buffer, pool) in buffers { pool.put(buffer) }
    }

    /// Pools for one mistake at a time each, so that no other thread gets the buffer meanwhile.
    private final class OwnPools: Sendable {
        private let idle = Guarded<[BufferPool]>([])

        func take() -> BufferPool { idle.withLock { $0.popLast() } ?? BufferPool() }

        func giveBack(_ pool: BufferPool) { idle.withLock { $0.append(pool) } }
    }

    private static let ownPools = OwnPools()

    private static func isBelow(_ left: Buffer, _ right: Buffer) -> Bool {
        guard let left = address(of: left), let right = address(of: right) else { return false }
        return left < right
    }

    // MARK: - Re-issuing

    /// More than a thread keeps at hand, so that the buffer comes round for certain unless another thread took it, which
    /// is a re-issue too.
    private static let reissueAttemptLimit = 1_024

    /// Gets buffers until one has the given memory, of a buffer that was put.
    private static func getUntilReissued(_ memory: UnsafeMutableRawPointer?, _ pool: BufferPool) -> [Buffer] {
        var owned: [Buffer] = []
        while owned.count < reissueAttemptLimit {
            let next = pool.get(requestBytes)
            owned.append(next)
            if address(of: next) == memory { break }
        }
        return owned
    }

    private static func address(of buffer: Buffer) -> UnsafeMutableRawPointer? {
        buffer.withUnsafeMutableBytes { $0.baseAddress }
    }
}

// MARK: - For the doctor, which does not know the pool

extension PlantedFaults {
    /// Makes the mistake once with the default pool.
    ///
    /// - Parameter heldSeconds: How long a buffer is held too long.
    package static func plantInDefaultPool(_ form: Form, heldSeconds: Double) {
        plant(form, in: .shared)
        putHeld(after: heldSeconds)
    }

    /// Uses the default pool as it should be used.
    package static func useDefaultPoolWell() {
        for size in [1, 1_000, 100_000] { withBuffer(size) { $0[0] = 1 } }
    }
}

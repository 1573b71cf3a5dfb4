// `SystemMemory`: every call by which the pool gets memory from the system or gives it back.

internal import Glibc
package import Synchronization

/// Memory from the system. Tests make any of its calls fail.
package enum SystemMemory {
    /// How many more calls succeed; negative: all. For tests.
    package static let callsUntilFailure = Atomic<Int>(-1)

    /// The machine's memory, bytes; a container's own limit is not looked at.
    static let physicalBytes: Int = {
        let pages = sysconf(CInt(_SC_PHYS_PAGES))
        let pageBytes = sysconf(CInt(_SC_PAGESIZE))
        return pages > 0 && pageBytes > 0 ? pages * pageBytes : 1 << 30
    }()

    /// The unit in which memory goes back, bytes: 4096, or more on other machines than x86-64.
    package static let pageBytes = max(4096, sysconf(CInt(_SC_PAGESIZE)))

    private static func isToFail() -> Bool {
        guard callsUntilFailure.load(ordering: .relaxed) >= 0 else { return false }
        return callsUntilFailure.subtract(1, ordering: .relaxed).oldValue <= 0
    }

    /// Maps fresh pages, whole pages of zeros.
    static func map(_ byteCount: Int) throws(PoolAllocationError) -> UnsafeMutableRawPointer {
        guard !isToFail() else { throw PoolAllocationError(byteCount: byteCount, errorNumber: ENOMEM) }
        guard let memory = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
            memory != MAP_FAILED
        else {
            throw PoolAllocationError(byteCount: byteCount, errorNumber: errno)
        }
        return memory
    }

    static func unmap(_ memory: UnsafeMutableRawPointer, _ byteCount: Int) { munmap(memory, byteCount) }

    /// Gives the pages back; they read as zeros afterwards. Advice: if the kernel declines, they stay.
    static func release(_ memory: UnsafeMutableRawPointer, _ byteCount: Int) {
        madvise(memory, byteCount, MADV_DONTNEED)
    }

    /// Allocates zeroed memory of the pool's own, or nil.
    static func allocate(_ byteCount: Int) -> UnsafeMutableRawPointer? { isToFail() ? nil : calloc(1, byteCount) }

    static func text(of errorNumber: CInt) -> String { String(cString: strerror(errorNumber)) }
}

// `SystemMemory`: every call by which the pool gets memory from the system or gives it back.

internal import CMempoolPlatform
internal import Glibc

/// Memory from the system. Tests make any of its calls fail, and those of C beside it.
package enum SystemMemory {
    /// For tests: has the calls that ask the system for something, of the pool and of the recorder, fail if their number is in a
    /// range. They are counted from now on, those of all threads together; an empty range ends that.
    package static func refuse(_ calls: Range<Int>) {
        cmempool_refuse(UInt64(calls.lowerBound), UInt64(calls.count))
    }

    /// For tests: how many calls were counted.
    package static var refusableCalls: Int { Int(cmempool_refusable_calls()) }

    /// The machine's memory, bytes; a container's own limit is not looked at.
    static let physicalBytes: Int = {
        let pages = sysconf(CInt(_SC_PHYS_PAGES))
        let pageBytes = sysconf(CInt(_SC_PAGESIZE))
        return pages > 0 && pageBytes > 0 ? pages * pageBytes : 1 << 30
    }()

    /// The unit in which memory goes back, bytes: 4096, or more on other machines than x86-64.
    package static let pageBytes = max(4096, sysconf(CInt(_SC_PAGESIZE)))

    /// Maps fresh pages, whole pages of zeros.
    static func map(_ byteCount: Int) throws(PoolAllocationError) -> UnsafeMutableRawPointer {
        guard !cmempool_is_refused() else { throw PoolAllocationError(byteCount: byteCount, errorNumber: ENOMEM) }
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
    static func allocate(_ byteCount: Int) -> UnsafeMutableRawPointer? {
        cmempool_is_refused() ? nil : calloc(1, byteCount)
    }

    /// Reserves address space for `count` elements; pages of it exist, as zeros, once they are written. Nil if the system refuses,
    /// with the reason in `errno`.
    package static func reserve<Element>(_ type: Element.Type, _ count: Int) -> UnsafeMutablePointer<Element>? {
        cmempool_map(count * MemoryLayout<Element>.stride)?.bindMemory(to: type, capacity: count)
    }

    static func text(of errorNumber: CInt) -> String { String(cString: strerror(errorNumber)) }
}

// Programs for the campaigns: each does one unusual thing to the recorder's host.

import Glibc
import Mempool

enum Stress {
    /// Starts and ends threads, a few at a time, each with a buffer of its own and one that another thread puts.
    static func useManyThreads(_ count: Int) {
        let left = Box<[Buffer]>([])
        var started = 0
        while started < count {
            let group = min(4, count - started)
            threads(group) { number in
                withBuffer(100 + number) { $0[0] = 1 }
                let buffer = getBuffer(200)
                let other = left.with { left in
                    left.append(buffer)
                    return left.count > 1 ? left.removeFirst() : nil
                }
                if let other { putBuffer(other) }
            }
            started += group
        }
        for buffer in left.with({ $0 }) { putBuffer(buffer) }
    }

    /// Leaks through the frames of a library, unloads it, loads it again, and goes on.
    static func leakThroughPlugin(_ path: String) {
        typealias Call = @convention(c) (@convention(c) () -> Void) -> Void
        for _ in 0..<3 {
            guard let library = dlopen(path, RTLD_NOW), let symbol = dlsym(library, "plugin_call") else {
                fatalError(String(cString: dlerror()))
            }
            let call = unsafeBitCast(symbol, to: Call.self)
            call { getBuffer(300)[0] = 1 }
            call { putBuffer(getBuffer(400)) }
            dlclose(library)
            putBuffer(getBuffer(500))
        }
    }

    /// Loads a library that has the first get of the process made by another thread, before it is loaded.
    static func loadBeforeFirstGet(_ path: String) {
        let body: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? = { _ in
            putBuffer(getBuffer(100))
            return nil
        }
        setenv("FIRST_GET", "\(unsafeBitCast(body, to: UInt.self))", 1)
        guard dlopen(path, RTLD_NOW) != nil else { fatalError(String(cString: dlerror())) }
        getBuffer(200)[0] = 1
    }

    /// Loads every library of a folder, and leaks through the last one.
    static func loadLibraries(_ folder: String) {
        typealias Call = @convention(c) (@convention(c) () -> Void) -> Void
        guard let entries = opendir(folder) else { fatalError("cannot read \(folder)") }
        var last: UnsafeMutableRawPointer?
        putBuffer(getBuffer(100))
        while let entry = readdir(entries) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            guard name.hasSuffix(".so") else { continue }
            guard let library = dlopen(folder + "/" + name, RTLD_NOW) else { fatalError(String(cString: dlerror())) }
            last = library
        }
        closedir(entries)
        guard let last, let symbol = dlsym(last, "plugin_call") else { fatalError("no library") }
        unsafeBitCast(symbol, to: Call.self)({ getBuffer(300)[0] = 1 })
    }

    /// Takes buffers, makes a file, and puts them when that is gone.
    static func holdWhile(_ path: String) {
        let buffers = (0..<5_000).map { _ in getBuffer(100) }
        close(creat(path, 0o600))
        while access(path, F_OK) == 0 { usleep(1_000) }
        for buffer in buffers { putBuffer(buffer) }
    }

    /// Takes buffers and keeps them, from stacks of many depths.
    static func hoard(_ count: Int) {
        for number in 0..<count { descend(number % 50) }
    }

    @inline(never)
    @discardableResult
    private static func descend(_ depth: Int) -> Int {
        if depth > 0 { return descend(depth - 1) + 1 }
        getBuffer(10)[0] = 1
        return 0
    }

    /// Crashes with a buffer outstanding.
    @inline(never)
    static func crashOnPurpose() {
        getBuffer(600)[0] = 1
        fatalError("on purpose")
    }
}

// Buffers of 4 KiB and more in writes that pass by the page cache, which refuse memory that is not aligned.

import Foundation
import Mempool
import Testing

// Glibc declares it for C with GNU extensions only; the kernel's value depends on the processor.
#if arch(arm64) || arch(arm)
private let directFlag: CInt = 0o200000
#else
private let directFlag: CInt = 0o40000
#endif

@Suite("O_DIRECT")
struct DirectIOTests {
    /// A file opened with O_DIRECT that takes a write of memory aligned by the C library, or nil if the folder's file system
    /// refuses even that.
    private func openDirect(in folder: String) -> (descriptor: CInt, path: String)? {
        let path = folder + "/mempool-direct-\(UUID().uuidString)"
        let descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | directFlag, 0o600)
        guard descriptor >= 0 else { return nil }
        var memory: UnsafeMutableRawPointer?
        guard posix_memalign(&memory, 4096, 4096) == 0, let memory else { return nil }
        memset(memory, 0, 4096)
        defer { free(memory) }
        if pwrite(descriptor, memory, 4096, 0) == 4096 { return (descriptor, path) }
        close(descriptor)
        unlink(path)
        return nil
    }

    private static let checkout = URL(fileURLWithPath: #filePath).deletingLastPathComponent().path

    @Test("takes buffers of every bucket from 4 KiB on as they are, and oversized ones")
    func direct() throws {
        let folders = [FileManager.default.temporaryDirectory.path, Self.checkout, "/var/tmp"]
        guard let (descriptor, path) = folders.lazy.compactMap(openDirect).first else {
            print("no O_DIRECT here: none of \(folders) takes aligned memory")
            return
        }
        defer {
            close(descriptor)
            unlink(path)
        }
        // The control: without alignment this file refuses, so that what follows proves something.
        let unaligned = UnsafeMutableRawBufferPointer.allocate(byteCount: 8192 + 1, alignment: 4096)
        defer { unaligned.deallocate() }
        let refuses = pwrite(descriptor, unaligned.baseAddress.map { $0 + 1 }, 4096, 0) < 0
        if !refuses { print("\(path): this file system takes unaligned memory too") }

        let pool = BufferPool()
        for capacity in [4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216, 16_777_216 + 4096] {
            // Neighbours, as a slab may start on a page while the second buffer in it does not.
            let buffers = (0..<2).map { _ in pool.get(capacity) }
            for (number, buffer) in buffers.enumerated() {
                buffer.withUnsafeMutableBytes { bytes in
                    bytes.initializeMemory(as: UInt8.self, repeating: UInt8(number + 1))
                    let written = pwrite(descriptor, bytes.baseAddress, bytes.count, 0)
                    #expect(written == capacity, "\(capacity) bytes: \(String(cString: strerror(errno)))")
                    bytes.initializeMemory(as: UInt8.self, repeating: 0)
                    #expect(pread(descriptor, bytes.baseAddress, bytes.count, 0) == capacity)
                }
                #expect(buffer[0] == UInt8(number + 1) && buffer[capacity - 1] == UInt8(number + 1))
            }
            buffers.forEach(pool.put)
        }
    }
}

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
    /// A new file in a folder, opened with O_DIRECT and without a name any more; nil if its file system does not take that, or
    /// not a write of memory that the C library aligned, or takes any memory, so that nothing would be proven.
    private static func openDirect(in folder: String) -> CInt? {
        let path = folder + "/mempool-direct-\(UUID().uuidString)"
        let descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | directFlag, 0o600)
        guard descriptor >= 0 else { return nil }
        unlink(path)
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 8192, alignment: 4096)
        defer { memory.deallocate() }
        memory.initializeMemory(as: UInt8.self, repeating: 0)
        if pwrite(descriptor, memory.baseAddress, 4096, 0) == 4096,
            pwrite(descriptor, memory.baseAddress.map { $0 + 1 }, 4096, 0) < 0
        {
            return descriptor
        }
        close(descriptor)
        return nil
    }

    private static let checkout = URL(fileURLWithPath: #filePath).deletingLastPathComponent().path
    private static let folders = [FileManager.default.temporaryDirectory.path, checkout, "/var/tmp"]
    private static let file = folders.lazy.compactMap(openDirect).first

    @Test(
        "takes buffers of every bucket from 4 KiB on as they are, and oversized ones",
        .enabled(if: file != nil, "no folder at hand has O_DIRECT that refuses memory which is not aligned"))
    func direct() throws {
        let descriptor = try #require(Self.file)
        defer { close(descriptor) }
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

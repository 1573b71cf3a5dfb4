// Unpacks compressed sections of ELF files with the libraries of the system, if these are installed.

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// The compressions of the ELF standard: zlib and Zstandard.
enum SectionCompression {
    /// The head of a compressed section: its kind, four reserved bytes, the size of the content, its alignment.
    static let headBytes = 24

    /// zlib makes at most 1,032 bytes of one; a section that claims more is damaged.
    private static let mostPerByte = 1032

    private typealias Uncompress =
        @convention(c) (
            UnsafeMutablePointer<UInt8>?, UnsafeMutablePointer<UInt>?, UnsafePointer<UInt8>?, UInt
        ) -> Int32
    private typealias Decompress =
        @convention(c) (UnsafeMutableRawPointer?, Int, UnsafeRawPointer?, Int) -> Int

    /// The bytes that a section says to have, by its head; nil if that is none.
    static func claimedSize(_ head: [UInt8]) -> Int? {
        guard head.count >= headBytes else { return nil }
        return head.withUnsafeBytes {
            Int(clamping: UInt64(littleEndian: $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
        }
    }

    /// The content of a section; nil if it cannot be unpacked or is larger than `limitBytes`.
    static func unpacked(_ section: [UInt8], limitBytes: Int) -> [UInt8]? {
        guard section.count > headBytes, let size = claimedSize(section) else { return nil }
        let kind = section.withUnsafeBytes { UInt32(littleEndian: $0.loadUnaligned(as: UInt32.self)) }
        let packed = section[headBytes...]
        guard size > 0, size <= limitBytes, size / mostPerByte <= packed.count else { return nil }
        var done = 0
        let content = [UInt8](unsafeUninitializedCapacity: size) { buffer, initialized in
            done = packed.withUnsafeBufferPointer { unpack($0, kind: kind, into: buffer) }
            initialized = done == size ? size : 0
        }
        return done == size ? content : nil
    }

    /// Returns the bytes that were unpacked; 0 after an error.
    private static func unpack(
        _ packed: UnsafeBufferPointer<UInt8>, kind: UInt32, into buffer: UnsafeMutableBufferPointer<UInt8>
    ) -> Int {
        switch kind {
        case 1:
            guard let address = function("uncompress", in: "libz.so.1") else { return 0 }
            // The C function of zlib, whose uLong is a word.
            let uncompress = unsafeBitCast(address, to: Uncompress.self)
            var size = UInt(buffer.count)
            guard uncompress(buffer.baseAddress, &size, packed.baseAddress, UInt(packed.count)) == 0 else { return 0 }
            return Int(clamping: size)
        case 2:
            guard let address = function("ZSTD_decompress", in: "libzstd.so.1") else { return 0 }
            let decompress = unsafeBitCast(address, to: Decompress.self)
            // An error is a number beyond all sizes.
            return decompress(buffer.baseAddress, buffer.count, packed.baseAddress, packed.count)
        default: return 0
        }
    }

    /// Never closed, as another section will want it.
    private static func function(_ name: String, in library: String) -> UnsafeMutableRawPointer? {
        guard let handle = dlopen(library, RTLD_NOW | RTLD_LOCAL) else { return nil }
        return dlsym(handle, name)
    }
}

// The buffer as a value: sizes, slices, alignment, and the bucket that serves a request.

import Mempool
import Testing

@Suite("Buffers")
struct BufferTests {
    let pool = BufferPool()

    @Test(
        "the smallest bucket that fits serves a request",
        arguments: [
            (1, 512), (511, 512), (512, 512), (513, 1024), (1024, 1024), (1025, 4096), (4096, 4096), (4097, 16384),
            (16384, 16384), (16385, 65536), (65536, 65536), (65537, 262_144), (262_144, 262_144),
            (262_145, 1_048_576), (1_048_576, 1_048_576), (1_048_577, 4_194_304), (4_194_304, 4_194_304),
            (4_194_305, 16_777_216), (16_777_216, 16_777_216),
        ]
    )
    func buckets(request: Int, capacity: Int) {
        let buffer = pool.get(request)
        #expect(buffer.count == request)
        #expect(buffer.capacity == capacity)
        pool.put(buffer)
        #expect(pool.bucketStats().map(\.gets).reduce(0, +) == 1)
        #expect(pool.bucketStats().first { $0.gets == 1 }?.capacity == capacity)
    }

    @Test("small buffers are 64-byte aligned, those of 4 KiB and more page-aligned")
    func alignment() {
        for capacity in BucketLayout.standard.capacities + [16_777_217] {
            let buffers = (0..<3).map { _ in pool.get(capacity) }
            for buffer in buffers {
                buffer.withUnsafeMutableBytes {
                    let address = UInt(bitPattern: $0.baseAddress)
                    #expect(address % (capacity >= 4096 ? 4096 : 64) == 0)
                }
                pool.put(buffer)
            }
        }
    }

    @Test("outstanding buffers never overlap")
    func disjoint() {
        let buffers = BucketLayout.standard.capacities.prefix(5).flatMap { size in (0..<600).map { _ in pool.get(size) }
        }
        let ranges = buffers.map { buffer in
            buffer.withUnsafeMutableBytes { bytes in
                let start = UInt(bitPattern: bytes.baseAddress)
                return start..<start + UInt(buffer.capacity)
            }
        }.sorted { $0.lowerBound < $1.lowerBound }
        for (range, next) in zip(ranges, ranges.dropFirst()) { #expect(range.upperBound <= next.lowerBound) }
        buffers.forEach(pool.put)
    }

    @Test("slices share the memory, count from 0 and know their capacity")
    func slices() {
        let buffer = pool.get(10)
        for index in 0..<10 { buffer[index] = UInt8(index) }
        let slice = buffer.slice(2..<7)
        #expect(slice.count == 5 && slice.capacity == 510)
        #expect(slice[0] == 2 && slice[4] == 6)
        slice[0] = 99
        #expect(buffer[2] == 99)
        let inner = slice.dropFirst(1).prefix(2)
        #expect(inner.count == 2 && inner.capacity == 509 && inner[1] == 4)
        #expect(buffer.dropFirst(10).isEmpty && buffer.dropFirst(10).capacity == 502)
        inner.withUnsafeMutableBytes { #expect(Array($0) == [3, 4]) }
        pool.put(buffer)
    }

    @Test("a wrapped buffer has the memory's size")
    func wrapped() {
        withUnsafeTemporaryAllocation(byteCount: 20, alignment: 1) { memory in
            let buffer = Buffer(wrapping: memory)
            #expect(buffer.count == 20 && buffer.capacity == 20)
            #expect(buffer.dropFirst(5).capacity == 15)
        }
    }
}

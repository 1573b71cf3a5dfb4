// `MemoryCurve`: what of a process stays in memory after a burst, after many short threads, and at rest.

internal import Glibc
internal import Mempool

/// Resident memory over time, bytes, in a process that uses a pool of its own with a short decay.
package struct MemoryCurve: Codable, Equatable, Sendable {
    /// A moment after the last put of the burst.
    package struct Point: Codable, Equatable, Sendable {
        package var seconds: Double
        package var residentBytes: Int
    }

    /// What was outstanding at once, every page touched.
    package var burstBytes: Int
    /// The decay of the pool.
    package var decaySeconds: Double
    /// Before the burst, with the pool warm.
    package var idleBytes: Int
    /// With the burst outstanding.
    package var peakBytes: Int
    package var points: [Point]
    /// After another burst and `trim()`.
    package var trimmedBytes: Int
    /// After 1,000 threads that each got and put 1 MiB.
    package var threadsBytes: Int
    /// Buffers of 1 KiB that lay idle, and what they took beyond their own bytes, as a share of these.
    package var idleBuffers: Int
    package var idleOverhead: Double

    /// The last point over the level before the burst.
    package var remaining: Double { Double(points.last?.residentBytes ?? peakBytes) / Double(max(1, idleBytes)) }

    // MARK: - Measuring

    private static let bufferBytes = 64 << 10
    private static let decay = 4.0
    /// Of a small burst, which is there to see that everything works.
    private static let shortDecay = 1.0
    private static let smallBurstBytes = 256 << 20

    /// Runs everything in this process; takes as long as the decay needs.
    static func measure(burstBytes: Int) -> MemoryCurve {
        let decay = burstBytes > smallBurstBytes ? decay : shortDecay
        let configuration = PoolConfiguration(name: "burst", idleLimit: .unlimited, decay: .after(seconds: decay))
        guard let pool = try? BufferPool(configuration: configuration) else { fatalError("the configuration is valid") }
        // The warm level: what a thread keeps for its next gets is part of it.
        burst(pool, bytes: 64 * bufferBytes)
        pool.trim()
        burst(pool, bytes: 64 * bufferBytes)
        let idle = residentBytes()
        var peak = 0
        burst(pool, bytes: burstBytes) { peak = residentBytes() }
        var points: [Point] = []
        for step in 0...Int(decay * 1.5 / stepSeconds) {
            points.append(Point(seconds: Double(step) * stepSeconds, residentBytes: residentBytes()))
            usleep(useconds_t(stepSeconds * 1e6))
        }
        burst(pool, bytes: burstBytes)
        pool.trim()
        let trimmed = residentBytes()
        runThreads(pool)
        pool.trim()
        let threads = residentBytes()
        return MemoryCurve(
            burstBytes: burstBytes, decaySeconds: decay, idleBytes: idle, peakBytes: peak, points: points,
            trimmedBytes: trimmed, threadsBytes: threads, idleBuffers: idleBuffers, idleOverhead: overheadAtRest()
        )
    }

    private static let stepSeconds = 0.5
    private static let idleBuffers = 100_000

    private static func burst(_ pool: BufferPool, bytes: Int, _ whileOutstanding: () -> Void = {}) {
        let count = bytes / bufferBytes
        let buffers = UnsafeMutablePointer<Buffer>.allocate(capacity: count)
        for index in 0..<count {
            (buffers + index).initialize(to: pool.get(bufferBytes))
            for offset in stride(from: 0, to: bufferBytes, by: 4096) { buffers[index][offset] = 1 }
        }
        whileOutstanding()
        for index in 0..<count { pool.put(buffers[index]) }
        buffers.deallocate()
    }

    private static func runThreads(_ pool: BufferPool) {
        for _ in 0..<250 {
            let threads = (0..<4).map { _ in
                spawn { burst(pool, bytes: 1 << 20) }
            }
            for thread in threads { pthread_join(thread, nil) }
        }
    }

    private static func spawn(_ body: @escaping @Sendable () -> Void) -> pthread_t {
        final class Body: Sendable {
            let run: @Sendable () -> Void
            init(_ run: @escaping @Sendable () -> Void) { self.run = run }
        }
        var thread = pthread_t()
        pthread_create(
            &thread, nil,
            { @Sendable argument in
                if let argument { Unmanaged<Body>.fromOpaque(argument).takeRetainedValue().run() }
                return nil
            }, Unmanaged.passRetained(Body(body)).toOpaque()
        )
        return thread
    }

    private static func overheadAtRest() -> Double {
        let configuration = PoolConfiguration(name: "rest", idleLimit: .unlimited, decay: .never)
        guard let pool = try? BufferPool(configuration: configuration) else { fatalError("the configuration is valid") }
        pool.put(pool.get(1024))
        // Not the pages of the program's file, of which the first call of a function brings in up to 64 KiB.
        let before = residentBytes("Anonymous:")
        burstOfKilobytes(pool)
        let own = idleBuffers * 1024
        return Double(residentBytes("Anonymous:") - before - own) / Double(own)
    }

    private static func burstOfKilobytes(_ pool: BufferPool) {
        // Mapped and not from the heap, whose pages would stay and count.
        let byteCount = idleBuffers * MemoryLayout<Buffer>.stride
        guard let memory = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) else {
            return
        }
        let buffers = memory.bindMemory(to: Buffer.self, capacity: idleBuffers)
        for index in 0..<idleBuffers {
            (buffers + index).initialize(to: pool.get(1024))
            buffers[index][0] = 1
        }
        for index in 0..<idleBuffers { pool.put(buffers[index]) }
        munmap(memory, byteCount)
    }

    /// Exact, unlike the cheaper counters of the kernel, which lag by some pages per thread.
    ///
    /// - Parameter field: Which of the kernel's sums.
    static func residentBytes(_ field: String = "Rss:") -> Int {
        guard let file = fopen("/proc/self/smaps_rollup", "r") else { return 0 }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 256)
        while fgets(&line, Int32(line.count), file) != nil {
            let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            guard text.hasPrefix(field) else { continue }
            return (text.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0) * 1024
        }
        return 0
    }

    // MARK: - As words of a worker's answer

    var words: String {
        let head = [Double(burstBytes), decaySeconds, Double(idleBytes), Double(peakBytes), Double(trimmedBytes)]
        let tail = [Double(threadsBytes), Double(idleBuffers), idleOverhead]
        return (head + tail + points.flatMap { [$0.seconds, Double($0.residentBytes)] }).map { "\($0)" }
            .joined(separator: " ")
    }

    init?(words: [Double]) {
        guard words.count >= 10, words.count % 2 == 0 else { return nil }
        self.init(
            burstBytes: Int(words[0]), decaySeconds: words[1], idleBytes: Int(words[2]), peakBytes: Int(words[3]),
            points: stride(from: 8, to: words.count, by: 2).map {
                Point(seconds: words[$0], residentBytes: Int(words[$0 + 1]))
            },
            trimmedBytes: Int(words[4]), threadsBytes: Int(words[5]), idleBuffers: Int(words[6]), idleOverhead: words[7]
        )
    }

    package init(
        burstBytes: Int, decaySeconds: Double, idleBytes: Int, peakBytes: Int, points: [Point], trimmedBytes: Int,
        threadsBytes: Int, idleBuffers: Int, idleOverhead: Double
    ) {
        self.burstBytes = burstBytes
        self.decaySeconds = decaySeconds
        self.idleBytes = idleBytes
        self.peakBytes = peakBytes
        self.points = points
        self.trimmedBytes = trimmedBytes
        self.threadsBytes = threadsBytes
        self.idleBuffers = idleBuffers
        self.idleOverhead = idleOverhead
    }
}

// Finds out whether the writer of a recording still runs, and what time it is on the recording's clock.

internal import MempoolRecording

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// How the process of a recording is doing.
enum ProcessState {
    /// What is known about the end of the process, the caller's own observation first.
    static func ending(of recording: Recording, options: AnalysisOptions) -> ProcessEnding {
        let observed = options.observedEnds[Int(recording.header.processID)]
        if recording.isCleanExit {
            switch observed {
            case .exited(let status): return ProcessEnding(kind: .exited, status: status)
            case .killed(let signal):
                // A signal may come after all that is recorded.
                return ProcessEnding(kind: .exited, status: Int(recording.header.exitStatus), signal: signal)
            default: return ProcessEnding(kind: .exited, status: Int(recording.header.exitStatus))
            }
        }
        // How the program ended later does not matter to it.
        if recording.header.flags & RecordingHeader.snapshotFlag != 0 {
            return ProcessEnding(kind: .running, isSnapshot: true)
        }
        switch observed {
        case .exited(let status): return ProcessEnding(kind: .died, status: status)
        case .killed(let signal): return ProcessEnding(kind: .died, signal: signal)
        case .replaced: return ProcessEnding(kind: .died, isReplaced: true)
        case nil: return isRunning(recording) ? ProcessEnding(kind: .running) : ProcessEnding(kind: .died)
        }
    }

    /// Nanoseconds of the clock that recordings use.
    static func coarseMonotonicNow() -> UInt64 {
        var time = timespec()
        guard clock_gettime(CLOCK_MONOTONIC_COARSE, &time) == 0 else { return 0 }
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }

    /// Whether the process of that number has the recording mapped: the number alone may belong to a later process.
    private static func isRunning(_ recording: Recording) -> Bool {
        let identifier = recording.header.processID
        guard identifier > 0, identifier <= UInt32(Int32.max) else { return false }
        // EPERM says that it exists.
        guard kill(pid_t(identifier), 0) == 0 || errno == EPERM else { return false }
        guard let maps = try? KernelText.lines(of: "/proc/\(identifier)/maps") else {
            // Somebody else's process: that it exists is all there is to know.
            return true
        }
        // Columns of a line: range, permissions, offset, device, inode, path.
        let inode = String(recording.file.inode)
        return maps.contains { line in
            let columns = line.split(separator: " ", maxSplits: 5, omittingEmptySubsequences: true)
            return columns.count >= 5 && columns[4] == inode
        }
    }
}

/// Reads small text files of the kernel, which have no size.
private enum KernelText {
    struct Unreadable: Error {}

    /// A process with more mappings than fit here has not been seen.
    private static let limitBytes = 64 * 1024 * 1024

    static func lines(of path: String) throws -> [Substring] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw Unreadable() }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 64 * 1024)
        while bytes.count < limitBytes {
            let count = chunk.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
            guard count >= 0 else { throw Unreadable() }
            if count == 0 { break }
            bytes.append(contentsOf: chunk[..<count])
        }
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n")
    }
}

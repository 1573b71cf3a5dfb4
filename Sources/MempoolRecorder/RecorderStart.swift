// How the recorder comes to life at the first use of a pool, and what happens when the process ends.

#if Recorder
internal import CMempoolPlatform
internal import Glibc
internal import Mempool
internal import MempoolRecording
internal import Synchronization

/// Called once by the pool, before its first slow path does anything.
@_cdecl("mempool_recorder_start")
func recorderStart() {
    hasStarted.store(true, ordering: .relaxed)
    startRecorder(options: readOptions())
}

/// Whether a pool has been used.
private let hasStarted = Atomic<Bool>(false)

#if DEBUG
private let defaultLevel = RecorderLevel.full
#else
private let defaultLevel = RecorderLevel.off
#endif

private func readOptions() -> RecorderOptions {
    let text = cmempool_secure_getenv("MEMPOOL_DEBUG").map { String(cString: $0) } ?? ""
    var options = RecorderOptions(parsing: text, defaultLevel: defaultLevel)
    if defaultLevel == .off, RecorderOptions.lacksLevel(text) {
        // Without this line, an exit status that never comes would look like health.
        options.complaints.append(
            "MEMPOOL_DEBUG names no level, and a release build records nothing without one; add full, sampled or paranoid"
        )
    }
    return options
}

private func startRecorder(options: RecorderOptions) {
    for complaint in options.complaints { printLine(complaint) }
    guard options.level != .off else { return }
    cmempool_find_clock()
    let unwinder = cmempool_load_unwinder()
    if unwinder != CMEMPOOL_UNWINDER_LIBUNWIND {
        printLine(
            cmempool_is_static_executable()
                ? "a static executable cannot load libunwind, so stacks follow frame pointers only and may miss callers"
                : "libunwind.so.8 is not there, so stacks follow frame pointers only and may miss callers;"
                    + " install it: apt-get install libunwind8"
        )
    }
    do {
        let file = try makeFile(options)
        let recorder = try Recorder(options: options, file: file, unwinder: unwinder)
        recorder.becomeCurrent()
        PoolHook.installed = Recorder.hook(options)
    } catch let error as RecordingFileError {
        printLine("recording is off: cannot map \(error.path): \(error.text)")
    } catch {
        printLine("recording is off: \(error)")
    }
}

/// The pattern with every `%p` replaced by the process identifier.
private func expand(_ pattern: String) -> String {
    var path = ""
    var rest = Substring(pattern)
    while let character = rest.popFirst() {
        if character == "%", rest.first == "p" {
            rest.removeFirst()
            path += "\(getpid())"
        } else {
            path.append(character)
        }
    }
    return path
}

/// The file the options ask for, or private memory with one line that says why.
///
/// A file that exists is kept, and another name tried: with the process identifier added, and a number if there is such a one too,
/// as a program that replaces itself by another one keeps its identifier.
private func makeFile(_ options: RecorderOptions) throws -> RecordingFile {
    let paths: [String]
    if let pattern = options.recording {
        let path = expand(pattern)
        // More programs than these, one after the other in one process, are one that restarts itself without end.
        paths = [path, "\(path).\(getpid())"] + (2...100).map { "\(path).\(getpid()).\($0)" }
    } else if let directory = RecordingPlace.directory() {
        RecordingPlace.prune(directory)
        paths = RecordingPlace.paths(in: directory)
    } else {
        printLine(
            "no directory for recordings can be used; findings are printed at exit but no recording is written."
                + " Give a writable place: MEMPOOL_DEBUG=recording=PATH"
        )
        paths = []
    }
    for path in paths {
        do {
            let file = try RecordingFile(path: path, ledgerLimit: options.ledgerLimit)
            if options.recording != nil, path != paths[0] {
                printLine(
                    "\(paths[0]) exists and is kept; recording to \(path) (put %p into recording= for the process id)")
            }
            return file
        } catch let error as RecordingFileError {
            // A file that is there may be that of a process that lives, if only in another container.
            if error.errorNumber == EEXIST, path != paths.last { continue }
            printLine(
                "cannot create \(error.path): \(error.text); findings are printed at exit but no recording is written."
                    + " Give a writable place: MEMPOOL_DEBUG=recording=PATH"
            )
            break
        }
    }
    return try RecordingFile(path: nil, ledgerLimit: options.ledgerLimit)
}

/// Called when the process exits in an orderly way, after its own exit handlers.
@_cdecl("mempool_recorder_exit")
func recorderExit(_ status: CInt) {
    if PoolHook.installed == nil {
        // Whoever named a recording wants one, also of a program that never used a pool.
        let options = readOptions()
        guard options.recording != nil, options.level != .off, !hasStarted.load(ordering: .relaxed) else { return }
        startRecorder(options: options)
    }
    guard let root = cmempool_recorder_root() else { return }
    Unmanaged<Recorder>.fromOpaque(root).takeUnretainedValue().processWillExit(status)
}
#endif

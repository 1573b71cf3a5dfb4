// The end of a recorded process: the last entries of the recording, the plain block on standard error, the exit status.

#if Recorder
internal import CMempoolPlatform
internal import Glibc
internal import Mempool
internal import MempoolRecording
internal import Synchronization

extension Recorder {
    /// Groups printed in the block; the report has the rest.
    private static let printedGroups = 5
    /// Frames named per group: enough to recognise the place, short enough for one line.
    private static let printedFrames = 3

    /// One line of the block.
    struct Group {
        var kind: FindingKind?
        var count: UInt64
        var bytes: UInt64
        var stack: UInt32

        /// Mistakes that can corrupt memory come before leaks, larger before smaller.
        static func isWorse(_ a: Group, _ b: Group) -> Bool {
            if (a.kind == nil) != (b.kind == nil) { return b.kind == nil }
            return (a.bytes, a.count, b.stack) > (b.bytes, b.count, a.stack)
        }
    }

    /// Completes the recording, says what was found, and ends the process with the chosen status if there was nothing else.
    func processWillExit(_ status: CInt) {
        let hasFindings: Bool
        if cmempool_is_inside() {
            // The end came from a signal handler, amid a call of the pool's that holds any lock; this thread would wait for ever.
            Self.exitStatus.store(status, ordering: .relaxed)
            let isDone = cmempool_run_apart(
                {
                    Recorder.withCurrent {
                        let hasFindings = $0.finish(Recorder.exitStatus.load(ordering: .relaxed))
                        Recorder.hasFindingsAtExit.store(hasFindings, ordering: .relaxed)
                    }
                }, Self.apartMilliseconds)
            hasFindings = isDone && Self.hasFindingsAtExit.load(ordering: .relaxed)
        } else {
            hasFindings = finish(status)
        }
        if hasFindings { replace(status) }
    }

    /// How long a process waits for the thread that ends its recording in its stead. Without a lock in the way that takes
    /// milliseconds, and with one it never ends; the recording is then that of a process that died.
    private static let apartMilliseconds: UInt32 = 3000
    // What that thread is told and tells.
    private static let exitStatus = Atomic<CInt>(0)
    private static let hasFindingsAtExit = Atomic(false)

    /// Completes the recording and says what was found.
    ///
    /// - Returns: Whether there was anything that `exitcode=` stands for.
    private func finish(_ status: CInt) -> Bool {
        // All of this takes locks, for which a signal handler of this thread would wait for ever.
        let (groups, outstanding) = InterruptedCalls.around { complete(status) }
        let dropped = file.header.pointee.dropped.ledger
        if dropped > 0, !options.isQuiet {
            // Without this line, silence would look like health.
            printLine(
                "\(dropped) \(dropped == 1 ? "get" : "gets") found no room in the recording and \(dropped == 1 ? "is" : "are")"
                    + " not checked: the ledger or the disk is full")
        }
        let lost = file.header.pointee.lostPuts
        if lost > 0, outstanding > 0 || groups.contains(where: { $0.kind == nil }), !options.isQuiet {
            // Or the leaks that come of it would be taken for the program's.
            printLine(
                "lost puts of signal handlers: \(lost); as many of the leaks may be theirs, as no more than"
                    + " \(CMEMPOOL_DEFERRED_PUTS) can wait for an interrupted call")
        }
        guard !groups.isEmpty else {
            if outstanding > 0, !options.isQuiet {
                printLine(
                    "\(outstanding) \(outstanding == 1 ? "buffer is" : "buffers are") outstanding, and none of those that were sampled;"
                        + " MEMPOOL_DEBUG=full names where each was got")
            }
            // A file somebody asked for stays; others would only pile up.
            if options.recording == nil, dropped == 0, outstanding == 0 { file.remove() }
            return outstanding > 0
        }
        if !options.isQuiet { printBlock(groups) }
        return true
    }

    /// Makes the last entries and closes the file.
    ///
    /// - Returns: What was found, worst first; and how many buffers are outstanding, which is known while gets are sampled.
    private func complete(_ status: CInt) -> (groups: [Group], outstanding: UInt64) {
        checkIdleMemory()
        refreshModules()
        let groups = findingGroups()
        let inUse = sampling?.enterTotals() ?? 0
        let outstanding = inUse - min(inUse, file.header.pointee.keptBuffers)
        let header = file.header
        let now = cmempool_now()
        noteTime(now)
        header.pointee.endMonotonic = now
        header.pointee.exitStatus = status
        header.pointee.flags |= RecordingHeader.cleanExitFlag
        file.close()
        return (groups, outstanding)
    }

    /// Ends the process with the status that was chosen for findings, if its own would be 0.
    private func replace(_ status: CInt) {
        // The C library goes on with the exit handlers that are left, and flushes its streams as at any exit: here it
        // could wait for ever for one that another thread reads from.
        if let code = options.exitCode, status == 0 { exit(code) }
    }

    private func findingGroups() -> [Group] {
        var leaks: [UInt32: Group] = [:]
        let buffersPerRecord = UInt64(sampling?.interval ?? 1)
        forEachLeak { _, record in
            var group = leaks[record.getStack] ?? Group(kind: nil, count: 0, bytes: 0, stack: record.getStack)
            group.count &+= buffersPerRecord
            group.bytes &+= buffersPerRecord &* capacity(of: record)
            leaks[record.getStack] = group
        }
        var groups = Array(leaks.values)
        cold.withLock { cold in
            cold.findings.forEach { finding in
                let kind = FindingKind(rawValue: finding.kind)
                groups.append(Group(kind: kind, count: finding.count, bytes: finding.bytes, stack: finding.siteStack))
            }
        }
        return groups.sorted(by: Group.isWorse)
    }

    func capacity(of record: LedgerRecord) -> UInt64 {
        let rows = RecordingLimits.bucketRowsPerPool
        let position = Int(record.pool) * rows + Int(record.bucket)
        guard Int(record.bucket) < rows, position < Int(file.published(.counters).pointee) else {
            return record.request
        }
        let capacity = file.records(.counters, as: BucketCounters.self)[position].capacity
        // The row of oversized buffers has no capacity of its own.
        return capacity == 0 ? record.request : capacity
    }

    /// Stops the process where a finding was made, for a debugger or a core file.
    ///
    /// - Parameter isUnderLock: Whether a lock of the pool or the recorder is held. The loader, which knows the names, has a lock
    ///   of its own, and who holds that may wait for ours.
    func abort(because finding: FindingRecord, isUnderLock: Bool) -> Never {
        if !isUnderLock { refreshModules() }
        let kind = FindingKind(rawValue: finding.kind)
        printLine("stopped by abort= in MEMPOOL_DEBUG: \(kind?.name ?? "finding") in process \(getpid())")
        let stacks = [
            ("touched by", finding.accessStack), ("put by", finding.putStack), ("first put by", finding.firstPutStack),
            ("got by", finding.getStack), ("handed out again to", finding.reissueStack),
        ]
        for (title, stack) in stacks where stack > 0 {
            let names = isUnderLock ? offsets(of: stack, atMost: 12) : names(of: stack, atMost: 12)
            printLine("  \(title) \(Self.place(names))")
        }
        if let path = file.path { printLine("files, lines and stacks: mempool-doctor report \(path)") }
        Glibc.abort()
    }

    private func printBlock(_ groups: [Group]) {
        let program = executable.split(separator: "/").last.map(String.init) ?? "program"
        let total = groups.reduce(0) { $0 &+ $1.count }
        let about = sampling.map { $0.interval > 1 } == true && groups.contains { $0.kind == nil } ? "about " : ""
        printLine(
            "\(about)\(total) finding\(total == 1 ? "" : "s") from \(groups.count) place\(groups.count == 1 ? "" : "s")"
                + " when \(program) (process \(getpid())) exited"
        )
        for group in groups.prefix(Self.printedGroups) {
            let what = Self.describe(group, about: group.kind == nil ? about : "")
            printLine("  " + what + Self.place(names(of: group.stack)))
        }
        if groups.count > Self.printedGroups { printLine("  and \(groups.count - Self.printedGroups) more places") }
        if let path = file.path { printLine("files, lines and stacks: mempool-doctor report \(path)") }
    }

    /// `about` stands before the number of leaked buffers.
    static func describe(_ group: Group, about: String = "") -> String {
        let times = group.count == 1 ? "once" : "\(group.count) times"
        switch group.kind {
        case nil:
            let buffers = group.count == 1 ? "1 buffer" : "\(group.count) buffers"
            return "leak: \(about)\(buffers), \(bytesText(group.bytes)), got in "
        case .doublePut: return "double put, \(times), in "
        case .wrongCapacity: return "wrong-capacity put, \(times), in "
        case .foreignPut: return "foreign put, \(times), in "
        case .wrongPool: return "put into the wrong pool, \(times), in "
        case .useAfterPut: return "use after put, \(times), in "
        case .overrun: return "overrun, \(times), noticed at the put in "
        case .poolDestroyed: return "outstanding in a destroyed pool, \(times), got in "
        case .heldTooLong: return "held too long, \(times), got in "
        }
    }

    static func place(_ names: [String]) -> String {
        names.isEmpty ? "an unnamed place" : names.joined(separator: " < ")
    }

    private static func bytesText(_ bytes: UInt64) -> String {
        let units = ["B", "KiB", "MiB", "GiB", "TiB"]
        let product = bytes.multipliedReportingOverflow(by: 10)
        var value = product.overflow ? .max : product.partialValue
        var unit = 0
        while value >= 10_240, unit < units.count - 1 {
            value /= 1024
            unit += 1
        }
        return value % 10 == 0 ? "\(value / 10) \(units[unit])" : "\(value / 10).\(value % 10) \(units[unit])"
    }

    // MARK: - Names

    /// The functions of the first frames of a stack, on one line; where they lie in their file if none has a name.
    func place(of stack: UInt32) -> String {
        let names = names(of: stack)
        guard names.isEmpty, let offset = offsets(of: stack, atMost: 1).first else { return Self.place(names) }
        return "the program, at " + offset
    }

    /// Where the first frames of a stack lie in their files, without asking the loader.
    private func offsets(of stack: UInt32, atMost limit: Int) -> [String] {
        guard stack > 0 else { return [] }
        let words = file.records(.stacks, as: UInt64.self) + Int(stack)
        let modules = UnsafeBufferPointer(
            start: file.records(.modules, as: ModuleRecord.self), count: Int(file.published(.modules).pointee))
        return (1...Int(words[0])).prefix(limit).compactMap { index in
            let address = words[index] & ~StackWord.asyncBit
            let module = modules.first { $0.start <= address && address < $0.end }
            return module.map { "+0x" + String(address - $0.base, radix: 16) }
        }
    }

    /// The functions of the first frames outside the pool and the recorder.
    func names(of stack: UInt32, atMost limit: Int = printedFrames) -> [String] {
        guard stack > 0 else { return [] }
        let words = file.records(.stacks, as: UInt64.self) + Int(stack)
        var names: [String] = []
        // Better than nothing: what is written inside of a macro is in a function that it made.
        var glue: String?
        for index in 1...Int(words[0]) where names.count < limit {
            let word = words[index]
            let isAsync = word & StackWord.asyncBit != 0
            // A return address may already belong to the next function, and libunwind itself looks one byte before.
            let address = isAsync ? (word & ~StackWord.asyncBit) + 1 : word
            guard let mangled = Self.functionName(address) else { continue }
            if Self.isOwn(mangled) { continue }
            let name = Self.readable(mangled)
            // A scope's or a note's.
            if name.hasPrefix("Swift.TaskLocal.") { continue }
            if Self.isGlue(name, mangled) {
                if glue == nil, Self.isMangled(name) { glue = name }
                continue
            }
            names.append((isAsync ? "async " : "") + name)
            if name == "main" { break }
        }
        if names.isEmpty, let glue { return [glue] }
        return names
    }

    /// Whether the compiler, a macro or the runtime made a function, of whatever language: nobody looks for it.
    private static func isGlue(_ name: String, _ mangled: String) -> Bool {
        // A C function pointer to a closure is `@objc` here too. What macros make keeps its mangled name, or a part of it.
        ["", "@objc", "reabstraction", "partial", "protocol"].contains(name) || isMangled(name)
            || mangled.hasPrefix("_ZN5swift") || mangled == "swift_job_run"
            || mangled.text(after: "completeTask") != nil
    }

    /// Whether a name, or a part of it, is still as the compiler writes it.
    private static func isMangled(_ name: String) -> Bool {
        zip(name.utf8, name.utf8.dropFirst()).contains { $0 == UInt8(ascii: "$") && $1 == UInt8(ascii: "s") }
    }

    private static func functionName(_ address: UInt64) -> String? {
        var name = [CChar](repeating: 0, count: 1024)
        guard cmempool_function_name(address, &name, name.count) else { return nil }
        return String(decoding: name.prefix { $0 != 0 }.map { UInt8(truncatingIfNeeded: $0) }, as: UTF8.self)
    }

    /// Whether a symbol is the pool's or the recorder's, by its module. Extensions of the pool's types in other modules
    /// mangle the type first as well, but then name the module after an `E`.
    private static func isOwn(_ mangled: String) -> Bool {
        let own = ["$s7Mempool", "$s15MempoolRecorder", "$s17MempoolFoundation", "cmempool_", "mempool_recorder_"]
        guard own.contains(where: mangled.hasPrefix) else { return false }
        let extended = demangled(mangled).text(after: "(extension in ")
        return extended?.hasPrefix("Mempool") ?? true
    }

    private static func demangled(_ mangled: String) -> String {
        var name = [CChar](repeating: 0, count: 1024)
        guard cmempool_demangle(mangled, &name, name.count) else { return mangled }
        return String(decoding: name.prefix { $0 != 0 }.map { UInt8(truncatingIfNeeded: $0) }, as: UTF8.self)
    }

    /// The demangled name without parameters: `closure in Client.work`, `Client.Server.handle`.
    private static func readable(_ mangled: String) -> String {
        // The parts of an async `main`, and a main that the package manager renamed, are named outside the mangling scheme.
        if mangled.hasPrefix("async_Main") || (mangled.hasSuffix("_main") && !mangled.hasPrefix("$s")) { return "main" }
        var name = Substring(demangled(mangled))
        // Partial functions and specialisations stand for the function they were made from.
        for marker in [" partial function for ", " specialization of ", "> of "] {
            name = name.text(after: marker) ?? name
        }
        let isClosure = name.hasPrefix("closure #")
        // A closure in a closure is named after the function around both.
        while name.hasPrefix("closure #"), let outer = name.text(after: " in ", isFirst: true) { name = outer }
        if name.hasPrefix("static ") { name = name.dropFirst("static ".count) }
        return (isClosure ? "closure in " : "") + withoutParameters(name)
    }

    /// A demangled name up to its parameters. `Client.(work in _4F2A)(Int)`, a private function, becomes `Client.work`.
    private static func withoutParameters(_ name: Substring) -> String {
        var result = ""
        var rest = name
        while let character = rest.first, character != " " {
            if character == "(" {
                guard result.last == ".", let end = rest.firstIndex(of: ")") else { break }
                result += rest.dropFirst().prefix { $0 != " " }
                rest = rest[rest.index(after: end)...]
            } else {
                result.append(character)
                rest.removeFirst()
            }
        }
        return result
    }
}

extension StringProtocol {
    /// What follows the last occurrence of a marker, or the first, or nil. Written out, as the library's search would
    /// link its regular expressions into every program with a pool.
    fileprivate func text(after marker: String, isFirst: Bool = false) -> Substring? {
        var found: Substring?
        var position = startIndex
        while position < endIndex {
            if self[position...].hasPrefix(marker) {
                found = Substring(self[position...].dropFirst(marker.count))
                if isFirst { break }
            }
            position = index(after: position)
        }
        return found
    }
}
#endif

// `ModuleTable`: the ELF images of the process, entered when they are first seen.

#if Recorder
internal import CMempoolPlatform
internal import Glibc
internal import MempoolRecording

/// Enters loaded images into the recording. One thread at a time: the recorder's cold lock guards it.
///
/// An image that was unloaded stays: stacks recorded before point into it.
struct ModuleTable {
    private struct Key: Hashable {
        var base: UInt64
        var end: UInt64
        var path: String
    }

    private let file: RecordingFile
    private var known: Set<Key> = []
    private var epoch: UInt64 = 0

    init(file: RecordingFile) { self.file = file }

    /// Enters what was loaded since the last call.
    mutating func refresh(strings: inout StringTable, executable: String) {
        let now = cmempool_module_epoch()
        guard now != epoch else { return }
        epoch = now
        var found: [cmempool_module] = []
        var paths: [String] = []
        withUnsafeMutablePointer(to: &found) { found in
            withUnsafeMutablePointer(to: &paths) { paths in
                var lists = Lists(modules: found, paths: paths)
                cmempool_each_module(
                    { module, context in
                        guard let lists = context?.assumingMemoryBound(to: Lists.self) else { return false }
                        lists.pointee.modules.pointee.append(module.pointee)
                        lists.pointee.paths.pointee.append(String(cString: module.pointee.path))
                        return true
                    },
                    &lists
                )
            }
        }
        for (module, name) in zip(found, paths) where module.end > 0 {
            // The loader names the program itself with an empty string.
            enter(module, path: name.isEmpty ? executable : name, strings: &strings)
        }
    }

    private struct Lists {
        var modules: UnsafeMutablePointer<[cmempool_module]>
        var paths: UnsafeMutablePointer<[String]>
    }

    private mutating func enter(_ module: cmempool_module, path: String, strings: inout StringTable) {
        guard known.insert(Key(base: module.base, end: module.end, path: path)).inserted else { return }
        let position = known.count - 1
        guard file.reserve(.modules, count: position + 1) != nil else {
            file.countDropped(&file.header.pointee.dropped.modules)
            return
        }
        var record = ModuleRecord()
        record.base = module.base
        record.start = module.start
        record.end = module.end
        record.path = strings.add(path)
        record.buildIDLength = module.build_id_bytes
        withUnsafeBytes(of: module.build_id) { source in
            withUnsafeMutableBytes(of: &record.buildID) { $0.copyMemory(from: source) }
        }
        file.records(.modules, as: ModuleRecord.self)[position] = record
        file.publish(.modules, count: position + 1)
    }
}
#endif

// `ModuleTable`: the ELF images of the process, entered when they are first seen; `LoadedImages`: those there are.

#if Recorder
internal import CMempoolPlatform
internal import Glibc
internal import MempoolRecording

/// The images of the process at a moment.
struct LoadedImages {
    fileprivate struct Image {
        var module: cmempool_module
        var path: String
    }

    /// Of that moment, or before it: what is loaded meanwhile is found once more.
    fileprivate let epoch: UInt64
    fileprivate let images: [Image]

    /// Takes the loader's lock, so the caller holds none of the recorder's.
    init(epoch: UInt64) {
        self.epoch = epoch
        var images: [Image] = []
        withUnsafeMutablePointer(to: &images) { images in
            cmempool_each_module(
                { module, context in
                    guard let images = context?.assumingMemoryBound(to: [Image].self) else { return false }
                    images.pointee.append(Image(module: module.pointee, path: String(cString: module.pointee.path)))
                    return true
                },
                images
            )
        }
        self.images = images
    }
}

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
    /// Those that found no room as well, so that each counts once; of a program that loads and unloads without end, no more than
    /// `knownLimit`, about half a megabyte.
    private var known: Set<Key> = []
    private static let knownLimit = 4 * RecordingLimits.modules
    /// Of the images that were entered last; another one means that there are others.
    private(set) var epoch: UInt64 = 0

    init(file: RecordingFile) { self.file = file }

    /// Enters those images that are not known yet.
    mutating func enter(_ images: LoadedImages, strings: inout StringTable, executable: String) {
        epoch = images.epoch
        for image in images.images where image.module.end > 0 {
            // The loader names the program itself with an empty string.
            enter(image.module, path: image.path.isEmpty ? executable : image.path, strings: &strings)
        }
    }

    private mutating func enter(_ module: cmempool_module, path: String, strings: inout StringTable) {
        let key = Key(base: module.base, end: module.end, path: path)
        guard !known.contains(key) else { return }
        let position = known.count
        if position < Self.knownLimit { known.insert(key) }
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

// `NamedStacks`: the stacks of a recording with names, without the pool's own frames, and the place each one stands for.

internal import MempoolRecording

/// Turns stack identifiers into frames.
struct NamedStacks {
    private let words: [UInt32: [UInt64]]
    private let names: NamedAddresses
    private let table: ModuleTable

    init(words: [UInt32: [UInt64]], names: NamedAddresses, modules: [Recording.Module]) {
        self.words = words
        self.names = names
        table = ModuleTable(modules)
    }

    /// The named frames of a stack from the first that is not the pool's own; nil if it was not captured.
    func frames(_ identifier: UInt32) -> [Frame]? {
        guard let words = words[identifier], !words.isEmpty else { return nil }
        let frames = words.flatMap { names.frames[$0] ?? [ModuleTable.unnamedFrame($0, in: table.module(of: $0))] }
        // Thunks between frames of the pool go with them.
        guard let lastOwn = frames.firstIndex(where: { !$0.isOwn && !$0.isCompilerGenerated }), lastOwn > 0,
            frames[..<lastOwn].contains(where: \.isOwn)
        else { return frames }
        return Array(frames[lastOwn...])
    }

    /// The first frame somebody can change; if there is none, the first that is not the pool's. Nil if that has no name: it may be
    /// the pool's own.
    static func site(of stack: [Frame]?) -> Frame? {
        guard let stack else { return nil }
        if let caller = callerOfAutoclosure(stack) { return caller }
        if let user = stack.first(where: \.isUserCode) { return user }
        guard let first = stack.first(where: { !$0.isOwn }) ?? stack.first, !first.isUnnamed else { return nil }
        return first
    }

    /// If the first frame is the argument of an autoclosure, which the compiler gives no line, the frame of the function in
    /// whose text the argument stands.
    private static func callerOfAutoclosure(_ stack: [Frame]) -> Frame? {
        guard let first = stack.first(where: { !$0.isOwn }), first.line == nil,
            first.function.hasPrefix("implicit closure #"), let context = first.function.range(of: " in ")
        else { return nil }
        let function = first.function[context.upperBound...]
        return stack.first { $0.isUserCode && $0.function == function }
    }
}

extension Recording {
    /// The name of a pool, or its number.
    func poolName(_ number: Int) -> String {
        guard number >= 0, number < pools.count, !pools[number].name.isEmpty else { return "pool \(number)" }
        return pools[number].name
    }
}

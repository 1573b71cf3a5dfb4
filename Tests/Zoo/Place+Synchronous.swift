// Places on the caller's own stack. The formatter must not wrap the marked lines: the mark is the truth.

import Glibc
import Mempool

extension Place {
    static let synchronous: [Place] = [
        Place(name: "sync") { plain($0, "sync") },
        Place(name: "closure") { mistake in
            let make = closure("3")
            precondition(make(mistake) == 3)
        },
        Place(name: "generic") { Generic(value: 1).visit($0, "text") },
        Place(name: "witness") { mistake in
            let witnesses: [any Visitor] = [Witness(), OtherWitness()]
            precondition(witnesses[mistake.size % 2].visit(mistake) > 0)
        },
        Place(name: "inlined") { precondition(!outlined($0).isEmpty) },
        Place(name: "override") { mistake in
            let object: Base = mistake.size > 0 ? Derived() : Base()
            object.visit(mistake)
        },
        Place(name: "getter") { _ = Accessors(mistake: $0).property },
        Place(name: "subscript") { Accessors(mistake: $0)[3] = 4 },
        Place(name: "observer") { mistake in
            let object = Observed()
            object.mistake = mistake
        },
        Place(name: "initializer") { _ = Initialized($0) },
        Place(name: "struct-initializer") { _ = InitializedValue($0) },
        Place(name: "nested-function") { nested($0) },
        Place(name: "autoclosure") { lazily($0) },
        Place(name: "map-closure") { mapped($0) },
        Place(name: "recursion") { recursive($0, depth: 200) },
        Place(name: "deinit") { _ = Deinitialized($0) },
        Place(name: "defer") { deferred($0) },
        Place(name: "throwing") { try throwing($0) },
        Place(name: "catch") { catching($0) },
        Place(name: "tail-call") { tailCall($0) },
        Place(name: "c-callback") { inCallback($0) },
        Place(name: "with-buffer-body") { inBody($0) },
        Place(
            name: "free-functions", pool: { .shared },
            // The default pool lives as long as the process.
            impossible: [.poolDestroyed]
        ) { freeFunctions($0) },
        Place(name: "twins") { mistake in
            if mistake.size < 0 { firstTwin(mistake) }
            secondTwin(mistake)
        },
        Place(
            name: "oversized", size: 20 << 20,
            // Its memory is gone with the put, so a touch ends the program, and its slot is not the next one's for certain.
            impossible: [
                .doublePutReissued, .useAfterPut, .useAfterPutTouch, .useAfterPutTouchReissued,
            ]
        ) { oversized($0, bytes: 20 << 20) },
        // A pool for each, as what one prepares shall not be the re-issue of another.
        Place(name: "exit-handler", pool: { Pools.another() }, isLate: true) { atExit($0) },
    ]
}

@inline(never)
private func plain(_ mistake: Mistake, _ name: StaticString) {
    precondition(name.utf8CodeUnitCount == 4)
    switch mistake.verb {
    case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get sync
    case .put: mistake.pool.put(mistake.buffer)  // SITE put sync
    case .touch: mistake.buffer[1] = 7  // SITE touch sync
    }
}

@inline(never)
private func closure(_ text: String) -> (Mistake) -> Int? {
    { mistake in
        switch mistake.verb {
        case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get closure
        case .put: mistake.pool.put(mistake.buffer)  // SITE put closure
        case .touch: _ = mistake.buffer[1]  // SITE touch closure
        }
        return Int(text)
    }
}

private struct Generic<Value: Sendable> {
    var value: Value

    @inline(never)
    func visit<Other: Hashable>(_ mistake: Mistake, _ other: Other) {
        guard "\(value)\(other)" != "" else { return }
        switch mistake.verb {
        case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get generic
        case .put: mistake.pool.put(mistake.buffer)  // SITE put generic
        case .touch: mistake.buffer[1] = 7  // SITE touch generic
        }
    }
}

private protocol Visitor {
    func visit(_ mistake: Mistake) -> Double
}

private struct Witness: Visitor {
    func visit(_ mistake: Mistake) -> Double {
        switch mistake.verb {
        case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get witness
        case .put: mistake.pool.put(mistake.buffer)  // SITE put witness
        case .touch: _ = mistake.buffer[1]  // SITE touch witness
        }
        return Double(mistake.size).squareRoot()
    }
}

private struct OtherWitness: Visitor {
    func visit(_ mistake: Mistake) -> Double {
        mistake.finish()
        return 0
    }
}

@inline(__always)
private func inlined(_ mistake: Mistake) {
    switch mistake.verb {
    case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get inlined
    case .put: mistake.pool.put(mistake.buffer)  // SITE put inlined
    case .touch: mistake.buffer[1] = 7  // SITE touch inlined
    }
}

@inline(never)
private func outlined(_ mistake: Mistake) -> String {
    inlined(mistake)
    return String(mistake.size)
}

private class Base {
    func visit(_ mistake: Mistake) { mistake.finish() }
}

private final class Derived: Base {
    override func visit(_ mistake: Mistake) {
        switch mistake.verb {
        case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get override
        case .put: mistake.pool.put(mistake.buffer)  // SITE put override
        case .touch: mistake.buffer[1] = 7  // SITE touch override
        }
    }
}

private struct Accessors {
    let mistake: Mistake

    var property: Int {
        switch mistake.verb {
        case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get getter
        case .put: mistake.pool.put(mistake.buffer)  // SITE put getter
        case .touch: _ = mistake.buffer[1]  // SITE touch getter
        }
        return mistake.size
    }

    subscript(index: Int) -> Int {
        get { index }
        nonmutating set {
            switch mistake.verb {
            case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get subscript
            case .put: mistake.pool.put(mistake.buffer)  // SITE put subscript
            case .touch: mistake.buffer[1] = 7  // SITE touch subscript
            }
        }
    }
}

private final class Observed {
    var mistake: Mistake? {
        didSet {
            guard let mistake else { return }
            switch mistake.verb {
            case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get observer
            case .put: mistake.pool.put(mistake.buffer)  // SITE put observer
            case .touch: mistake.buffer[1] = 7  // SITE touch observer
            }
        }
    }
}

private final class Initialized {
    let size: Int

    init(_ mistake: Mistake) {
        size = mistake.size
        switch mistake.verb {
        case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get initializer
        case .put: mistake.pool.put(mistake.buffer)  // SITE put initializer
        case .touch: mistake.buffer[1] = 7  // SITE touch initializer
        }
    }
}

private struct InitializedValue {
    let size: Int

    @inline(never)
    init(_ mistake: Mistake) {
        switch mistake.verb {
        case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get struct-initializer
        case .put: mistake.pool.put(mistake.buffer)  // SITE put struct-initializer
        case .touch: mistake.buffer[1] = 7  // SITE touch struct-initializer
        }
        size = mistake.size
    }
}

@inline(never)
private func nested(_ mistake: Mistake) {
    var calls = [mistake.size]
    func inner() {
        calls.append(1)
        switch mistake.verb {
        case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get nested-function
        case .put: mistake.pool.put(mistake.buffer)  // SITE put nested-function
        case .touch: mistake.buffer[1] = 7  // SITE touch nested-function
        }
    }
    inner()
    precondition(calls.count == 2)
}

@inline(never)
private func evaluate<R>(_ value: @autoclosure () -> R) -> R { value() }

@inline(never)
private func lazily(_ mistake: Mistake) {
    switch mistake.verb {
    case .get: mistake.keep(evaluate(mistake.pool.get(mistake.size)))  // SITE get autoclosure
    case .put: evaluate(mistake.pool.put(mistake.buffer))  // SITE put autoclosure
    case .touch: _ = evaluate(mistake.buffer[1])  // SITE touch autoclosure
    }
}

@inline(never)
private func mapped(_ mistake: Mistake) {
    let lengths = [mistake.size].map { size in
        switch mistake.verb {
        case .get: mistake.keep(mistake.pool.get(size))  // SITE get map-closure
        case .put: mistake.pool.put(mistake.buffer)  // SITE put map-closure
        case .touch: mistake.buffer[1] = 7  // SITE touch map-closure
        }
        return size
    }
    precondition(lengths.count == 1)
}

@inline(never)
@discardableResult
private func recursive(_ mistake: Mistake, depth: Int) -> Int {
    guard depth == 0 else { return recursive(mistake, depth: depth - 1) ^ depth }
    switch mistake.verb {
    case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get recursion
    case .put: mistake.pool.put(mistake.buffer)  // SITE put recursion
    case .touch: mistake.buffer[1] = 7  // SITE touch recursion
    }
    return 1
}

private final class Deinitialized {
    let mistake: Mistake

    init(_ mistake: Mistake) { self.mistake = mistake }

    deinit {
        switch mistake.verb {
        case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get deinit
        case .put: mistake.pool.put(mistake.buffer)  // SITE put deinit
        case .touch: mistake.buffer[1] = 7  // SITE touch deinit
        }
    }
}

@inline(never)
private func deferred(_ mistake: Mistake) {
    let before = getpid()
    defer {
        precondition(getpid() == before)
        switch mistake.verb {
        case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get defer
        case .put: mistake.pool.put(mistake.buffer)  // SITE put defer
        case .touch: _ = mistake.buffer[1]  // SITE touch defer
        }
    }
    if mistake.size < 0 { print("never", mistake.kind) }
}

@inline(never)
private func throwing(_ mistake: Mistake) throws {
    do { try throwAfterMistake(mistake) } catch is ZooError {}
}

@inline(never)
private func throwAfterMistake(_ mistake: Mistake) throws {
    switch mistake.verb {
    case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get throwing
    case .put: mistake.pool.put(mistake.buffer)  // SITE put throwing
    case .touch: mistake.buffer[1] = 7  // SITE touch throwing
    }
    throw ZooError()
}

@inline(never)
private func fail(_ mistake: Mistake) throws {
    if mistake.size > 0 { throw ZooError() }
}

@inline(never)
private func catching(_ mistake: Mistake) {
    do {
        try fail(mistake)
    } catch {
        switch mistake.verb {
        case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get catch
        case .put: mistake.pool.put(mistake.buffer)  // SITE put catch
        case .touch: mistake.buffer[1] = 7  // SITE touch catch
        }
    }
}

@inline(never)
private func tailGet(_ mistake: Mistake) -> Buffer {
    mistake.pool.get(mistake.size)  // SITE get tail-call
}

@inline(never)
private func tailPut(_ mistake: Mistake) {
    mistake.pool.put(mistake.buffer)  // SITE put tail-call
}

@inline(never)
private func tailTouch(_ mistake: Mistake) -> UInt8 {
    mistake.buffer[1]  // SITE touch tail-call
}

@inline(never)
private func tailCall(_ mistake: Mistake) {
    switch mistake.verb {
    case .get: mistake.keep(tailGet(mistake))
    case .put: tailPut(mistake)
    case .touch: _ = tailTouch(mistake)
    }
}

/// The mistake for a callback that takes no context.
private let callbackMistake = Box<Mistake?>(nil)

@inline(never)
private func inCallback(_ mistake: Mistake) {
    callbackMistake.with { $0 = mistake }
    defer { callbackMistake.with { $0 = nil } }
    // Two elements are compared once.
    var numbers: [CInt] = [2, 1]
    qsort(&numbers, numbers.count, MemoryLayout<CInt>.stride) { _, _ in
        guard let mistake = callbackMistake.with({ $0 }) else { return 0 }
        switch mistake.verb {
        case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get c-callback
        case .put: mistake.pool.put(mistake.buffer)  // SITE put c-callback
        case .touch: mistake.buffer[1] = 7  // SITE touch c-callback
        }
        return 1
    }
}

@inline(never)
private func inBody(_ mistake: Mistake) {
    mistake.pool.withBuffer(64) { buffer in
        buffer[0] = 1
        switch mistake.verb {
        case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get with-buffer-body
        case .put: mistake.pool.put(mistake.buffer)  // SITE put with-buffer-body
        case .touch: mistake.buffer[1] = 7  // SITE touch with-buffer-body
        }
    }
}

@inline(never)
private func freeFunctions(_ mistake: Mistake) {
    switch mistake.verb {
    case .get: mistake.keep(getBuffer(mistake.size))  // SITE get free-functions
    case .put: putBuffer(mistake.buffer)  // SITE put free-functions
    case .touch: mistake.buffer[1] = 7  // SITE touch free-functions
    }
}

/// As `secondTwin`: optimised code has one function for both.
@inline(never)
private func firstTwin(_ mistake: Mistake) {
    switch mistake.verb {
    case .get: mistake.keep(mistake.pool.get(mistake.size))
    case .put: mistake.pool.put(mistake.buffer)
    case .touch: mistake.buffer[1] = 7
    }
}

@inline(never)
private func secondTwin(_ mistake: Mistake) {
    switch mistake.verb {
    case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get twins
    case .put: mistake.pool.put(mistake.buffer)  // SITE put twins
    case .touch: mistake.buffer[1] = 7  // SITE touch twins
    }
}

@inline(never)
private func oversized(_ mistake: Mistake, bytes: Int) {
    switch mistake.verb {
    case .get: mistake.keep(mistake.pool.get(bytes))  // SITE get oversized
    case .put: mistake.pool.put(mistake.buffer)  // SITE put oversized
    case .touch: mistake.buffer[1] = 7  // SITE touch oversized
    }
}

/// What the handler at exit makes.
private let lateMistakes = Box<[Mistake]>([])

private let handlerIsRegistered: Void = {
    atexit {
        for mistake in lateMistakes.take([]) {
            switch mistake.verb {
            case .get: mistake.keep(mistake.pool.get(mistake.size))  // SITE get exit-handler
            case .put: mistake.pool.put(mistake.buffer)  // SITE put exit-handler
            case .touch: mistake.buffer[1] = 7  // SITE touch exit-handler
            }
            mistake.finish()
        }
    }
}()

@inline(never)
private func atExit(_ mistake: Mistake) {
    lateMistakes.with { $0.append(mistake) }
    // The pool was used first, so the handler runs before the recorder's.
    mistake.pool.withBuffer(1) { $0[0] = 1 }
    handlerIsRegistered
}

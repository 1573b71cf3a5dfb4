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
        Place(name: "free-functions", pool: { .shared }) { freeFunctions($0) },
        Place(name: "twins") { mistake in
            if mistake.size < 0 { firstTwin(mistake) }
            secondTwin(mistake)
        },
        Place(
            name: "oversized", size: 20 << 20,
            // Its memory is gone with the first put, and its slot is not the next one's for certain.
            impossible: [.doublePutReissued]
        ) { oversized($0, bytes: 20 << 20) },
        // A pool for each, as what one prepares shall not be the re-issue of another.
        Place(name: "exit-handler", pool: { BufferPool() }, isLate: true) { atExit($0) },
    ]
}

@inline(never)
private func plain(_ mistake: Mistake, _ name: StaticString) {
    precondition(name.utf8CodeUnitCount == 4)
    if mistake.isGet {
        mistake.keep(mistake.pool.get(mistake.size))  // SITE get sync
    } else {
        mistake.pool.put(mistake.buffer)  // SITE put sync
    }
}

@inline(never)
private func closure(_ text: String) -> (Mistake) -> Int? {
    { mistake in
        if mistake.isGet {
            mistake.keep(mistake.pool.get(mistake.size))  // SITE get closure
        } else {
            mistake.pool.put(mistake.buffer)  // SITE put closure
        }
        return Int(text)
    }
}

private struct Generic<Value: Sendable> {
    var value: Value

    @inline(never)
    func visit<Other: Hashable>(_ mistake: Mistake, _ other: Other) {
        guard "\(value)\(other)" != "" else { return }
        if mistake.isGet {
            mistake.keep(mistake.pool.get(mistake.size))  // SITE get generic
        } else {
            mistake.pool.put(mistake.buffer)  // SITE put generic
        }
    }
}

private protocol Visitor {
    func visit(_ mistake: Mistake) -> Double
}

private struct Witness: Visitor {
    func visit(_ mistake: Mistake) -> Double {
        if mistake.isGet {
            mistake.keep(mistake.pool.get(mistake.size))  // SITE get witness
        } else {
            mistake.pool.put(mistake.buffer)  // SITE put witness
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
    if mistake.isGet {
        mistake.keep(mistake.pool.get(mistake.size))  // SITE get inlined
    } else {
        mistake.pool.put(mistake.buffer)  // SITE put inlined
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
        if mistake.isGet {
            mistake.keep(mistake.pool.get(mistake.size))  // SITE get override
        } else {
            mistake.pool.put(mistake.buffer)  // SITE put override
        }
    }
}

private struct Accessors {
    let mistake: Mistake

    var property: Int {
        if mistake.isGet {
            mistake.keep(mistake.pool.get(mistake.size))  // SITE get getter
        } else {
            mistake.pool.put(mistake.buffer)  // SITE put getter
        }
        return mistake.size
    }

    subscript(index: Int) -> Int {
        get { index }
        nonmutating set {
            if mistake.isGet {
                mistake.keep(mistake.pool.get(mistake.size))  // SITE get subscript
            } else {
                mistake.pool.put(mistake.buffer)  // SITE put subscript
            }
        }
    }
}

private final class Observed {
    var mistake: Mistake? {
        didSet {
            guard let mistake else { return }
            if mistake.isGet {
                mistake.keep(mistake.pool.get(mistake.size))  // SITE get observer
            } else {
                mistake.pool.put(mistake.buffer)  // SITE put observer
            }
        }
    }
}

private final class Initialized {
    let size: Int

    init(_ mistake: Mistake) {
        size = mistake.size
        if mistake.isGet {
            mistake.keep(mistake.pool.get(mistake.size))  // SITE get initializer
        } else {
            mistake.pool.put(mistake.buffer)  // SITE put initializer
        }
    }
}

private struct InitializedValue {
    let size: Int

    @inline(never)
    init(_ mistake: Mistake) {
        if mistake.isGet {
            mistake.keep(mistake.pool.get(mistake.size))  // SITE get struct-initializer
        } else {
            mistake.pool.put(mistake.buffer)  // SITE put struct-initializer
        }
        size = mistake.size
    }
}

@inline(never)
private func nested(_ mistake: Mistake) {
    var calls = [mistake.size]
    func inner() {
        calls.append(1)
        if mistake.isGet {
            mistake.keep(mistake.pool.get(mistake.size))  // SITE get nested-function
        } else {
            mistake.pool.put(mistake.buffer)  // SITE put nested-function
        }
    }
    inner()
    precondition(calls.count == 2)
}

@inline(never)
private func evaluate<R>(_ value: @autoclosure () -> R) -> R { value() }

@inline(never)
private func lazily(_ mistake: Mistake) {
    if mistake.isGet {
        mistake.keep(evaluate(mistake.pool.get(mistake.size)))  // SITE get autoclosure
    } else {
        evaluate(mistake.pool.put(mistake.buffer))  // SITE put autoclosure
    }
}

@inline(never)
private func mapped(_ mistake: Mistake) {
    let lengths = [mistake.size].map { size in
        if mistake.isGet {
            mistake.keep(mistake.pool.get(size))  // SITE get map-closure
        } else {
            mistake.pool.put(mistake.buffer)  // SITE put map-closure
        }
        return size
    }
    precondition(lengths.count == 1)
}

@inline(never)
@discardableResult
private func recursive(_ mistake: Mistake, depth: Int) -> Int {
    guard depth == 0 else { return recursive(mistake, depth: depth - 1) ^ depth }
    if mistake.isGet {
        mistake.keep(mistake.pool.get(mistake.size))  // SITE get recursion
    } else {
        mistake.pool.put(mistake.buffer)  // SITE put recursion
    }
    return 1
}

private final class Deinitialized {
    let mistake: Mistake

    init(_ mistake: Mistake) { self.mistake = mistake }

    deinit {
        if mistake.isGet {
            mistake.keep(mistake.pool.get(mistake.size))  // SITE get deinit
        } else {
            mistake.pool.put(mistake.buffer)  // SITE put deinit
        }
    }
}

@inline(never)
private func deferred(_ mistake: Mistake) {
    let before = getpid()
    defer {
        precondition(getpid() == before)
        if mistake.isGet {
            mistake.keep(mistake.pool.get(mistake.size))  // SITE get defer
        } else {
            mistake.pool.put(mistake.buffer)  // SITE put defer
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
    if mistake.isGet {
        mistake.keep(mistake.pool.get(mistake.size))  // SITE get throwing
    } else {
        mistake.pool.put(mistake.buffer)  // SITE put throwing
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
        if mistake.isGet {
            mistake.keep(mistake.pool.get(mistake.size))  // SITE get catch
        } else {
            mistake.pool.put(mistake.buffer)  // SITE put catch
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
private func tailCall(_ mistake: Mistake) {
    if mistake.isGet { mistake.keep(tailGet(mistake)) } else { tailPut(mistake) }
}

/// The mistake for a callback that takes no context.
private let callbackMistake = Box<Mistake?>(nil)

@inline(never)
private func inCallback(_ mistake: Mistake) {
    callbackMistake.with { $0 = mistake }
    // Two elements are compared once.
    var numbers: [CInt] = [2, 1]
    qsort(&numbers, numbers.count, MemoryLayout<CInt>.stride) { _, _ in
        guard let mistake = callbackMistake.with({ $0 }) else { return 0 }
        if mistake.isGet {
            mistake.keep(mistake.pool.get(mistake.size))  // SITE get c-callback
        } else {
            mistake.pool.put(mistake.buffer)  // SITE put c-callback
        }
        return 1
    }
}

@inline(never)
private func inBody(_ mistake: Mistake) {
    mistake.pool.withBuffer(64) { buffer in
        buffer[0] = 1
        if mistake.isGet {
            mistake.keep(mistake.pool.get(mistake.size))  // SITE get with-buffer-body
        } else {
            mistake.pool.put(mistake.buffer)  // SITE put with-buffer-body
        }
    }
}

@inline(never)
private func freeFunctions(_ mistake: Mistake) {
    if mistake.isGet {
        mistake.keep(getBuffer(mistake.size))  // SITE get free-functions
    } else {
        putBuffer(mistake.buffer)  // SITE put free-functions
    }
}

/// As `secondTwin`: optimised code has one function for both.
@inline(never)
private func firstTwin(_ mistake: Mistake) {
    if mistake.isGet {
        mistake.keep(mistake.pool.get(mistake.size))
    } else {
        mistake.pool.put(mistake.buffer)
    }
}

@inline(never)
private func secondTwin(_ mistake: Mistake) {
    if mistake.isGet {
        mistake.keep(mistake.pool.get(mistake.size))  // SITE get twins
    } else {
        mistake.pool.put(mistake.buffer)  // SITE put twins
    }
}

@inline(never)
private func oversized(_ mistake: Mistake, bytes: Int) {
    if mistake.isGet {
        mistake.keep(mistake.pool.get(bytes))  // SITE get oversized
    } else {
        mistake.pool.put(mistake.buffer)  // SITE put oversized
    }
}

/// What the handler at exit makes.
private let lateMistakes = Box<[Mistake]>([])

private let handlerIsRegistered: Void = {
    atexit {
        for mistake in lateMistakes.with({ $0 }) {
            if mistake.isGet {
                mistake.keep(mistake.pool.get(mistake.size))  // SITE get exit-handler
            } else {
                mistake.pool.put(mistake.buffer)  // SITE put exit-handler
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

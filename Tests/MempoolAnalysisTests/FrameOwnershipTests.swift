// Tests of FrameOwnership: whose code a symbol is.

import Testing

@testable import MempoolAnalysis

struct FrameOwnershipTests {
    @Test(arguments: [
        ("main", "/app/Server.swift", true), ("main", "/app/main.swift", false),
        ("app.Session.__deallocating_deinit", "/app/main.swift", true),
        ("app.Session.deinit", "/app/main.swift", false),
    ])
    func `What frees an object and what calls a main function was written by nobody`(
        name: String, file: String, isGenerated: Bool
    ) {
        #expect(FrameOwnership.isGenerated(name, declaredIn: file) == isGenerated)
    }

    @Test(arguments: [
        ("Mempool.getBuffer(Swift.Int) -> Mempool.Buffer", "Mempool"),
        ("Mempool.BufferPool.get(Swift.Int) -> Mempool.Buffer", "Mempool"),
        ("static Mempool.BufferPool.shared.getter : Mempool.BufferPool", "Mempool"),
        ("Mempool.BufferPool.__allocating_init() -> Mempool.BufferPool", "Mempool"),
        ("closure #1 (inout Mempool.Buffer) -> () in Mempool.BufferPool.use() -> ()", "Mempool"),
        ("merged Mempool.putBuffer(Mempool.Buffer) -> ()", "Mempool"),
        ("(extension in Mempool):Swift.Array.fill() -> ()", "Mempool"),
        ("(extension in MempoolFoundation):Mempool.Lease.intoData() -> Foundation.Data", "MempoolFoundation"),
        (
            "generic specialization <Swift.Int, app.Failure> of Mempool.BufferPool.withBuffer<A, B where B: Swift.Error>() -> A",
            "Mempool"
        ),
        (
            "function signature specialization <Arg[1] = [Closure Propagated : closure #1 () -> () in app.run() -> (), "
                + "Argument Types : []> of Mempool.BufferPool.withBuffer() -> ()", "Mempool"
        ),
        ("partial apply forwarder for closure #2 () -> () in Mempool.BufferPool.trim() -> ()", "Mempool"),
        ("(1) suspend resume partial function for Mempool.drain() async -> ()", "Mempool"),
        ("MempoolRecorder.Recorder.record(Swift.Int) -> ()", "MempoolRecorder"),
        // The user's code, although it speaks of the pool.
        ("app.take() -> Mempool.Buffer", "app"),
        ("(extension in app):Mempool.BufferPool.take() -> Mempool.Buffer", "app"),
        ("closure #1 (inout Mempool.Buffer) -> () in app.run() -> ()", "app"),
        (
            "closure #1 () -> () in closure #2 (Mempool.Buffer) -> () in (extension in app):Mempool.BufferPool.go() -> ()",
            "app"
        ),
        ("static app.Server.handle(Mempool.Buffer) -> ()", "app"),
        ("app.(helper in _0123ABC)(Mempool.Buffer) -> ()", "app"),
        ("helper #1 (Mempool.Buffer) -> () in app.run() -> ()", "app"),
        ("generic specialization <Mempool.Buffer> of app.Box.init(A) -> app.Box<A>", "app"),
        ("implicit closure #1 () -> Mempool.Buffer in app.run() -> ()", "app"),
        ("(3) await resume partial function for app.Server.handle(_:) async -> Mempool.Buffer", "app"),
        ("default argument 0 of app.run(Mempool.BufferPool) -> ()", "app"),
        ("MempoolWorkloads.run() -> ()", "MempoolWorkloads"),
        ("generic specialization <Mempool.Buffer> of Swift.Array.append(__owned A) -> ()", "Swift"),
    ])
    func `A symbol belongs to the module that declares its code`(name: String, module: String) {
        #expect(FrameOwnership.swiftModule(ofDemangled: name) == module)
    }

    @Test(arguments: ["malloc", "main", "", "swift_task_switch", "-> x", "closure #1 () -> () in"])
    func `A symbol without a module has none`(name: String) {
        #expect(FrameOwnership.swiftModule(ofDemangled: name) == nil)
    }

    @Test func `Libraries of the system are told from the program's own`() {
        #expect(FrameOwnership.isSystemImage("/usr/lib/x86_64-linux-gnu/libc.so.6"))
        #expect(FrameOwnership.isSystemImage("/opt/toolchain/usr/lib/swift/linux/libswiftCore.so"))
        #expect(!FrameOwnership.isSystemImage("/home/me/.build/debug/app"))
        #expect(!FrameOwnership.isSystemImage("/home/me/.build/debug/libMine.so"))
    }

    @Test func `Swift symbols are demangled and others are not`() {
        #expect(Demangler.demangle("$s3app4takeyyF") == "app.take() -> ()")
        #expect(Demangler.demangle("malloc") == nil)
    }

    @Test("An initializer of a value type and an autoclosure's argument are somebody's code, real thunks are not")
    func writtenCode() {
        for name in [
            "app.Request.init(bytes: Mempool.Buffer) -> app.Request",
            "implicit closure #1 () -> Mempool.Buffer in app.take() -> ()",
        ] { #expect(FrameOwnership.isWritten(demangled: name), "\(name)") }
        for name in [
            "app.Holder.__allocating_init(Mempool.Buffer) -> app.Holder",
            "partial apply forwarder for implicit closure #1 () -> () in app.take() -> ()",
            "protocol witness for Swift.RawRepresentable.init(rawValue: A) -> B? in conformance app.Kind : C in app",
            "vtable thunk for app.Base.init(Swift.Int) -> app.Base dispatching to app.Derived.init(Swift.Int) -> app.Derived",
            "reabstraction thunk helper from @escaping @callee_guaranteed () -> () to @escaping () -> (@out ())",
        ] { #expect(!FrameOwnership.isWritten(demangled: name), "\(name)") }
    }
}

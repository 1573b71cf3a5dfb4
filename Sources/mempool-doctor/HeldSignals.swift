// Signals: how the doctor found them when it was started, and those it holds back while it has files to remove.

import Glibc
import Synchronization

/// How the signals were when this process started, which is how a program that it observes gets them.
enum InheritedSignals {
    /// The signals that were blocked. Read at the first use, so `main` does that before it changes anything.
    static let mask: sigset_t = {
        var mask = sigset_t()
        pthread_sigmask(SIG_BLOCK, nil, &mask)
        return mask
    }()

    /// Whether SIGPIPE was ignored. The first use, which is `main`'s, ignores it from then on: a reader that has gone is an error
    /// of the write, which must not keep the doctor from removing its files.
    static let ignoresBrokenPipe: Bool = {
        let before = signal(SIGPIPE, SIG_IGN)
        // SIG_IGN, an address that is no function.
        return unsafeBitCast(before, to: Int.self) == 1
    }()
}

/// Holds back the signals that ask the doctor to stop, for as long as the value lives: they come when it is gone, unless somebody
/// has taken them by then. They are held for the calling thread, so there must be no other.
struct HeldSignals: ~Copyable {
    /// Those of the keyboard, of `kill`, and of a terminal that is closed.
    static let numbers = [SIGINT, SIGQUIT, SIGTERM, SIGHUP]

    /// How many values there are.
    private static let count = Atomic<Int>(0)

    init() {
        Self.count.wrappingAdd(1, ordering: .relaxed)
        var set = Self.set
        _ = InheritedSignals.mask
        pthread_sigmask(SIG_BLOCK, &set, nil)
    }

    deinit {
        guard Self.count.wrappingSubtract(1, ordering: .relaxed).newValue == 0 else { return }
        var mask = InheritedSignals.mask
        pthread_sigmask(SIG_SETMASK, &mask, nil)
    }

    private static var set: sigset_t {
        var set = sigset_t()
        sigemptyset(&set)
        for number in numbers { sigaddset(&set, number) }
        return set
    }

    /// Whether one of the signals has come since they are held; takes it.
    static func take() -> Bool {
        var set = set
        var now = timespec()
        return sigtimedwait(&set, nil, &now) > 0
    }
}

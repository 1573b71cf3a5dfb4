// Ways to call a function that are hard to unwind: without frame pointers, from a signal handler, on another stack; and a
// system call that signals interrupt.
#ifndef CAPTURE_FIXTURES_H
#define CAPTURE_FIXTURES_H

#include <stdbool.h>
#include <stdint.h>

typedef void (*fixture_body)(void *_Nullable context);

/// Whether a sanitizer is linked in, whose functions without frame pointers are below the first one of every thread.
bool fixture_is_sanitized(void);
/// Whether the calls without frame pointers exist for this architecture; otherwise they are plain calls.
bool fixture_has_frameless(void);
/// Calls `body` from a function that leaves the frame pointer register alone.
void fixture_call_frameless(fixture_body _Nonnull body, void *_Nullable context);
/// Calls `body` from a function that uses the frame pointer register for something else.
void fixture_call_clobbered(fixture_body _Nonnull body, void *_Nullable context);
/// Jumps to `body`, so that its caller is this function's caller.
void fixture_call_tail(fixture_body _Nonnull body, void *_Nullable context);
/// Calls `body` from the comparison of a `qsort`.
void fixture_call_from_qsort(fixture_body _Nonnull body, void *_Nullable context);
/// Calls `body` from a handler of SIGUSR2, on the thread's stack or on one for signals.
void fixture_call_from_signal(fixture_body _Nonnull body, bool on_own_stack);
/// Calls `body` on a stack made with `makecontext`.
void fixture_call_on_coroutine(fixture_body _Nonnull body, void *_Nullable context);
/// Has the runtime of Swift call `body` as a job that is no task, from a frame below whose pointer lies what looks like an async
/// context, whose function is 0x5A5A. A plain call where there are no calls without frame pointers.
void fixture_call_as_job(fixture_body _Nonnull body);
/// Stores a byte while the frame pointer register holds `frame_pointer`, as code without frame pointers may. A plain store where
/// there are no calls without frame pointers.
void fixture_store_with_frame_pointer(void *_Nonnull address, uintptr_t frame_pointer);
/// Calls `body` at the bottom of `depth` calls of one function.
void fixture_call_deep(fixture_body _Nonnull body, void *_Nullable context, int depth);
/// Runs `body` as the first function of a new thread, on many of them one after the other or `at_once`.
bool fixture_run_threads(int count, int at_once, fixture_body _Nonnull body);
/// Has the next calls of `fallocate` fail as if a signal had arrived.
void fixture_interrupt_fallocate(int times);
/// Has `body` called before the next call of `fallocate`.
void fixture_watch_fallocate(fixture_body _Nonnull body);
/// Has `body` called before each `ftruncate` from here on.
void fixture_watch_ftruncate(fixture_body _Nonnull body);

#endif

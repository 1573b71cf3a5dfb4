// What capture.c and capture_cache.c share: the stack's bounds, one step along frame pointers, the async parents.
#ifndef CMEMPOOL_CAPTURE_H
#define CMEMPOOL_CAPTURE_H

#include "CMempoolPlatform.h"

typedef struct stack_bounds {
    uintptr_t low;
    uintptr_t high;
} stack_bounds;

/// Of a stack that nobody knows: no frame lies on it, whatever a frame pointer holds.
#define NO_STACK_BOUNDS ((stack_bounds){UINTPTR_MAX, UINTPTR_MAX})

/// Asks the system; tens of microseconds on the main thread. Without bounds if it does not tell.
stack_bounds cmempool_this_stack(void);

/// A word on the stack. A register that holds no frame pointer may lead to an odd address; what is read there is refused
/// later, by comparison.
typedef uintptr_t stack_word __attribute__((aligned(1), may_alias));

// A frame pointer may be followed if it leads outwards and the two words it points at lie on this stack: `last` is
// the highest address where two words still fit. The range between is live, so it can be read.
CMEMPOOL_INLINE bool is_next_frame(uintptr_t next, uintptr_t frame, uintptr_t last) {
    return next - frame - 1 < last - frame;
}

extern uintptr_t cmempool_job_runner_start, cmempool_job_runner_bytes;

CMEMPOOL_INLINE bool returns_into_job_runner(uintptr_t address) {
    return address - cmempool_job_runner_start - 1 < cmempool_job_runner_bytes;
}

/// Whether the calling thread runs a task, and a frame that returns to `address`, in the job runner, is the task's: only then does
/// an async context lie below the frame pointer. Leaves registers alone: the loop that asks seldom does.
__attribute__((preserve_most)) bool cmempool_runs_task(uintptr_t address);

/// Whether the calling thread runs a task, somewhere on its stack.
bool cmempool_has_task(void);

/// Whether an address lies in the C library, where threads begin.
bool cmempool_is_in_c_library(uint64_t address);

// An async context is {parent, resume function}. The words are readable as long as the chain is one, which the runtime
// guarantees while the task runs; it is followed no further than the frame limit.
CMEMPOOL_INLINE bool is_async_context(const uintptr_t *context) {
    return context && (uintptr_t)context % sizeof(uintptr_t) == 0;
}

/// The most frames between the unwinder's call and the one that a capture is asked for: the capture's own and the pool's. In a debug
/// build the get that finds a stack for the first time has 18.
#define INNER_FRAMES 40

uint32_t cmempool_append_async_parents(uintptr_t *context, uint64_t *frames, uint32_t count, uint32_t limit);

/// Where a walk along frame pointers ended.
typedef struct frame_walk {
    stack_word *outermost;
    /// The async context below the frame that returns into the job runner; null where that is no task's.
    uintptr_t *context;
    bool ends_in_runner;
    bool is_truncated;
} frame_walk;

/// Writes the return addresses along the frame pointers from `frame` on; 0 if it does not lie within the bounds.
uint32_t cmempool_walk(stack_word *frame, stack_bounds stack, uint32_t limit, uint64_t *addresses, frame_walk *walk);

/// The stack as libunwind gives it, from the caller of the function whose frame `own` is, with the async parents.
uint32_t cmempool_unwind(stack_word *own, stack_bounds stack, uint64_t *frames, uint32_t limit);

/// The stack that a signal interrupted, from the interrupted instruction on, with the async parents if its thread runs a task.
uint32_t cmempool_unwind_interrupted(const void *context, stack_bounds stack, bool runs_task, uint64_t *frames, uint32_t limit);

/// Whether there is a libunwind; otherwise `cmempool_unwind` follows frame pointers.
bool cmempool_has_unwinder(void);

/// Where something of the C library lies that is in no other image; 0 without a libunwind.
uintptr_t cmempool_c_library_address(void);

/// Visits the callers one by one with the address just above the two words that the called function's frame pointer points at,
/// the second of which is the return address. Slow: microseconds per frame.
uint32_t cmempool_each_step(bool (*visit)(uint64_t address, uintptr_t above, void *context), void *context, uint32_t limit);

/// How many images were loaded and unloaded so far.
typedef struct image_counts {
    uint64_t loads, unloads;
} image_counts;
image_counts cmempool_image_counts(void);

#endif

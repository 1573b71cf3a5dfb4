// The C that the benchmarks need: barriers against the optimiser, a calibration kernel, and a thousand different stacks.
#ifndef CMEMPOOL_BENCHMARKS_H
#define CMEMPOOL_BENCHMARKS_H

#include <stddef.h>
#include <stdint.h>

#define CBENCH_INLINE static inline __attribute__((always_inline))

/// Makes the compiler believe that `value` might have changed, so that nothing computed from it leaves a loop.
CBENCH_INLINE intptr_t cbench_hide(intptr_t value) {
    __asm__ volatile("" : "+r"(value));
    return value;
}

/// Stores into the first byte. The pointer escapes first, so that neither the block nor the store can be optimised away.
CBENCH_INLINE void cbench_touch(void *_Nonnull block) {
    __asm__ volatile("" : : "r"(block) : "memory");
    *(volatile uint8_t *)block = 1;
}

/// Reads the first byte, as a consumer does.
CBENCH_INLINE void cbench_read(void *_Nonnull block) {
    __asm__ volatile("" : : "r"(block) : "memory");
    (void)*(volatile uint8_t *)block;
}

/// Stores into one byte of every page of 4 KiB.
CBENCH_INLINE void cbench_touch_pages(void *_Nonnull block, intptr_t bytes) {
    __asm__ volatile("" : : "r"(block) : "memory");
    for (intptr_t offset = 0; offset < bytes; offset += 4096) ((volatile uint8_t *)block)[offset] = 1;
}

/// Keeps a call before it from becoming a tail call.
CBENCH_INLINE void cbench_barrier(void) { __asm__ volatile("" : : : "memory"); }

/// Tells the processor that this is a spinning loop.
CBENCH_INLINE void cbench_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/// CLOCK_MONOTONIC, nanoseconds.
uint64_t cbench_now(void);
/// Computes for so many iterations and returns the nanoseconds that took: on an undisturbed core always the same.
uint64_t cbench_calibrate(intptr_t iterations);
/// Calls `body` at the end of a stack that differs from that of every other `number` from 0 to 999.
void cbench_from_stack(int number, void (*_Nonnull body)(void *_Nullable), void *_Nullable context);
/// Processors this process may run on, at least 1.
int cbench_processor_count(void);
/// Binds the calling thread to the processor with this rank among those the process may run on.
void cbench_bind(int rank);
/// The file that the process's malloc comes from, or NULL.
const char *_Nullable cbench_malloc_library(void);

#endif

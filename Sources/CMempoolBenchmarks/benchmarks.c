// The out-of-line half of the benchmarks' C.
#define _GNU_SOURCE
#include "CMempoolBenchmarks.h"

#include <dlfcn.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

uint64_t cbench_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t cbench_calibrate(intptr_t iterations) {
    // Six independent chains and a load and a store beside them: as many instructions per cycle as there can be, so that a
    // neighbour on the same core shows as well as one on the same processor. No chain goes through memory: how fast
    // a store is forwarded to a load depends on things other than the neighbours.
    uint64_t words[64] = {1};
    uint64_t a = 1, b = 2, c = 3, d = 4, e = 5, f = 6;
    uint64_t start = cbench_now();
    for (intptr_t i = 0; i < iterations; i++) {
        a = a * 5 + 1;
        b = b * 3 + 1;
        c ^= b >> 7;
        d += a;
        e += words[(i + 32) & 63];
        f = f * 9 + 1;
        words[i & 63] = f;
        __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f) : : "memory");
    }
    return cbench_now() - start;
}

// Ten functions that call each other, three deep: one for each decimal place of the number. What each writes down keeps
// the compiler from making one of all.
typedef void level(int number, int depth, void (*body)(void *), void *context);
static level *const levels[10];

#define LEVEL(digit)                                                                                  \
    __attribute__((noinline)) static void level##digit(int number, int depth, void (*body)(void *),  \
                                                       void *context) {                              \
        if (depth == 0) {                                                                             \
            body(context);                                                                            \
        } else {                                                                                      \
            levels[number % 10](number / 10, depth - 1, body, context);                               \
        }                                                                                             \
        __asm__ volatile("" : : "i"(digit) : "memory");                                               \
    }
LEVEL(0) LEVEL(1) LEVEL(2) LEVEL(3) LEVEL(4) LEVEL(5) LEVEL(6) LEVEL(7) LEVEL(8) LEVEL(9)
#undef LEVEL

static level *const levels[10] = {level0, level1, level2, level3, level4, level5, level6, level7, level8, level9};

void cbench_from_stack(int number, void (*body)(void *), void *context) {
    levels[number % 10](number / 10, 2, body, context);
    cbench_barrier();
}

int cbench_processor_count(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
    int count = CPU_COUNT(&set);
    return count > 0 ? count : 1;
}

void cbench_bind(int rank) {
    cpu_set_t set, one;
    if (sched_getaffinity(0, sizeof(set), &set) != 0) return;
    for (int processor = 0; processor < CPU_SETSIZE; processor++) {
        if (!CPU_ISSET(processor, &set) || rank-- > 0) continue;
        CPU_ZERO(&one);
        CPU_SET(processor, &one);
        sched_setaffinity(0, sizeof(one), &one);
        return;
    }
}

const char *cbench_malloc_library(void) {
    // By name, not by address of: in an executable that address may be its own jump table.
    void *function = dlsym(RTLD_DEFAULT, "malloc");
    Dl_info info;
    if (function == NULL || dladdr(function, &info) == 0) return NULL;
    return info.dli_fname;
}

// The out-of-line half of the benchmarks' C.
#define _GNU_SOURCE
#include "CMempoolBenchmarks.h"

#include <dlfcn.h>
#include <malloc.h>
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

size_t cbench_heap_bytes(void) {
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 33)
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
#else
    return 0;
#endif
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

// What the system may refuse, and how tests make it do so.
#define _GNU_SOURCE
#include "CMempoolPlatform.h"

#include <errno.h>
#include <sys/mman.h>

cmempool_refusals cmempool_current_refusals;

void cmempool_refuse(uint64_t first, uint64_t count) {
    __atomic_store_n(&cmempool_current_refusals.count, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&cmempool_current_refusals.calls, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&cmempool_current_refusals.first, first, __ATOMIC_RELAXED);
    __atomic_store_n(&cmempool_current_refusals.count, count, __ATOMIC_RELEASE);
}

uint64_t cmempool_refusable_calls(void) { return __atomic_load_n(&cmempool_current_refusals.calls, __ATOMIC_RELAXED); }

bool cmempool_is_among_refused(void) {
    uint64_t call = __atomic_fetch_add(&cmempool_current_refusals.calls, 1, __ATOMIC_ACQUIRE);
    // Calls before the first wrap around and are no smaller than any count.
    if (call - cmempool_current_refusals.first >= cmempool_current_refusals.count) return false;
    errno = ENOMEM;
    return true;
}

void *cmempool_map(size_t bytes) {
    if (cmempool_is_refused()) return NULL;
    void *memory =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

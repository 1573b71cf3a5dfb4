// Tells the address sanitizer and valgrind which bytes of a pool's memory belong to nobody, so that they report a touch of
// them as they report one of freed memory.
#include "CMempoolPlatform.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#define HAS_ADDRESS_SANITIZER 1
#endif
#endif

#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#define HAS_VALGRIND 1
#endif

bool cmempool_has_tools_flag;

/// Valgrind's name for all pools together.
static char all_pools;

void cmempool_find_tools(void) {
#if HAS_ADDRESS_SANITIZER
    cmempool_has_tools_flag = true;
#endif
#if HAS_VALGRIND
    if (RUNNING_ON_VALGRIND) {
        cmempool_has_tools_flag = true;
        VALGRIND_CREATE_MEMPOOL(&all_pools, 0, 0);
    }
#endif
}

void cmempool_tools_did_get(void *base, size_t request, size_t capacity) {
    char *slack = (char *)base + request;
    (void)slack, (void)capacity;
#if HAS_ADDRESS_SANITIZER
    ASAN_POISON_MEMORY_REGION(slack, capacity - request);
#endif
#if HAS_VALGRIND
    // The contents are whatever was there: reading them is no mistake that valgrind should tell.
    VALGRIND_MEMPOOL_ALLOC(&all_pools, base, request);
    VALGRIND_MAKE_MEM_DEFINED(base, request);
    VALGRIND_MAKE_MEM_NOACCESS(slack, capacity - request);
#endif
}

void cmempool_tools_did_put(void *base, size_t capacity, bool is_kept) {
    (void)base, (void)capacity, (void)is_kept;
#if HAS_ADDRESS_SANITIZER
    if (is_kept) ASAN_POISON_MEMORY_REGION(base, capacity);
#endif
#if HAS_VALGRIND
    VALGRIND_MEMPOOL_FREE(&all_pools, base);
    if (is_kept) VALGRIND_MAKE_MEM_NOACCESS(base, capacity);
    else VALGRIND_MAKE_MEM_DEFINED(base, capacity);
#endif
}

void cmempool_tools_silence(bool is_silent) {
    (void)is_silent;
#if HAS_VALGRIND
    if (is_silent) VALGRIND_DISABLE_ERROR_REPORTING;
    else VALGRIND_ENABLE_ERROR_REPORTING;
#endif
}

void cmempool_tools_show(void *base, size_t capacity) {
    (void)base, (void)capacity;
#if HAS_ADDRESS_SANITIZER
    ASAN_UNPOISON_MEMORY_REGION(base, capacity);
#endif
#if HAS_VALGRIND
    VALGRIND_MAKE_MEM_DEFINED(base, capacity);
#endif
}

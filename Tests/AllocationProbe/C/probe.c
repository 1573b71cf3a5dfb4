#define _GNU_SOURCE
#include "CAllocationProbe.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>

static unsigned long allocations, locks;

unsigned long probe_allocation_count(void) { return __atomic_load_n(&allocations, __ATOMIC_RELAXED); }
unsigned long probe_lock_count(void) { return __atomic_load_n(&locks, __ATOMIC_RELAXED); }

// The package manager links this into the test bundle as well, where a sanitizer has its own replacements; the bundle would
// crash before its first test.
#if !__has_feature(thread_sanitizer) && !__has_feature(address_sanitizer)

_Bool probe_is_counting(void) { return 1; }

static void count(unsigned long *counter) { __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED); }

// The C library's own names for what the functions below replace.
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

void *malloc(size_t bytes) { return count(&allocations), __libc_malloc(bytes); }
void *calloc(size_t number, size_t bytes) { return count(&allocations), __libc_calloc(number, bytes); }
void *realloc(void *memory, size_t bytes) { return count(&allocations), __libc_realloc(memory, bytes); }
void *aligned_alloc(size_t alignment, size_t bytes) { return count(&allocations), __libc_memalign(alignment, bytes); }
int posix_memalign(void **memory, size_t alignment, size_t bytes) {
    count(&allocations);
    *memory = __libc_memalign(alignment, bytes);
    return *memory ? 0 : ENOMEM;
}

int pthread_mutex_lock(pthread_mutex_t *mutex) {
    static int (*next)(pthread_mutex_t *);
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, "pthread_mutex_lock");
    return count(&locks), next(mutex);
}
int pthread_mutex_trylock(pthread_mutex_t *mutex) {
    static int (*next)(pthread_mutex_t *);
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, "pthread_mutex_trylock");
    return count(&locks), next(mutex);
}

#else
_Bool probe_is_counting(void) { return 0; }
#endif

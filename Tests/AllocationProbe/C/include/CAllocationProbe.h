// Counts the heap allocations and the mutex locks of the program it is linked into, by standing before the C library's.
#ifndef C_ALLOCATION_PROBE_H
#define C_ALLOCATION_PROBE_H

/// Whether calls are counted; not under a sanitizer, which has replacements of its own.
_Bool probe_is_counting(void);
/// Calls of malloc, calloc, realloc, posix_memalign and aligned_alloc since the program began.
unsigned long probe_allocation_count(void);
/// Calls of pthread_mutex_lock and pthread_mutex_trylock since the program began.
unsigned long probe_lock_count(void);

#endif

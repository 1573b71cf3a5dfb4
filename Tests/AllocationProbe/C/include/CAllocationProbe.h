// Counts heap allocations, mutex locks and system calls of the program it is linked into, by standing before the C library's
// functions.
#ifndef C_ALLOCATION_PROBE_H
#define C_ALLOCATION_PROBE_H

/// Whether calls are counted; not under a sanitizer, which has replacements of its own.
_Bool probe_is_counting(void);
/// Calls of malloc, calloc, realloc, posix_memalign and aligned_alloc since the program began.
unsigned long probe_allocation_count(void);
/// Calls of pthread_mutex_lock and pthread_mutex_trylock since the program began.
unsigned long probe_lock_count(void);
/// Calls, since the program began, of the functions that are a system call each and that the pool or its recorder could make: of
/// memory, files, waiting, signals, and `syscall` itself.
unsigned long probe_system_call_count(void);

#endif

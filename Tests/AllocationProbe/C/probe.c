#define _GNU_SOURCE
#include "CAllocationProbe.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static unsigned long allocations, locks, system_calls;

unsigned long probe_allocation_count(void) { return __atomic_load_n(&allocations, __ATOMIC_RELAXED); }
unsigned long probe_system_call_count(void) { return __atomic_load_n(&system_calls, __ATOMIC_RELAXED); }
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

// Each is forwarded with its arguments as they are.
#define FORWARD(result, name, parameters, arguments)                                                                   \
    result name parameters {                                                                                           \
        static result(*next) parameters;                                                                               \
        if (!next) *(void **)&next = dlsym(RTLD_NEXT, #name);                                                          \
        return count(&system_calls), next arguments;                                                                   \
    }
FORWARD(void *, mmap, (void *start, size_t bytes, int access, int flags, int file, off_t at),
        (start, bytes, access, flags, file, at))
FORWARD(int, munmap, (void *start, size_t bytes), (start, bytes))
FORWARD(int, mprotect, (void *start, size_t bytes, int access), (start, bytes, access))
FORWARD(int, madvise, (void *start, size_t bytes, int advice), (start, bytes, advice))
FORWARD(int, msync, (void *start, size_t bytes, int flags), (start, bytes, flags))
FORWARD(int, mincore, (void *start, size_t bytes, unsigned char *pages), (start, bytes, pages))
// Weak: where all tests are one program, fixtures of theirs stand before these calls too.
__attribute__((weak)) FORWARD(int, fallocate, (int file, int mode, off_t at, off_t bytes), (file, mode, at, bytes))
__attribute__((weak)) FORWARD(int, ftruncate, (int file, off_t bytes), (file, bytes))
FORWARD(ssize_t, read, (int file, void *to, size_t bytes), (file, to, bytes))
FORWARD(ssize_t, write, (int file, const void *from, size_t bytes), (file, from, bytes))
FORWARD(ssize_t, pread, (int file, void *to, size_t bytes, off_t at), (file, to, bytes, at))
FORWARD(ssize_t, pwrite, (int file, const void *from, size_t bytes, off_t at), (file, from, bytes, at))
FORWARD(int, close, (int file), (file))
FORWARD(int, fstat, (int file, struct stat *status), (file, status))
FORWARD(int, sched_yield, (void), ())
FORWARD(int, nanosleep, (const struct timespec *wanted, struct timespec *rest), (wanted, rest))
FORWARD(int, sigprocmask, (int how, const sigset_t *set, sigset_t *old), (how, set, old))
FORWARD(int, pthread_sigmask, (int how, const sigset_t *set, sigset_t *old), (how, set, old))
FORWARD(pid_t, getpid, (void), ())
FORWARD(pid_t, gettid, (void), ())
FORWARD(ssize_t, getrandom, (void *to, size_t bytes, unsigned flags), (to, bytes, flags))

long syscall(long number, ...) {
    static long (*next)(long, ...);
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, "syscall");
    va_list list;
    va_start(list, number);
    long word[6];
    for (int i = 0; i < 6; i++) word[i] = va_arg(list, long);
    va_end(list);
    return count(&system_calls), next(number, word[0], word[1], word[2], word[3], word[4], word[5]);
}

// The clock is not among them: the kernel answers it without a call.

#else
_Bool probe_is_counting(void) { return 0; }
#endif

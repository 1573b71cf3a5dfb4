// The thread-local caches and the call at thread end.
#define _GNU_SOURCE
#include "CMempoolPlatform.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

uint64_t *cmempool_zeroing_requests;

// Of slot 0, which there is not.
static const uint32_t no_generation = 1;

#define FIRST offsetof(cmempool_cache, magazines)
#define TICKETS ((uint64_t *)cmempool_no_cache.magazines[0].tickets)
const cmempool_cache cmempool_no_cache = {
    .next_gets = (uint32_t *)&no_generation,
    .next_puts = (uint32_t *)&no_generation,
    .first_magazines = {[0 ... 63] = FIRST},
    .own_magazines = {[0 ... 63] = FIRST},
    .put_magazines = {[0 ... 63] = FIRST},
    .magazines = {{.top = TICKETS, .bottom = TICKETS, .limit = TICKETS}},
};

_Thread_local cmempool_thread cmempool_this_thread __attribute__((tls_model("initial-exec"))) = {
    .fast = {[0 ... CMEMPOOL_CACHED_POOLS - 1] = (cmempool_cache *)&cmempool_no_cache},
};

void *cmempool_default_core_pointer;

static pthread_key_t thread_key;
static pthread_once_t thread_key_once = PTHREAD_ONCE_INIT;
static bool has_thread_key;

static void free_ring(cmempool_thread *thread);

static void thread_ended(void *pointer) {
    cmempool_thread *thread = pointer;
    // Other keys' destructors may use the pool after this one. The thread does without caches then: in the last of the C
    // library's rounds nobody would take them back. Of a thread that begins with the pool in that round nothing is known here;
    // `ThreadCaches` finds out that it is gone.
    thread->has_ended = 1;
    thread->is_registered = 0;
    cmempool_thread_exit(thread);
    free_ring(thread);
}

static void make_thread_key(void) { has_thread_key = pthread_key_create(&thread_key, thread_ended) == 0; }

bool cmempool_register_thread(cmempool_thread *thread) {
    if (thread->has_ended) return false;
    pthread_once(&thread_key_once, make_thread_key);
    if (!has_thread_key || cmempool_is_refused() || pthread_setspecific(thread_key, thread) != 0) return false;
    thread->is_registered = 1;
    return true;
}

bool cmempool_is_thread_gone(intptr_t process_id, uint32_t thread_id) {
    int error = errno;
    bool is_gone = syscall(SYS_tgkill, (pid_t)process_id, (pid_t)thread_id, 0) != 0 && errno == ESRCH;
    errno = error;
    return is_gone;
}

uint32_t cmempool_read_thread_id(void) { return cmempool_this_thread.thread_id = (uint32_t)syscall(SYS_gettid); }

struct thread_start {
    const char *name;
    void (*body)(void);
};

static void *run_body(void *argument) {
    struct thread_start start = *(struct thread_start *)argument;
    free(argument);
    // By the thread itself: nobody else may name it, as it may have ended.
    pthread_setname_np(pthread_self(), start.name);
    start.body();
    return NULL;
}

bool cmempool_start_thread(const char *name, void (*body)(void)) {
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    struct thread_start *start = cmempool_is_refused() ? NULL : malloc(sizeof *start);
    if (!start) return false;
    *start = (struct thread_start){name, body};
    if ((errno = pthread_attr_init(&attributes)) != 0) {
        free(start);
        return false;
    }
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 256 << 10);
    // The program's signals are for the program's threads; but for the one that Swift's backtracer stops all threads with
    // after a crash, which it sends to each.
    sigfillset(&all);
    sigdelset(&all, SIGPROF);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failure = cmempool_is_refused() ? EAGAIN : pthread_create(&thread, &attributes, run_body, start);
    if (failure == EINVAL) {
        // The program has so much thread-local storage, which lies on each stack, that nothing is left of this one. One of the
        // usual size is what its own threads have.
        pthread_attr_t usual;
        pthread_attr_init(&usual);
        pthread_attr_setdetachstate(&usual, PTHREAD_CREATE_DETACHED);
        failure = pthread_create(&thread, &usual, run_body, start);
        pthread_attr_destroy(&usual);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (failure == 0) return true;
    free(start);
    errno = failure;
    return false;
}

static void (*apart_body)(void);
static uint32_t is_apart_done;

static void run_apart(void) {
    apart_body();
    __atomic_store_n(&is_apart_done, 1, __ATOMIC_RELEASE);
}

bool cmempool_run_apart(void (*body)(void), uint32_t limit_milliseconds) {
    struct timespec pause = {.tv_nsec = 1000000};
    apart_body = body;
    if (!cmempool_start_thread("mempool-exit", run_apart)) return false;
    for (uint32_t turn = 0; turn < limit_milliseconds && !__atomic_load_n(&is_apart_done, __ATOMIC_ACQUIRE); turn++)
        nanosleep(&pause, NULL);
    return __atomic_load_n(&is_apart_done, __ATOMIC_ACQUIRE);
}

#ifndef __has_feature
#define __has_feature(feature) 0
#endif

void cmempool_around_fork(void (*before)(void), void (*in_parent)(void), void (*in_child)(void)) {
#if __has_feature(thread_sanitizer)
    // It ends the program when a thread holds more than 64 mutexes, which seven pools have together.
    (void)before, (void)in_parent, (void)in_child;
#else
    pthread_atfork(before, in_parent, in_child);
#endif
}

void cmempool_set_inside_for_fork(bool is_inside) { cmempool_this_thread.is_inside_for_fork = is_inside; }

bool cmempool_is_inside_for_fork(void) { return cmempool_this_thread.is_inside_for_fork; }

void cmempool_forget_thread_id(void) { cmempool_this_thread.thread_id = 0; }

// MARK: - Signal handlers that use the pool

#define RING_BYTES (CMEMPOOL_DEFERRED_PUTS * sizeof(cmempool_deferred_put))

// The C library has about 1,600 bytes for such thread-local storage of all shared libraries that are loaded at run time.
_Static_assert(sizeof(cmempool_thread) <= 1100, "a library with the pool in it could not be loaded at run time");

/// The calling thread's ring, mapped by the first handler that needs it; null if the system refuses.
static cmempool_deferred_put *ring(cmempool_thread *thread) {
    cmempool_deferred_put *known = __atomic_load_n(&thread->deferred, __ATOMIC_RELAXED);
    if (known) return known;
    int error = errno;
    void *memory = cmempool_map(RING_BYTES);
    if (memory) {
        // A handler that interrupts this one here maps its own.
        if (__atomic_compare_exchange_n(&thread->deferred, &known, memory, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            known = memory;
        else munmap(memory, RING_BYTES);
    }
    errno = error;
    return known;
}

static void free_ring(cmempool_thread *thread) {
    // First, as a handler may come in between.
    cmempool_deferred_put *ring = __atomic_exchange_n(&thread->deferred, NULL, __ATOMIC_RELAXED);
    if (ring) munmap(ring, RING_BYTES);
}

bool cmempool_defer_put(const cmempool_deferred_put *put) {
    cmempool_thread *thread = &cmempool_this_thread;
    cmempool_deferred_put *deferred = ring(thread);
    if (!deferred) return false;
    // A handler that interrupts this one here has its own place, and is done with it before this one goes on.
    uint32_t place = __atomic_fetch_add(&thread->deferred_end, 1, __ATOMIC_RELAXED);
    if (place - thread->deferred_start >= CMEMPOOL_DEFERRED_PUTS) {
        __atomic_fetch_sub(&thread->deferred_end, 1, __ATOMIC_RELAXED);
        return false;
    }
    deferred[place % CMEMPOOL_DEFERRED_PUTS] = *put;
    return true;
}

bool cmempool_take_deferred(cmempool_deferred_put *put) {
    cmempool_thread *thread = &cmempool_this_thread;
    uint32_t place = thread->deferred_start;
    if (place == __atomic_load_n(&thread->deferred_end, __ATOMIC_RELAXED)) return false;
    *put = thread->deferred[place % CMEMPOOL_DEFERRED_PUTS];
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    thread->deferred_start = place + 1;
    return true;
}

uint64_t *cmempool_lost_put_counter;

void cmempool_record_lost_put(void) {
    // Not in a forked child, which leaves the parent's recording alone.
    if (cmempool_lost_put_counter && cmempool_recorder_root())
        __atomic_fetch_add(cmempool_lost_put_counter, 1, __ATOMIC_RELAXED);
}

// What handlers hold at a time is little; more only costs that its put is refused.
#define MAPPING_LIMIT 256
static struct {
    uintptr_t base;
    intptr_t bytes;
} mappings[MAPPING_LIMIT];

bool cmempool_remember_mapping(const void *base, intptr_t bytes) {
    for (uint32_t i = 0; i < MAPPING_LIMIT; i++) {
        uintptr_t expected = 0;
        // 1 is no address: taken, and not to be found yet.
        if (!__atomic_compare_exchange_n(&mappings[i].base, &expected, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            continue;
        mappings[i].bytes = bytes;
        __atomic_store_n(&mappings[i].base, (uintptr_t)base, __ATOMIC_RELEASE);
        return true;
    }
    return false;
}

intptr_t cmempool_forget_mapping(const void *base) {
    for (uint32_t i = 0; i < MAPPING_LIMIT; i++) {
        if (__atomic_load_n(&mappings[i].base, __ATOMIC_ACQUIRE) != (uintptr_t)base) continue;
        uintptr_t expected = (uintptr_t)base;
        // Of two puts of one buffer one wins this.
        if (!__atomic_compare_exchange_n(&mappings[i].base, &expected, 1, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            continue;
        intptr_t bytes = mappings[i].bytes;
        __atomic_store_n(&mappings[i].base, 0, __ATOMIC_RELEASE);
        return bytes;
    }
    return 0;
}

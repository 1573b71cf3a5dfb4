// The C that Swift cannot say: thread-local storage, atomic access to mapped memory, stack capture through libunwind,
// exit hooks. No policy: every decision is taken in Swift.
#ifndef CMEMPOOL_PLATFORM_H
#define CMEMPOOL_PLATFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#define CMEMPOOL_INLINE static inline __attribute__((always_inline))

// MARK: - Thread caches

/// The most buffers a magazine holds.
#define CMEMPOOL_MAGAZINE_SLOTS 64
/// The most buckets a pool has.
#define CMEMPOOL_BUCKET_LIMIT 32
/// Pools with an index below this have thread caches; the others work through the shared shelf only.
#define CMEMPOOL_CACHED_POOLS 64

/// Idle buffers of one bucket in the hands of one thread.
///
/// A stack with pointers, not a count: the processor forwards a value stored through a pointer to the next
/// load through it without the round trip through memory that an index costs, which is half of a get and its put.
typedef struct cmempool_magazine {
    /// Where the next one goes; from `tickets` to `limit`.
    uint64_t *_Nonnull top;
    /// Where the stack begins: `tickets`.
    uint64_t *_Nonnull bottom;
    /// The end of what the magazine may hold; `bottom` while it is closed.
    uint64_t *_Nonnull limit;
    /// The shape word (capacity, pool, bucket) of a whole buffer of this bucket.
    uint64_t shape;
    /// 0, which is no ticket: what lies below the lowest one. An empty magazine gives it, and the get, which compares each ticket with the
    /// generation of its slot, need not ask whether there is one.
    uint64_t none;
    /// What the next gets give; three more than there are, so that a magazine is nine cache lines and all lie alike to these.
    uint64_t tickets[CMEMPOOL_MAGAZINE_SLOTS + 3];
} cmempool_magazine;

/// As many generations as lie in one cache line.
#define CMEMPOOL_SLOTS_PER_LINE 16

/// Slots of a bucket that have no memory yet, set aside for one thread: the generations of all of them lie in one cache
/// line of each array, which two threads would otherwise pull back and forth with every get and put.
typedef struct cmempool_vacancies {
    uint32_t count;
    uint32_t slots[CMEMPOOL_SLOTS_PER_LINE];
} cmempool_vacancies;

/// The magazines of one pool in one thread; one for each bucket follows, and an empty one for sizes that none serves.
typedef struct cmempool_cache {
    /// By slot number: the generations that its next get and its next put have, the low half; and where the buffer is.
    uint32_t *_Nonnull next_gets;
    uint32_t *_Nonnull next_puts;
    void *_Nullable *_Nonnull bases;
    struct cmempool_thread *_Nonnull thread;
    /// In the list of all caches.
    struct cmempool_cache *_Nullable next;
    uint32_t pool_index;
    uint32_t bucket_count;
    cmempool_vacancies *_Nonnull vacancies;
    /// By the highest bit of a size less one: the magazine of the first bucket that may serve it, bytes from the cache, as the inlined
    /// get sees it. While gets are sampled it sees the empty magazine behind the last everywhere, and so leaves its path.
    uint16_t first_magazines[64];
    /// The same, always as it is.
    uint16_t own_magazines[64];
    /// By the bucket that a buffer's shape names: its magazine, or the empty one.
    uint16_t put_magazines[64];
    /// Of the thread, as the kernel has it.
    uint32_t thread_id;
    /// Whether the pool has ended: the magazines are empty and closed, and the thread makes another cache when it needs one.
    uint32_t is_retired;
    cmempool_magazine magazines[];
} cmempool_cache;

/// A put that a signal handler made while its thread was inside of the pool.
typedef struct cmempool_deferred_put {
    void *_Nullable base;
    intptr_t count;
    uint64_t shape;
    uint64_t ticket;
    uint32_t pool;
    /// Whether only `base` is known, and the buffer is to be found by it.
    uint32_t is_by_address;
} cmempool_deferred_put;

/// The most puts that wait for one call; what handlers put beyond them is lost, and counted.
#define CMEMPOOL_DEFERRED_PUTS 32

/// One thread's caches by pool index.
///
/// `fast` is what the inlined path reads; it stays `cmempool_no_cache` while a recorder watches every get, so that every call takes
/// the slow path, which works on `owned`.
typedef struct cmempool_thread {
    cmempool_cache *_Nonnull fast[CMEMPOOL_CACHED_POOLS];
    cmempool_cache *_Nullable owned[CMEMPOOL_CACHED_POOLS];
    uint32_t thread_id;
    uint32_t is_registered;
    /// Whether the thread is inside of the pool, so that a signal handler must not enter.
    uint32_t is_inside;
    /// A ring of what handlers put meanwhile: they count on with `deferred_end`, the interrupted call with `deferred_start`.
    uint32_t deferred_start;
    uint32_t deferred_end;
    /// Gets until one is sampled, that one included; 0 before the first and while none are.
    uint32_t until_sampled;
    /// The state of a generator of random numbers; 0 before its first use.
    uint64_t random;
    /// The ring; null before a handler first needs it.
    cmempool_deferred_put *_Nullable deferred;
    /// Whether the end of the thread was told.
    uint32_t has_ended;
    /// Whether the thread is inside of the pool because it forks.
    uint32_t is_inside_for_fork;
} cmempool_thread;

// Initial-exec: an executable reads its thread pointer without a call, and so does a shared library.
extern _Thread_local cmempool_thread cmempool_this_thread __attribute__((tls_model("initial-exec")));

CMEMPOOL_INLINE cmempool_thread *_Nonnull cmempool_thread_current(void) { return &cmempool_this_thread; }

/// Behind a call, keeps the caller's frame on the stack while the call runs: the call cannot become a jump.
CMEMPOOL_INLINE void cmempool_keep_frame(void) { __asm__ volatile(""); }

/// The core of the default pool once there is one.
extern void *_Nullable cmempool_default_core_pointer;
CMEMPOOL_INLINE void *_Nullable cmempool_default_core(void) {
    return __atomic_load_n(&cmempool_default_core_pointer, __ATOMIC_ACQUIRE);
}
CMEMPOOL_INLINE void cmempool_set_default_core(void *_Nonnull core) {
    __atomic_store_n(&cmempool_default_core_pointer, core, __ATOMIC_RELEASE);
}

/// The frame of the function that calls this.
CMEMPOOL_INLINE void *_Nonnull cmempool_frame(void) { return __builtin_frame_address(0); }

/// What a thread without a cache has instead: of no bucket, never changed. The inlined path need not ask for it.
extern const cmempool_cache cmempool_no_cache;
CMEMPOOL_INLINE cmempool_cache *_Nonnull cmempool_cache_of_nobody(void) { return (cmempool_cache *)&cmempool_no_cache; }

CMEMPOOL_INLINE cmempool_cache *_Nonnull cmempool_fast_cache(intptr_t pool_index) {
    return cmempool_this_thread.fast[pool_index];
}

/// The thread's cache for a pool, also while a recorder watches; null if it has none.
CMEMPOOL_INLINE cmempool_cache *_Nullable cmempool_owned_cache(intptr_t pool_index) {
    return cmempool_this_thread.owned[pool_index];
}

CMEMPOOL_INLINE cmempool_magazine *_Nonnull cmempool_magazine_at(cmempool_cache *_Nonnull cache, intptr_t bucket) {
    cmempool_magazine *magazine = &cache->magazines[bucket];
    // A plain address in a register, which the processor can tell from other addresses early: see `cmempool_magazine`.
    __asm__("" : "+r"(magazine));
    return magazine;
}

/// Where the generations of a slot are; plain addresses as well.
CMEMPOOL_INLINE uint32_t *_Nonnull cmempool_next_get_at(const cmempool_cache *_Nonnull cache, uint32_t slot) {
    uint32_t *generation = &cache->next_gets[slot];
    __asm__("" : "+r"(generation));
    return generation;
}
CMEMPOOL_INLINE uint32_t *_Nonnull cmempool_next_put_at(const cmempool_cache *_Nonnull cache, uint32_t slot) {
    uint32_t *generation = &cache->next_puts[slot];
    __asm__("" : "+r"(generation));
    return generation;
}

CMEMPOOL_INLINE void *_Nullable cmempool_base_at(const cmempool_cache *_Nonnull cache, uint32_t slot) {
    return cache->bases[slot];
}

/// Asks for the cache line of an address before it is written; reads and changes nothing, and any address will do.
CMEMPOOL_INLINE void cmempool_prefetch_for_write(const void *_Nullable address) {
#if defined(__x86_64__)
    // Processors without this instruction take it for one that does nothing.
    __asm__ volatile("prefetchw %0" : : "m"(*(const char *)address));
#else
    __builtin_prefetch(address, 1);
#endif
}

CMEMPOOL_INLINE bool cmempool_magazine_has_slot(const cmempool_magazine *_Nonnull magazine) {
    return __builtin_expect(magazine->top != magazine->bottom, true);
}

/// The ticket that the next pop gives, or 0.
CMEMPOOL_INLINE uint64_t cmempool_magazine_top(const cmempool_magazine *_Nonnull magazine) { return magazine->top[-1]; }

/// Where that ticket is, and the pop of it once it was read.
CMEMPOOL_INLINE uint64_t *_Nonnull cmempool_magazine_last(const cmempool_magazine *_Nonnull magazine) {
    return magazine->top - 1;
}
CMEMPOOL_INLINE void cmempool_magazine_pop_at(cmempool_magazine *_Nonnull magazine, uint64_t *_Nonnull last) {
    magazine->top = last;
}

CMEMPOOL_INLINE uint64_t cmempool_magazine_pop(cmempool_magazine *_Nonnull magazine) {
    uint64_t *top = magazine->top - 1;
    magazine->top = top;
    return *top;
}

CMEMPOOL_INLINE bool cmempool_magazine_has_room(const cmempool_magazine *_Nonnull magazine) {
    return __builtin_expect(magazine->top < magazine->limit, true);
}

/// Where the next ticket goes, if `cmempool_magazine_has_room_at` it.
CMEMPOOL_INLINE uint64_t *_Nonnull cmempool_magazine_end(const cmempool_magazine *_Nonnull magazine) {
    return magazine->top;
}
CMEMPOOL_INLINE bool cmempool_magazine_has_room_at(const cmempool_magazine *_Nonnull magazine,
                                                   const uint64_t *_Nonnull end) {
    return __builtin_expect(end < magazine->limit, true);
}

/// Stores a ticket where `cmempool_magazine_end` said; before the top, so that a forked child that finds the top also finds
/// the ticket.
CMEMPOOL_INLINE void cmempool_magazine_push_at(cmempool_magazine *_Nonnull magazine, uint64_t *_Nonnull top,
                                               uint64_t ticket) {
    *top = ticket;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    magazine->top = top + 1;
}

CMEMPOOL_INLINE void cmempool_magazine_push(cmempool_magazine *_Nonnull magazine, uint64_t ticket) {
    cmempool_magazine_push_at(magazine, magazine->top, ticket);
}

/// Makes a magazine empty, closed, and of no buffers.
CMEMPOOL_INLINE void cmempool_magazine_reset(cmempool_magazine *_Nonnull magazine) {
    magazine->top = magazine->bottom = magazine->limit = magazine->tickets;
    magazine->shape = magazine->none = 0;
}

CMEMPOOL_INLINE uint32_t *_Nonnull cmempool_vacancy_slots(cmempool_vacancies *_Nonnull vacancies) {
    return vacancies->slots;
}

CMEMPOOL_INLINE cmempool_magazine *_Nonnull cmempool_first_magazine(cmempool_cache *_Nonnull cache, intptr_t bit) {
    cmempool_magazine *magazine = (cmempool_magazine *)((char *)cache + cache->first_magazines[bit]);
    __asm__("" : "+r"(magazine));
    return magazine;
}

CMEMPOOL_INLINE cmempool_magazine *_Nonnull cmempool_put_magazine(cmempool_cache *_Nonnull cache, intptr_t bucket) {
    cmempool_magazine *magazine = (cmempool_magazine *)((char *)cache + cache->put_magazines[bucket]);
    __asm__("" : "+r"(magazine));
    return magazine;
}

CMEMPOOL_INLINE cmempool_magazine *_Nonnull cmempool_own_magazine(cmempool_cache *_Nonnull cache, intptr_t bit) {
    cmempool_magazine *magazine = (cmempool_magazine *)((char *)cache + cache->own_magazines[bit]);
    __asm__("" : "+r"(magazine));
    return magazine;
}

CMEMPOOL_INLINE uint32_t cmempool_until_sampled(void) { return cmempool_this_thread.until_sampled; }
CMEMPOOL_INLINE void cmempool_set_until_sampled(uint32_t gets) { cmempool_this_thread.until_sampled = gets; }

/// What the owner of each slot asked for, bytes, in pools that zero at the put.
extern uint64_t *_Nullable cmempool_zeroing_requests;
CMEMPOOL_INLINE bool cmempool_has_zeroing_requests(void) {
    return __atomic_load_n(&cmempool_zeroing_requests, __ATOMIC_ACQUIRE) != NULL;
}
/// False if somebody else set them already, and these are not needed.
CMEMPOOL_INLINE bool cmempool_set_zeroing_requests(uint64_t *_Nonnull requests) {
    uint64_t *none = NULL;
    return __atomic_compare_exchange_n(&cmempool_zeroing_requests, &none, requests, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}
CMEMPOOL_INLINE void cmempool_remember_request(uint32_t slot, intptr_t request) {
    cmempool_zeroing_requests[slot] = (uint64_t)request;
}
CMEMPOOL_INLINE intptr_t cmempool_remembered_request(uint32_t slot) { return (intptr_t)cmempool_zeroing_requests[slot]; }
/// Overwrites bytes with zeros.
CMEMPOOL_INLINE void cmempool_clear(void *_Nonnull base, size_t count) { memset(base, 0, count); }
/// Overwrites that of a slot's buffer. `count` is usually the same: what a prefix that was put has is less.
CMEMPOOL_INLINE void cmempool_zero(void *_Nonnull base, size_t count, uint32_t slot) {
    if (__builtin_expect(cmempool_zeroing_requests[slot] != count, 0)) {
        count = cmempool_zeroing_requests[slot];
        // A branch, which is foretold: a choice would have to wait until the request is read, which was just stored.
        __asm__ volatile("" : "+r"(count));
    }
    memset(base, 0, count);
}

/// Bytes of a cache: one magazine more than there are buckets, then the vacancies.
CMEMPOOL_INLINE size_t cmempool_cache_bytes(uint32_t bucket_count) {
    return sizeof(cmempool_cache) + (bucket_count + 1) * (sizeof(cmempool_magazine) + sizeof(cmempool_vacancies));
}

/// Has sizes with that highest bit look at a bucket's magazine first.
CMEMPOOL_INLINE void cmempool_set_first_bucket(cmempool_cache *_Nonnull cache, intptr_t bit, intptr_t bucket, bool is_seen) {
    _Static_assert(sizeof(cmempool_cache) + CMEMPOOL_BUCKET_LIMIT * sizeof(cmempool_magazine) <= UINT16_MAX, "");
    cache->own_magazines[bit] = (uint16_t)((char *)&cache->magazines[bucket] - (char *)cache);
    if (!is_seen) bucket = cache->bucket_count;
    cache->first_magazines[bit] = (uint16_t)((char *)&cache->magazines[bucket] - (char *)cache);
}

/// Has puts of buffers of a bucket look at its magazine.
CMEMPOOL_INLINE void cmempool_set_put_bucket(cmempool_cache *_Nonnull cache, intptr_t named, intptr_t bucket) {
    cache->put_magazines[named] = (uint16_t)((char *)&cache->magazines[bucket] - (char *)cache);
}

/// Where the vacancies of a cache begin.
CMEMPOOL_INLINE cmempool_vacancies *_Nonnull cmempool_cache_vacancies(cmempool_cache *_Nonnull cache) {
    return (cmempool_vacancies *)&cache->magazines[cache->bucket_count + 1];
}

/// Asks for `cmempool_thread_exit` to be called when this thread ends. False if that was called already, or if the process has
/// no key or memory for it.
bool cmempool_register_thread(cmempool_thread *_Nonnull thread);
/// Implemented by the pool: returns the thread's magazines.
void cmempool_thread_exit(cmempool_thread *_Nonnull thread);
/// Whether the kernel knows of no thread with this identifier in the process any more: one that had it has ended. False also if
/// another one got the identifier meanwhile.
bool cmempool_is_thread_gone(intptr_t process_id, uint32_t thread_id);
/// Starts a detached thread that takes no signals but SIGPROF; false, with the reason in `errno`, if there can be none.
bool cmempool_start_thread(const char *_Nonnull name, void (*_Nonnull body)(void));
/// Runs `body` on a thread of its own and waits for its end, `limit_milliseconds` at most; false if it has not come by then, or if
/// there can be no thread. Once in a process.
bool cmempool_run_apart(void (*_Nonnull body)(void), uint32_t limit_milliseconds);
/// Has the three functions called around every `fork`, in its thread; not under the thread sanitizer.
void cmempool_around_fork(void (*_Nonnull before)(void), void (*_Nonnull in_parent)(void),
                          void (*_Nonnull in_child)(void));
uint32_t cmempool_read_thread_id(void);
/// The kernel's identifier of the calling thread; cached per thread.
CMEMPOOL_INLINE uint32_t cmempool_thread_id(void) {
    uint32_t known = cmempool_this_thread.thread_id;
    return known ? known : cmempool_read_thread_id();
}
/// In a forked child the thread has another identifier.
void cmempool_forget_thread_id(void);
/// Remembers between the calls around a fork whether the first one entered the pool.
void cmempool_set_inside_for_fork(bool is_inside);
bool cmempool_is_inside_for_fork(void);

// MARK: - Signal handlers that use the pool
// All between a thread and its own signal handlers, which run to their end before the thread goes on: plain accesses in the
// right order do.

/// Enters the pool; false if this is a signal handler that interrupted a thread inside of it.
CMEMPOOL_INLINE bool cmempool_enter(void) {
    cmempool_thread *thread = &cmempool_this_thread;
    if (__builtin_expect(thread->is_inside, 0)) return false;
    thread->is_inside = 1;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return true;
}

/// Leaves the pool; false if handlers have left puts, which must be made first.
CMEMPOOL_INLINE bool cmempool_leave(void) {
    cmempool_thread *thread = &cmempool_this_thread;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (__builtin_expect(thread->deferred_start != __atomic_load_n(&thread->deferred_end, __ATOMIC_RELAXED), 0))
        return false;
    thread->is_inside = 0;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    // A handler that came between the two found the thread inside for the last time.
    if (__builtin_expect(thread->deferred_start == __atomic_load_n(&thread->deferred_end, __ATOMIC_RELAXED), 1))
        return true;
    thread->is_inside = 1;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return false;
}

/// Whether the thread is inside of the pool.
CMEMPOOL_INLINE bool cmempool_is_inside(void) { return cmempool_this_thread.is_inside; }

/// Around code of the program that the pool calls from inside, and that may use it as from outside.
CMEMPOOL_INLINE uint32_t cmempool_step_out(void) {
    uint32_t was_inside = cmempool_this_thread.is_inside;
    cmempool_this_thread.is_inside = 0;
    return was_inside;
}
CMEMPOOL_INLINE void cmempool_step_in(uint32_t was_inside) { cmempool_this_thread.is_inside = was_inside; }

/// Keeps a put for the interrupted call. False if there is no room: the put is lost.
bool cmempool_defer_put(const cmempool_deferred_put *_Nonnull put);
/// Where a recorder counts lost puts; null without one.
extern uint64_t *_Nullable cmempool_lost_put_counter;
CMEMPOOL_INLINE void cmempool_set_lost_put_counter(uint64_t *_Nonnull counter) { cmempool_lost_put_counter = counter; }
/// Has the recorder, if there is one, count a lost put. Async-signal-safe.
void cmempool_record_lost_put(void);
/// Takes the oldest kept put; false if there is none. For a thread inside of the pool.
bool cmempool_take_deferred(cmempool_deferred_put *_Nonnull put);
/// Remembers memory that a handler mapped; false if there is no room. Async-signal-safe, any thread.
bool cmempool_remember_mapping(const void *_Nonnull base, intptr_t bytes);
/// Forgets it; gives its bytes, 0 if it is not remembered.
intptr_t cmempool_forget_mapping(const void *_Nonnull base);

// MARK: - What the system may refuse

/// For tests: which calls that ask the system for memory, address space, room in a file or a thread fail as if it refused. Counts
/// from 0 on, from the call of `cmempool_refuse`.
typedef struct cmempool_refusals {
    uint64_t first;
    /// How many fail; 0 for none, and then none are counted.
    uint64_t count;
    /// Calls so far.
    uint64_t calls;
} cmempool_refusals;
extern cmempool_refusals cmempool_current_refusals;
void cmempool_refuse(uint64_t first, uint64_t count);
uint64_t cmempool_refusable_calls(void);
bool cmempool_is_among_refused(void);
/// Whether this call is to fail; `errno` is ENOMEM then.
CMEMPOOL_INLINE bool cmempool_is_refused(void) {
    if (__builtin_expect(__atomic_load_n(&cmempool_current_refusals.count, __ATOMIC_RELAXED) == 0, true)) return false;
    return cmempool_is_among_refused();
}
/// Address space, pages of zeros once they are touched; null if the system refuses.
void *_Nullable cmempool_map(size_t bytes);

// MARK: - Atomic access to plain memory
// Swift's atomics cannot be laid over memory that another process reads or that a C structure owns.

CMEMPOOL_INLINE uint32_t cmempool_load32(const uint32_t *_Nonnull p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
CMEMPOOL_INLINE void cmempool_store32(uint32_t *_Nonnull p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
CMEMPOOL_INLINE uint32_t cmempool_load32_acquire(const uint32_t *_Nonnull p) {
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
CMEMPOOL_INLINE void cmempool_store32_release(uint32_t *_Nonnull p, uint32_t v) {
    __atomic_store_n(p, v, __ATOMIC_RELEASE);
}
CMEMPOOL_INLINE bool cmempool_exchange32(uint32_t *_Nonnull p, uint32_t expected, uint32_t desired) {
    return __atomic_compare_exchange_n(p, &expected, desired, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}
CMEMPOOL_INLINE uint64_t cmempool_load64(const uint64_t *_Nonnull p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
CMEMPOOL_INLINE void cmempool_store64(uint64_t *_Nonnull p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
CMEMPOOL_INLINE uint64_t cmempool_load64_acquire(const uint64_t *_Nonnull p) {
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
CMEMPOOL_INLINE void cmempool_store64_release(uint64_t *_Nonnull p, uint64_t v) {
    __atomic_store_n(p, v, __ATOMIC_RELEASE);
}
CMEMPOOL_INLINE uint64_t cmempool_add64(uint64_t *_Nonnull p, uint64_t v) {
    return __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
}
/// Adds to a word that only this thread writes; a signal handler of the thread may add too, and others may read.
CMEMPOOL_INLINE void cmempool_add64_unshared(uint64_t *_Nonnull p, uint64_t v) {
#if defined(__x86_64__)
    // One instruction, so no signal comes between reading and writing; without the lock that other cores would need.
    __asm__ volatile("addq %1, %0" : "+m"(*p) : "r"(v) : "cc");
#else
    __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
#endif
}
CMEMPOOL_INLINE bool cmempool_exchange64(uint64_t *_Nonnull p, uint64_t expected, uint64_t desired) {
    return __atomic_compare_exchange_n(p, &expected, desired, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}
/// Sets bits; returns what was there before.
CMEMPOOL_INLINE uint8_t cmempool_or8(uint8_t *_Nonnull p, uint8_t bits) {
    return __atomic_fetch_or(p, bits, __ATOMIC_RELAXED);
}
CMEMPOOL_INLINE void cmempool_fence_release(void) { __atomic_thread_fence(__ATOMIC_RELEASE); }

// MARK: - The recorder's seams

/// Starts the recorder if it is linked in. The pool calls it once, before the first pool is made.
void cmempool_start_recorder(void);

/// The two functions of a recorder that are called all the time, with an event of the pool's. Beside Swift's hook, as reading a
/// global variable of Swift asks the runtime for exclusive access.
typedef void (*cmempool_watcher)(const void *_Nonnull event);
extern cmempool_watcher _Nullable cmempool_get_watcher, cmempool_put_watcher;
CMEMPOOL_INLINE void cmempool_set_watchers(cmempool_watcher _Nullable on_get, cmempool_watcher _Nullable on_put) {
    cmempool_get_watcher = on_get;
    cmempool_put_watcher = on_put;
}
/// Asked first for a buffer that comes out of the thread's magazine or goes into it, as almost all do: with what is needed in registers,
/// so that no event is written and read again. Where they give false, the other two are told.
typedef bool (*cmempool_magazine_get_watcher)(uint64_t ticket, intptr_t request, void *_Nonnull base, uint64_t shape,
                                              void *_Nonnull frame);
typedef bool (*cmempool_magazine_put_watcher)(uint64_t ticket, void *_Nonnull base, uint64_t shape, void *_Nonnull frame);
extern cmempool_magazine_get_watcher _Nullable cmempool_watch_magazine_gets;
extern cmempool_magazine_put_watcher _Nullable cmempool_watch_magazine_puts;
CMEMPOOL_INLINE void cmempool_set_magazine_watchers(cmempool_magazine_get_watcher _Nullable on_get,
                                                    cmempool_magazine_put_watcher _Nullable on_put) {
    cmempool_watch_magazine_gets = on_get;
    cmempool_watch_magazine_puts = on_put;
}
CMEMPOOL_INLINE cmempool_magazine_get_watcher _Nullable cmempool_watcher_of_magazine_gets(void) {
    return cmempool_watch_magazine_gets;
}
CMEMPOOL_INLINE cmempool_magazine_put_watcher _Nullable cmempool_watcher_of_magazine_puts(void) {
    return cmempool_watch_magazine_puts;
}

/// One get in so many is watched, on average; 0 for every one.
extern uint32_t cmempool_mean_sample_interval;
CMEMPOOL_INLINE void cmempool_set_sample_interval(uint32_t gets) { cmempool_mean_sample_interval = gets; }
CMEMPOOL_INLINE uint32_t cmempool_sample_interval(void) { return cmempool_mean_sample_interval; }
CMEMPOOL_INLINE cmempool_watcher _Nullable cmempool_watcher_of_gets(void) { return cmempool_get_watcher; }
CMEMPOOL_INLINE cmempool_watcher _Nullable cmempool_watcher_of_puts(void) { return cmempool_put_watcher; }

/// Gives a buffer that is handed out another place than its own; null for its own.
typedef void *_Nullable (*cmempool_placer)(const void *_Nonnull event);
/// Ends that; gives the buffer's own place, null if it was there.
typedef void *_Nullable (*cmempool_place_taker)(intptr_t slot);
extern cmempool_placer _Nullable cmempool_get_placer;
extern cmempool_place_taker _Nullable cmempool_put_placer;
CMEMPOOL_INLINE void cmempool_set_placers(cmempool_placer _Nullable on_get, cmempool_place_taker _Nullable on_put) {
    cmempool_get_placer = on_get;
    cmempool_put_placer = on_put;
}
CMEMPOOL_INLINE cmempool_placer _Nullable cmempool_placer_of_gets(void) { return cmempool_get_placer; }
CMEMPOOL_INLINE cmempool_place_taker _Nullable cmempool_placer_of_puts(void) { return cmempool_put_placer; }

/// Holds the pointers to the recorder, and to what it does at almost every get and put, in a page that the kernel clears in every forked
/// child, however it was forked.
void cmempool_set_recorder_root(void *_Nonnull root, void *_Nonnull usual_calls);
extern void *_Nullable cmempool_recorder_root_page[];
CMEMPOOL_INLINE void *_Nullable cmempool_recorder_root(void) {
    return __atomic_load_n(&cmempool_recorder_root_page[0], __ATOMIC_ACQUIRE);
}
CMEMPOOL_INLINE void *_Nullable cmempool_recorder_usual_calls(void) {
    return __atomic_load_n(&cmempool_recorder_root_page[1], __ATOMIC_ACQUIRE);
}

/// How `cmempool_capture` finds frames.
typedef enum cmempool_unwinder {
    CMEMPOOL_UNWINDER_NONE = 0,
    CMEMPOOL_UNWINDER_LIBUNWIND = 1,
    CMEMPOOL_UNWINDER_FRAME_POINTERS = 2,
} cmempool_unwinder;

/// Loads libunwind if it is there, unless that was done; otherwise captures follow frame pointers. Not thread-safe: call once.
cmempool_unwinder cmempool_load_unwinder(void);
/// The part of that which calls the loader, for a moment when no other thread can be waiting. Not thread-safe.
void cmempool_find_unwinder(void);
/// Whether the program was linked without an interpreter, so that no library can be loaded into it.
bool cmempool_is_static_executable(void);

/// The top bit marks a frame that is the resume point of an async parent, not a return address.
#define CMEMPOOL_ASYNC_FRAME (UINT64_C(1) << 63)

/// The most frames of a stack: those that a user can ask for, and eight of the pool's own.
#define CMEMPOOL_FRAME_LIMIT 136

/// Writes the program counters of the calling thread's stack, innermost first, then those of its async parents, as
/// libunwind gives them. Returns how many were written, at most `limit` and `CMEMPOOL_FRAME_LIMIT`. For tests: it asks
/// for the bounds of the stack each time.
uint32_t cmempool_capture(uint64_t *_Nonnull frames, uint32_t limit);

// MARK: - Bytes that nobody may write

/// What the bytes of a put buffer, and those around an outstanding one, are set to.
#define CMEMPOOL_POISON 0xDB
#define CMEMPOOL_CANARY 0xCA
/// Bytes on each side of a buffer that are its own to check; the red zone has both, of two neighbours.
#define CMEMPOOL_ZONE_BYTES 32

/// Where the first byte is that differs from `byte`; `count` if none does.
size_t cmempool_first_other(const void *_Nonnull bytes, uint8_t byte, size_t count);
/// Where the last byte is that differs from `byte`, and 1; 0 if none does.
size_t cmempool_last_other(const void *_Nonnull bytes, uint8_t byte, size_t count);
/// For tests: whether blocks of 32 bytes are compared where the processor can, or everything by the C library.
void cmempool_use_wide_blocks(bool is_wanted);
extern bool cmempool_uses_wide_blocks;
#if defined(__x86_64__)
/// Whether at least 32 bytes are `byte`; where `cmempool_uses_wide_blocks`.
bool cmempool_is_uniform_wide(const void *_Nonnull bytes, uint8_t byte, size_t count);
#endif
/// Whether half a red zone is as it was set, or as the system gave it.
CMEMPOOL_INLINE bool cmempool_zone_is_intact(const void *_Nonnull zone) {
    const uint64_t canary = CMEMPOOL_CANARY * UINT64_C(0x0101010101010101);
    uint64_t word[4];
    // Buffers end anywhere.
    __builtin_memcpy(word, zone, sizeof word);
    uint64_t other = (word[0] ^ canary) | (word[1] ^ canary) | (word[2] ^ canary) | (word[3] ^ canary);
    return __builtin_expect(other == 0, true) || (word[0] | word[1] | word[2] | word[3]) == 0;
}

/// Overwrites what was asked for, at most `limit` bytes of it: half of them from the front and half from the end.
void cmempool_poison_ends(void *_Nonnull base, size_t request, size_t limit, uint8_t byte);
CMEMPOOL_INLINE void cmempool_poison(void *_Nonnull base, size_t request, size_t limit, uint8_t byte) {
    if (__builtin_expect(request > limit, 0)) cmempool_poison_ends(base, request, limit, byte);
    else memset(base, byte, request);
}

/// Whether all of that is as it was.
bool cmempool_poisoned_ends_are_intact(const void *_Nonnull base, size_t request, size_t limit, uint8_t byte);
bool cmempool_is_uniform(const void *_Nonnull bytes, uint8_t byte, size_t count);
CMEMPOOL_INLINE bool cmempool_poison_is_intact(const void *_Nonnull base, size_t request, size_t limit, uint8_t byte) {
    if (__builtin_expect(request > limit, 0)) return cmempool_poisoned_ends_are_intact(base, request, limit, byte);
#if defined(__x86_64__)
    if (cmempool_uses_wide_blocks && request >= 32) return cmempool_is_uniform_wide(base, byte, request);
#endif
    return cmempool_is_uniform(base, byte, request);
}

void cmempool_fill_canary(void *_Nonnull bytes, size_t count);
/// Fills at most `limit` bytes behind the request.
CMEMPOOL_INLINE void cmempool_fill_slack(void *_Nonnull base, size_t request, size_t capacity, size_t limit) {
    size_t slack = capacity - request;
    if (slack > 0) cmempool_fill_canary((char *)base + request, slack < limit ? slack : limit);
}

/// Two words at any address.
typedef uint64_t cmempool_word_pair __attribute__((vector_size(16), aligned(1), may_alias));

/// Whether these are as they were, and the halves of the red zones that are the buffer's own, if it has any.
bool cmempool_slack_is_intact(const void *_Nonnull base, size_t request, size_t capacity, size_t limit, bool has_zones);
bool cmempool_zones_are_intact(const void *_Nonnull before, const void *_Nonnull behind);
CMEMPOOL_INLINE bool cmempool_surroundings_are_intact(const void *_Nonnull base, size_t request, size_t capacity,
                                                      size_t limit, bool has_zones) {
    const uint8_t *start = (const uint8_t *)base;
    if (request < capacity) return cmempool_slack_is_intact(base, request, capacity, limit, has_zones);
    if (!has_zones) return true;
    const cmempool_word_pair *before = (const cmempool_word_pair *)(start - CMEMPOOL_ZONE_BYTES);
    const cmempool_word_pair *behind = (const cmempool_word_pair *)(start + capacity);
    const uint64_t canary = CMEMPOOL_CANARY * UINT64_C(0x0101010101010101);
    const cmempool_word_pair expected = {canary, canary};
    // Usually both are as they were laid, and none as the system gave it.
    cmempool_word_pair other =
        (before[0] ^ expected) | (before[1] ^ expected) | (behind[0] ^ expected) | (behind[1] ^ expected);
    return __builtin_expect((other[0] | other[1]) == 0, true) ||
        cmempool_zones_are_intact(start - CMEMPOOL_ZONE_BYTES, start + capacity);
}

// MARK: - Other tools that watch memory

/// Looks whether the program is built with the address sanitizer or runs under valgrind, which then are told what nobody may
/// touch. To be called once.
void cmempool_find_tools(void);
extern bool cmempool_has_tools_flag;
CMEMPOOL_INLINE bool cmempool_has_tools(void) { return __builtin_expect(cmempool_has_tools_flag, false); }
/// A buffer was got: `request` bytes of it may be touched, the rest of its capacity may not.
void cmempool_tools_did_get(void *_Nonnull base, size_t request, size_t capacity);
/// A buffer was put: none of it may be touched, unless its memory goes anyway.
void cmempool_tools_did_put(void *_Nonnull base, size_t capacity, bool is_kept);
/// Around calls of the unwinder, which probes whether memory is there in ways that valgrind reports.
void cmempool_tools_silence(bool is_silent);
/// The recorder is about to look at the whole of a buffer, or its memory goes.
void cmempool_tools_show(void *_Nonnull base, size_t capacity);

// MARK: - Recorded threads

/// The frame-pointer keys of a thread that lead to known stacks: sets of four ways, a cache line each.
#define CMEMPOOL_CAPTURE_SETS 256
#define CMEMPOOL_CAPTURE_WAYS 4

typedef struct cmempool_capture_set {
    /// 0 is free.
    uint64_t keys[CMEMPOOL_CAPTURE_WAYS];
    uint32_t stacks[CMEMPOOL_CAPTURE_WAYS];
    uint32_t next_way;
    uint32_t padding[3];
} cmempool_capture_set;

/// Stacks that are remembered with the addresses of their frames, and the most frames of such a stack.
/// For gets and for puts each, as the get and the put of a loop must not take each other's place.
#define CMEMPOOL_MEMO_BITS 3
#define CMEMPOOL_MEMOS (1 << CMEMPOOL_MEMO_BITS)
#define CMEMPOOL_MEMO_FRAMES 73

/// The two words of a frame; aligned, so that both are compared at once.
typedef struct cmempool_link {
    uintptr_t next;
    uintptr_t address;
} __attribute__((aligned(2 * sizeof(uintptr_t)))) cmempool_link;

/// A stack as it lay in memory when it was captured last.
typedef struct cmempool_memo {
    /// Where the stack began; 0 while the memo is being written.
    uintptr_t frame;
    /// Seen here last: what comes round twice is worth a memo.
    uint64_t key;
    /// The outermost one of `links`.
    const cmempool_link *_Nullable last;
    uint32_t stack;
    /// So that the second link, from which on they are compared in pairs, begins on a multiple of 32 bytes.
    uint32_t padding[5];
    cmempool_link links[CMEMPOOL_MEMO_FRAMES];
} __attribute__((aligned(4 * sizeof(uintptr_t)))) cmempool_memo;

/// The most frames below a thread's first function: 3 on the main thread, 2 on others.
#define CMEMPOOL_ROOT_FRAMES 8

/// What a thread counts of a pool in, and its credits for raising the high water; both null before the first time.
typedef struct cmempool_counters {
    uint64_t *_Nullable shard;
    uint64_t *_Nullable credits;
} cmempool_counters;

/// What the recorder keeps per thread: 36 KiB, reused by later threads.
typedef struct cmempool_recorded_thread {
    cmempool_capture_set sets[CMEMPOOL_CAPTURE_SETS];
    cmempool_memo memos[2][CMEMPOOL_MEMOS];
    /// Bounds of the stack. Once the root is known, `high` is where the frame of the thread's first function ends.
    uintptr_t low;
    uintptr_t high;
    /// What the keys were learnt under; another value of the process empties the cache.
    uint32_t epoch;
    /// Hits until one is compared with libunwind.
    uint32_t until_check;
    uint64_t random;
    uint32_t root_frame_count;
    bool knows_root;
    /// Attempts to learn the root that failed.
    uint8_t root_failures;
    /// Set while a new stack is entered: a signal handler that captures meanwhile must not enter one.
    bool is_entering;
    /// Whether this is in the list of those that threads have; and whether the thread that had it has told its end.
    bool is_listed;
    bool has_ended;
    /// Of the thread, as the kernel has it.
    uint32_t thread_id;
    uint64_t root_frames[CMEMPOOL_ROOT_FRAMES];
    /// By pool; made by the recorder.
    cmempool_counters counters[CMEMPOOL_CACHED_POOLS];
    /// Among those that threads have, or among those that none has.
    struct cmempool_recorded_thread *_Nullable next;
    /// In the former list: what leads to this one.
    struct cmempool_recorded_thread *_Nullable *_Nullable link;
} cmempool_recorded_thread;

/// Null before the thread's first capture and after its end.
extern _Thread_local cmempool_recorded_thread *_Nullable cmempool_this_recorded_thread
    __attribute__((tls_model("initial-exec")));

/// The calling thread's counters for a pool; null if it has none yet, or the pool none at all.
CMEMPOOL_INLINE const cmempool_counters *_Nullable cmempool_counters_of(intptr_t pool_index) {
    cmempool_recorded_thread *thread = cmempool_this_recorded_thread;
    if (!thread || (uintptr_t)pool_index >= CMEMPOOL_CACHED_POOLS) return NULL;
    const cmempool_counters *counters = &thread->counters[pool_index];
    return counters->shard ? counters : NULL;
}
/// What it has of them: nobody is given counters without both.
CMEMPOOL_INLINE uint64_t *_Nonnull cmempool_shard_in(const cmempool_counters *_Nonnull counters) { return counters->shard; }
CMEMPOOL_INLINE uint64_t *_Nonnull cmempool_credits_in(const cmempool_counters *_Nonnull counters) {
    return counters->credits;
}
CMEMPOOL_INLINE bool cmempool_is_recorded_thread(void) { return cmempool_this_recorded_thread != NULL; }
/// Gives the calling thread its counters for a pool; false if the thread has no place for them.
bool cmempool_set_counters(intptr_t pool_index, uint64_t *_Nonnull shard, uint64_t *_Nonnull credits);

/// What captures need from the recorder.
typedef struct cmempool_capture_options {
    /// Frames of a stack at most.
    uint32_t limit;
    /// Gives equal stacks equal identifiers; 0 if there is no room. May enter a new one only if `may_enter`.
    uint32_t (*_Nonnull identify)(const uint64_t *_Nonnull frames, uint32_t count, bool may_enter);
    /// Told, before a new stack is identified, that images were loaded since the last time.
    void (*_Nonnull did_load)(void);
    /// Takes a shard back when its thread ends.
    void (*_Nonnull take_shard)(intptr_t pool_index, uint64_t *_Nonnull shard);
    /// Counters: hits compared with libunwind, those that differed, captures that libunwind had to make although their
    /// key was known.
    uint64_t *_Nonnull checks;
    uint64_t *_Nonnull mismatches;
    uint64_t *_Nonnull slow;
} cmempool_capture_options;

/// To be called once, before the first capture.
void cmempool_start_capturing(const cmempool_capture_options *_Nonnull options);

/// The identifier of the calling thread's stack: the one libunwind gives, usually found by its frame pointers.
uint32_t cmempool_capture_stack(void);
/// As above, without the frames below that of a function that called this one, directly or not. In two ways, by what the processor can.
typedef uint32_t (*cmempool_capturer)(void *_Nonnull frame);
extern cmempool_capturer _Nonnull cmempool_get_capturer, cmempool_put_capturer;
CMEMPOOL_INLINE uint32_t cmempool_capture_get(void *_Nonnull frame) { return cmempool_get_capturer(frame); }
/// The same for a put; gets and puts are remembered apart.
CMEMPOOL_INLINE uint32_t cmempool_capture_put(void *_Nonnull frame) { return cmempool_put_capturer(frame); }
/// Chooses by whether wide blocks are used.
void cmempool_choose_capturers(void);

/// For tests: how many hits there are between two that are compared, on average; 1 compares each.
void cmempool_set_check_interval(uint32_t hits);
/// For tests of the comparison itself: takes every frame-pointer key for exact.
void cmempool_trust_frame_pointers(bool is_trusting);

/// The identifier of the stack that a thread had when a signal interrupted it, its innermost frame first: that of the
/// interrupted instruction. For any thread to call, while the interrupted one waits in its handler. Slow.
///
/// `context` is what the handler was given; `low` and `high` are the bounds of the interrupted thread's stack; `runs_task` tells
/// whether it runs a task.
uint32_t cmempool_capture_interrupted(const void *_Nonnull context, uintptr_t low, uintptr_t high, bool runs_task);

// MARK: - Guard pages

/// Room for a buffer between two guard pages, in use or once used.
typedef struct cmempool_region {
    /// Of the get it serves, or served last.
    uint64_t generation;
    /// The buffer's first byte.
    uintptr_t base;
    /// What can be touched while the buffer is outstanding: whole pages.
    uintptr_t low;
    uintptr_t high;
    uint64_t request;
    uint64_t capacity;
    /// Where the buffer lies without guard pages.
    void *_Nullable home;
    uint32_t slot;
    uint32_t pool;
    uint32_t bucket_row;
    /// A `cmempool_region_state`; atomic, as other threads and the fault handler read it.
    uint32_t state;
    uint32_t room;
} cmempool_region;

typedef enum cmempool_region_state {
    CMEMPOOL_REGION_UNUSED = 0,
    CMEMPOOL_REGION_OUTSTANDING = 1,
    CMEMPOOL_REGION_PUT = 2,
} cmempool_region_state;

/// Regions of one size, side by side: room number n is for buffers of up to 2^n pages, which a guard page precedes and
/// another one follows.
#define CMEMPOOL_ROOMS 24

/// Makes regions known; once for each room. `regions` has room for `count`, each of `region_bytes` with its guard pages.
void cmempool_set_room(uint32_t room, uintptr_t start, uintptr_t region_bytes, uint32_t count,
                       cmempool_region *_Nonnull regions);
/// The region that an address lies in, guard pages included; null if none does. Async-signal-safe.
cmempool_region *_Nullable cmempool_region_at(uintptr_t address);

/// A touch of a guarded address that stopped its thread.
typedef struct cmempool_fault {
    uintptr_t address;
    bool is_read;
    uint32_t thread_id;
    /// For `cmempool_capture_interrupted`.
    const void *_Nonnull context;
    uintptr_t stack_low;
    uintptr_t stack_high;
    bool runs_task;
} cmempool_fault;

/// Has `report` called, on a thread made for it, when a thread faults at an address that lies in a region. The faulting thread waits
/// meanwhile, and then meets the handlers that were there before. So `report` may do anything: should it need a lock
/// that the faulting thread holds, that one goes on after some seconds. False, with the reason in `errno`, if the system
/// refuses.
bool cmempool_watch_faults(void (*_Nonnull report)(const cmempool_fault *_Nonnull fault));

/// Names the function at a program counter into `name` (mangled); false if it has no name. Slow: for a few lines at exit.
bool cmempool_function_name(uint64_t program_counter, char *_Nonnull name, size_t name_bytes);
/// Demangles a Swift name into `name`; false if it is none.
bool cmempool_demangle(const char *_Nonnull mangled, char *_Nonnull name, size_t name_bytes);

/// One loaded ELF image.
typedef struct cmempool_module {
    uint64_t base;
    uint64_t start;
    uint64_t end;
    const char *_Nonnull path;
    uint32_t build_id_bytes;
    uint8_t build_id[20];
} cmempool_module;

/// Calls `visit` for each loaded image; stops when it returns false.
void cmempool_each_module(bool (*_Nonnull visit)(const cmempool_module *_Nonnull, void *_Nullable),
                          void *_Nullable context);
/// Changes whenever an image was loaded or unloaded.
uint64_t cmempool_module_epoch(void);

/// Copies words that other threads may be writing, each whole. What belongs together is for the caller to find out.
void cmempool_copy_words(uint64_t *_Nonnull to, const uint64_t *_Nonnull from, size_t count);

/// CLOCK_MONOTONIC_COARSE, nanoseconds: a few nanoseconds to read, a few milliseconds of resolution.
typedef int (*cmempool_clock_reader)(clockid_t, struct timespec *_Nonnull);
extern cmempool_clock_reader _Nonnull cmempool_read_clock;
CMEMPOOL_INLINE uint64_t cmempool_now(void) {
    struct timespec now;
    __atomic_load_n(&cmempool_read_clock, __ATOMIC_RELAXED)(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
/// Makes that faster by a nanosecond: a recorded get and its put read it twice. Calls the loader, the first time. Not thread-safe.
void cmempool_find_clock(void);

/// The value of an environment variable, or NULL if it is unset or the process runs with raised privileges.
const char *_Nullable cmempool_secure_getenv(const char *_Nonnull name);

/// Writes to standard error, and does without if that is gone: no signal comes of it. Any thread.
void cmempool_print(const char *_Nonnull text, size_t bytes);

/// Has an empty file written where its space was reserved. Else a file system that writes elsewhere each time, btrfs, needs space
/// again for a page that it has written once, and a store to it on a full disk is a signal.
void cmempool_write_in_place(int descriptor);

/// Reserves file space and maps it writable, so that a full disk is an error number and never a signal. 0 or errno.
/// A descriptor of -1 leaves it to the mapping alone, for which Linux 5.14 is needed.
int cmempool_reserve(int descriptor, void *_Nonnull base, uint64_t offset, uint64_t bytes);

#endif

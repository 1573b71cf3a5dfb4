// Captures in tens of nanoseconds: a hash over the frame pointers' return addresses finds the stack that libunwind gave
// when it was seen first. Keys count only where both agreed, so every stack is one that libunwind produced.
#define _GNU_SOURCE
#include "CMempoolPlatform.h"
#include "capture.h"

#include <link.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if MEMPOOL_RECORDER

_Thread_local cmempool_recorded_thread *cmempool_this_recorded_thread __attribute__((tls_model("initial-exec")));
// A thread that ends may run destructors that use a pool; it then does without the cache.
static _Thread_local bool has_ended __attribute__((tls_model("initial-exec")));

typedef unsigned __int128 wide;

/// Stands for "libunwind every time": frame pointers do not tell this stack.
#define INEXACT UINT32_MAX

/// Secrets of the hash. Two lists of addresses meet in one key by chance once in 2^60 pairs or so, and nobody outside can
/// make them meet.
static struct {
    uint64_t of_frame[CMEMPOOL_FRAME_LIMIT + 2];
    uint64_t of_parent[CMEMPOOL_FRAME_LIMIT + 1];
    uint64_t of_base, of_count, of_high, of_end;
} secrets;

static cmempool_capture_options options;
static uint32_t mean_check_interval = 1024;
static bool trusts_frame_pointers;
/// A comparison failed for a reason that is not known: no key counts any more.
static bool is_distrustful;

/// Raised when images were unloaded: other code may lie at the addresses then.
static uint32_t epoch = 1;
static uint64_t unloads_seen;
/// Images loaded so far that the recorder was told of.
static uint64_t loads_seen;

/// Executable range of the C library, where threads begin.
static uintptr_t c_library_start, c_library_end;

// MARK: - Start

static int find_c_library(struct dl_phdr_info *info, size_t size, void *address) {
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + segment->p_vaddr;
        if (segment->p_type != PT_LOAD || (uintptr_t)address - start >= segment->p_memsz) continue;
        c_library_start = start;
        c_library_end = start + segment->p_memsz;
        return 1;
    }
    return 0;
}

static pthread_key_t thread_key;
static bool has_thread_key;
static void thread_ended(void *thread);

void cmempool_start_capturing(const cmempool_capture_options *chosen) {
    options = *chosen;
    if (options.limit > CMEMPOOL_FRAME_LIMIT) options.limit = CMEMPOOL_FRAME_LIMIT;
    for (size_t got = 0; got < sizeof secrets;) {
        ssize_t more = getrandom((char *)&secrets + got, sizeof secrets - got, 0);
        if (more <= 0) break;
        got += (size_t)more;
    }
    secrets.of_end |= 1;
    // Without libunwind there is nothing to compare with.
    uintptr_t in_c_library = cmempool_c_library_address();
    if (in_c_library) dl_iterate_phdr(find_c_library, (void *)in_c_library);
    image_counts images = cmempool_image_counts();
    unloads_seen = images.unloads;
    loads_seen = images.loads;
    // Without a key threads do without a cache: nobody would be told of their end.
    has_thread_key = pthread_key_create(&thread_key, thread_ended) == 0;
}

void cmempool_set_check_interval(uint32_t hits) {
    __atomic_store_n(&mean_check_interval, hits, __ATOMIC_RELAXED);
    // Threads that count down to their next comparison begin anew.
    __atomic_add_fetch(&epoch, 1, __ATOMIC_RELAXED);
}

void cmempool_trust_frame_pointers(bool is_trusting) {
    trusts_frame_pointers = is_trusting;
    __atomic_add_fetch(&epoch, 1, __ATOMIC_RELAXED);
}

// MARK: - Threads

/// Blocks of threads that ended, for the next ones: at most 64, of about 36 KiB each.
#define SPARE_THREADS 64
// Tried only, here and below: in a forked child another thread may have held the lock for ever.
static pthread_mutex_t spare_lock = PTHREAD_MUTEX_INITIALIZER;
static cmempool_recorded_thread *spare_threads;
static uint32_t spare_count;

/// Blocks that threads have. A thread that makes its first capture in the last round of its destructors is not told of its end,
/// nor is one that leaves without the C library; so whoever makes the list longer looks now and then who is gone.
static cmempool_recorded_thread *listed_threads;
static uint32_t listed_count;
/// Threads before the first look; after that there are looks as their number doubles, so that each costs its share.
#define THREADS_BEFORE_LOOK 64
static uint32_t next_look = THREADS_BEFORE_LOOK;
/// The process that the listed threads are of.
static pid_t listing_process;

static void take_shards(cmempool_recorded_thread *thread) {
    for (intptr_t pool = 0; pool < CMEMPOOL_CACHED_POOLS; pool++) {
        if (thread->counters[pool].shard) options.take_shard(pool, thread->counters[pool].shard);
        thread->counters[pool] = (cmempool_counters){NULL, NULL};
    }
}

/// Keeps a block for another thread; false if there are enough. With the lock held.
static bool keep_spare(cmempool_recorded_thread *thread) {
    if (spare_count >= SPARE_THREADS) return false;
    thread->next = spare_threads;
    spare_threads = thread;
    spare_count++;
    return true;
}

/// Takes a block out of the list. With the lock held.
static void unlist(cmempool_recorded_thread *thread) {
    *thread->link = thread->next;
    if (thread->next) thread->next->link = thread->link;
    listed_count--;
}

static void thread_ended(void *pointer) {
    cmempool_recorded_thread *thread = pointer;
    cmempool_this_recorded_thread = NULL;
    has_ended = true;
    take_shards(thread);
    bool is_done = false;
    if (pthread_mutex_trylock(&spare_lock) == 0) {
        if (thread->is_listed) unlist(thread);
        is_done = keep_spare(thread);
        pthread_mutex_unlock(&spare_lock);
    } else if (thread->is_listed) {
        // The next one that looks takes it.
        __atomic_store_n(&thread->has_ended, true, __ATOMIC_RELEASE);
        is_done = true;
    }
    if (!is_done) munmap(thread, sizeof *thread);
}

/// Takes the blocks of threads that are gone out of the list. With the lock held.
static cmempool_recorded_thread *unlist_gone(void) {
    // In a forked child the thread that goes on has another identifier than in the list.
    cmempool_recorded_thread *gone = NULL, *next = listing_process == getpid() ? listed_threads : NULL;
    while (next) {
        cmempool_recorded_thread *thread = next;
        next = thread->next;
        bool is_gone = __atomic_load_n(&thread->has_ended, __ATOMIC_ACQUIRE) ||
                       cmempool_is_thread_gone(listing_process, thread->thread_id);
        if (!is_gone) continue;
        unlist(thread);
        thread->next = gone;
        gone = thread;
    }
    next_look = listed_count < THREADS_BEFORE_LOOK / 2 ? THREADS_BEFORE_LOOK : 2 * listed_count;
    return gone;
}

/// Gives back what threads had that are gone.
static void take_from_gone(void) {
    cmempool_recorded_thread *gone = NULL;
    if (pthread_mutex_trylock(&spare_lock) != 0) return;
    if (listed_count >= next_look) gone = unlist_gone();
    pthread_mutex_unlock(&spare_lock);
    while (gone) {
        cmempool_recorded_thread *thread = gone;
        gone = thread->next;
        // With no lock held, as this takes one.
        take_shards(thread);
        bool is_kept = false;
        if (pthread_mutex_trylock(&spare_lock) == 0) {
            is_kept = keep_spare(thread);
            pthread_mutex_unlock(&spare_lock);
        }
        if (!is_kept) munmap(thread, sizeof *thread);
    }
}

static void start_check_interval(cmempool_recorded_thread *thread) {
    // Random, as every 1,024th would always be a put in a loop that gets and puts.
    thread->random ^= thread->random << 13;
    thread->random ^= thread->random >> 7;
    thread->random ^= thread->random << 17;
    uint32_t mean = __atomic_load_n(&mean_check_interval, __ATOMIC_RELAXED);
    thread->until_check = mean <= 1 ? 1 : 1 + (uint32_t)(thread->random % (2 * (uint64_t)mean - 1));
}

/// Forgets all keys, as another epoch has begun.
static void empty_cache(cmempool_recorded_thread *thread) {
    for (int i = 0; i < CMEMPOOL_CAPTURE_SETS; i++) memset(thread->sets[i].keys, 0, sizeof thread->sets[i].keys);
    for (int is_put = 0; is_put < 2; is_put++) {
        for (int i = 0; i < CMEMPOOL_MEMOS; i++) thread->memos[is_put][i].frame = thread->memos[is_put][i].key = 0;
    }
    thread->epoch = __atomic_load_n(&epoch, __ATOMIC_RELAXED);
    start_check_interval(thread);
}

static cmempool_recorded_thread *begin_thread(void) {
    if (has_ended || !has_thread_key) return NULL;
    take_from_gone();
    cmempool_recorded_thread *thread = NULL;
    if (pthread_mutex_trylock(&spare_lock) == 0) {
        thread = spare_threads;
        if (thread) {
            spare_threads = thread->next;
            spare_count--;
        }
        pthread_mutex_unlock(&spare_lock);
    }
    if (!thread) {
        thread = cmempool_map(sizeof *thread);
        if (!thread) return NULL;
    }
    stack_bounds stack = cmempool_this_stack();
    thread->low = stack.low;
    thread->high = stack.high;
    thread->knows_root = false;
    thread->root_failures = 0;
    thread->is_entering = false;
    thread->has_ended = false;
    thread->thread_id = cmempool_thread_id();
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    thread->random = ((uint64_t)(uintptr_t)thread ^ (uint64_t)now.tv_nsec << 20 ^ secrets.of_end) | 1;
    empty_cache(thread);
    if (cmempool_is_refused() || pthread_setspecific(thread_key, thread) != 0) {
        munmap(thread, sizeof *thread);
        return NULL;
    }
    // If the lock is taken, nobody looks for this one.
    thread->is_listed = pthread_mutex_trylock(&spare_lock) == 0;
    if (thread->is_listed) {
        if (!listing_process) listing_process = getpid();
        thread->next = listed_threads;
        thread->link = &listed_threads;
        if (thread->next) thread->next->link = &thread->next;
        listed_threads = thread;
        listed_count++;
        pthread_mutex_unlock(&spare_lock);
    }
    cmempool_this_recorded_thread = thread;
    return thread;
}

bool cmempool_set_counters(intptr_t pool, uint64_t *shard, uint64_t *credits) {
    cmempool_recorded_thread *thread = cmempool_this_recorded_thread;
    if (thread) thread->counters[pool] = (cmempool_counters){shard, credits};
    return thread != NULL;
}

// MARK: - The root of a thread's stack

// A walk along frame pointers ends in the thread's first function, libunwind goes on into the C library that called it.
// That frame is there as long as the thread, so what lies below it is learnt once.
typedef struct root_search {
    uint64_t addresses[CMEMPOOL_ROOT_FRAMES];
    uintptr_t above[CMEMPOOL_ROOT_FRAMES];
    uint32_t count;
} root_search;

static bool remember_outermost(uint64_t address, uintptr_t above, void *pointer) {
    root_search *search = pointer;
    search->addresses[search->count % CMEMPOOL_ROOT_FRAMES] = address;
    search->above[search->count % CMEMPOOL_ROOT_FRAMES] = above;
    search->count++;
    return true;
}

bool cmempool_is_in_c_library(uint64_t address) { return address - c_library_start < c_library_end - c_library_start; }

/// Steps looked at for the root: a deeper stack is tried again later.
#define ROOT_STEP_LIMIT 1024
/// Failures after which a thread stays without a known root, so that every capture of it asks libunwind.
#define ROOT_FAILURE_LIMIT 8

static void learn_root(cmempool_recorded_thread *thread) {
    root_search search = {.count = 0};
    uint32_t count = cmempool_each_step(remember_outermost, &search, ROOT_STEP_LIMIT);
    thread->root_failures++;
    if (count == 0 || count == ROOT_STEP_LIMIT) return;
    uint32_t most = count < CMEMPOOL_ROOT_FRAMES ? count : CMEMPOOL_ROOT_FRAMES;
    // From the outermost frame inwards, as far as the C library reaches; a program's own entry point lies outside of it.
    uint32_t length = 0;
    while (length < most) {
        bool is_start = cmempool_is_in_c_library(search.addresses[(count - 1 - length) % CMEMPOOL_ROOT_FRAMES]);
        if (!is_start && length > 0) break;
        length++;
    }
    if (length == most) return;
    uint32_t root = count - length;
    if (!cmempool_is_in_c_library(search.addresses[root % CMEMPOOL_ROOT_FRAMES])) return;
    uintptr_t high = search.above[root % CMEMPOOL_ROOT_FRAMES];
    if (high < thread->low || high > thread->high || high % sizeof(uintptr_t) != 0) return;
    for (uint32_t i = 0; i < length; i++) thread->root_frames[i] = search.addresses[(root + i) % CMEMPOOL_ROOT_FRAMES];
    thread->root_frame_count = length;
    thread->high = high;
    thread->knows_root = true;
}

// MARK: - Whether a key is exact

// At each return address the rule that finds the caller is a constant of that address. If the walk and libunwind found
// the same list once, each rule in it is "the frame pointer tells", so the same list always leads to the same stack.

typedef struct pointer_check {
    stack_word *frame;
    uintptr_t last;
    uint32_t left;
    bool has_begun;
    bool is_exact;
} pointer_check;

static bool check_pointer(uint64_t address, uintptr_t above, void *pointer) {
    pointer_check *check = pointer;
    if (!check->has_begun) {
        if (above != (uintptr_t)(check->frame + 2)) return above < (uintptr_t)check->frame;
        check->has_begun = true;
    }
    if (address != check->frame[1] || above != (uintptr_t)(check->frame + 2)) return false;
    if (--check->left == 0) {
        check->is_exact = true;
        return false;
    }
    if (!is_next_frame(check->frame[0], (uintptr_t)check->frame, check->last)) return false;
    check->frame = (stack_word *)check->frame[0];
    return true;
}

/// For a stack that goes on beyond the limit, equal lists prove nothing where a cycle of calls fills them; equal frames do.
static bool has_pointers_throughout(stack_word *own, uintptr_t high, uint32_t frames) {
    pointer_check check = {.frame = own, .last = high - 2 * sizeof(uintptr_t), .left = frames};
    // The capture's own frames come first.
    cmempool_each_step(check_pointer, &check, frames + INNER_FRAMES);
    return check.is_exact;
}

static bool is_exact(
    const cmempool_recorded_thread *thread, stack_word *own, const frame_walk *walk, uint64_t *walked, uint32_t walk_count,
    const uint64_t *truth, uint32_t truth_count
) {
    uint32_t limit = options.limit;
    if (trusts_frame_pointers) return true;
    if (__atomic_load_n(&is_distrustful, __ATOMIC_RELAXED)) return false;
    if (walk->ends_in_runner) {
        uint32_t count = cmempool_append_async_parents(walk->context, walked, walk_count - 1, limit);
        return count == truth_count && memcmp(walked, truth, count * sizeof *truth) == 0;
    }
    if (truth_count < walk_count || memcmp(walked, truth, walk_count * sizeof *truth) != 0) return false;
    if (!cmempool_has_unwinder()) return true;
    if (walk->is_truncated) return has_pointers_throughout(own, thread->high, walk_count);
    if (!thread->knows_root || (uintptr_t)(walk->outermost + 2) != thread->high) return false;
    uint32_t start = walk_count - 1, rest = truth_count - start;
    if (rest > thread->root_frame_count || (rest < thread->root_frame_count && truth_count < limit)) return false;
    return memcmp(truth + start, thread->root_frames, rest * sizeof *truth) == 0;
}

// MARK: - Captures that ask libunwind

static void count_one(uint64_t *counter) { __atomic_add_fetch(counter, 1, __ATOMIC_RELAXED); }

/// Notices that images were loaded since the last look, of which the recorder is told, or unloaded; true if unloaded.
static bool look_for_images(const cmempool_recorded_thread *thread) {
    image_counts now = cmempool_image_counts();
    uint64_t seen = __atomic_load_n(&loads_seen, __ATOMIC_RELAXED);
    // Not in a handler that interrupts a capture, which may be at that.
    bool may_tell = now.loads != seen && !(thread && thread->is_entering);
    if (may_tell &&
        __atomic_compare_exchange_n(&loads_seen, &seen, now.loads, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        options.did_load();
    seen = __atomic_load_n(&unloads_seen, __ATOMIC_RELAXED);
    if (now.unloads == seen) return false;
    if (__atomic_compare_exchange_n(&unloads_seen, &seen, now.unloads, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        __atomic_add_fetch(&epoch, 1, __ATOMIC_RELAXED);
    return true;
}

/// The stack that libunwind gives. Enters it if it is new, unless this interrupts a capture that does so.
static __attribute__((noinline)) uint32_t identify(
    cmempool_recorded_thread *thread, stack_word *own, uint64_t *frames, uint32_t *count
) {
    stack_bounds stack;
    if (thread) stack = (stack_bounds){thread->low, thread->high};
    else stack = cmempool_this_stack();
    *count = cmempool_unwind(own, stack, frames, options.limit);
    bool may_enter = true;
    if (thread) {
        may_enter = !thread->is_entering;
        thread->is_entering = true;
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
    }
    uint32_t stack_identifier = options.identify(frames, *count, may_enter);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (thread && may_enter) thread->is_entering = false;
    return stack_identifier;
}

uint32_t cmempool_capture_interrupted(const void *context, uintptr_t low, uintptr_t high, bool runs_task) {
    uint64_t frames[CMEMPOOL_FRAME_LIMIT];
    uint32_t count = cmempool_unwind_interrupted(context, (stack_bounds){low, high}, runs_task, frames, options.limit);
    return options.identify(frames, count, true);
}

/// A stack that no key tells: through code without frame pointers, outside the thread's own stack (a coroutine, a signal
/// stack), or of a thread that ends.
static __attribute__((noinline)) uint32_t capture_inexact(cmempool_recorded_thread *thread, stack_word *own) {
    uint64_t frames[CMEMPOOL_FRAME_LIMIT];
    uint32_t count;
    count_one(options.slow);
    look_for_images(thread);
    return identify(thread, own, frames, &count);
}

/// A new key.
static __attribute__((noinline)) uint32_t capture_unknown(
    cmempool_recorded_thread *thread, stack_word *own, cmempool_capture_set *set, uint64_t key
) {
    uint64_t truth[CMEMPOOL_FRAME_LIMIT], walked[CMEMPOOL_FRAME_LIMIT];
    uint32_t truth_count;
    look_for_images(thread);
    bool is_nested = thread->is_entering;
    uint32_t stack = identify(thread, own, truth, &truth_count);
    // A handler must not change a set that the capture it interrupts is changing.
    if (is_nested || stack == 0) return stack;
    frame_walk walk;
    stack_bounds bounds = {thread->low, thread->high};
    uint32_t walk_count = cmempool_walk(own, bounds, options.limit, walked, &walk);
    bool needs_root = !walk.is_truncated && !walk.ends_in_runner && cmempool_has_unwinder();
    if (needs_root && !thread->knows_root && thread->root_failures < ROOT_FAILURE_LIMIT) {
        learn_root(thread);
        // Where the root is, is part of the key: the next capture makes another.
        if (thread->knows_root) return stack;
    }
    bool exact = is_exact(thread, own, &walk, walked, walk_count, truth, truth_count);
    if (!exact) count_one(options.slow);
    thread->is_entering = true;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    uint32_t way = set->next_way++ % CMEMPOOL_CAPTURE_WAYS;
    set->keys[way] = 0;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    set->stacks[way] = exact ? stack : INEXACT;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    set->keys[way] = key;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    thread->is_entering = false;
    return stack;
}

/// A hit that is compared with libunwind.
static __attribute__((noinline)) uint32_t check_hit(cmempool_recorded_thread *thread, stack_word *own, uint32_t known) {
    uint64_t truth[CMEMPOOL_FRAME_LIMIT];
    uint32_t count;
    start_check_interval(thread);
    bool has_unloaded = look_for_images(thread);
    uint32_t stack = identify(thread, own, truth, &count);
    // 0: it is not among the known ones and found no room, so nothing can be said.
    if (stack == 0) return known;
    count_one(options.checks);
    if (stack == known) return stack;
    count_one(options.mismatches);
    // What made this key wrong may have made others wrong. If it was not other code at the addresses of an unloaded image,
    // nothing is known of it, and from now on libunwind does everything.
    if (!has_unloaded && !trusts_frame_pointers) __atomic_store_n(&is_distrustful, true, __ATOMIC_RELAXED);
    __atomic_add_fetch(&epoch, 1, __ATOMIC_RELAXED);
    return stack;
}

/// The first capture of a thread, or of an epoch.
static __attribute__((noinline)) cmempool_recorded_thread *prepare_thread(void) {
    cmempool_recorded_thread *thread = cmempool_this_recorded_thread;
    if (!thread) return begin_thread();
    if (!thread->is_entering) empty_cache(thread);
    return thread;
}

// MARK: - The same stack again

// A walk takes as long as its loads, each of which waits for the one before. Most captures find the stack of the one before
// from the same place, frame for frame at the same address: then all loads can be made at once, from where the frames
// lay last time. If all words are equal, a walk would have read the same, so it is the same stack.

typedef uintptr_t aligned_word_pair __attribute__((vector_size(2 * sizeof(uintptr_t)), may_alias));
/// The two words of a frame; at any address, like `stack_word`.
typedef aligned_word_pair word_pair __attribute__((aligned(1)));

static inline __attribute__((always_inline)) cmempool_memo *memo_of(
    cmempool_recorded_thread *thread, const stack_word *own, bool is_put
) {
    uint32_t place = (uint32_t)(uintptr_t)own + (uint32_t)own[1];
    return &thread->memos[is_put][place * UINT32_C(0x9E3779B1) >> (32 - CMEMPOOL_MEMO_BITS)];
}

#if defined(__x86_64__)
#define KEEP_IN_REGISTER(vector) __asm__("" : "+x"(vector))
#elif defined(__aarch64__)
#define KEEP_IN_REGISTER(vector) __asm__("" : "+w"(vector))
#else
#define KEEP_IN_REGISTER(vector)
#endif

/// Goes on to the next link, and gives what is other in the frame that it is of.
///
/// Where the frame lies is taken from the link before, not from the stack: nothing waits for anything. The frames lie further out
/// than the caller's, so the memory is there. Each link is loaded once; it is the loads that take the time.
static inline __attribute__((always_inline)) word_pair next_difference(
    const cmempool_link **link, aligned_word_pair *expected
) {
    const word_pair *frame = (const word_pair *)(*expected)[0];
    *expected = *(const aligned_word_pair *)++*link;
    KEEP_IN_REGISTER(*expected);
    return *frame ^ *expected;
}

/// What is other in the frames behind the innermost one than in the memo; 0 if nothing is.
static inline __attribute__((always_inline)) uintptr_t outer_differences(const cmempool_link *link, const cmempool_link *last) {
    word_pair others = {0, 0};
    aligned_word_pair expected = *(const aligned_word_pair *)link;
    // Eights: a stack that was cut at the usual limit has two of them and one frame more.
    while (last - link >= 8) {
        for (int i = 0; i < 8; i++) others |= next_difference(&link, &expected);
    }
#pragma clang loop unroll(disable)
    while (link < last) others |= next_difference(&link, &expected);
    return others[0] | others[1];
}

#if defined(__x86_64__)
/// What is other in the two frames behind that of a link.
__attribute__((target("avx2"))) static inline __attribute__((always_inline)) __m256i next_differences(
    const cmempool_link *link
) {
    // Loaded apart from the pair that is compared, of which they are a part: taking them out of it takes longer.
    uintptr_t first = *(const volatile uintptr_t *)&link[0].next, second = *(const volatile uintptr_t *)&link[1].next;
    __m256i frames = _mm256_loadu2_m128i((const __m128i_u *)second, (const __m128i_u *)first);
    return _mm256_xor_si256(frames, *(const __m256i *)(link + 1));
}

/// The same with fewer instructions: two frames at once.
__attribute__((target("avx2"))) static inline __attribute__((always_inline)) uintptr_t outer_differences_wide(
    const cmempool_link *link, const cmempool_link *last
) {
    __m256i others = _mm256_setzero_si256(), more = others;
    for (; last - link >= 8; link += 8) {
        others = _mm256_or_si256(others, next_differences(link));
        more = _mm256_or_si256(more, next_differences(link + 2));
        others = _mm256_or_si256(others, next_differences(link + 4));
        more = _mm256_or_si256(more, next_differences(link + 6));
    }
#pragma clang loop unroll(disable)
    for (; last - link >= 2; link += 2) others = _mm256_or_si256(others, next_differences(link));
    if (link < last) {
        __m128i frame = _mm_loadu_si128((const __m128i *)*(const volatile uintptr_t *)&link->next);
        frame = _mm_xor_si128(frame, _mm_load_si128((const __m128i *)(link + 1)));
        more = _mm256_or_si256(more, _mm256_zextsi128_si256(frame));
    }
    others = _mm256_or_si256(others, more);
    return !_mm256_testz_si256(others, others);
}
#endif

typedef uintptr_t (*differences_finder)(const cmempool_link *link, const cmempool_link *last);

/// The stack if it is that of the memo; else 0.
///
/// A signal handler that interrupts this may write the memo anew, but for a frame further in.
static inline __attribute__((always_inline)) uint32_t remembered(
    const cmempool_memo *memo, const stack_word *own, differences_finder find_outer
) {
    if (memo->frame != (uintptr_t)own) return 0;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    uint32_t stack = memo->stack;
    const cmempool_link *link = memo->links;
    // The innermost frame was written just now, word by word; both words at once would have to wait for the stores.
    uintptr_t innermost = (own[0] ^ link->next) | (own[1] ^ link->address);
    uintptr_t differences = innermost | find_outer(link, memo->last);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (differences || memo->frame != (uintptr_t)own || memo->stack != stack) return 0;
    return stack;
}

/// Remembers a stack that was found by its key, when it comes for the second time in a row. `count` frames were walked.
static __attribute__((noinline)) void remember(
    cmempool_memo *memo, stack_word *own, uint64_t key, uint32_t stack, uint32_t count
) {
    bool is_second = memo->key == key;
    memo->key = key;
    if (!is_second || count > CMEMPOOL_MEMO_FRAMES) return;
    memo->frame = 0;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    stack_word *frame = own;
    for (uint32_t i = 0; i < count; i++) {
        memo->links[i].next = frame[0];
        memo->links[i].address = frame[1];
        frame = (stack_word *)frame[0];
    }
    memo->stack = stack;
    memo->last = memo->links + count - 1;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    memo->frame = (uintptr_t)own;
}

// MARK: - A stack by its key

// The walk takes a nanosecond or two per frame, the time a load takes to give the address of the next; the hash goes on beside
// it. It is NH over pairs of addresses, with 128-bit sums: one multiplication per two frames.
static __attribute__((noinline)) uint32_t capture_by_key(stack_word *own, bool is_put) {
    cmempool_recorded_thread *thread = cmempool_this_recorded_thread;
    if (__builtin_expect(!thread || thread->epoch != __atomic_load_n(&epoch, __ATOMIC_RELAXED), 0)) {
        thread = prepare_thread();
    }
    uintptr_t last = thread ? thread->high - 2 * sizeof(uintptr_t) : 0;
    if (__builtin_expect(!thread || (uintptr_t)own < thread->low || (uintptr_t)own > last, 0)) {
        uint32_t stack = capture_inexact(thread, own);
        __asm__ volatile("" : "+r"(stack));
        return stack;
    }
    uintptr_t runner_start = cmempool_job_runner_start + 1, runner_bytes = cmempool_job_runner_bytes;
    uint32_t limit = options.limit;
    // Two secrets per turn; the walk ends before the one at `end`.
    const uint64_t *secret = secrets.of_frame, *end = secret + limit;
    stack_word *frame = own;
    uintptr_t address, next, inner;
    uint64_t base = 0;
    uint32_t count;
    bool is_odd = true;
    wide sum = 0;
    for (;;) {
        next = frame[0];
        address = frame[1];
        secret++;
        if (__builtin_expect(address - runner_start < runner_bytes, 0)) goto in_runner;
        if (secret == end) goto finish;
        if (!is_next_frame(next, (uintptr_t)frame, last)) goto at_root;
        inner = address;
        frame = (stack_word *)next;

        next = frame[0];
        address = frame[1];
        sum += (wide)(inner + secret[-1]) * (address + secret[0]);
        secret++;
        if (__builtin_expect(address - runner_start < runner_bytes, 0)) {
            is_odd = false;
            goto in_runner;
        }
        if (secret == end || !is_next_frame(next, (uintptr_t)frame, last)) break;
        frame = (stack_word *)next;
    }
    is_odd = false;
    if (secret == end) goto finish;
    goto at_root;

in_runner: {
    base = 1;
    uint32_t parents = 0;
    count = (uint32_t)(secret - secrets.of_frame);
    uintptr_t *context = cmempool_runs_task(address) ? (uintptr_t *)frame[-1] : NULL;
    for (uint32_t turn = 0; turn < limit && is_async_context(context) && count + parents <= limit; turn++) {
        if (context[1]) sum += (wide)context[1] * secrets.of_parent[parents++];
        context = (uintptr_t *)context[0];
    }
    goto finish;
}

at_root:
    base = thread->high - (uintptr_t)frame;

finish:
    count = (uint32_t)(secret - secrets.of_frame);
    if (is_odd) sum += (wide)(address + secret[-1]) * secrets.of_end;
    sum += (wide)(base + secrets.of_base) * (count + secrets.of_count);
    uint64_t key = (uint64_t)sum ^ (uint64_t)(sum >> 64) * secrets.of_end;
    key = (key ^ key >> 32) * UINT64_C(0xD6E8FEB86659FD93);
    key |= 1;

    cmempool_capture_set *set = &thread->sets[key >> 56];
    for (int way = 0; way < CMEMPOOL_CAPTURE_WAYS; way++) {
        if (set->keys[way] != key) continue;
        uint32_t stack = set->stacks[way];
        // A signal handler may have taken the way for another key in between.
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        if (__builtin_expect(set->keys[way] != key, 0)) break;
        if (__builtin_expect(stack == INEXACT, 0)) {
            stack = capture_inexact(thread, own);
            __asm__ volatile("" : "+r"(stack));
        } else if (__builtin_expect(--thread->until_check == 0, 0)) {
            stack = check_hit(thread, own, stack);
            __asm__ volatile("" : "+r"(stack));
        } else if (base != 1) {
            // What async parents there are is not in the frames.
            remember(memo_of(thread, own, is_put), own, key, stack, count);
        }
        return stack;
    }
    // No tail call, here and above: this function's frame is where the stack begins, so it has to stay.
    uint32_t stack = capture_unknown(thread, own, set, key);
    __asm__ volatile("" : "+r"(stack));
    return stack;
}

// MARK: - Any capture

static __attribute__((noinline)) uint32_t check_remembered(stack_word *own, uint32_t stack) {
    return check_hit(cmempool_this_recorded_thread, own, stack);
}

// Small, and with calls at its end only: it saves no registers. That a memo is of this frame also says that the frame lies on the
// thread's own stack.
static inline __attribute__((always_inline)) uint32_t capture_stack_of(
    stack_word *own, bool is_put, differences_finder find_outer
) {
    cmempool_recorded_thread *thread = cmempool_this_recorded_thread;
    if (__builtin_expect(!thread || thread->epoch != __atomic_load_n(&epoch, __ATOMIC_RELAXED), 0))
        return capture_by_key(own, is_put);
    uint32_t stack = remembered(memo_of(thread, own, is_put), own, find_outer);
    if (__builtin_expect(!stack, 0)) return capture_by_key(own, is_put);
    if (__builtin_expect(--thread->until_check == 0, 0)) return check_remembered(own, stack);
    return stack;
}

static uint32_t capture_get(void *frame) { return capture_stack_of(frame, false, outer_differences); }
static uint32_t capture_put(void *frame) { return capture_stack_of(frame, true, outer_differences); }
cmempool_capturer cmempool_get_capturer = capture_get, cmempool_put_capturer = capture_put;

#if defined(__x86_64__)
__attribute__((target("avx2"))) static uint32_t capture_get_wide(void *frame) {
    return capture_stack_of(frame, false, outer_differences_wide);
}

__attribute__((target("avx2"))) static uint32_t capture_put_wide(void *frame) {
    return capture_stack_of(frame, true, outer_differences_wide);
}

void cmempool_choose_capturers(void) {
    cmempool_get_capturer = cmempool_uses_wide_blocks ? capture_get_wide : capture_get;
    cmempool_put_capturer = cmempool_uses_wide_blocks ? capture_put_wide : capture_put;
}
#else
void cmempool_choose_capturers(void) {}
#endif

__attribute__((noinline)) uint32_t cmempool_capture_stack(void) {
    uint32_t stack = cmempool_capture_get(__builtin_frame_address(0));
    __asm__ volatile("" : "+r"(stack));
    return stack;
}
#endif

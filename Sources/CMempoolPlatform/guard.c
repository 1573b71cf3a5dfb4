// Guard pages: which region an address lies in, and what happens when a thread touches one it must not.
#define _GNU_SOURCE
#include "CMempoolPlatform.h"
#include "capture.h"

#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <time.h>
#include <ucontext.h>

#if MEMPOOL_RECORDER

// MARK: - Regions

typedef struct region_room {
    uintptr_t start;
    uintptr_t region_bytes;
    cmempool_region *regions;
    /// Stored last: 0 while there is no such room.
    uintptr_t byte_count;
} region_room;

static region_room rooms[CMEMPOOL_ROOMS];

void cmempool_set_room(
    uint32_t number, uintptr_t start, uintptr_t region_bytes, uint32_t count, cmempool_region *regions
) {
    region_room *room = &rooms[number];
    room->start = start;
    room->region_bytes = region_bytes;
    room->regions = regions;
    __atomic_store_n(&room->byte_count, room->region_bytes * count, __ATOMIC_RELEASE);
}

cmempool_region *cmempool_region_at(uintptr_t address) {
    for (uint32_t number = 0; number < CMEMPOOL_ROOMS; number++) {
        region_room *room = &rooms[number];
        uintptr_t byte_count = __atomic_load_n(&room->byte_count, __ATOMIC_ACQUIRE);
        if (byte_count && address - room->start < byte_count)
            return &room->regions[(address - room->start) / room->region_bytes];
    }
    return NULL;
}

// MARK: - Faults

static void (*report_fault)(const cmempool_fault *);
static struct sigaction before_segv, before_bus;
static sem_t fault_wanted;
static cmempool_fault fault;
static uint32_t is_taken, is_reported;

/// How long a faulting thread waits for its report, milliseconds.
#define REPORT_LIMIT 10000

static void watch_for_faults(void) {
    for (;;) {
        if (sem_wait(&fault_wanted) != 0) continue;
        report_fault(&fault);
        __atomic_store_n(&is_reported, 1, __ATOMIC_RELEASE);
    }
}

static void wait_for_report(void) {
    struct timespec pause = {.tv_nsec = 1000000};
    for (int turn = 0; turn < REPORT_LIMIT && !__atomic_load_n(&is_reported, __ATOMIC_ACQUIRE); turn++)
        nanosleep(&pause, NULL);
}

static bool is_read(const ucontext_t *context) {
#if defined(__x86_64__)
    // The page-fault error code: bit 1 is set for a write.
    return !(context->uc_mcontext.gregs[REG_ERR] & 2);
#elif defined(__aarch64__)
    // The exception syndrome, one of the records behind the registers: bit 6 is set for a write.
    const char *record = (const char *)context->uc_mcontext.__reserved;
    const char *end = record + sizeof context->uc_mcontext.__reserved;
    while (record + sizeof(struct esr_context) <= end) {
        const struct _aarch64_ctx *head = (const struct _aarch64_ctx *)record;
        if (head->magic == ESR_MAGIC) return !(((const struct esr_context *)head)->esr & (1 << 6));
        // The last one has no size.
        if (head->size == 0) break;
        record += head->size;
    }
    return false;
#else
    (void)context;
    return false;
#endif
}

static struct sigaction *handler_before(int signal) { return signal == SIGBUS ? &before_bus : &before_segv; }

// A fault that is none of ours: what would have happened without us.
static void pass_on(int signal, siginfo_t *info, void *context) {
    struct sigaction *before = handler_before(signal);
    if (before->sa_flags & SA_SIGINFO) return before->sa_sigaction(signal, info, context);
    if (before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN) return before->sa_handler(signal);
    // The instruction faults again and meets the default. A signal that somebody sent has to be sent again.
    sigaction(signal, before, NULL);
    if (info->si_code <= 0) raise(signal);
}

static void on_fault(int signal, siginfo_t *info, void *context) {
    int error = errno;
    cmempool_region *region = info->si_code > 0 ? cmempool_region_at((uintptr_t)info->si_addr) : NULL;
    // Not in a forked child: it has neither the recording nor the thread that reports.
    if (!region || __atomic_load_n(&region->state, __ATOMIC_ACQUIRE) == CMEMPOOL_REGION_UNUSED || !cmempool_recorder_root()) {
        pass_on(signal, info, context);
        errno = error;
        return;
    }
    // One report: the process ends here. Other threads that fault meanwhile wait for it.
    if (!__atomic_exchange_n(&is_taken, 1, __ATOMIC_ACQ_REL)) {
        cmempool_recorded_thread *thread = cmempool_this_recorded_thread;
        fault = (cmempool_fault){
            .address = (uintptr_t)info->si_addr,
            .is_read = is_read(context),
            .thread_id = cmempool_thread_id(),
            .context = context,
            // Of a thread that never used a pool nothing is known: the unwinder does without, but finds no async parents.
            .stack_low = thread ? thread->low : NO_STACK_BOUNDS.low,
            .stack_high = thread ? thread->high : NO_STACK_BOUNDS.high,
            .runs_task = cmempool_has_task(),
        };
        sem_post(&fault_wanted);
    }
    wait_for_report();
    // The instruction faults again and meets whoever was there before: Swift's backtracer, the program, or the default.
    sigaction(signal, handler_before(signal), NULL);
    errno = error;
}

bool cmempool_watch_faults(void (*report)(const cmempool_fault *)) {
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    report_fault = report;
    sigemptyset(&action.sa_mask);
    if (sem_init(&fault_wanted, 0, 0) != 0 || !cmempool_start_thread("mempool-faults", watch_for_faults)) return false;
    return sigaction(SIGSEGV, &action, &before_segv) == 0 && sigaction(SIGBUS, &action, &before_bus) == 0;
}
#endif

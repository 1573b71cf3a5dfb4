// The calls of CaptureFixtures.h. Those without frame pointers are written out, as no compiler flag is needed then.
#define _GNU_SOURCE
#include "CaptureFixtures.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
bool fixture_is_sanitized(void) { return true; }
#else
bool fixture_is_sanitized(void) { return false; }
#endif

#if defined(__x86_64__)
bool fixture_has_frameless(void) { return true; }

__asm__(
    ".text\n"
    ".globl fixture_call_frameless\n.type fixture_call_frameless,@function\nfixture_call_frameless:\n"
    ".cfi_startproc\n"
    "subq $40, %rsp\n.cfi_adjust_cfa_offset 40\n"
    "movq %rdi, %rax\nmovq %rsi, %rdi\ncall *%rax\n"
    "addq $40, %rsp\n.cfi_adjust_cfa_offset -40\nret\n"
    ".cfi_endproc\n.size fixture_call_frameless, .-fixture_call_frameless\n"

    ".globl fixture_call_clobbered\n.type fixture_call_clobbered,@function\nfixture_call_clobbered:\n"
    ".cfi_startproc\n"
    "pushq %rbp\n.cfi_adjust_cfa_offset 8\n.cfi_rel_offset rbp, 0\n"
    "movq %rdi, %rax\nmovq %rsi, %rdi\n"
    "leaq 64(%rsp), %rbp\n"
    "call *%rax\n"
    "popq %rbp\n.cfi_adjust_cfa_offset -8\n.cfi_restore rbp\nret\n"
    ".cfi_endproc\n.size fixture_call_clobbered, .-fixture_call_clobbered\n"

    ".globl fixture_call_tail\n.type fixture_call_tail,@function\nfixture_call_tail:\n"
    ".cfi_startproc\n"
    "movq %rdi, %rax\nmovq %rsi, %rdi\njmp *%rax\n"
    ".cfi_endproc\n.size fixture_call_tail, .-fixture_call_tail\n"

    ".globl fixture_store_with_frame_pointer\n.type fixture_store_with_frame_pointer,@function\n"
    "fixture_store_with_frame_pointer:\n"
    ".cfi_startproc\n"
    "pushq %rbp\n.cfi_adjust_cfa_offset 8\n.cfi_rel_offset rbp, 0\n"
    "movq %rsi, %rbp\n"
    "movb $1, (%rdi)\n"
    "popq %rbp\n.cfi_adjust_cfa_offset -8\n.cfi_restore rbp\nret\n"
    ".cfi_endproc\n.size fixture_store_with_frame_pointer, .-fixture_store_with_frame_pointer\n"

    ".globl fixture_run_job\n.type fixture_run_job,@function\nfixture_run_job:\n"
    ".cfi_startproc\n"
    "pushq %rbp\n.cfi_adjust_cfa_offset 8\n.cfi_rel_offset rbp, 0\n"
    "movq %rsp, %rbp\n.cfi_def_cfa_register rbp\n"
    "leaq fixture_context(%rip), %rax\npushq %rax\npushq %rax\n"
    "movq %rdi, %rax\nxorl %edi, %edi\ncall *64(%rax)\n"
    // The runtime's convention for such functions: they take eight bytes of their caller's with them.
    "leave\n.cfi_def_cfa rsp, 8\nret $8\n"
    ".cfi_endproc\n.size fixture_run_job, .-fixture_run_job\n"
    ".section .note.GNU-stack,\"\",@progbits\n.text\n"
);

__attribute__((visibility("hidden"), used)) void *fixture_context[2] = {NULL, (void *)0x5A5A};

extern void fixture_run_job(void);

// A job of the runtime's, and what it is about.
typedef struct job {
    void *object[2];
    void *scheduler[2];
    uint32_t flags;
    uint32_t identifier;
    void *voucher;
    void *reserved;
    void (*run)(void);
    fixture_body body;
} __attribute__((aligned(16))) job;
_Static_assert(offsetof(job, run) == 56 && offsetof(job, body) == 64, "as the runtime has it");

extern __attribute__((swiftcall)) void swift_job_run(job *job, void *executor, void *implementation);

void fixture_call_as_job(fixture_body body) {
    // The first kind that is no task.
    job job = {.flags = 192, .run = fixture_run_job, .body = body};
    swift_job_run(&job, NULL, NULL);
}
#else
bool fixture_has_frameless(void) { return false; }
void fixture_call_frameless(fixture_body body, void *context) { body(context); }
void fixture_call_clobbered(fixture_body body, void *context) { body(context); }
void fixture_call_tail(fixture_body body, void *context) { body(context); }
void fixture_call_as_job(fixture_body body) { body(NULL); }
void fixture_store_with_frame_pointer(void *address, uintptr_t frame_pointer) {
    (void)frame_pointer;
    *(volatile char *)address = 1;
}
#endif

typedef struct sorted {
    int value;
    fixture_body body;
    void *context;
} sorted;

static int compare(const void *a, const void *b) {
    const sorted *first = a;
    first->body(first->context);
    return first->value - ((const sorted *)b)->value;
}

void fixture_call_from_qsort(fixture_body body, void *context) {
    sorted values[2] = {{2, body, context}, {1, body, context}};
    qsort(values, 2, sizeof values[0], compare);
}

static _Thread_local fixture_body handled;

static void handle(int signal) {
    (void)signal;
    handled(NULL);
}

void fixture_call_from_signal(fixture_body body, bool on_own_stack) {
    static char stacks[64][65536];
    static int next_stack;
    stack_t signal_stack = {.ss_sp = stacks[__atomic_fetch_add(&next_stack, 1, __ATOMIC_RELAXED) % 64], .ss_size = 65536}, before;
    struct sigaction action = {.sa_handler = handle, .sa_flags = on_own_stack ? SA_ONSTACK : 0};
    handled = body;
    if (on_own_stack) sigaltstack(&signal_stack, &before);
    sigaction(SIGUSR2, &action, NULL);
    raise(SIGUSR2);
    if (on_own_stack) sigaltstack(&before, NULL);
}

static _Thread_local fixture_body coroutine_body;
static _Thread_local void *coroutine_context;

static void run_coroutine(void) { coroutine_body(coroutine_context); }

void fixture_call_on_coroutine(fixture_body body, void *context) {
    ucontext_t here, there;
    void *stack = malloc(262144);
    coroutine_body = body;
    coroutine_context = context;
    getcontext(&there);
    there.uc_stack.ss_sp = stack;
    there.uc_stack.ss_size = 262144;
    there.uc_link = &here;
    makecontext(&there, run_coroutine, 0);
    swapcontext(&here, &there);
    free(stack);
}

__attribute__((noinline)) void fixture_call_deep(fixture_body body, void *context, int depth) {
    if (depth <= 1) body(context);
    else fixture_call_deep(body, context, depth - 1);
    // Not a tail call, so that each turn has a frame.
    __asm__ volatile("");
}

static void *run_thread(void *body) {
    ((fixture_body)body)(NULL);
    return NULL;
}

bool fixture_run_threads(int count, int at_once, fixture_body body) {
    pthread_t threads[64];
    if (at_once > 64) return false;
    for (int done = 0; done < count; done += at_once) {
        for (int i = 0; i < at_once; i++)
            if (pthread_create(&threads[i], NULL, run_thread, (void *)body) != 0) return false;
        for (int i = 0; i < at_once; i++) pthread_join(threads[i], NULL);
    }
    return true;
}

static int fallocate_failures;

void fixture_interrupt_fallocate(int times) { fallocate_failures = times; }

static fixture_body fallocate_watcher;

void fixture_watch_fallocate(fixture_body body) { fallocate_watcher = body; }

// In place of the C library's.
int fallocate(int descriptor, int mode, off_t offset, off_t bytes) {
    fixture_body watcher = fallocate_watcher;
    fallocate_watcher = NULL;
    if (watcher) watcher(NULL);
    if (fallocate_failures > 0) {
        fallocate_failures--;
        errno = EINTR;
        return -1;
    }
    return (int)syscall(SYS_fallocate, descriptor, mode, offset, bytes);
}

static fixture_body ftruncate_watcher;

void fixture_watch_ftruncate(fixture_body body) { ftruncate_watcher = body; }

// As above.
int ftruncate(int descriptor, off_t bytes) {
    if (ftruncate_watcher) ftruncate_watcher(NULL);
    return (int)syscall(SYS_ftruncate, descriptor, bytes);
}

// The thread-local caches and the call at thread end.
#define _GNU_SOURCE
#include "CMempoolPlatform.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

_Thread_local cmempool_thread cmempool_this_thread __attribute__((tls_model("initial-exec")));

static pthread_key_t thread_key;
static pthread_once_t thread_key_once = PTHREAD_ONCE_INIT;

static void thread_ended(void *thread) {
    // Another key's destructor may use the pool after this one; the pool then registers the thread again.
    ((cmempool_thread *)thread)->is_registered = 0;
    cmempool_thread_exit(thread);
}

static void make_thread_key(void) { pthread_key_create(&thread_key, thread_ended); }

void cmempool_register_thread(cmempool_thread *thread) {
    pthread_once(&thread_key_once, make_thread_key);
    thread->is_registered = 1;
    pthread_setspecific(thread_key, thread);
}

uint32_t cmempool_read_thread_id(void) { return cmempool_this_thread.thread_id = (uint32_t)syscall(SYS_gettid); }

static void *run_body(void *body) {
    ((void (*)(void))body)();
    return NULL;
}

bool cmempool_start_thread(const char *name, void (*body)(void)) {
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    if (pthread_attr_init(&attributes) != 0) return false;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 256 << 10);
    // The program's signals are for the program's threads.
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failure = pthread_create(&thread, &attributes, run_body, (void *)body);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (failure == 0) pthread_setname_np(thread, name);
    return failure == 0;
}

void cmempool_around_fork(void (*before)(void), void (*in_parent)(void), void (*in_child)(void)) {
    pthread_atfork(before, in_parent, in_child);
}

void cmempool_forget_thread_id(void) { cmempool_this_thread.thread_id = 0; }

// The thread-local caches and the call at thread end.
#define _GNU_SOURCE
#include "CMempoolPlatform.h"

#include <pthread.h>
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

uint32_t cmempool_thread_id(void) {
    cmempool_thread *thread = &cmempool_this_thread;
    if (thread->thread_id == 0) thread->thread_id = (uint32_t)syscall(SYS_gettid);
    return thread->thread_id;
}

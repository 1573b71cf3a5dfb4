// Where the recorder is reached from: the pool's first use, the end of the process, a fork; and what it maps.
#define _GNU_SOURCE
#include "CMempoolPlatform.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#if MEMPOOL_RECORDER
// Implemented in Swift by the recorder, which is linked beside the pool. Weak, as the pool must link without it.
extern void mempool_recorder_start(void) __attribute__((weak));
extern void mempool_recorder_exit(int status) __attribute__((weak));

void cmempool_start_recorder(void) {
    if (mempool_recorder_start) mempool_recorder_start();
}

static void at_exit(int status, void *unused) {
    (void)unused;
    mempool_recorder_exit(status);
}

// Registered before anything of the program runs, so that it runs after the program's own exit handlers: buffers they
// return are not leaks.
__attribute__((constructor)) static void register_exit(void) {
    if (mempool_recorder_exit) on_exit(at_exit, NULL);
}
#else
void cmempool_start_recorder(void) {}
#endif

cmempool_watcher cmempool_get_watcher, cmempool_put_watcher;
cmempool_magazine_get_watcher cmempool_watch_magazine_gets;
cmempool_magazine_put_watcher cmempool_watch_magazine_puts;
uint32_t cmempool_mean_sample_interval;
cmempool_placer cmempool_get_placer;
cmempool_place_taker cmempool_put_placer;

// A page of its own: the kernel wipes whole pages, of 64 KiB on some machines.
#if defined(__x86_64__)
#define ROOT_BYTES 4096
#else
#define ROOT_BYTES 65536
#endif
__attribute__((aligned(ROOT_BYTES))) void *cmempool_recorder_root_page[ROOT_BYTES / sizeof(void *)];

void cmempool_set_recorder_root(void *root, void *usual_calls) {
    madvise(cmempool_recorder_root_page, sizeof cmempool_recorder_root_page, MADV_WIPEONFORK);
    __atomic_store_n(&cmempool_recorder_root_page[1], usual_calls, __ATOMIC_RELEASE);
    __atomic_store_n(&cmempool_recorder_root_page[0], root, __ATOMIC_RELEASE);
}

// The thread sanitizer does not know the protocols by which readers of a recording find out whether words belong together.
// Volatile reads of aligned words are whole; atomic ones it would look at all the same.
__attribute__((no_sanitize("thread"))) void cmempool_copy_words(uint64_t *to, const uint64_t *from, size_t count) {
    for (size_t i = 0; i < count; i++) to[i] = ((const volatile uint64_t *)from)[i];
    // What is read after this was read after the words.
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
}

cmempool_clock_reader cmempool_read_clock = clock_gettime;

#if MEMPOOL_RECORDER
void cmempool_find_clock(void) {
    // Once, as the unwinder.
    static bool was_looked_for;
    if (was_looked_for || cmempool_is_static_executable()) return;
    was_looked_for = true;
    // The kernel's own code, which the C library calls as well; without it, nothing changes.
    void *kernel = dlopen("linux-vdso.so.1", RTLD_LAZY | RTLD_NOLOAD);
    if (!kernel) return;
    void *reader = dlsym(kernel, "__vdso_clock_gettime");
    if (!reader) reader = dlsym(kernel, "__kernel_clock_gettime");
    if (reader) __atomic_store_n(&cmempool_read_clock, (cmempool_clock_reader)reader, __ATOMIC_RELAXED);
}
#endif

const char *cmempool_secure_getenv(const char *name) { return secure_getenv(name); }

void cmempool_print(const char *text, size_t bytes) {
    int error = errno;
    sigset_t broken_pipe, before, pending;
    sigemptyset(&broken_pipe);
    sigaddset(&broken_pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &broken_pipe, &before);
    sigpending(&pending);
    while (bytes > 0) {
        ssize_t written = write(STDERR_FILENO, text, bytes);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0 && errno == EPIPE && !sigismember(&pending, SIGPIPE)) {
            // Ours, which the program has not deserved.
            struct timespec now = {0};
            while (sigtimedwait(&broken_pipe, NULL, &now) < 0 && errno == EINTR) {}
        }
        if (written <= 0) break;
        text += written;
        bytes -= (size_t)written;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
}

void cmempool_write_in_place(int descriptor) {
    struct statfs system;
    int flags;
    if (fstatfs(descriptor, &system) != 0 || (uint32_t)system.f_type != BTRFS_SUPER_MAGIC) return;
    if (ioctl(descriptor, FS_IOC_GETFLAGS, &flags) != 0) return;
    flags |= FS_NOCOW_FL;
    ioctl(descriptor, FS_IOC_SETFLAGS, &flags);
}

int cmempool_reserve(int descriptor, void *base, uint64_t offset, uint64_t bytes) {
    if (cmempool_is_refused()) return ENOMEM;
    // Some file systems give up what they have allocated so far when a signal arrives, and say so.
    while (descriptor >= 0 && fallocate(descriptor, 0, (off_t)offset, (off_t)bytes) != 0) {
        if (errno == EOPNOTSUPP) break;
        if (errno != EINTR) return errno;
    }
    // Allocation alone is not enough everywhere: a file system may need blocks again when the page is first written.
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), start = offset / page * page;
    if (madvise((char *)base + start, offset + bytes - start, MADV_POPULATE_WRITE) == 0) return 0;
    if (errno != EINVAL) return errno == EFAULT ? ENOSPC : errno;
    // Before Linux 5.14: write a byte per page through the descriptor, which reports what a store would be killed for.
    for (uint64_t at = offset; at < offset + bytes; at += 4096)
        if (pwrite(descriptor, "", 1, (off_t)at) != 1) return errno;
    return 0;
}

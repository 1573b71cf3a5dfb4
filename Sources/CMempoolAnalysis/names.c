// Tries names in a child process. The child calls the demanglers, which allocate, and what is safe after a fork.
#define _GNU_SOURCE
#include "CMempoolAnalysis.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

// Exported by libswiftCore: the first for tools, the others for its module Runtime, which has no call for the first.
extern char *swift_demangle(const char *name, size_t length, char *output, size_t *output_bytes, unsigned flags);
extern char *_swift_backtrace_demangle(const char *name, size_t length, char *output, size_t *output_bytes);
extern bool _swift_backtrace_isThunkFunction(const char *name);

// What the child says of a name: the bytes of its readable forms, or that it does not fit.
static const size_t unfit = SIZE_MAX;

// The bytes of a demangled name, which is freed.
static size_t taken(char *text, const struct canalysis_limits *limits) {
    size_t bytes = text ? strlen(text) : 0;
    free(text);
    return bytes <= limits->output_bytes ? bytes : unfit;
}

// Bytes of address space that the process has.
static size_t address_space(void) {
    char text[64] = "";
    int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t count = read(file, text, sizeof text - 1);
    close(file);
    return count > 0 ? strtoull(text, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE) : 0;
}

// Reads what the child says of the next name; false if it has ended. Answers are written whole.
static bool next(int answers, size_t *answer) {
    ssize_t count;
    do count = read(answers, answer, sizeof *answer);
    while (count < 0 && errno == EINTR);
    return count == sizeof *answer;
}

static void limit(int resource, rlim_t value) {
    struct rlimit limits = {value, value};
    setrlimit(resource, &limits);
}

// The child. What stops it is meant to: no handler of the process may run, and nobody wants its memory or its last words.
static void try_names(
    const char *const *names, const size_t *lengths, size_t count, const struct canalysis_limits *limits,
    unsigned milliseconds_left, int answers
) {
    static const int signals[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGTRAP, SIGPROF, SIGXCPU, SIGPIPE};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) signal(signals[i], SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (nowhere >= 0) dup2(nowhere, STDERR_FILENO);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_CPU, milliseconds_left / 1000 + 1);
    size_t bytes = address_space();
    if (bytes > 0) limit(RLIMIT_AS, bytes + limits->memory_bytes);
    struct itimerval timer = {{0, 0}, {limits->name_milliseconds / 1000, limits->name_milliseconds % 1000 * 1000}};
    for (size_t i = 0; i < count; i++) {
        // Counts the time that the process computes, and ends it.
        setitimer(ITIMER_PROF, &timer, NULL);
        // What the parent asks of a name that fits.
        size_t answer = taken(swift_demangle(names[i], lengths[i], NULL, NULL, 0), limits);
        if (answer != unfit) {
            size_t other = taken(_swift_backtrace_demangle(names[i], lengths[i], NULL, NULL), limits);
            answer = other == unfit ? unfit : answer + other;
        }
        if (answer != unfit) _swift_backtrace_isThunkFunction(names[i]);
        if (write(answers, &answer, sizeof answer) != sizeof answer) return;
    }
}

void canalysis_try_names(
    const char *const *names, const size_t *lengths, size_t count, const struct canalysis_limits *limits, bool *fits
) {
    memset(fits, 0, count);
    size_t tried = 0;
    size_t output_left = limits->all_output_bytes;
    long milliseconds_left = limits->all_milliseconds;
    for (unsigned offenders = 0; offenders <= limits->offenders && tried < count && milliseconds_left > 0; offenders++) {
        // A pipe and no shared memory: readers of /proc/self/maps, as the Runtime module's, take that for the image of a file.
        int answers[2];
        if (pipe2(answers, O_CLOEXEC) != 0) return;
        pid_t child = fork();
        if (child == 0) {
            close(answers[0]);
            try_names(names + tried, lengths + tried, count - tried, limits, (unsigned)milliseconds_left, answers[1]);
            _exit(0);
        }
        close(answers[1]);
        size_t answer;
        while (child > 0 && tried < count && next(answers[0], &answer)) {
            fits[tried] = answer <= output_left;
            if (fits[tried]) output_left -= answer;
            tried++;
        }
        close(answers[0]);
        if (child < 0) return;
        struct rusage usage = {0};
        while (wait4(child, NULL, 0, &usage) < 0 && errno == EINTR) {}
        milliseconds_left -= (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000
            + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
        // The one at which it ended.
        tried++;
    }
}

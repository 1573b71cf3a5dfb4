// The worker that `bench recorder` compiles where it runs, once for each tool that watches malloc: malloc and free of a
// fixed size at the end of 16 calls, timed as the workers of the pool are. Its words: the size, then the threads.
//
// It must stay what Crew.swift, Workloads.swift and benchmarks.c are: the same loop, clock and calibration. It says
// `ready FILE` first, the file that malloc comes from, and answers a number of operations with `NANOSECONDS CALIBRATION`.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { DEPTH = 16, CALIBRATION_ITERATIONS = 8000, MOST_THREADS = 64 };

static size_t size;
static int threads;
static long operations;
static unsigned long samples;
static pthread_barrier_t start_barrier, end_barrier;
static atomic_ulong ready;
static struct { uint64_t start, end, calibration; } spans[MOST_THREADS];

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

// cbench_calibrate. What a sanitizer adds to it would look like noise.
__attribute__((no_sanitize("address"))) static uint64_t calibrate(intptr_t iterations) {
    uint64_t words[64] = {1};
    uint64_t a = 1, b = 2, c = 3, d = 4, e = 5, f = 6;
    uint64_t start = now();
    for (intptr_t i = 0; i < iterations; i++) {
        a = a * 5 + 1;
        b = b * 3 + 1;
        c ^= b >> 7;
        d += a;
        e += words[(i + 32) & 63];
        f = f * 9 + 1;
        words[i & 63] = f;
        __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f) : : "memory");
    }
    return now() - start;
}

static void pairs(long count) {
    for (long i = 0; i < count; i++) {
        size_t hidden = size;
        __asm__ volatile("" : "+r"(hidden));
        void *block = malloc(hidden);
        if (block == NULL) abort();
        __asm__ volatile("" : : "r"(block) : "memory");
        *(volatile uint8_t *)block = 1;
        free(block);
    }
}

__attribute__((noinline)) static void descend(long depth, long count) {
    __asm__ volatile("" : "+r"(depth));
    if (depth == 0) {
        pairs(count);
    } else {
        descend(depth - 1, count);
    }
    // Without it the call above would be a jump, and leave no frame.
    __asm__ volatile("" : : : "memory");
}

static void bind(int rank) {
    cpu_set_t set, one;
    if (sched_getaffinity(0, sizeof(set), &set) != 0) return;
    for (int processor = 0; processor < CPU_SETSIZE; processor++) {
        if (!CPU_ISSET(processor, &set) || rank-- > 0) continue;
        CPU_ZERO(&one);
        CPU_SET(processor, &one);
        sched_setaffinity(0, sizeof(one), &one);
        return;
    }
}

static void measure(int number) {
    descend(DEPTH, operations / 16 > 0 ? operations / 16 : 1);
    uint64_t before = calibrate(CALIBRATION_ITERATIONS);
    if (threads > 1) {
        atomic_fetch_add(&ready, 1);
        for (int spins = 1; atomic_load(&ready) < samples * (unsigned long)threads; spins++) {
            if (spins % 1000 == 0) sched_yield();
        }
    }
    uint64_t start = now();
    descend(DEPTH, operations);
    uint64_t end = now();
    uint64_t after = calibrate(CALIBRATION_ITERATIONS);
    spans[number].start = start;
    spans[number].end = end;
    spans[number].calibration = before > after ? before : after;
}

static void *work(void *context) {
    int number = (int)(intptr_t)context;
    bind(number);
    while (1) {
        pthread_barrier_wait(&start_barrier);
        measure(number);
        pthread_barrier_wait(&end_barrier);
    }
    return NULL;
}

int main(int count, char **words) {
    if (count != 3) return 64;
    size = strtoul(words[1], NULL, 10);
    threads = atoi(words[2]);
    if (size == 0 || threads < 1 || threads > MOST_THREADS) return 64;
    if (threads > 1) {
        pthread_barrier_init(&start_barrier, NULL, (unsigned)threads + 1);
        pthread_barrier_init(&end_barrier, NULL, (unsigned)threads + 1);
        for (intptr_t number = 0; number < threads; number++) {
            pthread_t thread;
            if (pthread_create(&thread, NULL, work, (void *)number) != 0) return 1;
        }
    }
    void *function = dlsym(RTLD_DEFAULT, "malloc");
    Dl_info information;
    int known = function != NULL && dladdr(function, &information) != 0;
    printf("ready %s\n", known ? information.dli_fname : "?");
    fflush(stdout);
    char line[64];
    while (fgets(line, sizeof(line), stdin) != NULL) {
        operations = atol(line);
        if (operations <= 0) break;
        samples++;
        if (threads > 1) {
            pthread_barrier_wait(&start_barrier);
            pthread_barrier_wait(&end_barrier);
        } else {
            measure(0);
        }
        double nanoseconds = 0;
        uint64_t calibration = 0;
        for (int number = 0; number < threads; number++) {
            nanoseconds += (double)(spans[number].end - spans[number].start);
            if (spans[number].calibration > calibration) calibration = spans[number].calibration;
        }
        printf("%.3f %llu\n", nanoseconds / threads / (double)operations, (unsigned long long)calibration);
        fflush(stdout);
    }
    // Not exit: what a tool does at the end of a process is not what is measured here.
    _exit(0);
}

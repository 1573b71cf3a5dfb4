// The image that the pool is linked into: whether it can load libraries, and that it stays.
#define _GNU_SOURCE
#include "CMempoolPlatform.h"

#include <dlfcn.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>

// In a static executable dlopen crashes; such a program has no interpreter segment.
bool cmempool_is_static_executable(void) {
    const ElfW(Phdr) *header = (const ElfW(Phdr) *)getauxval(AT_PHDR);
    size_t count = getauxval(AT_PHNUM);
    for (size_t i = 0; header && i < count; i++)
        if (header[i].p_type == PT_INTERP) return false;
    return true;
}

// A library that has the pool in it may be closed. What runs at the end of the process and of its threads, the threads of the
// pool's own and the handler of faults would then be gone while others still call them, and so would all buffers.
__attribute__((constructor)) static void stay_loaded(void) {
    Dl_info image;
    if (cmempool_is_static_executable() || !dladdr((void *)stay_loaded, &image)) return;
    const ElfW(Ehdr) *header = image.dli_fbase;
    // The program itself stays anyway.
    if (getauxval(AT_PHDR) == (uintptr_t)header + header->e_phoff) return;
    dlopen(image.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

#if MEMPOOL_RECORDER

// What a recorder asks the loader for is asked for before anything of the program runs. At the first use of a pool it could be too
// late: the thread that starts the recorder would wait for the loader's lock, and a library that is being loaded and uses a
// pool at once holds that lock and would wait for the recorder.

#if DEBUG
#define RECORDS_UNASKED true
#else
#define RECORDS_UNASKED false
#endif

/// Whether a recorder will start if a pool is used. At worst libunwind is loaded in vain, or only when the recorder starts.
static bool expects_recorder(void) {
    const char *settings = cmempool_secure_getenv("MEMPOOL_DEBUG");
    if (!settings || !*settings) return RECORDS_UNASKED;
    return strcmp(settings, "off") != 0 && strcmp(settings, "level=off") != 0;
}

__attribute__((constructor)) static void ask_loader(void) {
    if (!expects_recorder()) return;
    cmempool_find_clock();
    cmempool_find_unwinder();
}
#endif

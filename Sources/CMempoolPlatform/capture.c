// Stacks as libunwind gives them, which is loaded at run time so that programs do not depend on it, and the async parents.
// What makes captures cheap is in capture_cache.c.
#define _GNU_SOURCE
#define UNW_LOCAL_ONLY 1
#include "CMempoolPlatform.h"
#include "capture.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <ucontext.h>
#include <unistd.h>

#if MEMPOOL_RECORDER
#include <libunwind.h>

// The header spells the functions of local unwinding as macros over these architecture-specific symbols.
#define SYMBOL_TEXT_(name) #name
#define SYMBOL_TEXT(name) SYMBOL_TEXT_(name)

static int (*backtrace_function)(void **, int);
#if defined(__aarch64__)
// Of this one the header makes instructions.
#define READ_REGISTERS(context) unw_tdep_getcontext(context)
#else
static int (*get_context)(unw_context_t *);
#define READ_REGISTERS(context) (get_context ? get_context(context) : -1)
#endif
static int (*init_local)(unw_cursor_t *, unw_context_t *);
static int (*init_interrupted)(unw_cursor_t *, unw_context_t *, int);
static int (*set_register)(unw_cursor_t *, int, unw_word_t);
static int (*get_register)(unw_cursor_t *, int, unw_word_t *);
static int (*step)(unw_cursor_t *);
static int (*get_name)(unw_cursor_t *, char *, size_t, unw_word_t *);

static uintptr_t c_library_address;

uintptr_t cmempool_c_library_address(void) { return c_library_address; }

void cmempool_find_unwinder(void) {
    // Once, also if it is not there: the second call may be one that must not wait for the loader.
    static bool was_looked_for;
    if (was_looked_for || cmempool_is_static_executable()) return;
    was_looked_for = true;
    void *library = dlopen("libunwind.so.8", RTLD_NOW | RTLD_LOCAL);
    if (!library) return;
    c_library_address = (uintptr_t)dlsym(RTLD_DEFAULT, "abort");
#if !defined(__aarch64__)
    *(void **)&get_context = dlsym(library, SYMBOL_TEXT(unw_tdep_getcontext));
#endif
    *(void **)&init_local = dlsym(library, SYMBOL_TEXT(unw_init_local));
    *(void **)&init_interrupted = dlsym(library, SYMBOL_TEXT(unw_init_local2));
    *(void **)&set_register = dlsym(library, SYMBOL_TEXT(unw_set_reg));
    *(void **)&get_register = dlsym(library, SYMBOL_TEXT(unw_get_reg));
    *(void **)&step = dlsym(library, SYMBOL_TEXT(unw_step));
    *(void **)&get_name = dlsym(library, SYMBOL_TEXT(unw_get_proc_name));
    *(void **)&backtrace_function = dlsym(library, "unw_backtrace");
}

static void find_job_runner(void);

cmempool_unwinder cmempool_load_unwinder(void) {
    cmempool_find_unwinder();
    // Looks through the list of images, which is not what the loader locks while it loads one.
    find_job_runner();
    return backtrace_function ? CMEMPOOL_UNWINDER_LIBUNWIND : CMEMPOOL_UNWINDER_FRAME_POINTERS;
}

// MARK: - Bounds of the calling thread's stack

stack_bounds cmempool_this_stack(void) {
    stack_bounds bounds = NO_STACK_BOUNDS;
    pthread_attr_t attributes;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        void *address;
        size_t size;
        if (pthread_attr_getstack(&attributes, &address, &size) == 0)
            bounds = (stack_bounds){(uintptr_t)address, (uintptr_t)address + size};
        pthread_attr_destroy(&attributes);
    }
    return bounds;
}

// MARK: - Async parents

// The Swift runtime's function that runs a job: the frame that returns into it belongs to an async function, whose
// context lies just below its frame pointer. The runtime is a shared library, or linked into a static program.
#define JOB_RUNNER "_ZN5swift34runJobInEstablishedExecutorContextEPNS_3JobE"

uintptr_t cmempool_job_runner_start, cmempool_job_runner_bytes;

// It also calls jobs that are no tasks, such as the end of an actor: what lies below their frame pointer is anything. An executor
// may run such a job in the middle of a task, which is still the thread's then. But the two kinds are called from two places.
#define TASK_GETTER "swift_task_getCurrent"

typedef __attribute__((swiftcall)) void *(*task_getter)(void);
static task_getter get_task;

/// Where tasks return to in the job runner; 0 before that is known.
static uintptr_t task_return;

// Before it is known there are no async parents, which is not wrong; without an unwinder it never is, and what the runtime says has to do.
static bool is_task_return(uintptr_t address) {
    uintptr_t known = __atomic_load_n(&task_return, __ATOMIC_RELAXED);
    return known ? address == known : !cmempool_has_unwinder();
}

bool cmempool_has_task(void) { return get_task && get_task(); }

__attribute__((preserve_most)) bool cmempool_runs_task(uintptr_t address) {
    return is_task_return(address) && cmempool_has_task();
}

typedef struct runner_search {
    uintptr_t runner;
    uintptr_t above;
    uint32_t runners;
    /// The outermost two addresses, the last one second.
    uint64_t outermost[2];
} runner_search;

static bool look_for_runner(uint64_t address, uintptr_t above, void *pointer) {
    runner_search *search = pointer;
    if (returns_into_job_runner(address)) {
        search->runner = address;
        search->above = above;
        search->runners++;
    }
    search->outermost[0] = search->outermost[1];
    search->outermost[1] = address;
    return true;
}

/// Steps looked at for jobs: a deeper stack teaches nothing.
#define RUNNER_STEP_LIMIT 1024

/// Learns where tasks return to from a stack with one job on it, of a thread that runs a task: the job is the task. Of two jobs
/// either might be it. The whole stack has to be seen, from a frame on the thread's own stack to the C library, where threads begin.
static __attribute__((noinline)) void learn_task_return(stack_bounds stack) {
    runner_search search = {0};
    if (!cmempool_has_task()) return;
    uint32_t count = cmempool_each_step(look_for_runner, &search, RUNNER_STEP_LIMIT);
    if (search.runners != 1 || count == RUNNER_STEP_LIMIT || search.above - stack.low >= stack.high - stack.low) return;
    // A program's own entry point lies outside of the C library, which called it from within.
    if (!cmempool_is_in_c_library(search.outermost[0]) && !cmempool_is_in_c_library(search.outermost[1])) return;
    __atomic_store_n(&task_return, search.runner, __ATOMIC_RELAXED);
}

// The job runner is not exported, so both are looked up in the symbol table proper of the image's file.
static bool is_named(const ElfW(Sym) *symbol, const char *names, size_t names_bytes, const char *name, size_t bytes) {
    return symbol->st_name + bytes <= names_bytes && memcmp(names + symbol->st_name, name, bytes) == 0;
}

static void find_job_runner_in(const char *path, uintptr_t base) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (file < 0) return;
    if (fstat(file, &status) == 0 && (size_t)status.st_size > sizeof(ElfW(Ehdr))) {
        size_t bytes = (size_t)status.st_size;
        char *image = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, file, 0);
        if (image != MAP_FAILED) {
            const ElfW(Ehdr) *header = (const ElfW(Ehdr) *)image;
            const ElfW(Shdr) *sections = (const ElfW(Shdr) *)(image + header->e_shoff);
            bool is_readable = header->e_shoff <= bytes && header->e_shnum <= (bytes - header->e_shoff) / sizeof *sections;
            for (int i = 0; is_readable && i < header->e_shnum; i++) {
                const ElfW(Shdr) *table = &sections[i];
                if (table->sh_type != SHT_SYMTAB || table->sh_link >= header->e_shnum) continue;
                const ElfW(Shdr) *strings = &sections[table->sh_link];
                if (table->sh_offset + table->sh_size > bytes || strings->sh_offset + strings->sh_size > bytes) continue;
                const ElfW(Sym) *symbols = (const ElfW(Sym) *)(image + table->sh_offset);
                const char *names = image + strings->sh_offset;
                for (size_t n = 0; n < table->sh_size / sizeof *symbols; n++) {
                    if (is_named(&symbols[n], names, strings->sh_size, JOB_RUNNER, sizeof JOB_RUNNER)) {
                        cmempool_job_runner_start = base + symbols[n].st_value;
                        cmempool_job_runner_bytes = symbols[n].st_size;
                    } else if (is_named(&symbols[n], names, strings->sh_size, TASK_GETTER, sizeof TASK_GETTER)) {
                        get_task = (task_getter)(base + symbols[n].st_value);
                    }
                }
            }
            munmap(image, bytes);
        }
    }
    close(file);
}

static int visit_for_job_runner(struct dl_phdr_info *info, size_t size, void *program_base) {
    (void)size;
    // The program itself has no name. Its table may be large and is searched only if the runtime is no library.
    if (info->dlpi_name == NULL || info->dlpi_name[0] == 0) *(uintptr_t *)program_base = info->dlpi_addr;
    else if (strstr(info->dlpi_name, "libswift_Concurrency")) find_job_runner_in(info->dlpi_name, info->dlpi_addr);
    return cmempool_job_runner_start != 0;
}

static void find_job_runner(void) {
    uintptr_t program_base = 0;
    dl_iterate_phdr(visit_for_job_runner, &program_base);
    if (cmempool_job_runner_start == 0) find_job_runner_in("/proc/self/exe", program_base);
}

uint32_t cmempool_append_async_parents(uintptr_t *context, uint64_t *frames, uint32_t count, uint32_t limit) {
    for (uint32_t turn = 0; turn < limit && is_async_context(context) && count < limit; turn++) {
        if (context[1]) frames[count++] = context[1] | CMEMPOOL_ASYNC_FRAME;
        context = (uintptr_t *)context[0];
    }
    return count;
}

// MARK: - Capture

uint32_t cmempool_walk(stack_word *frame, stack_bounds stack, uint32_t limit, uint64_t *addresses, frame_walk *walk) {
    *walk = (frame_walk){.outermost = frame};
    if (stack.high - stack.low < 2 * sizeof(uintptr_t)) return 0;
    if ((uintptr_t)frame < stack.low || (uintptr_t)frame > stack.high - 2 * sizeof(uintptr_t)) return 0;
    uint32_t count = 0;
    for (;;) {
        walk->outermost = frame;
        addresses[count++] = frame[1];
        if (returns_into_job_runner(frame[1])) {
            walk->context = cmempool_runs_task(frame[1]) ? (uintptr_t *)frame[-1] : NULL;
            walk->ends_in_runner = true;
            return count;
        }
        if (count == limit) {
            walk->is_truncated = true;
            return count;
        }
        uintptr_t next = frame[0];
        if (!is_next_frame(next, (uintptr_t)frame, stack.high - 2 * sizeof(uintptr_t))) return count;
        frame = (stack_word *)next;
    }
}

__attribute__((noinline)) uint32_t cmempool_unwind(stack_word *own, stack_bounds stack, uint64_t *frames, uint32_t limit) {
    uint64_t words[CMEMPOOL_FRAME_LIMIT + INNER_FRAMES];
    frame_walk walk;
    if (limit > CMEMPOOL_FRAME_LIMIT) limit = CMEMPOOL_FRAME_LIMIT;
    uint32_t walked = cmempool_walk(own, stack, limit, words, &walk);
    uint64_t runner = walk.ends_in_runner ? walk.outermost[1] : 0;
    if (runner && backtrace_function && __atomic_load_n(&task_return, __ATOMIC_RELAXED) == 0) {
        learn_task_return(stack);
        if (cmempool_runs_task(runner)) walk.context = (uintptr_t *)walk.outermost[-1];
    }
    if (!backtrace_function) {
        if (runner) walked--;
        memcpy(frames, words, walked * sizeof *frames);
        return runner ? cmempool_append_async_parents(walk.context, frames, walked, limit) : walked;
    }
    if (cmempool_has_tools()) cmempool_tools_silence(true);
    int found = backtrace_function((void **)words, (int)(limit + INNER_FRAMES));
    if (cmempool_has_tools()) cmempool_tools_silence(false);
    uint32_t all = found > 0 ? (uint32_t)found : 0, first = 0, count = 0;
    while (first < all && first < INNER_FRAMES && words[first] != own[1]) first++;
    // Not found: the capture's own frames stay, and a report cuts them by name.
    if (first == all || first == INNER_FRAMES) first = 0;
    for (uint32_t i = first; i < all && count < limit; i++) {
        // The runtime's own frames below an async function say nothing; the async parents do.
        if (runner && words[i] == runner) return cmempool_append_async_parents(walk.context, frames, count, limit);
        frames[count++] = words[i];
    }
    return count;
}

__attribute__((noinline)) uint32_t cmempool_capture(uint64_t *frames, uint32_t limit) {
    uint32_t count = cmempool_unwind(__builtin_frame_address(0), cmempool_this_stack(), frames, limit);
    // Not a tail call: this function's frame is where the stack begins.
    __asm__ volatile("");
    return count;
}

uint32_t cmempool_unwind_interrupted(
    const void *context, stack_bounds stack, bool runs_task, uint64_t *frames, uint32_t limit
) {
    ucontext_t registers = *(const ucontext_t *)context;
#if defined(__x86_64__)
    uintptr_t counter = (uintptr_t)registers.uc_mcontext.gregs[REG_RIP];
    uintptr_t top = (uintptr_t)registers.uc_mcontext.gregs[REG_RSP];
    stack_word *frame = (stack_word *)registers.uc_mcontext.gregs[REG_RBP];
#else
    uintptr_t counter = registers.uc_mcontext.pc;
    uintptr_t top = registers.uc_mcontext.sp;
    stack_word *frame = (stack_word *)registers.uc_mcontext.regs[29];
#endif
    // Any code may be interrupted, so the register may hold anything. Below the top lies what calls that have ended left.
    if (top < stack.low || top > stack.high) stack = NO_STACK_BOUNDS;
    else stack.low = top;
    uint64_t words[CMEMPOOL_FRAME_LIMIT];
    frame_walk walk;
    unw_cursor_t cursor;
    uint32_t count = 0;
    if (limit > CMEMPOOL_FRAME_LIMIT) limit = CMEMPOOL_FRAME_LIMIT;
    uint32_t walked = cmempool_walk(frame, stack, limit, words, &walk);
    uint64_t runner = walk.ends_in_runner ? walk.outermost[1] : 0;
    // Another thread's: whether this one runs a task says nothing.
    walk.context = runner && runs_task && is_task_return(runner) ? (uintptr_t *)walk.outermost[-1] : NULL;
    // One more: readers take every address for a return address and look one byte before it.
    frames[count++] = counter + 1;
    if (!init_interrupted || !step || !get_register ||
        init_interrupted(&cursor, (unw_context_t *)&registers, UNW_INIT_SIGNAL_FRAME) != 0) {
        for (uint32_t i = 0; i < walked && count < limit && words[i] != runner; i++) frames[count++] = words[i];
        return runner ? cmempool_append_async_parents(walk.context, frames, count, limit) : count;
    }
    while (count < limit && step(&cursor) > 0) {
        unw_word_t address;
        if (get_register(&cursor, UNW_REG_IP, &address) != 0 || address == 0) break;
        if (runner && address == runner) return cmempool_append_async_parents(walk.context, frames, count, limit);
        frames[count++] = address;
    }
    return count;
}

bool cmempool_has_unwinder(void) { return backtrace_function != NULL; }

uint32_t cmempool_each_step(bool (*visit)(uint64_t address, uintptr_t above, void *context), void *context, uint32_t limit) {
    unw_context_t registers;
    unw_cursor_t cursor;
    if (!init_local || !step || !get_register) return 0;
    if (READ_REGISTERS(&registers) != 0 || init_local(&cursor, &registers) != 0) return 0;
    uint32_t count = 0;
    if (cmempool_has_tools()) cmempool_tools_silence(true);
    while (count < limit) {
        unw_word_t address, above;
#if defined(__aarch64__)
        // The two words that the frame pointer points at lie anywhere in the frame; on x86-64 they end it.
        if (get_register(&cursor, UNW_AARCH64_X29, &above) != 0) break;
        above += 2 * sizeof(uintptr_t);
        if (step(&cursor) <= 0) break;
#else
        if (step(&cursor) <= 0 || get_register(&cursor, UNW_REG_SP, &above) != 0) break;
#endif
        if (get_register(&cursor, UNW_REG_IP, &address) != 0 || address == 0) break;
        count++;
        if (!visit(address, above, context)) break;
    }
    if (cmempool_has_tools()) cmempool_tools_silence(false);
    return count;
}

bool cmempool_function_name(uint64_t program_counter, char *name, size_t name_bytes) {
    Dl_info info;
    if (dladdr((void *)program_counter, &info) && info.dli_sname && strlen(info.dli_sname) < name_bytes) {
        strcpy(name, info.dli_sname);
        return true;
    }
    if (!init_local || !set_register || !get_name) return false;
    unw_context_t context;
    unw_cursor_t cursor;
    unw_word_t offset;
    if (READ_REGISTERS(&context) != 0 || init_local(&cursor, &context) != 0) return false;
    if (set_register(&cursor, UNW_REG_IP, program_counter) != 0) return false;
    if (get_name(&cursor, name, name_bytes, &offset) != 0) return false;
    // In a stripped library libunwind takes the nearest exported function below, however short that is. The loader knows those
    // with their sizes, and has just said that the address is in none.
    void *start = (void *)(program_counter - offset);
    return !(dladdr(start, &info) && info.dli_saddr == start);
}

// Exported by the Swift runtime; the result is allocated with malloc.
extern char *swift_demangle(const char *name, size_t name_bytes, char *output, size_t *output_bytes, uint32_t flags);

bool cmempool_demangle(const char *mangled, char *name, size_t name_bytes) {
    char *text = swift_demangle(mangled, strlen(mangled), NULL, NULL, 0);
    if (!text) return false;
    strncpy(name, text, name_bytes - 1);
    name[name_bytes - 1] = 0;
    free(text);
    return true;
}

// MARK: - Modules

typedef struct module_visit {
    bool (*visit)(const cmempool_module *, void *);
    void *context;
} module_visit;

static void read_build_id(const struct dl_phdr_info *info, const ElfW(Phdr) *segment, cmempool_module *module) {
    const char *at = (const char *)(info->dlpi_addr + segment->p_vaddr);
    const char *end = at + segment->p_memsz;
    while (at + sizeof(ElfW(Nhdr)) <= end) {
        const ElfW(Nhdr) *note = (const ElfW(Nhdr) *)at;
        const char *owner = at + sizeof *note;
        const char *description = owner + ((note->n_namesz + 3) & ~3u);
        if (description + note->n_descsz > end) return;
        if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 && memcmp(owner, "GNU", 4) == 0) {
            module->build_id_bytes = note->n_descsz < sizeof module->build_id ? note->n_descsz : sizeof module->build_id;
            memcpy(module->build_id, description, module->build_id_bytes);
            return;
        }
        at = description + ((note->n_descsz + 3) & ~3u);
    }
}

static int visit_module(struct dl_phdr_info *info, size_t size, void *argument) {
    (void)size;
    module_visit *visit = argument;
    cmempool_module module = {.base = info->dlpi_addr, .path = info->dlpi_name ? info->dlpi_name : ""};
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type == PT_NOTE && module.build_id_bytes == 0) read_build_id(info, segment, &module);
        if (segment->p_type != PT_LOAD || !(segment->p_flags & PF_X)) continue;
        uint64_t start = info->dlpi_addr + segment->p_vaddr;
        uint64_t end = start + segment->p_memsz;
        if (module.end == 0 || start < module.start) module.start = start;
        if (end > module.end) module.end = end;
    }
    return visit->visit(&module, visit->context) ? 0 : 1;
}

void cmempool_each_module(bool (*visit)(const cmempool_module *, void *), void *context) {
    module_visit state = {visit, context};
    dl_iterate_phdr(visit_module, &state);
}

static int read_counts(struct dl_phdr_info *info, size_t size, void *counts) {
    (void)size;
    *(image_counts *)counts = (image_counts){.loads = info->dlpi_adds, .unloads = info->dlpi_subs};
    return 1;
}

image_counts cmempool_image_counts(void) {
    image_counts counts = {0, 0};
    dl_iterate_phdr(read_counts, &counts);
    return counts;
}

uint64_t cmempool_module_epoch(void) {
    image_counts counts = cmempool_image_counts();
    return counts.loads + counts.unloads;
}
#endif

// Looks for bytes that changed although nobody may write them, at the speed of the C library's memcmp also in a debug build.
#include "CMempoolPlatform.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif
#include <string.h>

// What untouched bytes look like, to be compared with. Not each byte with the one before it, which takes no pattern: right after
// the bytes were set, such a load spans two stores that are still on their way, and waits for both.
#define PATTERN_BYTES 4096
static const uint8_t poison_pattern[PATTERN_BYTES] = {[0 ... PATTERN_BYTES - 1] = CMEMPOOL_POISON};
static const uint8_t canary_pattern[PATTERN_BYTES] = {[0 ... PATTERN_BYTES - 1] = CMEMPOOL_CANARY};
static const uint8_t zero_pattern[PATTERN_BYTES];

/// Of one of the three bytes.
static inline const uint8_t *pattern_of(uint8_t byte) {
    return byte == CMEMPOOL_POISON ? poison_pattern : byte == CMEMPOOL_CANARY ? canary_pattern : zero_pattern;
}

#if defined(__x86_64__)
// With what every processor of this kind has, memcmp is the fastest, which picks its instructions at run time; but it loads the
// pattern as well, and it is the loads that take the time.
typedef uint64_t block __attribute__((vector_size(32), aligned(1), may_alias));
bool cmempool_uses_wide_blocks;

static bool has_wide_blocks(void) {
    unsigned eax, ebx, ecx, edx;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & bit_OSXSAVE)) return false;
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    // The system keeps both halves of the registers.
    if ((low & 6) != 6) return false;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ebx & bit_AVX2);
}

void cmempool_use_wide_blocks(bool is_wanted) {
    cmempool_uses_wide_blocks = is_wanted && has_wide_blocks();
#if MEMPOOL_RECORDER
    cmempool_choose_capturers();
#endif
}

#if defined(__OPTIMIZE__)
// Without optimisation memcmp is faster than any loop.
__attribute__((constructor)) static void prefer_wide_blocks(void) { cmempool_use_wide_blocks(true); }
#endif

__attribute__((target("avx2"))) bool cmempool_is_uniform_wide(const void *start, uint8_t byte, size_t count) {
    const uint8_t *bytes = start;
    uint64_t word = byte * UINT64_C(0x0101010101010101);
    const block expected = {word, word, word, word};
    const uint8_t *end = bytes + count;
    block other = {0, 0, 0, 0}, others = {0, 0, 0, 0};
    for (; end - bytes >= 8 * (ptrdiff_t)sizeof expected; bytes += 8 * sizeof expected) {
        for (int i = 0; i < 8; i += 2) {
            other |= ((const block *)bytes)[i] ^ expected;
            others |= ((const block *)bytes)[i + 1] ^ expected;
        }
    }
#pragma clang loop unroll(disable)
    for (; end - bytes >= (ptrdiff_t)sizeof expected; bytes += sizeof expected) other |= *(const block *)bytes ^ expected;
    // What is left, and bytes before it once more.
    if (bytes < end) others |= *(const block *)(end - sizeof expected) ^ expected;
    other |= others;
    return _mm256_testz_si256((__m256i)other, (__m256i)other);
}
#else
bool cmempool_uses_wide_blocks;
void cmempool_use_wide_blocks(bool is_wanted) { (void)is_wanted; }
#endif

// Not inlined: what is usual needs no registers of its own then.
static __attribute__((noinline)) bool is_pattern(const uint8_t *bytes, uint8_t byte, size_t count) {
    const uint8_t *pattern = pattern_of(byte);
    for (; count > PATTERN_BYTES; bytes += PATTERN_BYTES, count -= PATTERN_BYTES) {
        if (memcmp(bytes, pattern, PATTERN_BYTES) != 0) return false;
    }
    return memcmp(bytes, pattern, count) == 0;
}

bool cmempool_is_uniform(const void *bytes, uint8_t byte, size_t count) {
#if defined(__x86_64__)
    if (cmempool_uses_wide_blocks && count >= 32) return cmempool_is_uniform_wide(bytes, byte, count);
#endif
    return is_pattern(bytes, byte, count);
}

size_t cmempool_first_other(const void *bytes, uint8_t byte, size_t count) {
    const uint8_t *start = bytes;
    if (count == 0 || cmempool_is_uniform(start, byte, count)) return count;
    size_t index = 0;
    // Bounded: somebody may be writing.
    while (index < count && start[index] == byte) index++;
    return index;
}

size_t cmempool_last_other(const void *bytes, uint8_t byte, size_t count) {
    const uint8_t *start = bytes;
    if (count == 0 || cmempool_is_uniform(start, byte, count)) return 0;
    while (count > 0 && start[count - 1] == byte) count--;
    return count;
}

void cmempool_poison_ends(void *base, size_t request, size_t limit, uint8_t byte) {
    memset(base, byte, limit / 2);
    memset((char *)base + request - limit / 2, byte, limit / 2);
}

bool cmempool_poisoned_ends_are_intact(const void *base, size_t request, size_t limit, uint8_t byte) {
    size_t half = limit / 2;
    return cmempool_is_uniform(base, byte, half) &&
        cmempool_is_uniform((const uint8_t *)base + request - half, byte, half);
}

void cmempool_fill_canary(void *bytes, size_t count) { memset(bytes, CMEMPOOL_CANARY, count); }

bool cmempool_zones_are_intact(const void *before, const void *behind) {
    return cmempool_zone_is_intact(behind) && cmempool_zone_is_intact(before);
}

bool cmempool_slack_is_intact(const void *base, size_t request, size_t capacity, size_t limit, bool has_zones) {
    const uint8_t *start = base;
    size_t slack = capacity - request;
    if (!cmempool_is_uniform(start + request, CMEMPOOL_CANARY, slack < limit ? slack : limit)) return false;
    return !has_zones || cmempool_zones_are_intact(start - CMEMPOOL_ZONE_BYTES, start + capacity);
}

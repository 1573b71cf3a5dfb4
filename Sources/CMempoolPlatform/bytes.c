// Looks for bytes that changed although nobody may write them, at the speed of the C library's memcmp also in a debug build.
#include "CMempoolPlatform.h"

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

/// Whether all bytes are `byte`. Not inlined, here and below: what is usual needs no registers of its own then.
static __attribute__((noinline)) bool is_uniform(const uint8_t *bytes, uint8_t byte, size_t count) {
    const uint8_t *pattern = pattern_of(byte);
    for (; count > PATTERN_BYTES; bytes += PATTERN_BYTES, count -= PATTERN_BYTES) {
        if (memcmp(bytes, pattern, PATTERN_BYTES) != 0) return false;
    }
    return memcmp(bytes, pattern, count) == 0;
}

size_t cmempool_first_other(const void *bytes, uint8_t byte, size_t count) {
    const uint8_t *start = bytes;
    if (count == 0 || is_uniform(start, byte, count)) return count;
    size_t index = 0;
    // Bounded: somebody may be writing.
    while (index < count && start[index] == byte) index++;
    return index;
}

size_t cmempool_last_other(const void *bytes, uint8_t byte, size_t count) {
    const uint8_t *start = bytes;
    if (count == 0 || is_uniform(start, byte, count)) return 0;
    while (count > 0 && start[count - 1] == byte) count--;
    return count;
}

static __attribute__((noinline)) void poison_ends(char *base, size_t request, size_t limit, uint8_t byte) {
    memset(base, byte, limit / 2);
    memset(base + request - limit / 2, byte, limit / 2);
}

void cmempool_poison(void *base, size_t request, size_t limit, uint8_t byte) {
    if (__builtin_expect(request > limit, 0)) {
        poison_ends(base, request, limit, byte);
    } else {
        memset(base, byte, request);
    }
}

static __attribute__((noinline)) bool ends_are_intact(const uint8_t *start, size_t request, size_t half, uint8_t byte) {
    return is_uniform(start, byte, half) && is_uniform(start + request - half, byte, half);
}

bool cmempool_poison_is_intact(const void *base, size_t request, size_t limit, uint8_t byte) {
    if (__builtin_expect(request > limit, 0)) return ends_are_intact(base, request, limit / 2, byte);
    if (__builtin_expect(request > PATTERN_BYTES, 0)) return is_uniform(base, byte, request);
    return memcmp(base, pattern_of(byte), request) == 0;
}

void cmempool_fill_slack(void *base, size_t request, size_t capacity, size_t limit) {
    size_t slack = capacity - request;
    if (slack > 0) memset((char *)base + request, CMEMPOOL_CANARY, slack < limit ? slack : limit);
}

bool cmempool_surroundings_are_intact(const void *base, size_t request, size_t capacity, size_t limit, bool has_zones) {
    const uint8_t *start = base;
    if (request < capacity) {
        size_t slack = capacity - request;
        if (!is_uniform(start + request, CMEMPOOL_CANARY, slack < limit ? slack : limit)) return false;
    }
    if (!has_zones) return true;
    return cmempool_zone_is_intact(start + capacity) && cmempool_zone_is_intact(start - CMEMPOOL_ZONE_BYTES);
}

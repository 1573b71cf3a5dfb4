// Looks for bytes that changed although nobody may write them, at the speed of the C library's memcmp also in a debug build.
#include "CMempoolPlatform.h"

#include <string.h>

/// Whether all bytes are alike: each equals the one before it.
static bool is_uniform(const uint8_t *bytes, uint8_t byte, size_t count) {
    return bytes[0] == byte && memcmp(bytes, bytes + 1, count - 1) == 0;
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

/* The pattern: pseudo-random bytes, the same in every run. */
#include "tools/pattern.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A 32-bit mix of the position (the finalizer of MurmurHash3). */
static uint8_t byte_at(uint32_t position)
{
    position ^= position >> 16;
    position *= UINT32_C(0x85ebca6b);
    position ^= position >> 13;
    position *= UINT32_C(0xc2b2ae35);
    return (uint8_t)(position >> 24);
}

int pattern_init(struct pattern *pattern, size_t piece_max)
{
    size_t len = PATTERN_PERIOD + piece_max;
    uint8_t *bytes = malloc(len);

    if (bytes == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < len; i++)
        bytes[i] = byte_at((uint32_t)(i % PATTERN_PERIOD));
    *pattern = (struct pattern){.bytes = bytes, .len = len};
    return 0;
}

void pattern_finish(struct pattern *pattern)
{
    free(pattern->bytes);
    pattern->bytes = NULL;
}

static size_t first_difference(const uint8_t *expected, const uint8_t *data, size_t len)
{
    size_t i = 0;

    while (i < len && expected[i] == data[i])
        i++;
    return i;
}

size_t pattern_compare(const struct pattern *pattern, size_t position, const uint8_t *data, size_t len)
{
    size_t compared = 0;

    assert(position < PATTERN_PERIOD);
    while (compared < len) {
        size_t stretch = pattern->len - position < len - compared ? pattern->len - position : len - compared;

        if (memcmp(pattern->bytes + position, data + compared, stretch) != 0)
            return compared + first_difference(pattern->bytes + position, data + compared, stretch);
        compared += stretch;
        position = pattern_advance(position, stretch);
    }
    return len;
}

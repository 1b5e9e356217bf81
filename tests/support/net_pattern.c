/* Bytes that tell where they belong: see net_pattern.h. */
#include "tests/support/net_pattern.h"

#include <pthread.h>
#include <string.h>

#include "tests/support/random.h"

enum {
    PERIOD = 65521, /* a prime: no power of two that gets lost brings the pattern back in step */
    LANE_STEP = 7919,
};

static uint8_t table[2 * PERIOD];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void fill_table(void)
{
    uint64_t state = 1;

    for (size_t i = 0; i < PERIOD; i++) {
        table[i] = (uint8_t)random_next(&state);
        table[i + PERIOD] = table[i];
    }
}

static const uint8_t *row(uint32_t lane, uint64_t offset)
{
    pthread_once(&table_once, fill_table);
    return &table[(offset + (uint64_t)lane * LANE_STEP) % PERIOD];
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

void pattern_fill(void *data, uint32_t lane, uint64_t offset, size_t len)
{
    uint8_t *bytes = data;

    for (size_t done = 0, part; done < len; done += part) {
        part = smaller(len - done, PERIOD);
        memcpy(bytes + done, row(lane, offset + done), part);
    }
}

bool pattern_matches(const void *data, uint32_t lane, uint64_t offset, size_t len)
{
    const uint8_t *bytes = data;

    for (size_t done = 0, part; done < len; done += part) {
        part = smaller(len - done, PERIOD);
        if (memcmp(bytes + done, row(lane, offset + done), part) != 0)
            return false;
    }
    return true;
}

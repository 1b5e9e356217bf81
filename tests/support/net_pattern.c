/* Bytes that tell where they belong: see net_pattern.h. */
#include "tests/support/net_pattern.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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
        table[i] = (uint8_t)seed_next(&state, 256);
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

uint64_t seed_announce(void)
{
    const char *given = getenv("SLUICE_TEST_SEED");
    struct timespec now;
    uint64_t seed;

    clock_gettime(CLOCK_REALTIME, &now);
    seed = given ? strtoull(given, NULL, 0) : (uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec << 20;
    fprintf(stderr, "SLUICE_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

uint64_t seed_next(uint64_t *seed, uint64_t limit)
{
    uint64_t mixed = *seed += UINT64_C(0x9e3779b97f4a7c15);

    mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
    return (mixed ^ mixed >> 31) % limit;
}

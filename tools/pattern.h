/*
 * Bytes that tell where they belong: an endless stream in which a piece that is lost, doubled or swapped shows.
 *
 * The stream repeats after a prime number of bytes, so that no block of a usual size is a multiple of it. One stretch
 * of memory holds a whole round and some more; every piece of the stream up to `piece_max` lies in it unbroken.
 */
#ifndef TOOLS_PATTERN_H
#define TOOLS_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PATTERN_PERIOD ((size_t)65521)

struct pattern {
    uint8_t *bytes;
    size_t len;
};

/* Returns 0, or -ENOMEM. */
int pattern_init(struct pattern *pattern, size_t piece_max);
void pattern_finish(struct pattern *pattern);

/* Where `position`, from 0 to PATTERN_PERIOD - 1, goes after `len` bytes. */
static inline size_t pattern_advance(size_t position, size_t len)
{
    return (position + len) % PATTERN_PERIOD;
}

/*
 * Compares `len` bytes with the stream from `position` on. Returns how many agree: `len`, or the index of the first
 * that does not.
 */
size_t pattern_compare(const struct pattern *pattern, size_t position, const uint8_t *data, size_t len);

#endif

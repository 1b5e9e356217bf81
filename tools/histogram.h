/*
 * A histogram of times: each value is known to better than 0.1 %, in fixed memory, and recorded in constant time.
 *
 * Slots are as wide as the values they hold need: one wide up to 2,047, then 1,024 of them for each doubling. What
 * never ended can be counted too: it is taken to be slower than everything that did.
 */
#ifndef TOOLS_HISTOGRAM_H
#define TOOLS_HISTOGRAM_H

#include <stdbool.h>
#include <stdint.h>

#define HISTOGRAM_DOUBLING_BITS 10
#define HISTOGRAM_VALUE_BITS    42 /* values from 2^42 on (73 minutes in nanoseconds) share the last slot */
#define HISTOGRAM_SLOTS         ((HISTOGRAM_VALUE_BITS - HISTOGRAM_DOUBLING_BITS + 1) << HISTOGRAM_DOUBLING_BITS)

/* So many values must lie above a percentile for it to be told. */
#define HISTOGRAM_TAIL_MIN 10

struct histogram {
    uint64_t count; /* values recorded */
    uint64_t lost;  /* values that never came, slower than all others */
    uint64_t min;
    uint64_t max;
    uint64_t slots[HISTOGRAM_SLOTS];
};

void histogram_init(struct histogram *histogram);
void histogram_record(struct histogram *histogram, uint64_t value);
void histogram_record_lost(struct histogram *histogram, uint64_t count);
void histogram_merge(struct histogram *histogram, const struct histogram *other);

/*
 * The value that `per_ten_thousand` of all values do not exceed (9,990 is the 99.9th percentile). Returns false, and
 * leaves `value` alone, if too few values lie above it to say, or if it is one of those that never came.
 */
bool histogram_percentile(const struct histogram *histogram, uint32_t per_ten_thousand, uint64_t *value);

/* The greatest value. Returns false if there is none, or if some never came. */
bool histogram_maximum(const struct histogram *histogram, uint64_t *value);

#endif

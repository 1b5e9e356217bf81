/* The histogram's arithmetic. */
#include "tools/histogram.h"

#include <assert.h>
#include <string.h>

#define DOUBLING_SLOTS   (UINT64_C(1) << HISTOGRAM_DOUBLING_BITS)
#define VALUE_LIMIT      (UINT64_C(1) << HISTOGRAM_VALUE_BITS)
#define PER_TEN_THOUSAND 10000

void histogram_init(struct histogram *histogram)
{
    memset(histogram, 0, sizeof *histogram);
    histogram->min = UINT64_MAX;
}

static uint32_t slot_of(uint64_t value)
{
    uint32_t shift;

    if (value < 2 * DOUBLING_SLOTS)
        return (uint32_t)value;
    if (value >= VALUE_LIMIT)
        return HISTOGRAM_SLOTS - 1;
    shift = 63 - (uint32_t)__builtin_clzll(value) - HISTOGRAM_DOUBLING_BITS;
    return (shift << HISTOGRAM_DOUBLING_BITS) + (uint32_t)(value >> shift);
}

/* The greatest value that falls into `slot`. */
static uint64_t slot_top(uint32_t slot)
{
    uint32_t shift;

    if (slot < 2 * DOUBLING_SLOTS)
        return slot;
    shift = (slot >> HISTOGRAM_DOUBLING_BITS) - 1;
    return ((uint64_t)(slot - (shift << HISTOGRAM_DOUBLING_BITS) + 1) << shift) - 1;
}

void histogram_record(struct histogram *histogram, uint64_t value)
{
    histogram->slots[slot_of(value)]++;
    histogram->count++;
    if (value < histogram->min)
        histogram->min = value;
    if (value > histogram->max)
        histogram->max = value;
}

void histogram_record_lost(struct histogram *histogram, uint64_t count)
{
    histogram->lost += count;
}

void histogram_merge(struct histogram *histogram, const struct histogram *other)
{
    for (uint32_t slot = 0; slot < HISTOGRAM_SLOTS; slot++)
        histogram->slots[slot] += other->slots[slot];
    histogram->count += other->count;
    histogram->lost += other->lost;
    if (other->min < histogram->min)
        histogram->min = other->min;
    if (other->max > histogram->max)
        histogram->max = other->max;
}

/* The top of the slot in which the `rank`th value from below lies, but no more than the greatest value. */
static uint64_t value_at(const struct histogram *histogram, uint64_t rank)
{
    uint64_t passed = 0;
    uint32_t slot = 0;

    assert(rank >= 1);
    assert(rank <= histogram->count);
    while ((passed += histogram->slots[slot]) < rank)
        slot++;
    assert(slot < HISTOGRAM_SLOTS);
    if (slot == HISTOGRAM_SLOTS - 1 || slot_top(slot) > histogram->max)
        return histogram->max;
    return slot_top(slot);
}

bool histogram_percentile(const struct histogram *histogram, uint32_t per_ten_thousand, uint64_t *value)
{
    uint64_t total = histogram->count + histogram->lost;
    uint64_t rank = (total * per_ten_thousand + PER_TEN_THOUSAND - 1) / PER_TEN_THOUSAND;

    assert(per_ten_thousand > 0);
    assert(per_ten_thousand < PER_TEN_THOUSAND);
    if (total - rank < HISTOGRAM_TAIL_MIN || rank > histogram->count)
        return false;
    *value = value_at(histogram, rank);
    return true;
}

bool histogram_maximum(const struct histogram *histogram, uint64_t *value)
{
    if (histogram->count == 0 || histogram->lost > 0)
        return false;
    *value = histogram->max;
    return true;
}

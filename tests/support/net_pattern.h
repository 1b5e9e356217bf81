/* Bytes that tell where they belong: a byte lost, doubled, moved or from another stream is seen. */
#ifndef SUPPORT_NET_PATTERN_H
#define SUPPORT_NET_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Writes the bytes that stand from `offset` on in stream number `lane`. [any thread] */
void pattern_fill(void *data, uint32_t lane, uint64_t offset, size_t len);

/* True exactly when `data` is what pattern_fill() writes. [any thread] */
bool pattern_matches(const void *data, uint32_t lane, uint64_t offset, size_t len);

/* A seed from the variable SLUICE_TEST_SEED, or from the clock; printed, so that a run can be repeated. */
uint64_t seed_announce(void);

/* The next of a row of random numbers (splitmix64): below `limit`, which is not 0. */
uint64_t seed_next(uint64_t *seed, uint64_t limit);

#endif

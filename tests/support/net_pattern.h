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

#endif

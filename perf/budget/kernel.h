/*
 * A kernel in memory, put under the library's calls of liburing: sockets on which a peer that is always ready asks, and
 * takes whatever it is sent. Each run of it goes the same way, instruction by instruction.
 */
#ifndef PERF_BUDGET_KERNEL_H
#define PERF_BUDGET_KERNEL_H

#include <stddef.h>
#include <stdint.h>

/* What arrives from now on, whenever the engine waits: `bytes`, `count` times, each on the next socket that is read. */
void kernel_bring(const void *bytes, size_t len, uint32_t count);

/* Bytes that it took, since it was last asked. */
uint64_t kernel_taken(void);

/* A connected socket: for its number, and because the library asks the kernel outside what it is. */
int kernel_socket(void);

#endif

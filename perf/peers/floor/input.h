/* What arrives: it is cut into messages or left as it lies, and queued to where it goes. */
#ifndef PERF_FLOOR_INPUT_H
#define PERF_FLOOR_INPUT_H

#include <liburing.h>

/* Bytes of a receive, or its end, or both. */
void take_receive(unsigned slot, const struct io_uring_cqe *completion);

/*
 * Receives again for as many as there are buffers, and for the rest in a later turn. To ask for all at once would be to
 * be refused by most, again and again.
 */
void feed_starved(void);

#endif

/* The listener: who is accepted, and, when forwarding, is joined with a connection to the upstream. */
#ifndef PERF_FLOOR_LISTENER_H
#define PERF_FLOOR_LISTENER_H

#include <liburing.h>

/* The completions of the listener's accept, and of the connecting that follows it. */
void take_accept(const struct io_uring_cqe *completion);
void take_connect(unsigned slot, int result);

#endif

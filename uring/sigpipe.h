/* Keeps the SIGPIPE of our own writes from the host program, whatever it does about its own. */
#ifndef URING_SIGPIPE_H
#define URING_SIGPIPE_H

#include <signal.h>
#include <stdbool.h>

struct sigpipe_guard {
    sigset_t mask;    /* as it was */
    bool was_pending; /* then it is not ours to consume */
};

/* Between the two, this thread's writes to pipes may fail with EPIPE and nobody hears a signal. */
void sigpipe_block(struct sigpipe_guard *guard);
void sigpipe_unblock(const struct sigpipe_guard *guard);

#endif

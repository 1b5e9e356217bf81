/* SIGPIPE: blocked for a while, and consumed if it came meanwhile. */
#include "uring/sigpipe.h"

#include <time.h>

static void set_sigpipe(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGPIPE);
}

void sigpipe_block(struct sigpipe_guard *guard)
{
    sigset_t sigpipe;
    sigset_t pending;

    set_sigpipe(&sigpipe);
    sigpending(&pending);
    guard->was_pending = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &sigpipe, &guard->mask);
}

void sigpipe_unblock(const struct sigpipe_guard *guard)
{
    sigset_t sigpipe;

    set_sigpipe(&sigpipe);
    if (!guard->was_pending)
        sigtimedwait(&sigpipe, NULL, &(struct timespec){0}); /* does not wait; finds none, most of the time */
    pthread_sigmask(SIG_SETMASK, &guard->mask, NULL);
}

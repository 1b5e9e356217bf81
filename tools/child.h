/*
 * A server that is a program of its own, run for a while: with settings in its environment, until it is told to end.
 *
 * It says on its standard output where it listens, in a first line "listening on ADDRESS", as `sluice serve` does.
 */
#ifndef TOOLS_CHILD_H
#define TOOLS_CHILD_H

#include <stddef.h>
#include <sys/types.h>
#include <time.h>

#include <sluice/address.h>
#include <sluice/options.h>

struct child {
    pid_t pid;
    int output;                       /* what it prints is read to the end of the first line, and then stays unread */
    char address[SLUICE_ADDRESS_MAX]; /* where it listens */
    clockid_t clock;                  /* its CPU time */
};

/* Starts it and waits for its line. Returns 0, or -errno with nothing running and one line in `why`. */
int child_start(struct child *child, char *const *command, const struct sluice_engine_options *options, char *why,
                size_t why_size);

/* Tells it to end, and ends it if it does not. */
void child_stop(struct child *child);

#endif

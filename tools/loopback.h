/* An echo server on a thread of its own, over loopback, for a load on this thread. */
#ifndef TOOLS_LOOPBACK_H
#define TOOLS_LOOPBACK_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include <sluice/address.h>
#include <sluice/group.h>
#include <sluice/options.h>

struct loopback {
    struct sluice_group *group;
    char address[SLUICE_ADDRESS_MAX]; /* where it listens */
    clockid_t clock;                  /* CPU time of its thread */
};

/*
 * Server and load share no CPU if there are two, nor does the server with its SLUICE_SQPOLL thread if there are three:
 * sets where each thread runs, unless the settings of the server say already where that is to be.
 */
void loopback_place(struct sluice_engine_options *server, struct sluice_engine_options *load);

/* True exactly when there is a CPU for SLUICE_SQPOLL, beside those of server and load. */
bool loopback_has_spare_cpu(void);

/* Returns 0, or -errno with nothing running and one line in `why`. */
int loopback_start(struct loopback *loopback, const struct sluice_engine_options *server, bool is_unix, char *why,
                   size_t why_size);

void loopback_stop(struct loopback *loopback);

#endif

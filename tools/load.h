/*
 * A load generator: connections to an echo server, messages over them, and how long the answers take.
 *
 * In a closed loop each connection keeps `depth` messages outstanding: the next one leaves when an answer is there. In
 * an open loop messages leave by a schedule that no answer can hold up; latency counts from when a message was due,
 * not from when it could be sent. Messages that get no answer count as slower than all others.
 *
 * Every answer is compared with what was sent.
 */
#ifndef TOOLS_LOAD_H
#define TOOLS_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <sluice/engine.h>

#include "tools/arguments.h"
#include "tools/histogram.h"

struct load;

struct load_options {
    const char *address;
    uint64_t connections;
    uint64_t message_size;
    uint64_t depth; /* closed loop: messages outstanding on each connection */
    uint64_t rate;  /* open loop: messages a second over all connections; 0: closed loop */
    uint64_t warmup_ns;
    uint64_t duration_ns;
    const clockid_t *peer_clock; /* counts the CPU time of the server, a thread or a process; NULL if nobody asks */
};

/* What a load starts from, and the rows of a verb's table that change it. */
extern const struct load_options load_defaults;
extern const char load_notes[]; /* for the help text */
#define LOAD_ARGUMENTS 6
void load_arguments(struct load_options *options, struct argument rows[LOAD_ARGUMENTS]);

#define LOAD_FAILURE_MAX 160

struct load_result {
    uint64_t measured_ns;           /* how long it measured; 0 if it never came to that */
    uint64_t messages;              /* answers that came in that time */
    uint64_t unanswered;            /* messages that got no answer at all */
    uint64_t lost_connections;      /* that ended before we ended them */
    uint64_t cpu_ns;                /* CPU time of our thread, in that time */
    uint64_t peer_cpu_ns;           /* CPU time of the server's, if its clock was given */
    struct histogram latency;       /* of the messages sent, or due, in that time */
    struct histogram delay;         /* open loop: how much later than due they were sent */
    char failure[LOAD_FAILURE_MAX]; /* the first thing that went wrong, in words; empty if nothing did */
};

/* `options` is copied, its strings are not. Returns 0, or -ENOMEM. */
int load_create(struct sluice_engine *engine, const struct load_options *options, struct load **load);

/*
 * Connects, warms up, measures and waits for the last answers, all on the engine, which is then stopped. If somebody
 * else stops the engine it measures no longer, and still waits for the last answers.
 * Returns 0, also when load_result() tells of a failure, or -errno if the engine failed.
 */
int load_run(struct load *load);

const struct load_result *load_result(const struct load *load);

/* Writes what it is doing right now. */
void load_describe(struct load *load, char *line, size_t line_size);

/* After its engine has been destroyed. NULL is allowed. */
void load_destroy(struct load *load);

#endif

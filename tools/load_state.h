/* The inside of a load: what load.c (the run) and load_connection.c (one connection) share. */
#ifndef TOOLS_LOAD_STATE_H
#define TOOLS_LOAD_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sluice/buffer.h>
#include <sluice/engine.h>
#include <sluice/stream.h>

#include "tools/load.h"
#include "tools/pattern.h"
#include "tools/progress.h"
#include "tools/schedule.h"

/* Messages are sent together as long as they have no more bytes than these; a larger one is sent alone. */
#define LOAD_SEND_MAX ((size_t)65536)

enum load_phase {
    LOAD_OPENING,   /* connections are being opened; nothing is sent */
    LOAD_WARMING,   /* messages are sent and not counted */
    LOAD_MEASURING, /* messages are sent and counted */
    LOAD_DRAINING,  /* no message is added; those that were due are still sent and answered */
    LOAD_DONE,
};

struct load_connection {
    struct load *load;
    uint64_t index;
    struct sluice_stream *stream; /* NULL before it is opened and after it has closed */
    uint64_t due;                 /* messages that should have been sent by now */
    uint64_t sent;
    uint64_t answered;
    uint64_t measured_from; /* the first message that counts */
    uint64_t *sent_ns;      /* closed loop: when the outstanding messages were sent, by their number modulo depth */
    size_t send_position;   /* in the pattern */
    size_t answer_position; /* in the pattern */
    size_t partial;         /* bytes of the next answer that are here */
    bool is_full;           /* True exactly when on_drain has to come before the next send. */
};

struct load {
    struct sluice_engine *engine;
    struct load_options options;
    enum load_phase phase;
    struct load_connection *connections;
    uint64_t *sent_ns; /* one stretch for all connections */
    uint64_t opening;  /* connections started and not yet open */
    uint64_t opened;   /* connections that have been open */
    uint64_t awaited;  /* while draining: answers still to come */
    uint64_t assigned; /* open loop: messages of the schedule that were given to connections */
    struct schedule schedule;
    struct sluice_timer phase_timer;
    struct sluice_timer schedule_timer;
    struct pattern pattern;
    struct sluice_buffer pattern_buffer; /* lets pieces of the pattern be sent without a copy */
    uint64_t measuring_since_ns;
    uint64_t cpu_before_ns; /* CPU times when measuring began */
    uint64_t peer_cpu_before_ns;
    uint64_t answers; /* since the start, counted or not */
    struct progress_rate answer_rate;
    struct load_result result;
};

static inline bool load_is_open_loop(const struct load *load)
{
    return load->options.rate > 0;
}

/* -- load_connection.c --------------------------------------------------------------------------------------- */

/* Starts to connect. Returns as sluice_connect(). */
int load_connection_open(struct load_connection *connection);

/* Sends what is due, as long as there is room. */
void load_connection_pump(struct load_connection *connection);

/* -- load.c: what connections tell the run ------------------------------------------------------------------- */

void load_opened(struct load *load);

/* `count` more messages have come back whole. Returns true if as many new ones are to follow. */
bool load_answered(struct load *load, uint64_t count);

/* A connection has ended by itself. */
void load_lost(struct load_connection *connection, const char *why);

/* Remembers what went wrong, if it is the first thing. */
__attribute__((format(printf, 2, 3))) void load_complain(struct load *load, const char *format, ...);

/* The run is over. */
void load_finish(struct load *load);

#endif

/* A peer that is not ours: reads and writes a simulated socket in its own manner, also a bad one. */
#ifndef SIM_PLAIN_H
#define SIM_PLAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/sim.h"
#include "tests/sim/user.h"

struct plain {
    struct sim *sim;
    struct user *user; /* at the other end */
    int fd;            /* -1: not connected yet, or closed */
    int listener;      /* -1: it connects, or has accepted */
    uint64_t pattern;
    uint64_t to_send;
    uint64_t sent;
    uint64_t heard;
    uint64_t next_ns;
    bool is_rude;      /* may reset, and close with unread bytes */
    bool reads_slowly; /* a byte at a time */
    bool writes_slowly;
    bool stalls;   /* stops doing anything for a while */
    bool talks_on; /* sends what it has to, whoever closes meanwhile */
    bool is_lost;
    bool reads_on; /* in a script: whatever arrives */
    bool has_finished;
    bool has_heard_end;
    bool was_rude;
};

void plain_init(struct plain *plain, struct sim *sim, struct user *user);
enum plain_act {
    PLAIN_WRITES,
    PLAIN_READS, /* from now on */
    PLAIN_FINISHES,
    PLAIN_CLOSES,
    PLAIN_RESETS,
};

/* In a script: what it is told to do. */
void plain_do(struct plain *plain, enum plain_act what);
/* Does what it does now, if it is time. */
void plain_step(struct plain *plain);
/* From now on it reads to the end, and closes. */
void plain_wind_up(struct plain *plain);

#endif

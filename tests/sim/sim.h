/*
 * A simulated machine: one clock, one source of randomness, and what the two decide.
 *
 * Everything that happens in a run follows from its seed. The engines of a run are real; below their seam stand
 * simulated rings (kernel.c) over simulated sockets and pipes (network.c).
 */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/support/random.h"

struct network;
struct ring;
struct sluice_engine;
struct story;

/* Things that go wrong, each with its own probability in a run: one in `odds`, 0 for never (swarm testing). */
enum fault {
    FAULT_SHORT_SEND,      /* a send takes less than fits */
    FAULT_SHORT_RECEIVE,   /* a receive brings less than is there */
    FAULT_NO_ROOM,         /* an inline send finds no room though there is some */
    FAULT_SEND_ERROR,      /* a send fails: the peer or the network has reset */
    FAULT_RECEIVE_ERROR,   /* a receive does */
    FAULT_CONNECT_ERROR,   /* a connect does: refused, unreachable, timed out */
    FAULT_ACCEPT_ERROR,    /* an accept does: no descriptors, aborted by the peer */
    FAULT_NO_BUFFER,       /* a receive finds no buffer though there is one */
    FAULT_MULTISHOT_ENDS,  /* a multishot request ends with a result */
    FAULT_LATE_COMPLETION, /* a result is posted later than it could be */
    FAULT_INTERRUPT,       /* a wait ends for a signal */
    FAULT_CANCEL_LOSES,    /* a cancel comes too late: the request ends by itself */
    FAULT_CANCEL_MISSES,   /* a cancel does not find its request */
    FAULT_NO_MEMORY,       /* an allocation fails */
    FAULT_COUNT,
};

struct sim {
    uint64_t seed;
    uint64_t random; /* the state of randomness */
    uint64_t now_ns;
    uint64_t operations; /* requests and calls that the kernel side answered */
    uint32_t odds[FAULT_COUNT];
    bool is_traced;
    bool is_quiet; /* no more faults: everything should come to its end */
    struct network *network;
    struct story *story;
};

/* True with the probability of the fault. */
bool sim_chance(struct sim *sim, enum fault fault);
/* 0 to limit - 1. */
uint64_t sim_below(struct sim *sim, uint64_t limit);

/* One line of the story, if it is told. */
void sim_trace(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A promise is broken: tells which, and how to replay the run; does not return. */
_Noreturn void sim_violated(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The next moment at which something is due, UINT64_MAX for none; and doing what is due now. */
uint64_t sim_next_event(const struct sim *sim);
void sim_advance(struct sim *sim, uint64_t to_ns);

/* -- kernel.c ------------------------------------------------------------------------------------------------ */

/* A ring on this machine; NULL if there is no memory. */
struct ring *sim_ring_create(struct sim *sim, uint32_t entries, uint32_t completion_entries);
/* Requests that are in a ring's hands. */
uint32_t sim_ring_in_flight(const struct ring *ring);
/* Completions are there, or would be if it was entered. */
bool sim_ring_is_ready(struct ring *ring);
/* When something delayed in the ring is due. */
uint64_t sim_ring_next_event(const struct ring *ring);
/* The engine whose streams the ring checks. */
void sim_ring_watch(struct ring *ring, struct sluice_engine *engine);

/* -- Called from kernel.c, at points where another thread could run ------------------------------------------ */

void story_other_threads(struct story *story);

#endif

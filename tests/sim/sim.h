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

#include "tests/sim/coverage.h"
#include "tests/support/random.h"

struct network;
struct ring;
struct sluice_engine;
struct sluice_stream;
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
    FAULT_BACKLOG_FULL,    /* a connect has to wait */
    FAULT_NO_BUFFER,       /* a receive finds no buffer though there is one */
    FAULT_MULTISHOT_ENDS,  /* a multishot request ends with a result */
    FAULT_LATE_COMPLETION, /* a result is posted later than it could be */
    FAULT_INTERRUPT,       /* a wait ends for a signal */
    FAULT_CANCEL_LOSES,    /* a cancel comes too late: the request ends by itself */
    FAULT_CANCEL_MISSES,   /* a cancel does not find its request */
    FAULT_SEND_AGAIN,      /* a send is interrupted before it took a byte */
    FAULT_LATE_NOTICE,     /* the notification of a zero-copy send takes its time */
    FAULT_NO_DESCRIPTOR,   /* a socket cannot be opened */
    FAULT_PEER_LOST,       /* a plain peer vanishes without a word */
    FAULT_NO_MEMORY,       /* an allocation fails */
    FAULT_COUNT,
};

/* Promises that the simulator itself breaks when asked to, to see that the checks notice. */
enum broken {
    BROKEN_NOTHING,
    BROKEN_OPCODE, /* the engine submits a request that nobody knows */
    BROKEN_FLAG,   /* …or one with an unknown flag */
    BROKEN_BYTE,   /* the network changes a byte */
    BROKEN_ORDER,  /* …or swaps two */
    BROKEN_DRAIN,  /* a user is told on_drain and believes that it was not owed one */
    BROKEN_LEAK,   /* a block of memory is never freed */
    BROKEN_COUNT,
};

/* What a run leaves out, to make a story shorter; see shrink.h. All zero: nothing. */
struct limits {
    uint64_t without;    /* bits: faults, then habits */
    uint32_t engines;    /* at most; 0: as many as the seed wants */
    uint32_t keep;       /* bits of the connections that stay; 0: all */
    uint32_t layers;     /* at most, plus 1 */
    uint64_t bytes;      /* each user sends at most */
    uint64_t curtain_ns; /* everybody begins to end by then */
};

/* The one thing that goes wrong in a run that is not random; see torture.h. */
struct torture {
    uint64_t allocation;  /* the number of the allocation that fails, from 1 */
    bool is_lasting;      /* and so do all behind it */
    uint64_t operation;   /* the number of the operation of the kernel that goes wrong, from 1 */
    uint32_t variant;     /* how, from 1 */
    uint64_t operations;  /* counted so far */
    uint64_t allocations; /* in all, once the run is over */
    uint32_t variants;    /* in how many ways that one can go wrong */
    const char *what;     /* it was */
};

struct sim {
    uint64_t seed;
    uint64_t random; /* the state of randomness */
    uint64_t now_ns;
    uint64_t operations; /* requests and calls that the kernel side answered */
    uint32_t odds[FAULT_COUNT];
    uint32_t once; /* bits: faults that happen the next time they can */
    bool is_traced;
    bool is_quiet;    /* no more faults: everything should come to its end */
    bool is_scripted; /* nothing is left to chance */
    struct limits limits;
    struct torture torture;
    enum broken broken;
    struct network *network;
    struct story *story;
    uintptr_t stack;    /* where it stood when the story began */
    const char *replay; /* how to see this run again, behind the name of the program */
};

/* The run that is on, as sim->replay; for one that a signal ends. */
extern const char *sim_running;

/* The name of a fault, as in --without. */
const char *sim_fault_name(enum fault fault);

/* True with the probability of the fault. */
bool sim_chance(struct sim *sim, enum fault fault);
/* 0 to limit - 1. */
uint64_t sim_below(struct sim *sim, uint64_t limit);
/* An operation of the kernel that can go wrong in `variants` ways. Returns which it shall, or 0. */
uint32_t sim_torture(struct sim *sim, const char *what, uint32_t variants);

/* One line of the story, if it is told. */
void sim_trace(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A promise is broken: tells which, and how to replay the run; does not return. */
_Noreturn void sim_violated(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* -- main.c: what becomes of a run that failed and was told -------------------------------------------------- */

_Noreturn void sim_failed(void);

/* The next moment at which something is due, UINT64_MAX for none; and doing what is due now. */
uint64_t sim_next_event(const struct sim *sim);
void sim_advance(struct sim *sim, uint64_t to_ns);

/* A machine for one run: faults and network follow from the seed, unless it is scripted. */
void sim_init(struct sim *sim, struct network *network, uint64_t seed);

/* -- kernel.c ------------------------------------------------------------------------------------------------ */

/* A ring on this machine. */
struct ring *sim_ring_create(struct sim *sim, uint32_t entries, uint32_t completion_entries);
/* Requests that are in a ring's hands. */
uint32_t sim_ring_in_flight(const struct ring *ring);
/* Completions are there, or would be if it was entered. */
bool sim_ring_is_ready(struct ring *ring);
bool sim_ring_is_dispatching(struct ring *ring);
/* When something delayed in the ring is due. */
uint64_t sim_ring_next_event(const struct ring *ring);
/* The engine whose streams the ring checks. */
void sim_ring_watch(struct ring *ring, struct sluice_engine *engine);

/* -- check.c ------------------------------------------------------------------------------------------------- */

/* What is remembered of an engine between two looks at it. */
struct watch {
    uint64_t looked_ns;
    uint64_t digest;
    uint32_t idle_looks; /* at one moment, and nothing has changed */
    uint32_t moments;
    struct stuck {
        const void *stream;
        uint64_t moved; /* how far it had come */
        uint32_t since; /* this moment */
    } stuck[256];       /* by descriptor */
};

/* Everything that must hold between two steps of an engine: called before it takes its completions. */
void check_engine(struct sim *sim, const struct sluice_engine *engine, struct watch *watch);
/* It stands on a descriptor: there is a struct transport round it. */
bool check_is_transport(const struct sluice_stream *stream);
/* What must hold when all streams of an engine have ended. */
void check_ended_engine(struct sim *sim, const struct sluice_engine *engine);

/* -- Called from kernel.c, at points where another thread could run ------------------------------------------ */

void story_other_threads(struct story *story);

#endif

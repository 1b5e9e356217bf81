/* What the two halves of the simulated kernel share: the ring (kernel.c), and what its requests do (request.c). */
#ifndef SIM_KERNEL_H
#define SIM_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/network.h"
#include "tests/sim/sim.h"
#include "uring/ring.h"

enum {
    ENTRIES_MAX = 256,
    COMPLETIONS_MAX = 16384,
    REQUESTS_MAX = 8192,
    LOOKUPS_MAX = 8,
};

/* Everything before `pieces` is set for each new request. */
struct request {
    bool is_used;
    bool is_multishot;
    bool is_bundled; /* fills several buffers at once */
    bool is_inline;  /* is answered when it is submitted */
    bool is_zero_copy;
    bool is_deaf;    /* a receive: a send took the news of the reset that it waits for */
    bool is_notice;  /* was answered: only the notification is left */
    bool is_patient; /* a worker does it, and waits until all is written */
    bool is_quiet;   /* its success is not told */
    bool is_whole;   /* taking less than everything is a failure, too */
    bool is_late;    /* waits, although it could go on */
    uint8_t opcode;
    uint8_t torture; /* the fault that it is to have; 0: none */
    int fd;
    uint64_t user_data;
    uint64_t not_before_ns;
    uint16_t port; /* of a connect */
    uint32_t len;
    uint32_t piece_count;
    uint32_t whole_checksum; /* of all that a send was asked to take */
    uint32_t checksum;       /* of what a zero-copy send took */
    size_t taken;            /* so far */
    struct iovec pieces[PIECES];
};

struct sim_ring {
    struct ring ring;
    struct sim *sim;
    struct sluice_engine *engine;
    struct io_uring_sqe entries[ENTRIES_MAX];
    uint32_t entry_count;
    struct io_uring_cqe *completions; /* a queue of ring.completion_entries */
    uint32_t first;
    uint32_t count;
    struct io_uring_cqe *overflow;
    uint32_t overflow_count;
    uint32_t overflow_capacity;
    struct request *requests;
    uint32_t capacity;
    uint32_t top; /* no request at or behind it is in use */
    uint32_t in_flight;
    bool is_woken;
    bool is_dispatching;
    int error;                                /* the ring is broken for good */
    struct ring_lookup *lookups[LOOKUPS_MAX]; /* names that are being looked up; NULL: none */
    uint64_t lookups_at_ns[LOOKUPS_MAX];
    struct buffers *buffers;
    uint16_t buffers_head;
    struct watch watch;
    bool barred[DESCRIPTORS]; /* streams that were closed for writing when the last entry was asked for */
    uint32_t barred_count;
};

/* Takes an entry that was submitted. */
void request_take(struct sim_ring *ring, const struct io_uring_sqe *entry);
/* Requests that can, complete: in any order, and some later. */
void request_progress(struct sim_ring *ring);
/* A completion, into the queue or what has overflowed from it. */
void ring_post(struct sim_ring *self, uint64_t user_data, int32_t result, uint32_t flags);

/* -- resolver.c ---------------------------------------------------------------------------------------------- */

/* Starts to look up a name; 0 or -errno. */
int resolver_start(struct sim_ring *ring, struct ring_lookup *lookup);
/* Answers what is due; or everything, because the ring goes. */
void resolver_answer(struct sim_ring *ring, bool everything);
uint64_t resolver_next_event(const struct sim_ring *ring);

static inline bool opcode_is_send(uint8_t opcode)
{
    return opcode == IORING_OP_SEND || opcode == IORING_OP_SENDMSG || opcode == IORING_OP_SEND_ZC ||
           opcode == IORING_OP_WRITEV;
}

#endif

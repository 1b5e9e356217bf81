/*
 * Requests in the kernel, and the identities by which their completions find them.
 *
 * An operation has a slot for as long as its owner lives, and a new generation each time it is armed, which no other
 * arming has had for a long time. user_data is the two together, so a completion of an earlier arming, or of an earlier
 * owner of the slot, matches nothing, and a cancel cannot hit a later arming. Arming cannot fail: the slot was reserved
 * before.
 */
#ifndef ENGINE_OPERATION_H
#define ENGINE_OPERATION_H

#include <stdbool.h>
#include <stdint.h>

#include "uring/ring.h"

struct operation {
    /* Called for each completion, from the engine's dispatch: records the result and schedules; never calls users. */
    void (*complete)(struct operation *operation, const struct io_uring_cqe *completion);
    uint32_t generation; /* of the last arming; of 31 bits and never 0: user_data is not 0, and has no RING_CANCEL */
    uint32_t slot : 29;
    bool is_armed : 1;      /* true exactly while the kernel will complete it once more */
    bool is_cancelling : 1; /* …and was asked to end it */
    bool is_quiet : 1;      /* …or will not, if it succeeds: see quiet.h */
};

union operation_slot {
    struct operation *operation;
    uintptr_t next_free; /* odd, which no operation's address is: twice the number of the next free slot, and 1 */
};

struct operations {
    union operation_slot *slots;
    uint32_t count;
    uint32_t capacity;
    uint32_t first_free;
    uint32_t generation; /* of the last arming of all */
};

void operations_init(struct operations *operations);
/* All slots are free. */
void operations_finish(struct operations *operations);

/* Reserves a slot. Returns 0 or -ENOMEM. */
int operation_init(struct operation *operation, struct operations *operations,
                   void (*complete)(struct operation *, const struct io_uring_cqe *));
/* Frees the slot of an operation that is not armed. */
void operation_finish(struct operation *operation, struct operations *operations);

enum {
    GENERATION_LAST = INT32_MAX,
};

/* The operation that has the slot, or NULL. */
static inline struct operation *operations_at(const struct operations *operations, uint32_t slot)
{
    return operations->slots[slot].next_free & 1 ? NULL : operations->slots[slot].operation;
}

/* The identity of the present arming, for a cancel. */
static inline uint64_t operation_identity(const struct operation *operation)
{
    return (uint64_t)operation->generation << 32 | operation->slot;
}

/* Marks the entry, filled otherwise, as this operation's. At most one arming at a time. */
static inline void operation_arm(struct operation *operation, struct operations *operations, struct io_uring_sqe *entry)
{
    assert(!operation->is_armed);
    assert(operations_at(operations, operation->slot) == operation);
    operations->generation = operations->generation < GENERATION_LAST ? operations->generation + 1 : 1;
    operation->generation = operations->generation;
    entry->user_data = operation_identity(operation);
    operation->is_armed = true;
    operation->is_cancelling = false;
    operation->is_quiet = false;
}

/* The armed operation with that identity, or NULL. */
static inline struct operation *operations_find(const struct operations *operations, uint64_t identity)
{
    uint32_t slot = (uint32_t)identity;
    struct operation *operation = slot < operations->count ? operations_at(operations, slot) : NULL;

    if (!operation || operation->generation != (uint32_t)(identity >> 32))
        return NULL;
    return operation->is_armed ? operation : NULL;
}

/* Hands a completion to its operation. Returns false if there is none: it is stale. */
static inline bool operations_dispatch(struct operations *operations, const struct io_uring_cqe *completion)
{
    struct operation *operation = operations_find(operations, completion->user_data);

    if (!operation)
        return false;
    /* Only a completion without F_MORE ends a request. */
    if (!(completion->flags & IORING_CQE_F_MORE))
        operation->is_armed = false;
    operation->complete(operation, completion);
    return true;
}

/* Completes every armed operation with -ECANCELED: the ring is gone, the kernel will not do it. */
void operations_cancel_all(struct operations *operations);

#endif

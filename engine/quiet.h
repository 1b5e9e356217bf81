/*
 * Quiet sends: the kernel answers them only if it refused them or took them in part.
 *
 * An inline send is tried by the very enter that submits it. So once everything that the kernel has posted was seen, no
 * answer means "taken whole". A reply then costs no completion, and does not end the wait for the next request.
 *
 * That it was taken shows only at the end of the turn, and in between the engine may sleep. So a send may be quiet only
 * if its success leaves nothing to do but to let go of the bytes; should something turn up after all, it is awaited.
 */
#ifndef ENGINE_QUIET_H
#define ENGINE_QUIET_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/operation.h"

enum {
    QUIET_SENDS = 1024, /* at a time; more of them are answered */
};

struct quiet_send {
    uint64_t identity;
    uint32_t len;
};

struct quiet_sends {
    uint32_t count;
    bool are_awaited; /* somebody goes on once one of them has succeeded: no sleep before that is known */
    bool hold_leases; /* one of them keeps a receive buffer, or its user's: no long sleep */
    struct quiet_send sends[QUIET_SENDS];
};

static inline bool quiet_has_room(const struct quiet_sends *quiet)
{
    return quiet->count < QUIET_SENDS;
}

/* There is room, and `operation` was armed with a send of `len` bytes. */
static inline void quiet_add(struct quiet_sends *quiet, struct operation *operation, uint32_t len, bool holds_lease)
{
    assert(quiet_has_room(quiet));
    assert(operation->is_armed);
    operation->is_quiet = true;
    quiet->hold_leases |= holds_lease;
    quiet->sends[quiet->count++] = (struct quiet_send){.identity = operation_identity(operation), .len = len};
}

/* Something waits for a send that may be quiet. */
static inline void quiet_await(struct quiet_sends *quiet)
{
    quiet->are_awaited = quiet->count > 0;
}

/* Every completion there is was dispatched: completes those that had none. */
void quiet_settle(struct quiet_sends *quiet, struct operations *operations);

#endif

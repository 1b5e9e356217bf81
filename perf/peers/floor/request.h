/*
 * The requests to the ring, each ready to be submitted: what they ask for comes back as a completion, with the kind of
 * the request and its connection's slot.
 */
#ifndef PERF_FLOOR_REQUEST_H
#define PERF_FLOOR_REQUEST_H

#include "perf/peers/floor/server.h"

enum kind {
    KIND_ACCEPT,
    KIND_RECEIVE,
    KIND_QUIET,   /* a send that is heard of only if it did not take everything */
    KIND_SPREAD,  /* the same, of what is said to everybody */
    KIND_WAITING, /* a send that waits for room, and takes what there is */
    KIND_SOURCE,  /* a source's: it takes what there is room for, now */
    KIND_CONNECT,
    KIND_SHUTDOWN,
    KIND_IGNORED,
};

/* Both go on until their completion says that no more will come. */
void arm_accept(void);
void arm_receive(unsigned slot);

/* The batch has to stay as it is until the send is over. */
void request_send(unsigned slot, const struct batch *batch, enum kind kind);

void request_cancel(enum kind kind, unsigned slot);
void request_connect(unsigned slot);
void request_shutdown(unsigned slot);
void request_close(unsigned slot);

/* Enters the kernel with all of them, and waits for none. */
void submit_requests(void);

#endif

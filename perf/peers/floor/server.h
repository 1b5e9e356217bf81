/*
 * The state of the server: its ring and buffers, its connections, and which of them the turn has still to see to. There
 * is one, in the open: each file of the floor changes what it has to.
 */
#ifndef PERF_FLOOR_SERVER_H
#define PERF_FLOOR_SERVER_H

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>

#include "perf/peers/floor/bytes.h"
#include "perf/peers/peer.h"

enum {
    BUFFERS_MAX = 256,
    SLOT_COUNT = 65536,
};

enum sending {
    SENDING_NOTHING,
    SENDING_QUIETLY, /* tried by the next submission, heard of only if it does not take everything */
    SENDING_WAITING, /* for room */
};

struct connection {
    struct queue queue; /* to be sent */
    struct batch *sent; /* in the kernel, unless we send nothing */
    enum sending sending;
    struct block *partial; /* of a message that has begun to arrive */
    unsigned requests;     /* connect and shutdown in the kernel */
    unsigned place;        /* in server.open, if this is fan-out */
    bool is_open;
    bool is_dying;      /* closed as soon as nothing of it is in the kernel */
    bool is_receiving;  /* true exactly when the kernel holds its multishot receive */
    bool is_paused;     /* not to be read: the one to whom its bytes go does not take them */
    bool is_dirty;      /* in server.dirty */
    bool is_starved;    /* in server.starved */
    bool lacks_buffers; /* why it is not receiving */
    bool has_ended;     /* the other side sends nothing more */
    bool has_shut;      /* it was told that we do not, either */
};

struct server {
    struct io_uring ring;
    struct io_uring_buf_ring *buffers;
    uint8_t *memory;
    unsigned buffer_count;
    unsigned buffer_size;
    unsigned lent_max; /* beyond that, what waits for slow readers is copied out */
    unsigned returned; /* buffers given back in this turn, not yet shown to the kernel */
    unsigned lent;     /* buffers that are not the kernel's */
    int listener;
    unsigned upstream; /* a bit: the slot of a connection's upstream, when forwarding, is its own with it */
    bool is_hurried;   /* there is work left: do not wait */
    struct batch *free_batches;
    struct queue said;    /* to everybody */
    struct batch *spread; /* the same, in the kernel */
    unsigned dirty_count;
    unsigned quiet_count;
    unsigned open_count;
    unsigned starved_head;
    unsigned starved_count;
    uint16_t places[BUFFERS_MAX]; /* where in the ring of buffers each was offered */
    unsigned dirty[SLOT_COUNT];   /* connections with something to send */
    unsigned quiet[SLOT_COUNT];   /* connections whose quiet send is in this submission */
    unsigned open[SLOT_COUNT];
    unsigned starved[SLOT_COUNT]; /* a ring: connections that are read when there are buffers again */
    struct connection connections[SLOT_COUNT];
};

extern struct peer_options options;
extern struct server server;

#endif

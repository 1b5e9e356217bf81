/*
 * A stream whose transport is a script: the test decides, step by step, when a submission completes, what arrives, and
 * when the transport goes away, and counts what the engine asked for.
 */
#ifndef SUPPORT_SCRIPTED_STREAM_H
#define SUPPORT_SCRIPTED_STREAM_H

#include "engine/stream.h"

enum {
    WIRE_MAX = 4096,           /* bytes that a script can be sent in all */
    SCRIPTED_PEER_PORT = 7000, /* on 127.0.0.1 */
    SCRIPTED_LOCAL_PORT = 7001,
};

struct scripted {
    struct sluice_stream stream;
    size_t submission_max; /* bytes in one submission; 0: all there are */
    bool is_full;          /* as if the kernel took nothing for now */

    /* What the engine asked for. */
    unsigned submissions;
    unsigned finishes;
    unsigned closes;
    unsigned aborts;
    bool wants_data;
    size_t in_flight;       /* bytes of the submission that is out; 0: none is */
    bool is_gone;           /* stream_closed() was called */
    uint8_t wire[WIRE_MAX]; /* what was sent, once completed */
    size_t wire_len;

    /* Called in the middle of a flush, before anything is submitted; NULL: nothing. */
    void (*when_flushed)(struct scripted *scripted);
    /* Called whenever the flusher asks whether it is blocked; NULL: nothing. */
    void (*when_asked)(struct scripted *scripted);
    void *story;
};

/* An open stream, or one that is connecting until stream_opened(). Freed by its last holder, as any. */
struct scripted *scripted_create(struct sluice_engine *engine, enum sluice_state state,
                                 const struct sluice_stream_events *events, void *user);

/* The submission that is out completes with all its bytes, or only the first. As from a completion. */
void scripted_complete(struct scripted *scripted);
void scripted_complete_short(struct scripted *scripted, size_t len);
/* The transport goes away. A submission that is out stays out until it is completed. */
void scripted_vanish(struct scripted *scripted, int error);
/* Bytes arrive in a buffer; as from a completion. */
void scripted_receive(struct scripted *scripted, const void *data, size_t len);
void scripted_receive_view(struct scripted *scripted, const struct sluice_view *view);
/* The peer ends its direction. A script that is winding down is gone then. */
void scripted_end(struct scripted *scripted);

#endif

/* A layer that turns a stream of bytes into a stream of messages, each behind its length. */
#ifndef SLUICE_FRAME_H
#define SLUICE_FRAME_H

#include <stddef.h>

#include <sluice/engine.h>
#include <sluice/stream.h>

SLUICE_BEGIN

/* How the length is written in front of a message. It counts the message only, not itself. */
enum sluice_frame_length {
    SLUICE_FRAME_U16_BE = 0,
    SLUICE_FRAME_U16_LE = 1,
    SLUICE_FRAME_U32_BE = 2,
    SLUICE_FRAME_U32_LE = 3,
    SLUICE_FRAME_VARINT = 4, /* unsigned LEB128, at most 5 bytes and none too many, as in multistream */
};

/* Start from zeroes. */
struct sluice_frame_options {
    enum sluice_frame_length length;
    size_t message_limit; /* bytes in the longest message, both ways; 0: 1 MiB, or 65535 with a 16-bit length */
};

/*
 * Puts a message layer on top of `lower`. On success the layer owns `lower`: it takes over its events, and closing or
 * aborting the layer does the same to it; do not name `lower` again. On failure nothing has changed.
 *
 * `options` is copied; NULL: a 16-bit big-endian length, messages up to 65535 bytes. Bytes that `lower` has received
 * and not told go through the layer. on_open of the layer follows, also if `lower` was open before.
 *
 * One send is one message, the empty one included; each on_data is one message, whole, without a copy where it lies in
 * one received buffer. A peer that announces a message over the limit fails the stream with -EMSGSIZE before any of
 * it is stored; a varint that is longer than it may or need be, or an end inside a message, with -EBADMSG.
 *
 * Returns 0, -EINVAL (an unknown length kind, or a limit it cannot express), -EPIPE (a direction of `lower` has ended
 * or is ending), or -ENOMEM.
 */
SLUICE_API int sluice_frame_stream(struct sluice_stream *lower, const struct sluice_frame_options *options,
                                   const struct sluice_stream_events *events, void *user,
                                   struct sluice_stream **stream);

SLUICE_END

#endif

/* A queue of bytes that lie in counted buffers: what a stream has yet to send, or to deliver. */
#ifndef ENGINE_BYTES_H
#define ENGINE_BYTES_H

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

#include <sluice/buffer.h>

#include "engine/pool.h"

static inline size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* The bytes of all pieces. */
static inline size_t bytes_total(const struct iovec *pieces, size_t count)
{
    size_t len = 0;

    for (size_t i = 0; i < count; i++)
        len += pieces[i].iov_len;
    return len;
}

struct bytes {
    struct slice *first;
    struct slice *last;
    struct slice *copied; /* the last one that was filled by copying, if it is still here */
    size_t len;           /* the sum over the slices */
};

static inline void bytes_init(struct bytes *bytes)
{
    *bytes = (struct bytes){0};
}

/* True exactly when there is no slice; a slice may be empty (a message of no bytes). */
static inline bool bytes_is_empty(const struct bytes *bytes)
{
    return bytes->first == NULL;
}

/* Appends a slice, which becomes the queue's. */
static inline void bytes_append_slice(struct bytes *bytes, struct slice *slice)
{
    slice->next = NULL;
    if (bytes->last)
        bytes->last->next = slice;
    else
        bytes->first = slice;
    bytes->last = slice;
    bytes->len += slice->len;
}

/* Takes the first slice out. There is one. */
static inline struct slice *bytes_detach_first(struct bytes *bytes)
{
    struct slice *slice = bytes->first;

    assert(slice);
    bytes->first = slice->next;
    if (!bytes->first)
        bytes->last = NULL;
    if (bytes->copied == slice)
        bytes->copied = NULL;
    bytes->len -= slice->len;
    return slice;
}

/* Appends a copy of all pieces, or nothing: returns 0 or -ENOMEM. Fills up the last block first. */
int bytes_append_copy(struct bytes *bytes, struct pool *pool, const struct iovec *pieces, size_t count);

/* The same for one piece, where bytes_append_short() has no room for it. */
int bytes_append_one(struct bytes *bytes, struct pool *pool, const void *data, size_t len);

/* The same for a few bytes behind such a copy, if the last bytes are one and its block has room: else returns false. */
static inline bool bytes_append_short(struct bytes *bytes, const void *data, size_t len)
{
    struct slice *last = bytes->last;
    struct block *block;

    if (len == 0 || !last || last != bytes->copied)
        return false;
    block = (struct block *)last->buffer; /* its first member */
    assert(last->data + last->len == block->data + block->used);
    if (len > block->capacity - block->used)
        return false;
    memcpy(block->data + block->used, data, len);
    block->used += len;
    last->len += len;
    bytes->len += len;
    return true;
}

/* If the view goes on where the last bytes end, in the same buffer, adds it to them: else returns false. */
static inline bool bytes_extend(struct bytes *bytes, const struct sluice_view *view)
{
    struct slice *last = bytes->last;

    if (!last || last->buffer != view->buffer || last->data + last->len != view->data)
        return false;
    last->len += view->len;
    bytes->len += view->len;
    return true;
}

/* Appends a slice of its own for the view, with one more reference to its buffer. Returns 0 or -ENOMEM. */
static inline int bytes_append_view(struct bytes *bytes, struct pool *pool, const struct sluice_view *view)
{
    struct slice *slice = pool_take_slice(pool);

    if (!slice)
        return -ENOMEM;
    *slice = (struct slice){.data = view->data, .len = view->len, .buffer = view->buffer};
    sluice_buffer_hold(view->buffer);
    bytes_append_slice(bytes, slice);
    return 0;
}

/* The same with a copy of its bytes, which shares the block of the slice before it if there is room. */
int bytes_append_private(struct bytes *bytes, struct pool *pool, const struct sluice_view *view);

/* Takes the first slice off; its reference goes to the view. There is one. */
static inline struct sluice_view bytes_take_first(struct bytes *bytes, struct pool *pool)
{
    struct slice *slice = bytes_detach_first(bytes);
    struct sluice_view view = {.data = slice->data, .len = slice->len, .buffer = slice->buffer};

    pool_give_slice(pool, slice);
    return view;
}

static inline void bytes_drop_first(struct bytes *bytes, struct pool *pool)
{
    struct sluice_view view = bytes_take_first(bytes, pool);

    sluice_buffer_drop(view.buffer);
}

/* Drops the first `len` bytes, and empty slices in front of what is left. */
static inline void bytes_consume(struct bytes *bytes, struct pool *pool, size_t len)
{
    assert(len <= bytes->len);
    while (bytes->first && bytes->first->len <= len) {
        len -= bytes->first->len;
        bytes_drop_first(bytes, pool);
    }
    if (len > 0) {
        assert(bytes->first); /* or fewer than `len` were there */
        bytes->first->data += len;
        bytes->first->len -= len;
        bytes->len -= len;
    }
}

/* Moves the first `len` bytes behind those of `to`, by reference. Returns 0, or -ENOMEM with nothing moved. */
int bytes_move(struct bytes *from, struct bytes *to, struct pool *pool, size_t len);

/* Moves everything that `from` has to the end of `to`. */
void bytes_join(struct bytes *to, struct bytes *from);

/* Points pieces at the bytes from the first on: at most `max` pieces, `max_len` bytes. Returns how many pieces. */
uint32_t bytes_gather(const struct bytes *bytes, struct iovec *pieces, uint32_t max, size_t max_len, size_t *len);

/*
 * Replaces slices of buffers for which `must_copy` is true by copies, slice by slice, as far as there is memory.
 * Returns how many it replaced.
 */
uint32_t bytes_copy_out(struct bytes *bytes, struct pool *pool, bool (*must_copy)(const struct sluice_buffer *buffer));

/* Drops what lies behind the first `len` bytes. */
void bytes_truncate(struct bytes *bytes, struct pool *pool, size_t len);

/* Drops everything. */
void bytes_clear(struct bytes *bytes, struct pool *pool);

#endif

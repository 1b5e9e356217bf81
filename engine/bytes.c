/* Queues of bytes: see bytes.h. */
#include "engine/bytes.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/*
 * The block that the last byte lies in, if the free bytes behind it are ours to fill. At most one slice ends where its
 * block is used up to, so no two queues fill the same bytes; what the kernel was given of the slice stays as it is.
 */
static struct block *open_block(const struct bytes *bytes)
{
    struct block *block = bytes->last ? block_of(bytes->last->buffer) : NULL;

    if (block && bytes->last->data + bytes->last->len == block->data + block->used)
        return block;
    return NULL;
}

/*
 * Continues the block of the last copy behind the views that came after it, if `len` bytes fit: or each short prefix
 * between views would take a block of its own.
 */
static void continue_block(struct bytes *bytes, struct pool *pool, size_t len)
{
    const struct slice *copied = bytes->copied;
    struct block *block = copied && copied != bytes->last ? block_of(copied->buffer) : NULL;
    struct slice *slice;

    if (len == 0 || !block || copied->data + copied->len != block->data + block->used ||
        block->capacity - block->used < len)
        return;
    slice = pool_take_slice(pool);
    if (!slice)
        return;
    *slice = (struct slice){.data = block->data + block->used, .buffer = &block->buffer};
    sluice_buffer_hold(&block->buffer);
    bytes_append_slice(bytes, slice);
}

/* A slice over a fresh block, with no bytes yet. */
static struct slice *take_empty(struct pool *pool, size_t len)
{
    struct slice *slice = pool_take_slice(pool);
    struct block *block = slice ? pool_take_block(pool, len, false) : NULL;

    if (!block) {
        if (slice)
            pool_give_slice(pool, slice);
        return NULL;
    }
    *slice = (struct slice){.data = block->data, .buffer = &block->buffer};
    return slice;
}

/*
 * Appends slices with room for `len` bytes in all, but no bytes; large blocks if more are likely to follow. Returns 0
 * or -ENOMEM.
 */
static int make_room(struct bytes *bytes, struct pool *pool, size_t len, bool is_growing)
{
    while (len > 0) {
        struct slice *slice = take_empty(pool, is_growing ? BLOCK_LARGE : len);

        if (!slice)
            return -ENOMEM;
        bytes_append_slice(bytes, slice);
        len -= smaller(len, block_of(slice->buffer)->capacity);
    }
    return 0;
}

/* Copies what fits behind the bytes of the slice, which ends its block; returns how much that was. */
static size_t fill_slice(struct slice *slice, const uint8_t *data, size_t len)
{
    struct block *block = block_of(slice->buffer);
    size_t part = smaller(len, block->capacity - block->used);

    memcpy(block->data + block->used, data, part);
    block->used += part;
    slice->len += part;
    return part;
}

/* The most common copy: into an empty queue, and one block holds it. Returns 0 or -ENOMEM. */
static int append_first(struct bytes *bytes, struct pool *pool, const void *data, size_t len)
{
    struct slice *slice = take_empty(pool, len);

    if (!slice)
        return -ENOMEM;
    fill_slice(slice, data, len);
    bytes_append_slice(bytes, slice);
    bytes->copied = slice;
    return 0;
}

/* Not inline: so that the short ways save no registers for it. */
__attribute__((noinline)) static int append_pieces(struct bytes *bytes, struct pool *pool, const struct iovec *pieces,
                                                   size_t count)
{
    size_t len = bytes_total(pieces, count);
    struct bytes rest = {0};
    const struct block *open;
    struct slice *slice;
    size_t room;

    continue_block(bytes, pool, len);
    open = open_block(bytes);
    room = open ? open->capacity - open->used : 0;
    if (len > room && make_room(&rest, pool, len - room, bytes->last != NULL) < 0) {
        bytes_clear(&rest, pool);
        return -ENOMEM;
    }
    slice = open ? bytes->last : rest.first;
    bytes_join(bytes, &rest);
    for (size_t i = 0; i < count; i++) {
        const uint8_t *data = pieces[i].iov_base;
        size_t left = pieces[i].iov_len;

        while (left > 0) {
            size_t part;

            assert(slice); /* room was made for all */
            part = fill_slice(slice, data, left);
            if (part == 0)
                slice = slice->next;
            data += part;
            left -= part;
        }
    }
    bytes->len += len;
    bytes->copied = slice;
    return 0;
}

int bytes_append_one(struct bytes *bytes, struct pool *pool, const void *data, size_t len)
{
    if (!bytes->last && len > 0 && len <= BLOCK_LARGE)
        return append_first(bytes, pool, data, len);
    return append_pieces(bytes, pool, &(struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = len}, 1);
}

int bytes_append_copy(struct bytes *bytes, struct pool *pool, const struct iovec *pieces, size_t count)
{
    if (count == 1 && bytes_append_short(bytes, pieces[0].iov_base, pieces[0].iov_len))
        return 0;
    if (count == 1)
        return bytes_append_one(bytes, pool, pieces[0].iov_base, pieces[0].iov_len);
    return append_pieces(bytes, pool, pieces, count);
}

int bytes_append_private(struct bytes *bytes, struct pool *pool, const struct sluice_view *view)
{
    struct slice *slice = pool_take_slice(pool);
    struct block *block = open_block(bytes);

    if (!slice)
        return -ENOMEM;
    if (block && block->capacity - block->used >= view->len)
        sluice_buffer_hold(&block->buffer);
    else
        block = pool_take_block(pool, view->len, true);
    if (!block) {
        pool_give_slice(pool, slice);
        return -ENOMEM;
    }
    *slice = (struct slice){.data = block->data + block->used, .len = view->len, .buffer = &block->buffer};
    if (view->len > 0)
        memcpy(block->data + block->used, view->data, view->len);
    block->used += view->len;
    bytes_append_slice(bytes, slice);
    return 0;
}

int bytes_move(struct bytes *from, struct bytes *to, struct pool *pool, size_t len)
{
    struct slice *split = NULL;
    struct slice *slice;
    size_t rest = len;

    assert(len <= from->len);
    if (len == from->len) {
        bytes_join(to, from);
        return 0;
    }
    for (slice = from->first; slice && slice->len <= rest; slice = slice->next)
        rest -= slice->len;
    assert(slice); /* it is longer than the rest: `len` are not all */
    if (rest > 0 && !(split = pool_take_slice(pool)))
        return -ENOMEM;
    while (from->first != slice)
        bytes_append_slice(to, bytes_detach_first(from));
    if (split) {
        *split = (struct slice){.data = slice->data, .len = rest, .buffer = slice->buffer};
        sluice_buffer_hold(split->buffer);
        bytes_append_slice(to, split);
        bytes_consume(from, pool, rest);
    }
    return 0;
}

void bytes_join(struct bytes *to, struct bytes *from)
{
    if (!from->first)
        return;
    if (to->last)
        to->last->next = from->first;
    else
        to->first = from->first;
    to->last = from->last;
    if (from->copied)
        to->copied = from->copied;
    to->len += from->len;
    bytes_init(from);
}

uint32_t bytes_gather(const struct bytes *bytes, struct iovec *pieces, uint32_t max, size_t max_len, size_t *len)
{
    uint32_t count = 0;

    *len = 0;
    for (const struct slice *slice = bytes->first; slice && count < max && *len < max_len; slice = slice->next) {
        size_t part = smaller(slice->len, max_len - *len);

        if (part == 0)
            continue;
        pieces[count++] = (struct iovec){.iov_base = (void *)(uintptr_t)slice->data, .iov_len = part};
        *len += part;
    }
    return count;
}

static bool copy_out_slice(struct slice *slice, struct pool *pool)
{
    struct block *block = pool_take_block(pool, slice->len, true);

    if (!block)
        return false;
    memcpy(block->data, slice->data, slice->len);
    block->used = slice->len;
    sluice_buffer_drop(slice->buffer);
    slice->buffer = &block->buffer;
    slice->data = block->data;
    return true;
}

uint32_t bytes_copy_out(struct bytes *bytes, struct pool *pool, bool (*must_copy)(const struct sluice_buffer *buffer))
{
    uint32_t count = 0;

    for (struct slice *slice = bytes->first; slice; slice = slice->next)
        if (must_copy(slice->buffer) && copy_out_slice(slice, pool))
            count++;
    return count;
}

void bytes_truncate(struct bytes *bytes, struct pool *pool, size_t len)
{
    struct bytes kept = {0};

    while (bytes->first && kept.len + bytes->first->len <= len)
        bytes_append_slice(&kept, bytes_detach_first(bytes));
    if (kept.len < len) {
        struct slice *cut = bytes_detach_first(bytes);

        cut->len = len - kept.len;
        bytes_append_slice(&kept, cut);
    }
    bytes_clear(bytes, pool);
    *bytes = kept;
}

void bytes_clear(struct bytes *bytes, struct pool *pool)
{
    while (bytes->first)
        bytes_drop_first(bytes, pool);
}

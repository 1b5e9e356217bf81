/*
 * The memory that bytes travel in: blocks that hold copies, and slices that point into blocks or other buffers.
 *
 * Both are kept when they come back, up to a bound, so that the path of bytes does not call malloc once it is warm.
 */
#ifndef ENGINE_POOL_H
#define ENGINE_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <sluice/buffer.h>

#include "engine/list.h"

struct pool;

/* Some bytes of a buffer, as a link of a queue. Owns one reference to the buffer. */
struct slice {
    struct slice *next;
    const uint8_t *data;
    size_t len;
    struct sluice_buffer *buffer;
};

/* Memory to copy into. Bytes behind `used` are free. */
struct block {
    struct sluice_buffer buffer;
    struct pool *pool;
    struct block *next_free;
    size_t capacity;
    size_t used;
    uint8_t data[];
};

enum {
    BLOCK_SMALL = 1024 - sizeof(struct block), /* for a few small messages */
    BLOCK_LARGE = 16384,                       /* as much as a received buffer of the usual size holds */
    /*
     * For what must lie in one piece: a pair's view that is kept, a message that came in parts, with prefixes of
     * layers.
     */
    BLOCK_HUGE = 65536 + 64,
    POOL_SMALL_MAX = 8192, /* how many of each to keep */
    POOL_LARGE_MAX = 1024,
    POOL_HUGE_MAX = 64,
    POOL_SLICES_MAX = 16384,
};

struct pool {
    struct slice *slices;
    struct block *small;
    struct block *large;
    struct block *huge;
    uint32_t slice_count; /* kept, not in use */
    uint32_t small_count;
    uint32_t large_count;
    uint32_t huge_count;
};

void pool_init(struct pool *pool);
/* Everything taken has been given back. */
void pool_finish(struct pool *pool);

/* Returns NULL if there is no memory. */
static inline struct slice *pool_take_slice(struct pool *pool)
{
    struct slice *slice = pool->slices;

    if (!slice)
        return malloc(sizeof *slice);
    pool->slices = slice->next;
    pool->slice_count--;
    return slice;
}

static inline void pool_give_slice(struct pool *pool, struct slice *slice)
{
    if (pool->slice_count == POOL_SLICES_MAX) {
        free(slice);
        return;
    }
    slice->next = pool->slices;
    pool->slices = slice;
    pool->slice_count++;
}

/*
 * An empty block with one reference and room for at least one byte: for `len` bytes if they fit a pooled size, and in
 * any case for `len` if `whole`. It goes back when the last reference is dropped. NULL if there is no memory.
 */
struct block *pool_take_block(struct pool *pool, size_t len, bool whole);

/* What blocks are released by, and known by: nobody else calls it. */
void pool_release_block(struct sluice_buffer *buffer);

/* The block that a buffer is the head of, or NULL if it is another kind of buffer. */
static inline struct block *block_of(struct sluice_buffer *buffer)
{
    return buffer->release == pool_release_block ? container_of(buffer, struct block, buffer) : NULL;
}

/*
 * A passing buffer: its bytes are good only while on_data runs, and its count means nothing. Whoever wants them longer
 * copies them.
 */
void buffer_init_passing(struct sluice_buffer *buffer);
void buffer_release_passing(struct sluice_buffer *buffer);

static inline bool buffer_is_passing(const struct sluice_buffer *buffer)
{
    return buffer->release == buffer_release_passing;
}

#endif

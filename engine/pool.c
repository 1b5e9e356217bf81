/* Pools of slices and blocks: see pool.h. */
#include "engine/pool.h"

#include <assert.h>
#include <stdlib.h>

#include "engine/list.h"

void pool_init(struct pool *pool)
{
    *pool = (struct pool){0};
}

static void free_blocks(struct block *block)
{
    while (block) {
        struct block *next = block->next_free;

        free(block);
        block = next;
    }
}

void pool_finish(struct pool *pool)
{
    while (pool->slices) {
        struct slice *next = pool->slices->next;

        free(pool->slices);
        pool->slices = next;
    }
    free_blocks(pool->small);
    free_blocks(pool->large);
    free_blocks(pool->huge);
    pool_init(pool);
}

/* Keeps the block for the next one who needs its size, or frees it if there are enough. */
void pool_release_block(struct sluice_buffer *buffer)
{
    struct block *block = container_of(buffer, struct block, buffer);
    struct pool *pool = block->pool;

    if (block->capacity == BLOCK_SMALL && pool->small_count < POOL_SMALL_MAX) {
        block->next_free = pool->small;
        pool->small = block;
        pool->small_count++;
    } else if (block->capacity == BLOCK_LARGE && pool->large_count < POOL_LARGE_MAX) {
        block->next_free = pool->large;
        pool->large = block;
        pool->large_count++;
    } else if (block->capacity == BLOCK_HUGE && pool->huge_count < POOL_HUGE_MAX) {
        block->next_free = pool->huge;
        pool->huge = block;
        pool->huge_count++;
    } else {
        free(block);
    }
}

static struct block *take_kept(struct block **kept, uint32_t *count)
{
    struct block *block = *kept;

    if (block) {
        *kept = block->next_free;
        --*count;
    }
    return block;
}

static size_t capacity_for(size_t len, bool whole)
{
    if (len <= BLOCK_SMALL)
        return BLOCK_SMALL;
    if (len <= BLOCK_LARGE || !whole)
        return BLOCK_LARGE;
    return len <= BLOCK_HUGE ? BLOCK_HUGE : len;
}

struct block *pool_take_block(struct pool *pool, size_t len, bool whole)
{
    size_t capacity = capacity_for(len, whole);
    struct block *block = NULL;

    if (capacity == BLOCK_SMALL)
        block = take_kept(&pool->small, &pool->small_count);
    else if (capacity == BLOCK_LARGE)
        block = take_kept(&pool->large, &pool->large_count);
    else if (capacity == BLOCK_HUGE)
        block = take_kept(&pool->huge, &pool->huge_count);
    if (!block)
        block = malloc(sizeof *block + capacity);
    if (!block)
        return NULL;
    sluice_buffer_init(&block->buffer, pool_release_block);
    block->pool = pool;
    block->capacity = capacity;
    block->used = 0;
    return block;
}

void buffer_release_passing(struct sluice_buffer *buffer)
{
    (void)buffer;
    assert(!"a passing buffer keeps the reference it was made with");
}

void buffer_init_passing(struct sluice_buffer *buffer)
{
    sluice_buffer_init(buffer, buffer_release_passing);
}

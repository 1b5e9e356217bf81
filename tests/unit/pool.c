/* Pools of slices and blocks: what is given back is used again, up to a bound. */
#include "engine/pool.h"

#include <criterion/criterion.h>
#include <string.h>

#include "engine/list.h"

Test(pool, a_slice_that_comes_back_is_the_next_one_out)
{
    struct pool pool;
    struct slice *first;
    struct slice *second;

    pool_init(&pool);
    first = pool_take_slice(&pool);
    cr_assert(first);
    pool_give_slice(&pool, first);
    cr_assert_eq(pool.slice_count, 1);
    second = pool_take_slice(&pool);
    cr_assert_eq(second, first);
    cr_assert_eq(pool.slice_count, 0);
    pool_give_slice(&pool, second);
    pool_finish(&pool);
}

Test(pool, blocks_are_as_large_as_their_bytes_need)
{
    static const struct {
        size_t len;
        bool whole;
        size_t capacity;
    } cases[] = {
        {0, false, BLOCK_SMALL},
        {1, true, BLOCK_SMALL},
        {BLOCK_SMALL, false, BLOCK_SMALL},
        {BLOCK_SMALL + 1, false, BLOCK_LARGE},
        {BLOCK_LARGE, true, BLOCK_LARGE},
        {BLOCK_LARGE + 1, false, BLOCK_LARGE},
        {BLOCK_LARGE + 1, true, BLOCK_HUGE},
        {BLOCK_HUGE + 1, true, BLOCK_HUGE + 1},
        {1000000, true, 1000000},
    };
    struct pool pool;

    pool_init(&pool);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct block *block = pool_take_block(&pool, cases[i].len, cases[i].whole);

        cr_assert(block);
        cr_assert_eq(block->capacity, cases[i].capacity, "case %zu: %zu", i, block->capacity);
        cr_assert_eq(block->used, 0);
        cr_assert_eq(block->buffer.references, 1);
        cr_assert_eq(block_of(&block->buffer), block);
        memset(block->data, 0xaa, block->capacity);
        sluice_buffer_drop(&block->buffer);
    }
    pool_finish(&pool);
}

Test(pool, a_block_comes_back_with_its_last_reference)
{
    struct pool pool;
    struct block *block;

    pool_init(&pool);
    block = pool_take_block(&pool, 10, false);
    block->used = 10;
    sluice_buffer_hold(&block->buffer);
    sluice_buffer_drop(&block->buffer);
    cr_assert_eq(pool.small_count, 0);
    sluice_buffer_drop(&block->buffer);
    cr_assert_eq(pool.small_count, 1);
    cr_assert_eq(pool_take_block(&pool, 20, false), block);
    cr_assert_eq(block->used, 0);
    cr_assert_eq(block->buffer.references, 1);
    sluice_buffer_drop(&block->buffer);
    pool_finish(&pool);
}

Test(pool, sizes_are_kept_apart_and_odd_ones_are_not_kept)
{
    struct pool pool;
    struct block *small;
    struct block *large;
    struct block *odd;

    pool_init(&pool);
    small = pool_take_block(&pool, 1, false);
    large = pool_take_block(&pool, BLOCK_LARGE, false);
    odd = pool_take_block(&pool, BLOCK_HUGE + 1, true);
    sluice_buffer_drop(&small->buffer);
    sluice_buffer_drop(&large->buffer);
    sluice_buffer_drop(&odd->buffer);
    cr_assert_eq(pool.small_count, 1);
    cr_assert_eq(pool.large_count, 1);
    cr_assert_eq(pool_take_block(&pool, BLOCK_LARGE, true), large);
    cr_assert_eq(pool_take_block(&pool, 1, true), small);
    sluice_buffer_drop(&small->buffer);
    sluice_buffer_drop(&large->buffer);
    pool_finish(&pool);
}

Test(pool, keeps_no_more_than_its_bounds)
{
    static struct slice *slices[POOL_SLICES_MAX + 1];
    static struct block *blocks[POOL_SMALL_MAX + 1];
    struct pool pool;

    pool_init(&pool);
    for (size_t i = 0; i < POOL_SLICES_MAX + 1; i++)
        slices[i] = pool_take_slice(&pool);
    for (size_t i = 0; i < POOL_SLICES_MAX + 1; i++)
        pool_give_slice(&pool, slices[i]);
    cr_assert_eq(pool.slice_count, POOL_SLICES_MAX);
    for (size_t i = 0; i < POOL_SMALL_MAX + 1; i++)
        blocks[i] = pool_take_block(&pool, 1, false);
    for (size_t i = 0; i < POOL_SMALL_MAX + 1; i++)
        sluice_buffer_drop(&blocks[i]->buffer);
    cr_assert_eq(pool.small_count, POOL_SMALL_MAX);
    for (size_t i = 0; i < POOL_LARGE_MAX + 1; i++)
        blocks[i] = pool_take_block(&pool, BLOCK_LARGE, false);
    for (size_t i = 0; i < POOL_LARGE_MAX + 1; i++)
        sluice_buffer_drop(&blocks[i]->buffer);
    cr_assert_eq(pool.large_count, POOL_LARGE_MAX);
    pool_finish(&pool);
    cr_assert_eq(pool.large_count, 0);
}

static void release_nothing(struct sluice_buffer *buffer)
{
    (void)buffer;
}

Test(pool, other_buffers_are_no_blocks)
{
    struct sluice_buffer own;
    struct sluice_buffer passing;

    sluice_buffer_init(&own, release_nothing);
    buffer_init_passing(&passing);
    cr_assert_null(block_of(&own));
    cr_assert_null(block_of(&passing));
    cr_assert_not(buffer_is_passing(&own));
    cr_assert(buffer_is_passing(&passing));
}

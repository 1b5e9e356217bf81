/* Queues of bytes, by example and at random against a plain array. */
#include "engine/bytes.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/random.h"

enum {
    PIECES = 64,
    OWNED = 5000,
    STEPS = 20000,
    LEN_MAX = 300 * 1000,
};

/* Memory of the test's own, whose views are appended. */
static uint8_t own_data[OWNED];
static unsigned own_releases;

static void release_own(struct sluice_buffer *buffer)
{
    (void)buffer;
    own_releases++;
}

static struct sluice_buffer own = {.release = release_own, .references = 1};

static struct sluice_view own_view(size_t at, size_t len)
{
    return (struct sluice_view){.data = own_data + at, .len = len, .buffer = &own};
}

static int append(struct bytes *bytes, struct pool *pool, const void *data, size_t len)
{
    struct iovec piece = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};

    return bytes_append_copy(bytes, pool, &piece, 1);
}

/* The queue holds exactly these bytes, and its slices add up. */
static void assert_holds(const struct bytes *bytes, const uint8_t *expected, size_t len)
{
    size_t at = 0;
    const struct slice *last = NULL;

    cr_assert_eq(bytes->len, len);
    for (const struct slice *slice = bytes->first; slice; slice = slice->next) {
        cr_assert_leq(at + slice->len, len);
        cr_assert_eq(memcmp(slice->data, expected + at, slice->len), 0);
        cr_assert_gt(slice->buffer->references, 0);
        at += slice->len;
        last = slice;
    }
    cr_assert_eq(at, len);
    cr_assert_eq(bytes->last, last);
}

static unsigned count_slices(const struct bytes *bytes)
{
    unsigned count = 0;

    for (const struct slice *slice = bytes->first; slice; slice = slice->next)
        count++;
    return count;
}

Test(bytes, that_were_appended_in_small_parts_share_a_block)
{
    struct bytes bytes = {0};
    struct pool pool;

    pool_init(&pool);
    cr_assert(bytes_is_empty(&bytes));
    for (int i = 0; i < 10; i++)
        cr_assert_eq(append(&bytes, &pool, "0123456789", 10), 0);
    cr_assert_eq(count_slices(&bytes), 1);
    cr_assert_eq(bytes.len, 100);
    bytes_clear(&bytes, &pool);
    cr_assert(bytes_is_empty(&bytes));
    pool_finish(&pool);
}

Test(bytes, of_many_pieces_are_appended_as_one)
{
    struct iovec pieces[] = {{"ab", 2}, {NULL, 0}, {"c", 1}, {"def", 3}};
    struct bytes bytes = {0};
    struct pool pool;

    pool_init(&pool);
    cr_assert_eq(bytes_append_copy(&bytes, &pool, pieces, 4), 0);
    assert_holds(&bytes, (const uint8_t *)"abcdef", 6);
    cr_assert_eq(bytes_append_copy(&bytes, &pool, pieces, 0), 0);
    assert_holds(&bytes, (const uint8_t *)"abcdef", 6);
    bytes_clear(&bytes, &pool);
    pool_finish(&pool);
}

Test(bytes, behind_a_view_do_not_grow_into_it)
{
    struct sluice_view view = own_view(0, 3);
    struct bytes bytes = {0};
    struct pool pool;

    pool_init(&pool);
    memcpy(own_data, "own!!", 5);
    append(&bytes, &pool, "a", 1);
    cr_assert_eq(bytes_append_view(&bytes, &pool, &view), 0);
    cr_assert_eq(own.references, 2);
    append(&bytes, &pool, "b", 1);
    assert_holds(&bytes, (const uint8_t *)"aownb", 5);
    cr_assert_eq(memcmp(own_data, "own!!", 5), 0);
    bytes_clear(&bytes, &pool);
    cr_assert_eq(own.references, 1);
    cr_assert_eq(own_releases, 0);
    pool_finish(&pool);
}

Test(bytes, that_are_few_go_behind_a_copy_that_has_room)
{
    struct sluice_view view = own_view(0, 1);
    struct bytes bytes = {0};
    struct pool pool;

    pool_init(&pool);
    memcpy(own_data, "own", 3);
    cr_assert_not(bytes_append_short(&bytes, "a", 1), "there is no copy yet");
    append(&bytes, &pool, "a", 1);
    cr_assert_not(bytes_append_short(&bytes, NULL, 0));
    cr_assert(bytes_append_short(&bytes, "bc", 2));
    cr_assert_not(bytes_append_short(&bytes, own_data, BLOCK_SMALL - 2), "so much does not fit");
    assert_holds(&bytes, (const uint8_t *)"abc", 3);
    bytes_append_view(&bytes, &pool, &view);
    cr_assert_not(bytes_append_short(&bytes, "d", 1), "the last bytes are not a copy");
    assert_holds(&bytes, (const uint8_t *)"abco", 4);
    bytes_clear(&bytes, &pool);
    cr_assert_not(bytes_append_short(&bytes, "e", 1));
    pool_finish(&pool);
}

Test(bytes, of_views_that_adjoin_become_one_slice)
{
    struct sluice_buffer another = {.release = release_own, .references = 1};
    struct sluice_view first = own_view(0, 2);
    struct sluice_view next = own_view(2, 1);
    struct sluice_view apart = own_view(4, 1);
    struct sluice_view foreign = {.data = own_data + 3, .len = 1, .buffer = &another};
    struct bytes bytes = {0};
    struct pool pool;

    pool_init(&pool);
    memcpy(own_data, "abcde", 5);
    cr_assert_not(bytes_extend(&bytes, &first), "there is nothing yet");
    bytes_append_view(&bytes, &pool, &first);
    cr_assert(bytes_extend(&bytes, &next));
    cr_assert_not(bytes_extend(&bytes, &apart));
    cr_assert_not(bytes_extend(&bytes, &foreign), "another buffer may lie behind ours");
    cr_assert_eq(own.references, 2);
    cr_assert_eq(count_slices(&bytes), 1);
    assert_holds(&bytes, (const uint8_t *)"abc", 3);
    bytes_clear(&bytes, &pool);
    pool_finish(&pool);
}

/* Two queues that have parts of one block: only the one that has its last byte may go on filling it. */
Test(bytes, moved_away_leave_a_block_that_only_one_queue_fills)
{
    struct bytes from = {0};
    struct bytes to = {0};
    struct pool pool;

    pool_init(&pool);
    append(&from, &pool, "abcdef", 6);
    cr_assert_eq(bytes_move(&from, &to, &pool, 2), 0);
    append(&to, &pool, "XY", 2);
    append(&from, &pool, "gh", 2);
    append(&to, &pool, "Z", 1);
    assert_holds(&to, (const uint8_t *)"abXYZ", 5);
    assert_holds(&from, (const uint8_t *)"cdefgh", 6);

    cr_assert_eq(bytes_move(&from, &to, &pool, 6), 0);
    append(&to, &pool, "!", 1);
    append(&from, &pool, "?", 1);
    assert_holds(&to, (const uint8_t *)"abXYZcdefgh!", 12);
    assert_holds(&from, (const uint8_t *)"?", 1);
    bytes_clear(&to, &pool);
    bytes_clear(&from, &pool);
    pool_finish(&pool);
}

Test(bytes, that_are_truncated_leave_what_was_before)
{
    struct sluice_view view = own_view(0, 100);
    struct bytes bytes = {0};
    struct pool pool;

    pool_init(&pool);
    append(&bytes, &pool, "abc", 3);
    bytes_append_view(&bytes, &pool, &view);
    bytes_truncate(&bytes, &pool, 50);
    cr_assert_eq(bytes.len, 50);
    bytes_truncate(&bytes, &pool, 3);
    assert_holds(&bytes, (const uint8_t *)"abc", 3);
    cr_assert_eq(own.references, 1);
    bytes_truncate(&bytes, &pool, 2);
    append(&bytes, &pool, "d", 1);
    assert_holds(&bytes, (const uint8_t *)"abd", 3);
    bytes_truncate(&bytes, &pool, 0);
    cr_assert(bytes_is_empty(&bytes));
    pool_finish(&pool);
}

Test(bytes, that_are_none_have_a_place_in_the_queue)
{
    struct sluice_view nothing = own_view(0, 0);
    struct bytes bytes = {0};
    struct sluice_view taken;
    struct pool pool;

    pool_init(&pool);
    bytes_append_view(&bytes, &pool, &nothing);
    cr_assert_not(bytes_is_empty(&bytes));
    cr_assert_eq(bytes.len, 0);
    append(&bytes, &pool, "a", 1);
    taken = bytes_take_first(&bytes, &pool);
    cr_assert_eq(taken.len, 0);
    sluice_buffer_drop(taken.buffer);
    assert_holds(&bytes, (const uint8_t *)"a", 1);
    bytes_append_view(&bytes, &pool, &nothing);
    bytes_consume(&bytes, &pool, 1);
    cr_assert(bytes_is_empty(&bytes), "an empty slice in front of nothing goes, too");
    pool_finish(&pool);
}

Test(bytes, are_gathered_up_to_both_limits)
{
    struct bytes bytes = {0};
    struct iovec pieces[PIECES];
    struct pool pool;
    size_t len;

    pool_init(&pool);
    for (int i = 0; i < 10; i++) {
        struct sluice_view view = own_view((size_t)i * 10, 10);

        bytes_append_view(&bytes, &pool, &view);
    }
    cr_assert_eq(bytes_gather(&bytes, pieces, PIECES, SIZE_MAX, &len), 10);
    cr_assert_eq(len, 100);
    cr_assert_eq(bytes_gather(&bytes, pieces, 3, SIZE_MAX, &len), 3);
    cr_assert_eq(len, 30);
    cr_assert_eq(bytes_gather(&bytes, pieces, PIECES, 25, &len), 3);
    cr_assert_eq(len, 25);
    cr_assert_eq(pieces[2].iov_len, 5);
    cr_assert_eq(bytes_gather(&bytes, pieces, PIECES, 0, &len), 0);
    cr_assert_eq(len, 0);
    bytes_clear(&bytes, &pool);
    pool_finish(&pool);
}

static bool is_own(const struct sluice_buffer *buffer)
{
    return buffer == &own;
}

Test(bytes, are_copied_out_of_the_buffers_that_somebody_needs_back)
{
    struct sluice_view view = own_view(0, 5);
    struct bytes bytes = {0};
    struct pool pool;

    pool_init(&pool);
    memcpy(own_data, "first", 5);
    append(&bytes, &pool, "a", 1);
    bytes_append_view(&bytes, &pool, &view);
    append(&bytes, &pool, "b", 1);
    bytes_append_view(&bytes, &pool, &view);
    cr_assert_eq(own.references, 3);
    cr_assert_eq(bytes_copy_out(&bytes, &pool, is_own), 2);
    cr_assert_eq(own.references, 1);
    memcpy(own_data, "other", 5);
    append(&bytes, &pool, "c", 1);
    assert_holds(&bytes, (const uint8_t *)"afirstbfirstc", 13);
    cr_assert_eq(bytes_copy_out(&bytes, &pool, is_own), 0);
    bytes_clear(&bytes, &pool);
    pool_finish(&pool);
}

/* -- At random ----------------------------------------------------------------------------------------------- */

/* A queue, and what it must hold. */
struct mirrored {
    struct bytes bytes;
    uint8_t *expected;
    size_t len;
};

static void expect_more(struct mirrored *mirrored, const uint8_t *data, size_t len)
{
    memcpy(mirrored->expected + mirrored->len, data, len);
    mirrored->len += len;
}

static void expect_less(struct mirrored *mirrored, size_t len)
{
    memmove(mirrored->expected, mirrored->expected + len, mirrored->len - len);
    mirrored->len -= len;
}

static void take_step(struct mirrored queues[2], struct pool *pool, uint64_t *random)
{
    size_t which = random_below(random, 2);
    struct mirrored *queue = &queues[which];
    struct mirrored *other = &queues[!which];
    size_t at = random_below(random, OWNED);
    size_t len = random_below(random, OWNED - at);
    size_t part = queue->len ? random_below(random, queue->len + 1) : 0;
    struct sluice_view view = own_view(at, len);

    if (queue->len > LEN_MAX || other->len > LEN_MAX)
        part = queue->len;
    switch (random_below(random, 8)) {
    case 0:
    case 1:
        cr_assert_eq(append(&queue->bytes, pool, own_data + at, len), 0);
        expect_more(queue, own_data + at, len);
        break;
    case 2:
        if (!bytes_append_short(&queue->bytes, own_data + at, len % 100))
            cr_assert_eq(append(&queue->bytes, pool, own_data + at, len % 100), 0);
        expect_more(queue, own_data + at, len % 100);
        break;
    case 3:
        cr_assert_eq(bytes_append_view(&queue->bytes, pool, &view), 0);
        expect_more(queue, own_data + at, len);
        view = own_view(at + len, (OWNED - at - len) / 2);
        if (bytes_extend(&queue->bytes, &view))
            expect_more(queue, view.data, view.len);
        break;
    case 4:
        bytes_consume(&queue->bytes, pool, part);
        expect_less(queue, part);
        break;
    case 5:
        if (other->len + part > LEN_MAX)
            break;
        cr_assert_eq(bytes_move(&queue->bytes, &other->bytes, pool, part), 0);
        expect_more(other, queue->expected, part);
        expect_less(queue, part);
        break;
    case 6:
        bytes_truncate(&queue->bytes, pool, part);
        queue->len = part;
        break;
    default:
        bytes_copy_out(&queue->bytes, pool, is_own);
        if (other->len + queue->len > LEN_MAX || random_below(random, 4))
            break;
        bytes_join(&other->bytes, &queue->bytes);
        expect_more(other, queue->expected, queue->len);
        queue->len = 0;
    }
}

Test(bytes, at_random_are_what_a_plain_array_would_be, .timeout = 60)
{
    uint64_t random = random_seed();
    struct mirrored queues[2] = {{.len = 0}, {.len = 0}};
    struct pool pool;

    pool_init(&pool);
    for (size_t i = 0; i < OWNED; i++)
        own_data[i] = (uint8_t)random_next(&random);
    for (int i = 0; i < 2; i++)
        queues[i].expected = malloc(2 * LEN_MAX + OWNED);
    for (int step = 0; step < STEPS; step++) {
        take_step(queues, &pool, &random);
        for (int i = 0; i < 2; i++)
            cr_assert_eq(queues[i].bytes.len, queues[i].len, "step %d", step);
        if (step % 16 == 0)
            for (int i = 0; i < 2; i++)
                assert_holds(&queues[i].bytes, queues[i].expected, queues[i].len);
    }
    for (int i = 0; i < 2; i++) {
        bytes_clear(&queues[i].bytes, &pool);
        free(queues[i].expected);
    }
    cr_assert_eq(own.references, 1);
    pool_finish(&pool);
}

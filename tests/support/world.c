/* Steps that stories on streams have in common: see world.h. */
#include "tests/support/world.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/support/random.h"

enum {
    HIGH_MARK = 64 * 1024, /* so that stories come to backpressure soon */
};

static const uint64_t pause_max_ns = 10 * MS;
static const uint64_t settled_ns = 3 * MS;

/* -- The engine ---------------------------------------------------------------------------------------------- */

void world_open(struct world *world, const struct sluice_engine_options *options)
{
    struct sluice_engine_options small = {.size = sizeof small};
    int error;

    if (options)
        small = *options;
    small.size = sizeof small;
    small.ring_entries = small.ring_entries ? small.ring_entries : 64;
    small.completion_entries = small.completion_entries ? small.completion_entries : 256;
    small.receive_buffer_count = small.receive_buffer_count ? small.receive_buffer_count : 16;
    small.send_high_mark = small.send_high_mark ? small.send_high_mark : HIGH_MARK;
    *world = (struct world){0};
    error = sluice_engine_create(&small, &world->engine);
    cr_assert_eq(error, 0, "%s", strerror(-error));
}

void world_close(struct world *world)
{
    world->is_in_turn = true; /* it tells on_close */
    sluice_engine_destroy(world->engine);
    world->engine = NULL;
}

struct sluice_stats world_stats(const struct world *world)
{
    struct sluice_stats stats;

    sluice_engine_stats(world->engine, &stats);
    return stats;
}

void world_close_empty(struct world *world)
{
    struct sluice_stats stats = world_stats(world);

    cr_assert_eq(stats.streams, 0);
    cr_assert_eq(stats.queued_bytes, 0);
    cr_assert_eq(stats.receive_buffers_lent, 0);
    cr_assert_eq(stats.stale_completions, 0);
    world_close(world);
}

static void take_turn(struct world *world)
{
    int error;

    world->is_in_turn = true;
    error = sluice_engine_turn(world->engine);
    world->is_in_turn = false;
    cr_assert_eq(error, 0, "%s", strerror(-error));
}

void world_turn(struct world *world)
{
    struct pollfd fd = {.fd = sluice_engine_fd(world->engine), .events = POLLIN};
    uint64_t wait_ns = sluice_engine_wait_ns(world->engine);
    struct timespec wait = {.tv_nsec = (long)(wait_ns < pause_max_ns ? wait_ns : pause_max_ns)};

    if (wait_ns > 0)
        ppoll(&fd, 1, &wait, NULL);
    take_turn(world);
}

void world_settle(struct world *world)
{
    for (unsigned turns = 0; turns < MANY_TURNS; turns++) {
        if (sluice_engine_wait_ns(world->engine) > settled_ns)
            return;
        world_turn(world);
    }
    cr_assert_fail("it never comes to rest");
}

void world_until_closed(struct world *world, const struct record *left, const struct record *right)
{
    world_turns_until(world, left->closes > 0 && right->closes > 0, MANY_TURNS);
    /* Whatever came after on_close would come now. */
    world_settle(world);
}

/* -- Records ------------------------------------------------------------------------------------------------- */

static void note(struct record *record, char letter)
{
    size_t len = strlen(record->told);

    if (!strchr(record->told, letter) && len < sizeof record->told - 1)
        record->told[len] = letter;
}

/* A callback begins. */
static void enter(struct record *record, struct sluice_stream *stream, char letter)
{
    cr_assert(record->world->is_in_turn, "'%c' comes from the engine's turn", letter);
    cr_assert(!record->world->is_telling, "'%c' comes inside another callback", letter);
    cr_assert_eq(record->closes, 0, "'%c' comes after on_close", letter);
    cr_assert_eq(record->stream, stream);
    record->world->is_telling = true;
    note(record, letter);
}

static void leave(struct record *record)
{
    record->world->is_telling = false;
}

static void hear_open(struct sluice_stream *stream, void *user)
{
    struct record *record = user;

    enter(record, stream, 'o');
    record->opens++;
    cr_assert_eq(record->opens, 1);
    if (record->when_open)
        record->when_open(record);
    leave(record);
}

static void collect(struct record *record, const struct sluice_view *view)
{
    if (record->len + view->len > record->capacity) {
        record->capacity = 2 * (record->len + view->len);
        record->bytes = realloc(record->bytes, record->capacity);
        cr_assert(record->bytes);
    }
    if (view->len > 0)
        memcpy(record->bytes + record->len, view->data, view->len);
    record->len += view->len;
}

static void hear_data(struct sluice_stream *stream, const struct sluice_view *view, void *user)
{
    struct record *record = user;

    enter(record, stream, 'v');
    cr_assert_eq(record->ends, 0, "data comes after on_end");
    record->views++;
    collect(record, view);
    if (record->when_data)
        record->when_data(record, view);
    leave(record);
}

static void send_more(struct record *record)
{
    int answer = SLUICE_ROOM;

    while (answer == SLUICE_ROOM && record->source_len > 0) {
        size_t len = record->source_len < record->source_chunk ? record->source_len : record->source_chunk;

        answer = sluice_stream_send(record->stream, record->source, len);
        cr_assert_geq(answer, 0, "%s", strerror(-answer));
        record->source += len;
        record->source_len -= len;
    }
    record->fulls += answer == SLUICE_FULL;
}

static void hear_drain(struct sluice_stream *stream, void *user)
{
    struct record *record = user;

    enter(record, stream, 'd');
    cr_assert(record->may_be_aborted || sluice_stream_write_status(stream) == SLUICE_WRITABLE,
              "a drain after the end of sending");
    record->drains++;
    send_more(record);
    if (record->when_drain)
        record->when_drain(record);
    leave(record);
}

static void hear_end(struct sluice_stream *stream, void *user)
{
    struct record *record = user;

    enter(record, stream, 'e');
    record->ends++;
    cr_assert_eq(record->ends, 1);
    cr_assert_eq(sluice_stream_read_status(stream), SLUICE_READ_CLOSED);
    if (record->when_end)
        record->when_end(record);
    leave(record);
}

static void hear_close(struct sluice_stream *stream, const struct sluice_close *why, void *user)
{
    struct record *record = user;

    enter(record, stream, 'c');
    cr_assert_eq(sluice_stream_state(stream), SLUICE_CLOSED);
    cr_assert_eq(sluice_stream_write_status(stream), SLUICE_WRITE_CLOSED);
    cr_assert_eq(sluice_stream_read_status(stream), SLUICE_READ_CLOSED);
    cr_assert_eq(sluice_stream_queued(stream), 0);
    record->closes++;
    record->why = *why;
    if (record->when_close)
        record->when_close(record);
    record->stream = NULL;
    leave(record);
}

const struct sluice_stream_events record_events = {
    .on_open = hear_open,
    .on_data = hear_data,
    .on_drain = hear_drain,
    .on_end = hear_end,
    .on_close = hear_close,
};

void record_init(struct record *record, struct world *world)
{
    *record = (struct record){.world = world};
}

void record_finish(struct record *record)
{
    free(record->bytes);
    *record = (struct record){0};
}

void world_pair(struct world *world, struct record *left, struct record *right, size_t capacity)
{
    struct sluice_pair_end ends[2] = {
        {.engine = world->engine, .events = &record_events, .user = left},
        {.engine = world->engine, .events = &record_events, .user = right},
    };

    record_init(left, world);
    record_init(right, world);
    cr_assert_eq(sluice_pair(&ends[0], &ends[1], capacity, &left->stream, &right->stream), 0);
}

/* -- Sending and hearing ------------------------------------------------------------------------------------- */

void send_all(struct record *record, const uint8_t *data, size_t len, size_t chunk)
{
    record->source = data;
    record->source_len = len;
    record->source_chunk = chunk;
    send_more(record);
}

int send_now(struct record *record, const void *data, size_t len)
{
    int answer = sluice_stream_send(record->stream, data, len);

    cr_assert_geq(answer, 0, "%s", strerror(-answer));
    return answer;
}

bool has_heard(const struct record *record, const void *data, size_t len)
{
    return record->len == len && (len == 0 || memcmp(record->bytes, data, len) == 0);
}

void assert_closed(const struct record *record, int error, uint64_t unsent)
{
    cr_assert_eq(record->closes, 1);
    cr_assert_eq(record->why.error, error, "closed with %s", strerror(-record->why.error));
    cr_assert_eq(record->why.unsent, unsent, "unsent: %llu, not %llu", (unsigned long long)record->why.unsent,
                 (unsigned long long)unsent);
}

uint8_t *pattern(size_t len, uint64_t seed)
{
    uint8_t *bytes = malloc(len + sizeof seed);

    cr_assert(bytes);
    for (size_t i = 0; i < len; i += sizeof seed) {
        uint64_t word = random_next(&seed);

        memcpy(bytes + i, &word, sizeof word);
    }
    return bytes;
}

void close_when_end(struct record *record)
{
    sluice_stream_close(record->stream);
}

void finish_when_end(struct record *record)
{
    sluice_stream_finish(record->stream);
}

void echo_when_data(struct record *record, const struct sluice_view *view)
{
    int answer = sluice_stream_send_view(record->stream, view);

    cr_assert_geq(answer, 0, "%s", strerror(-answer));
}

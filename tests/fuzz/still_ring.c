/* Engines on a ring below which nothing happens: see still_ring.h. */
#include "tests/fuzz/still_ring.h"

#include "engine/engine.h"
#include "tests/fuzz/fuzz.h"
#include "uring/buffers.h"
#include "uring/ring.h"

enum {
    TURNS_MAX = 50000, /* in which everything that a few kilobytes of calls started must have come to rest */
};

struct still_ring {
    struct ring ring;
    const uint64_t *now_ns;
};

static struct io_uring_sqe *get_entry(struct ring *ring)
{
    (void)ring;
    must(false, "streams in memory make no requests");
    return NULL;
}

static int enter(struct ring *ring, uint32_t completions, uint64_t deadline_ns)
{
    (void)completions;
    (void)deadline_ns;
    ring->enters++;
    return 0;
}

static uint32_t peek(struct ring *ring, struct io_uring_cqe **completions, uint32_t max)
{
    (void)ring;
    (void)completions;
    (void)max;
    return 0;
}

static void seen(struct ring *ring, uint32_t count)
{
    (void)ring;
    must(count == 0);
}

static int watch(struct ring *ring)
{
    (void)ring;
    return -ENOSYS;
}

static bool holds_back(struct ring *ring)
{
    (void)ring;
    return false;
}

static int add_buffers(struct ring *ring, struct buffers *buffers)
{
    (void)ring;
    (void)buffers;
    return 0;
}

static void remove_buffers(struct ring *ring, struct buffers *buffers)
{
    (void)ring;
    must(buffers->available == buffers->count);
}

static uint64_t now(struct ring *ring)
{
    return *((const struct still_ring *)ring)->now_ns;
}

static void wake(struct ring *ring)
{
    (void)ring;
}

static void destroy(struct ring *ring)
{
    free(ring);
}

/* Whatever is missing is for sockets, pipes and names. */
static const struct ring_ops still_ops = {
    .get_entry = get_entry,
    .enter = enter,
    .peek = peek,
    .seen = seen,
    .holds_back = holds_back,
    .add_buffers = add_buffers,
    .remove_buffers = remove_buffers,
    .now = now,
    .wake = wake,
    .watch = watch,
    .destroy = destroy,
};

struct sluice_engine *still_engine_create(const struct sluice_engine_options *options, const uint64_t *now_ns)
{
    struct still_ring *still = calloc(1, sizeof *still);
    struct sluice_engine *engine;

    must(still);
    still->ring = (struct ring){.ops = &still_ops, .entries = 8, .completion_entries = 8};
    still->now_ns = now_ns;
    must(engine_create_on(&still->ring, options, &engine) == 0);
    return engine;
}

void still_settle(struct sluice_engine *const engines[], size_t count, uint64_t *now_ns, uint64_t patience_ns)
{
    for (unsigned turns = 0; turns < TURNS_MAX; turns++) {
        uint64_t soonest = UINT64_MAX;

        for (size_t i = 0; i < count; i++) {
            uint64_t wait_ns = sluice_engine_wait_ns(engines[i]);

            if (wait_ns == 0)
                must(sluice_engine_turn(engines[i]) == 0);
            soonest = wait_ns < soonest ? wait_ns : soonest;
        }
        if (soonest > patience_ns)
            return;
        *now_ns += soonest;
    }
    must(false, "the engines never come to rest");
}

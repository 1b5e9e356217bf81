/* The arrays of vectored sends: one belongs to one entry, until the ring is entered. */
#include <criterion/criterion.h>

#include "engine/engine.h"
#include "tests/support/world.h"

/* What is taken from the ring unprepared does nothing. */
static void fill_ring(struct ring *ring)
{
    while (ring->ops->get_entry(ring))
        continue;
}

Test(gathers, are_not_given_twice_though_the_ring_had_to_be_entered_for_an_entry, .timeout = 10)
{
    struct world world;
    struct io_uring_sqe *entry;
    const struct gather *first;

    world_open(&world, NULL);
    fill_ring(world.engine->ring);
    first = engine_get_gather(world.engine, &entry);
    cr_assert_neq(engine_get_gather(world.engine, &entry), first);
    world_close(&world);
}

/* Leases of received buffers: see lease.h. */
#include "engine/lease.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

static bool can_feed(const struct leases *leases)
{
    return leases->buffers.available > 0 && leases->buffers.available >= leases->buffers.count / LEASES_FEED_FRACTION;
}

/* As many as there are buffers, first come first: of all at once most would find none, and do so at each feeding. */
static void feed_starving(struct task *task)
{
    struct leases *leases = container_of(task, struct leases, feed);

    for (uint32_t left = leases->buffers.offered; left > 0 && !link_is_alone(&leases->starving); left--) {
        struct link *starving = leases->starving.next;

        link_remove(starving);
        leases->wake(starving);
    }
    /* These may have nothing to receive: then the others' turn is the next pass. */
    if (!link_is_alone(&leases->starving) && can_feed(leases))
        lane_push(&leases->tasks->work, &leases->feed);
}

void leases_return(struct sluice_buffer *buffer)
{
    struct lease *lease = container_of(buffer, struct lease, buffer);
    struct leases *leases = lease->leases;

    buffers_return(&leases->buffers, (uint16_t)(lease - leases->all));
    if (!link_is_alone(&leases->starving) && can_feed(leases))
        lane_push(&leases->tasks->work, &leases->feed);
}

int leases_init(struct leases *leases, struct ring *ring, struct run_queue *tasks, uint32_t count, uint32_t size,
                uint32_t window, bool wants_huge_pages, void (*wake)(struct link *starving))
{
    int error;

    *leases = (struct leases){.tasks = tasks, .feed.run = feed_starving, .wake = wake};
    link_init(&leases->starving);
    leases->all = calloc(count, sizeof *leases->all);
    if (!leases->all)
        return -ENOMEM;
    error = buffers_init(&leases->buffers, ring, 0, count, size, window, wants_huge_pages);
    if (error) {
        free(leases->all);
        return error;
    }
    for (uint32_t i = 0; i < count; i++)
        leases->all[i] = (struct lease){.buffer.release = leases_return, .leases = leases};
    return 0;
}

void leases_finish(struct leases *leases, struct ring *ring)
{
    assert(leases->buffers.available == leases->buffers.count);
    assert(link_is_alone(&leases->starving));
    buffers_finish(&leases->buffers, ring);
    free(leases->all);
}

struct sluice_view leases_take(struct leases *leases, uint16_t id, size_t len)
{
    struct lease *lease = &leases->all[id];

    assert(id < leases->buffers.count);
    assert(len <= leases->buffers.size);
    assert(lease->buffer.references == 0);
    lease->buffer.references = 1;
    return (struct sluice_view){.data = buffers_lend(&leases->buffers, id, len), .len = len, .buffer = &lease->buffer};
}

void leases_starve(struct leases *leases, struct link *starving)
{
    assert(link_is_alone(starving));
    link_append(&leases->starving, starving);
    buffers_widen(&leases->buffers);
    /* They may have come back before we asked. */
    if (can_feed(leases))
        lane_push(&leases->tasks->work, &leases->feed);
}

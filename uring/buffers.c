/* Provided-buffer rings on mapped memory: lend what the kernel filled, return it at the ring's end. */
#include "uring/buffers.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "uring/ring.h"

enum {
    COUNT_MAX = 32768, /* the kernel's limit */
    HUGE_PAGE_SIZE = 2 * 1024 * 1024,
};

static size_t round_up(size_t size, size_t unit)
{
    return (size + unit - 1) / unit * unit;
}

static void *map_memory(size_t size, int flags)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

    if (memory == MAP_FAILED)
        return NULL;
    return memory;
}

/* On huge pages if some are reserved; else on ordinary ones, which the kernel may join. */
static void *map_huge(size_t size)
{
    void *memory = map_memory(size, MAP_HUGETLB);

    if (memory)
        return memory;
    memory = map_memory(size, 0);
    if (memory)
        madvise(memory, size, MADV_HUGEPAGE);
    return memory;
}

static size_t ring_size(const struct buffers *buffers)
{
    return buffers->count * sizeof(struct io_uring_buf);
}

static int map_all(struct buffers *buffers, bool wants_huge_pages)
{
    size_t size = (size_t)buffers->count * buffers->size;

    buffers->memory_size = wants_huge_pages ? round_up(size, HUGE_PAGE_SIZE) : size;
    buffers->memory = wants_huge_pages ? map_huge(buffers->memory_size) : map_memory(buffers->memory_size, 0);
    if (!buffers->memory)
        return -ENOMEM;
    buffers->ring = map_memory(ring_size(buffers), 0); /* zeroed, so its tail is 0; must begin a page */
    if (!buffers->ring)
        goto unmap_memory;
    buffers->spare = malloc(2 * buffers->count * sizeof *buffers->spare);
    if (!buffers->spare)
        goto unmap_ring;
    buffers->places = buffers->spare + buffers->count;
    return 0;

unmap_ring:
    munmap(buffers->ring, ring_size(buffers));
unmap_memory:
    munmap(buffers->memory, buffers->memory_size);
    return -ENOMEM;
}

static void unmap_all(struct buffers *buffers)
{
    free(buffers->spare);
    munmap(buffers->ring, ring_size(buffers));
    munmap(buffers->memory, buffers->memory_size);
}

static uint8_t *buffer_at(const struct buffers *buffers, uint16_t id)
{
    assert(id < buffers->count);
    return buffers->memory + (size_t)id * buffers->size;
}

/* Offers the buffer that came back last, if the window has room for one and there is one. */
static void offer_one(struct buffers *buffers)
{
    struct io_uring_buf_ring *ring = buffers->ring;
    uint16_t id;

    if (buffers->offered >= buffers->window || buffers->offered == buffers->available)
        return;
    id = buffers->spare[buffers->available - ++buffers->offered];
    buffers->places[id] = ring->tail;
    io_uring_buf_ring_add(ring, buffer_at(buffers, id), buffers->size, id, io_uring_buf_ring_mask(buffers->count), 0);
    io_uring_buf_ring_advance(ring, 1); /* stores with release order: the kernel sees the place filled */
}

int buffers_init(struct buffers *buffers, struct ring *ring, uint16_t group, uint32_t count, uint32_t size,
                 uint32_t window, bool wants_huge_pages)
{
    int result;

    assert(count > 0);
    assert(count <= COUNT_MAX);
    assert((count & (count - 1)) == 0);
    assert(size > 0);
    assert(window > 0);
    *buffers = (struct buffers){.count = count, .size = size, .calm = BUFFERS_CALM, .group = group};
    buffers->window = window < count ? window : count;
    buffers->narrowest = buffers->window;
    result = map_all(buffers, wants_huge_pages);
    if (result < 0)
        return result;
    result = ring->ops->add_buffers(ring, buffers);
    if (result < 0) {
        unmap_all(buffers);
        return result;
    }
    for (uint32_t i = 0; i < count; i++)
        buffers->spare[i] = (uint16_t)(count - 1 - i);
    buffers->available = count;
    for (uint32_t i = 0; i < buffers->window; i++)
        offer_one(buffers);
    return 0;
}

void buffers_finish(struct buffers *buffers, struct ring *ring)
{
    ring->ops->remove_buffers(ring, buffers);
    unmap_all(buffers);
}

static void set_window(struct buffers *buffers, uint32_t window)
{
    buffers->window = window;
    buffers->lent = 0;
    buffers->filled = 0;
}

static void narrow(struct buffers *buffers)
{
    uint32_t half = buffers->window / 2;

    set_window(buffers, half < buffers->narrowest ? buffers->narrowest : half);
}

uint8_t *buffers_lend(struct buffers *buffers, uint16_t id, size_t len)
{
    assert(buffers->offered > 0);
    assert(buffers->available >= buffers->offered);
    buffers->offered--;
    buffers->available--;
    buffers->filled += len;
    if (++buffers->lent == buffers->calm)
        narrow(buffers);
    offer_one(buffers);
    return buffer_at(buffers, id);
}

uint16_t buffers_behind(const struct buffers *buffers, uint16_t id)
{
    uint32_t place = buffers->places[id] + 1U;

    return buffers->ring->bufs[place & (buffers->count - 1)].bid;
}

void buffers_return(struct buffers *buffers, uint16_t id)
{
    assert(buffers->available < buffers->count); /* else it was returned twice */
    buffers->spare[buffers->available++ - buffers->offered] = id;
    offer_one(buffers);
}

/*
 * Many may find it empty at the same time: that is one want. Many small messages need as many buffers; a few streams
 * that fill all of them are served as well by these, while they are hot.
 */
void buffers_widen(struct buffers *buffers)
{
    if (buffers->window == buffers->count || buffers->lent < buffers->window)
        return;
    if (buffers->filled / buffers->lent * buffers->window >= BUFFERS_HOT)
        return;
    buffers->calm = buffers->calm < BUFFERS_CALM_MAX ? 2 * buffers->calm : BUFFERS_CALM_MAX;
    set_window(buffers, 2 * buffers->window < buffers->count ? 2 * buffers->window : buffers->count);
    for (uint32_t i = buffers->offered; i < buffers->window; i++)
        offer_one(buffers);
}

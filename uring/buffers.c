/* Provided-buffer rings on mapped memory: lend what the kernel filled, return it at the ring's end. */
#include "uring/buffers.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
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
    if (!buffers->ring) {
        munmap(buffers->memory, buffers->memory_size);
        return -ENOMEM;
    }
    return 0;
}

static void unmap_all(struct buffers *buffers)
{
    munmap(buffers->ring, ring_size(buffers));
    munmap(buffers->memory, buffers->memory_size);
}

static uint8_t *buffer_at(const struct buffers *buffers, uint16_t id)
{
    assert(id < buffers->count);
    return buffers->memory + (size_t)id * buffers->size;
}

static void place(struct buffers *buffers, uint16_t id, uint32_t offset)
{
    io_uring_buf_ring_add(buffers->ring, buffer_at(buffers, id), buffers->size, id,
                          io_uring_buf_ring_mask(buffers->count), (int)offset);
}

int buffers_init(struct buffers *buffers, struct ring *ring, uint16_t group, uint32_t count, uint32_t size,
                 bool wants_huge_pages)
{
    int result;

    assert(count > 0);
    assert(count <= COUNT_MAX);
    assert((count & (count - 1)) == 0);
    assert(size > 0);
    *buffers = (struct buffers){.count = count, .size = size, .group = group};
    result = map_all(buffers, wants_huge_pages);
    if (result < 0)
        return result;
    result = ring->ops->add_buffers(ring, buffers);
    if (result < 0) {
        unmap_all(buffers);
        return result;
    }
    for (uint32_t id = 0; id < count; id++)
        place(buffers, (uint16_t)id, id);
    io_uring_buf_ring_advance(buffers->ring, (int)count);
    buffers->available = count;
    return 0;
}

void buffers_finish(struct buffers *buffers, struct ring *ring)
{
    ring->ops->remove_buffers(ring, buffers);
    unmap_all(buffers);
}

uint8_t *buffers_lend(struct buffers *buffers, uint16_t id)
{
    assert(buffers->available > 0);
    buffers->available--;
    return buffer_at(buffers, id);
}

void buffers_return(struct buffers *buffers, uint16_t id)
{
    assert(buffers->available < buffers->count); /* else it was returned twice */
    place(buffers, id, 0);
    io_uring_buf_ring_advance(buffers->ring, 1); /* stores with release order: the kernel sees the place filled */
    buffers->available++;
}

/* The shared buffers: see buffers.h. */
#include "perf/peers/floor/buffers.h"

#include <errno.h>
#include <sys/mman.h>

static void *map(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);

    if (memory == MAP_FAILED)
        peer_die("memory", errno);
    return memory;
}

/*
 * Few enough to stay in the cache, as they are used in turn. Streams are received in large pieces; elsewhere there are
 * more buffers, for a turn's connections and those of the turn before.
 */
static void choose_buffers(void)
{
    switch (options.role) {
    case PEER_SINK:
        server.buffer_count = 16;
        server.buffer_size = 65536;
        break;
    case PEER_FORWARD:
        server.buffer_count = 32;
        server.buffer_size = 65536;
        break;
    default:
        server.buffer_count = BUFFERS_MAX;
        server.buffer_size = 16384;
    }
    server.lent_max = server.buffer_count / 4 * 3;
}

void buffers_set_up(void)
{
    struct io_uring_buf_reg registration = {0};
    int error;

    choose_buffers();
    server.buffers = map(server.buffer_count * sizeof(struct io_uring_buf));
    server.memory = map((size_t)server.buffer_count * server.buffer_size);
    registration.ring_addr = (uint64_t)(uintptr_t)server.buffers;
    registration.ring_entries = server.buffer_count;
    error = io_uring_register_buf_ring(&server.ring, &registration, 0);
    if (error)
        peer_die("shared buffers", error);
    io_uring_buf_ring_init(server.buffers);
    server.lent = server.buffer_count;
    for (unsigned i = 0; i < server.buffer_count; i++)
        buffer_give_back(i);
}

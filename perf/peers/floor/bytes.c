/* The bytes that wait to be sent: see bytes.h. */
#include "perf/peers/floor/bytes.h"

#include "perf/peers/floor/buffers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    COPY_SIZE = 65536,
};

static void *allocate(size_t size)
{
    void *memory = malloc(size);

    if (!memory)
        peer_die("memory", ENOMEM);
    return memory;
}

struct block *block_create(size_t capacity)
{
    struct block *block = allocate(sizeof *block + capacity);

    block->next = NULL;
    block->len = 0;
    block->capacity = capacity;
    return block;
}

void block_append(struct block *block, const uint8_t *data, size_t len)
{
    memcpy(block->bytes + block->len, data, len);
    block->len += len;
}

struct batch *batch_take(unsigned origin)
{
    struct batch *batch = server.free_batches;

    if (batch)
        server.free_batches = batch->next;
    else
        batch = allocate(sizeof *batch);
    batch->next = NULL;
    batch->blocks = NULL;
    batch->len = 0;
    batch->origin = origin;
    batch->buffer_count = 0;
    batch->message = (struct msghdr){.msg_iov = batch->pieces};
    return batch;
}

/* Frees what the pieces lie in, but not the batch. */
static void batch_empty(struct batch *batch)
{
    for (unsigned i = 0; i < batch->buffer_count; i++)
        buffer_give_back(batch->buffers[i]);
    batch->buffer_count = 0;
    while (batch->blocks) {
        struct block *block = batch->blocks;

        batch->blocks = block->next;
        free(block);
    }
}

void batch_give_back(struct batch *batch)
{
    batch_empty(batch);
    batch->next = server.free_batches;
    server.free_batches = batch;
}

void batch_add(struct batch *batch, const void *data, size_t len)
{
    batch->pieces[batch->message.msg_iovlen++] = (struct iovec){.iov_base = (void *)data, .iov_len = len};
    batch->len += len;
}

void batch_add_block(struct batch *batch, struct block *block)
{
    block->next = batch->blocks;
    batch->blocks = block;
    batch_add(batch, block->bytes, block->len);
}

struct block *batch_copy(const struct batch *batch, size_t skip)
{
    struct block *block = block_create(batch->len - skip);

    for (size_t i = 0; i < batch->message.msg_iovlen; i++) {
        const struct iovec *piece = &batch->message.msg_iov[i];
        size_t skipped = skip < piece->iov_len ? skip : piece->iov_len;

        block_append(block, (uint8_t *)piece->iov_base + skipped, piece->iov_len - skipped);
        skip -= skipped;
    }
    return block;
}

void batch_drop(struct batch *batch, size_t len)
{
    batch->len -= len;
    while (len > 0) {
        struct iovec *piece = batch->message.msg_iov;
        size_t part = len < piece->iov_len ? len : piece->iov_len;

        piece->iov_base = (uint8_t *)piece->iov_base + part;
        piece->iov_len -= part;
        len -= part;
        if (piece->iov_len == 0) {
            batch->message.msg_iov++;
            batch->message.msg_iovlen--;
        }
    }
}

void batch_own(struct batch *batch)
{
    struct block *block = batch_copy(batch, 0);

    batch_empty(batch);
    batch->len = 0;
    batch->message = (struct msghdr){.msg_iov = batch->pieces};
    batch_add_block(batch, block);
}

/* The batch at the tail, if one more piece of the same origin fits into it, or a new one. */
static struct batch *queue_tail(struct queue *queue, unsigned origin)
{
    struct batch *batch = queue->tail;

    if (batch && batch->origin == origin &&
        batch->pieces + PIECE_COUNT > batch->message.msg_iov + batch->message.msg_iovlen)
        return batch;
    batch = batch_take(origin);
    if (queue->tail)
        queue->tail->next = batch;
    else
        queue->head = batch;
    queue->tail = batch;
    return batch;
}

void queue_buffer(struct queue *queue, unsigned origin, unsigned buffer, const uint8_t *data, size_t len)
{
    struct batch *batch = queue_tail(queue, origin);

    batch->buffers[batch->buffer_count++] = (uint16_t)buffer;
    batch_add(batch, data, len);
    queue->len += len;
}

void queue_block(struct queue *queue, unsigned origin, struct block *block)
{
    batch_add_block(queue_tail(queue, origin), block);
    queue->len += block->len;
}

/* Small copies share a block, which is the last piece of the last batch. */
void queue_copy(struct queue *queue, unsigned origin, const uint8_t *data, size_t len)
{
    struct block *block = queue->tail ? queue->tail->blocks : NULL;
    struct iovec *last = block ? queue->tail->message.msg_iov + queue->tail->message.msg_iovlen - 1 : NULL;

    if (block && block->capacity - block->len >= len && last->iov_base == block->bytes) {
        block_append(block, data, len);
        last->iov_len += len;
        queue->tail->len += len;
        queue->len += len;
        return;
    }
    block = block_create(len > COPY_SIZE ? len : COPY_SIZE);
    block_append(block, data, len);
    queue_block(queue, origin, block);
}

struct batch *queue_pop(struct queue *queue)
{
    struct batch *batch = queue->head;

    queue->head = batch->next;
    if (!queue->head)
        queue->tail = NULL;
    queue->len -= batch->len;
    return batch;
}

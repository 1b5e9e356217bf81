/*
 * The bytes that wait to be sent: blocks of memory, batches that go out in one send each, and queues of batches. Their
 * pieces lie in blocks or in the shared buffers (buffers.h), and go with the batch that holds them.
 */
#ifndef PERF_FLOOR_BYTES_H
#define PERF_FLOOR_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum {
    PIECE_COUNT = 64,
};

/* Bytes of a batch's own. */
struct block {
    struct block *next;
    size_t len;
    size_t capacity;
    uint8_t bytes[];
};

/* What goes out in one send. */
struct batch {
    struct batch *next;
    struct block *blocks;
    size_t len;
    unsigned origin; /* whose words these are */
    unsigned buffer_count;
    uint16_t buffers[PIECE_COUNT]; /* shared ones, to be given back after the send */
    struct msghdr message;         /* of pieces, which lie in buffers and blocks */
    struct iovec pieces[PIECE_COUNT];
};

struct queue {
    struct batch *head;
    struct batch *tail;
    size_t len;
};

struct block *block_create(size_t capacity);

/* There has to be room for it. */
void block_append(struct block *block, const uint8_t *data, size_t len);

/* An empty one, of those that were given back if there are any; and back it goes, with what its pieces lie in. */
struct batch *batch_take(unsigned origin);
void batch_give_back(struct batch *batch);

/* One more piece of at most PIECE_COUNT: bytes that stay where they are, or a block that is the batch's from now on. */
void batch_add(struct batch *batch, const void *data, size_t len);
void batch_add_block(struct batch *batch, struct block *block);

/* Copies what is left of a batch from `skip` on. */
struct block *batch_copy(const struct batch *batch, size_t skip);

/* Drops the first bytes, which were sent. */
void batch_drop(struct batch *batch, size_t len);

/* Who reads slowly cannot take the shared buffers from others: moves what is left to memory of its own. */
void batch_own(struct batch *batch);

/* Each puts bytes behind those that are there: what lies in a shared buffer, a block that is given away, or a copy. */
void queue_buffer(struct queue *queue, unsigned origin, unsigned buffer, const uint8_t *data, size_t len);
void queue_block(struct queue *queue, unsigned origin, struct block *block);
void queue_copy(struct queue *queue, unsigned origin, const uint8_t *data, size_t len);

/* Its first batch: there has to be one. */
struct batch *queue_pop(struct queue *queue);

#endif

/* Buffer rings on the real kernel: what is lent, what is returned, and what happens when there is none left. */
#include "uring/buffers.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <sys/socket.h>

#include "uring/ring.h"

enum {
    GROUP = 3,
    COUNT = 4,
    SIZE = 16,
};

static const struct ring_config config = {.entries = 8, .completion_entries = 64, .sqpoll_cpu = -1};

/* A socket that receives into buffers, and the other end of it. */
struct receiver {
    struct ring *ring;
    struct buffers buffers;
    int fd;
    int peer;
};

static void set_up_window(struct receiver *receiver, uint32_t count, uint32_t window)
{
    int sockets[2];

    cr_assert_eq(ring_open_linux(&config, &receiver->ring), 0);
    cr_assert_eq(buffers_init(&receiver->buffers, receiver->ring, GROUP, count, SIZE, window, false), 0);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets), 0); /* a message fills one buffer */
    receiver->fd = sockets[0];
    receiver->peer = sockets[1];
}

static void set_up(struct receiver *receiver, uint32_t count)
{
    set_up_window(receiver, count, count);
}

static void tear_down(struct receiver *receiver)
{
    buffers_finish(&receiver->buffers, receiver->ring);
    receiver->ring->ops->destroy(receiver->ring);
}

static void send_number(struct receiver *receiver, uint32_t number)
{
    cr_assert_eq(send(receiver->peer, &number, sizeof number, MSG_DONTWAIT), sizeof number);
}

/* Good until the next call. */
static const struct io_uring_cqe *receive(struct receiver *receiver)
{
    static struct io_uring_cqe received;
    struct ring *ring = receiver->ring;
    struct io_uring_cqe *completion;

    ring_prep_receive(ring->ops->get_entry(ring), receiver->fd, GROUP, false);
    cr_assert_eq(ring->ops->enter(ring, 1, UINT64_MAX), 0);
    cr_assert_eq(ring->ops->peek(ring, &completion, 1), 1);
    memcpy(&received, completion, sizeof received);
    ring->ops->seen(ring, 1);
    return &received;
}

/* Receives a message, which must be `number`. Returns the number of the buffer that it is in, which is now ours. */
static uint16_t receive_number(struct receiver *receiver, uint32_t number)
{
    const struct io_uring_cqe *completion = receive(receiver);
    uint16_t id = (uint16_t)(completion->flags >> IORING_CQE_BUFFER_SHIFT);

    cr_assert_eq(completion->res, sizeof number);
    cr_assert(completion->flags & IORING_CQE_F_BUFFER);
    cr_assert_eq(memcmp(buffers_lend(&receiver->buffers, id, sizeof number), &number, sizeof number), 0);
    return id;
}

Test(buffers, are_all_available_at_first, .timeout = 10)
{
    struct receiver receiver;

    set_up(&receiver, COUNT);
    cr_assert_eq(receiver.buffers.available, COUNT);
    tear_down(&receiver);
}

Test(buffers, lend_what_the_kernel_filled_until_it_is_returned, .timeout = 10)
{
    struct receiver receiver;
    uint16_t first;
    uint16_t second;

    set_up(&receiver, COUNT);
    send_number(&receiver, 11);
    send_number(&receiver, 22);
    first = receive_number(&receiver, 11);
    second = receive_number(&receiver, 22);
    cr_assert_neq(first, second);
    cr_assert_eq(receiver.buffers.available, COUNT - 2);
    buffers_return(&receiver.buffers, first);
    buffers_return(&receiver.buffers, second);
    cr_assert_eq(receiver.buffers.available, COUNT);
    tear_down(&receiver);
}

Test(buffers, run_out_without_losing_what_arrived, .timeout = 10)
{
    struct receiver receiver;
    uint16_t ids[COUNT];

    set_up(&receiver, COUNT);
    for (uint32_t i = 0; i < COUNT + 1; i++)
        send_number(&receiver, i);
    for (uint32_t i = 0; i < COUNT; i++)
        ids[i] = receive_number(&receiver, i);
    cr_assert_eq(receiver.buffers.available, 0);
    cr_assert_eq(receive(&receiver)->res, -ENOBUFS);
    buffers_return(&receiver.buffers, ids[2]);
    cr_assert_eq(receive_number(&receiver, COUNT), ids[2]);
    tear_down(&receiver);
}

Test(buffers, are_few_that_are_used_again_and_again, .timeout = 10)
{
    struct receiver receiver;

    set_up_window(&receiver, 64, 2);
    for (uint32_t i = 0; i < 100; i++) {
        uint16_t id;

        send_number(&receiver, i);
        id = receive_number(&receiver, i);
        cr_assert_leq(id, 2, "two are ready, and a third while one is lent");
        buffers_return(&receiver.buffers, id);
    }
    tear_down(&receiver);
}

Test(buffers, are_all_used_while_none_comes_back, .timeout = 10)
{
    struct receiver receiver;

    set_up_window(&receiver, COUNT, 1);
    for (uint32_t i = 0; i < COUNT; i++) {
        send_number(&receiver, i);
        receive_number(&receiver, i);
    }
    cr_assert_eq(receiver.buffers.available, 0);
    cr_assert_eq(receiver.buffers.offered, 0);
    send_number(&receiver, COUNT);
    cr_assert_eq(receive(&receiver)->res, -ENOBUFS);
    tear_down(&receiver);
}

static void lend_and_return(struct buffers *buffers, uint32_t times, size_t len)
{
    for (uint32_t i = 0; i < times; i++) {
        buffers_lend(buffers, 0, len);
        buffers_return(buffers, 0);
    }
}

Test(buffers, are_ready_in_twice_the_number_after_a_want_of_them, .timeout = 10)
{
    struct receiver receiver;
    struct buffers *buffers = &receiver.buffers;

    set_up_window(&receiver, 8, 3);
    lend_and_return(buffers, 3, 1);
    buffers_widen(buffers);
    cr_assert_eq(buffers->offered, 6);
    buffers_widen(buffers);
    cr_assert_eq(buffers->offered, 6, "many may want one at the same time");
    lend_and_return(buffers, 6, 1);
    buffers_widen(buffers);
    cr_assert_eq(buffers->offered, 8, "there are no more");
    tear_down(&receiver);
}

Test(buffers, that_streams_fill_are_not_made_more, .timeout = 10)
{
    struct receiver receiver;
    struct buffers *buffers = &receiver.buffers;

    set_up_window(&receiver, 8, 2);
    lend_and_return(buffers, 2, BUFFERS_HOT / 2);
    buffers_widen(buffers);
    cr_assert_eq(buffers->offered, 2);
    lend_and_return(buffers, 2, 1);
    buffers_widen(buffers);
    cr_assert_eq(buffers->offered, 4, "some of them are small");
    tear_down(&receiver);
}

Test(buffers, are_ready_in_half_the_number_after_a_while_without_a_want, .timeout = 10)
{
    struct receiver receiver;
    struct buffers *buffers = &receiver.buffers;

    set_up_window(&receiver, 8, 3);
    lend_and_return(buffers, 3, 1);
    buffers_widen(buffers);
    cr_assert_eq(buffers->window, 6);
    lend_and_return(buffers, BUFFERS_CALM, 1);
    cr_assert_eq(buffers->window, 6, "there was a want: the while is twice as long");
    lend_and_return(buffers, BUFFERS_CALM, 1);
    cr_assert_eq(buffers->window, 3);
    lend_and_return(buffers, 2 * BUFFERS_CALM, 1);
    cr_assert_eq(buffers->window, 3, "as few as at first, and not fewer");
    tear_down(&receiver);
}

Test(buffers, may_be_returned_in_any_order, .timeout = 10)
{
    static const uint8_t orders[][COUNT] = {{3, 2, 1, 0}, {2, 0, 3, 1}, {1, 3, 0, 2}};
    struct receiver receiver;
    uint32_t number = 0;

    set_up(&receiver, COUNT);
    for (size_t round = 0; round < sizeof orders / sizeof *orders; round++) {
        uint16_t ids[COUNT];

        for (uint32_t i = 0; i < COUNT; i++)
            send_number(&receiver, number + i);
        for (uint32_t i = 0; i < COUNT; i++)
            ids[i] = receive_number(&receiver, number++);
        for (uint32_t i = 0; i < COUNT; i++)
            buffers_return(&receiver.buffers, ids[orders[round][i]]);
    }
    cr_assert_eq(receiver.buffers.available, COUNT);
    tear_down(&receiver);
}

Test(buffers, go_round_after_the_tail_of_the_ring_did, .timeout = 60)
{
    struct receiver receiver;

    set_up(&receiver, 1);
    for (uint32_t i = 0; i < UINT16_MAX + 10; i++) {
        send_number(&receiver, i);
        buffers_return(&receiver.buffers, receive_number(&receiver, i));
    }
    tear_down(&receiver);
}

Test(buffers, are_gone_from_the_kernel_after_the_end, .timeout = 10)
{
    struct receiver receiver;

    set_up(&receiver, COUNT);
    buffers_finish(&receiver.buffers, receiver.ring);
    send_number(&receiver, 1);
    cr_assert_eq(receive(&receiver)->res, -ENOBUFS);
    receiver.ring->ops->destroy(receiver.ring);
}

Test(buffers, may_be_as_many_as_the_kernel_allows, .timeout = 10)
{
    struct receiver receiver;

    set_up(&receiver, 32768);
    send_number(&receiver, 5);
    receive_number(&receiver, 5);
    tear_down(&receiver);
}

Test(buffers, work_whether_or_not_there_are_huge_pages, .timeout = 10)
{
    struct buffers buffers;
    struct ring *ring;

    cr_assert_eq(ring_open_linux(&config, &ring), 0);
    cr_assert_eq(buffers_init(&buffers, ring, GROUP, COUNT, SIZE, COUNT, true), 0);
    cr_assert_eq(buffers.memory_size, 2 << 20);
    memset(buffers.memory, 1, buffers.memory_size);
    buffers_finish(&buffers, ring);
    ring->ops->destroy(ring);
}

Test(buffers, are_refused_for_a_group_that_has_some, .timeout = 10)
{
    struct buffers again;
    struct receiver receiver;

    set_up(&receiver, COUNT);
    cr_assert_eq(buffers_init(&again, receiver.ring, GROUP, COUNT, SIZE, COUNT, false), -EEXIST);
    send_number(&receiver, 9);
    receive_number(&receiver, 9); /* the first ones are as they were */
    tear_down(&receiver);
}

#ifndef NDEBUG
Test(buffers, notice_one_that_is_returned_twice, .timeout = 10, .signal = SIGABRT)
{
    struct receiver receiver;

    set_up(&receiver, COUNT);
    send_number(&receiver, 1);
    buffers_return(&receiver.buffers, receive_number(&receiver, 1));
    buffers_return(&receiver.buffers, 0);
}
#endif

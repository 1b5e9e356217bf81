/* The ring in every mode: what a feature that is switched off, or a way of waiting, must not change. */
#include <criterion/criterion.h>
#include <unistd.h>

#include "tests/support/real_ring.h"
#include "uring/buffers.h"

enum {
    GROUP = 7,
};

static void arm_receive(struct ring *ring, int fd, uint64_t user_data)
{
    ring_prep_receive(get_entry(ring, user_data), fd, GROUP, ring->features & RING_MULTISHOT_RECEIVE);
}

/* Bytes arrive at both ends in turn; each is answered with its successor. */
static void play_ping_pong(struct ring *ring, struct buffers *buffers, const int sockets[2], int rounds)
{
    uint8_t ball = 0;

    arm_receive(ring, sockets[0], 0);
    arm_receive(ring, sockets[1], 1);
    for (int i = 0; i < rounds; i++, ball++) {
        const struct io_uring_cqe *completion;
        uint16_t id;

        ring_prep_send(get_entry(ring, 2), sockets[i % 2], &ball, 1, RING_SEND_INLINE);
        do
            completion = wait_for_one(ring);
        while (completion->user_data == 2);
        cr_assert_eq(completion->user_data, (uint64_t)(i + 1) % 2);
        cr_assert_eq(completion->res, 1);
        id = (uint16_t)(completion->flags >> IORING_CQE_BUFFER_SHIFT);
        cr_assert_eq(*buffers_lend(buffers, id, 1), ball);
        buffers_return(buffers, id);
        if (!(completion->flags & IORING_CQE_F_MORE))
            arm_receive(ring, sockets[(i + 1) % 2], completion->user_data);
    }
}

static void play_in(struct ring_config config)
{
    struct ring *ring = open_ring(config);
    struct buffers buffers;
    int sockets[2];

    open_sockets(sockets);
    cr_assert_eq(buffers_init(&buffers, ring, GROUP, 4, 16, 4, false), 0);
    cr_assert_eq(ring->features & config.disabled, 0);
    play_ping_pong(ring, &buffers, sockets, 300);
    buffers_finish(&buffers, ring);
    ring->ops->destroy(ring);
}

Test(modes, work_without_any_one_feature, .timeout = 20)
{
    for (uint32_t feature = 1; feature <= RING_NO_IOWAIT; feature *= 2) {
        struct ring_config config = plain;

        config.disabled = feature;
        play_in(config);
    }
}

Test(modes, work_without_all_of_them, .timeout = 10)
{
    struct ring_config config = plain;

    config.disabled = UINT32_MAX;
    play_in(config);
}

Test(modes, work_with_a_thread_of_the_kernel, .timeout = 20)
{
    struct ring_config config = plain;

    config.wants_sqpoll = true;
    play_in(config);
}

Test(modes, work_with_busy_network_devices, .timeout = 10)
{
    struct ring_config config = plain;

    config.napi_ns = UINT64_MAX;
    play_in(config);
}

Test(modes, do_not_hide_what_the_kernel_offers, .timeout = 10)
{
    struct ring_config config = plain;
    struct ring *with = open_ring(config);
    struct ring *without;

    config.disabled = UINT32_MAX;
    without = open_ring(config);
    cr_assert_eq(without->features, 0);
    cr_assert_eq(without->kernel_features, with->kernel_features);
    with->ops->destroy(with);
    without->ops->destroy(without);
}

Test(modes, let_a_message_go_after_entering, .timeout = 10)
{
    struct ring_config config = plain;
    char text[6] = "";
    struct ring *ring;
    int sockets[2];

    config.wants_sqpoll = true; /* the mode in which the kernel could be late */
    ring = open_ring(config);
    open_sockets(sockets);
    for (int i = 0; i < 100; i++) {
        struct iovec piece = {.iov_base = (char[]){"hello"}, .iov_len = 5};
        struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};

        ring_prep_send_vector(get_entry(ring, 1), sockets[1], &message, 0);
        enter(ring, 0, 0);
        memset(&message, 0xff, sizeof message);
        memset(&piece, 0xff, sizeof piece);
        cr_assert_eq(wait_for_one(ring)->res, 5);
        cr_assert_eq(read(sockets[0], text, 5), 5);
        cr_assert_str_eq(text, "hello");
    }
    ring->ops->destroy(ring);
}

/* Waking a ring that waits, or is about to. */
#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/real_ring.h"

Test(wake, is_heard_when_it_came_before_the_first_wait, .timeout = 10)
{
    struct ring *ring = open_ring(plain);

    ring->ops->wake(ring);
    hear_wake(ring);
    ring->ops->destroy(ring);
}

Test(wake, is_heard_each_time, .timeout = 10)
{
    struct ring *ring = open_ring(plain);

    for (int i = 0; i < 1000; i++) {
        ring->ops->wake(ring);
        hear_wake(ring);
        cr_assert_leq(count_ready(ring), 1); /* wakes add up to one, at worst to two; they do not go on alone */
    }
    ring->ops->destroy(ring);
}

static void *wake_from_elsewhere(void *argument)
{
    struct ring *ring = argument;

    ring->ops->wake(ring);
    return NULL;
}

Test(wake, may_come_from_another_thread, .timeout = 10)
{
    struct ring *ring = open_ring(plain);
    pthread_t thread;

    cr_assert_eq(pthread_create(&thread, NULL, wake_from_elsewhere, ring), 0);
    hear_wake(ring);
    pthread_join(thread, NULL);
    ring->ops->destroy(ring);
}

static struct ring *ring_to_wake;

static void wake_from_signal(int number)
{
    (void)number;
    ring_to_wake->ops->wake(ring_to_wake);
}

Test(wake, may_come_from_a_signal_handler, .timeout = 10)
{
    struct ring *ring = ring_to_wake = open_ring(plain);

    signal(SIGUSR1, wake_from_signal);
    raise(SIGUSR1);
    hear_wake(ring);
    ring->ops->destroy(ring);
}

Test(wake, is_heard_again_after_an_overflow_ended_the_poll, .timeout = 10)
{
    struct ring *ring = open_ring(plain);

    for (uint64_t i = 0; i < COMPLETIONS + 1; i++) {
        queue_nothing(ring, i);
        enter(ring, 0, 0);
    }
    ring->ops->wake(ring);
    enter(ring, 0, 0);
    for (uint64_t i = 0; i < COMPLETIONS + 1; i++)
        cr_assert_eq(wait_for_one(ring)->user_data, i);
    for (int i = 0; i < 3; i++) {
        hear_wake(ring);
        ring->ops->wake(ring);
    }
    ring->ops->destroy(ring);
}

Test(wake, shows_on_the_descriptor_that_is_watched, .timeout = 10)
{
    struct ring *ring = open_ring(plain);
    struct pollfd poll_ring = {.fd = ring->ops->watch(ring), .events = POLLIN};

    cr_assert_eq(poll(&poll_ring, 1, 0), 1); /* something may have come before it was there */
    cr_assert_eq(ring->ops->enter(ring, 1, 0), 0);
    cr_assert_eq(poll(&poll_ring, 1, 0), 0);
    ring->ops->wake(ring);
    cr_assert_eq(poll(&poll_ring, 1, -1), 1);
    hear_wake(ring);
    ring->ops->destroy(ring);
}

/* -- Between entering and taking what was announced ---------------------------------------------------------- */

ssize_t __real_read(int fd, void *data, size_t len);
ssize_t __wrap_read(int fd, void *data, size_t len);

static int pried = -1; /* before this descriptor is read, a byte is written to… */
static int prying = -1;

ssize_t __wrap_read(int fd, void *data, size_t len)
{
    if (fd == pried) {
        pried = -1;
        cr_assert_eq(send(prying, "x", 1, 0), 1);
    }
    return __real_read(fd, data, len);
}

/* Its announcement is swallowed with the others, so it has to be looked for. */
Test(wake, brings_what_comes_while_the_announcements_are_taken, .timeout = 10)
{
    struct ring *ring = open_ring(plain);
    struct io_uring_sqe *entry;
    int sockets[2];

    open_sockets(sockets);
    prying = sockets[1];
    pried = ring->ops->watch(ring);
    cr_assert_geq(pried, 0);
    entry = get_entry(ring, 7);
    ring_prep(entry, IORING_OP_POLL_ADD, sockets[0], NULL, 0);
    entry->poll32_events = POLLIN;
    enter(ring, 1, 0);
    cr_assert_eq(pried, -1);
    cr_assert_eq(take(ring)->user_data, 7);
    ring->ops->destroy(ring);
}

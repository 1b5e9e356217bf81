/* Writing to broken pipes without a signal for the host program. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "tests/support/real_ring.h"

static void queue_write(struct ring *ring, int fd, const struct iovec *piece)
{
    ring_prep_write(get_entry(ring, 1), fd, piece, 1);
}

static bool is_pending(int number)
{
    sigset_t pending;

    sigpending(&pending);
    return sigismember(&pending, number) == 1;
}

static bool is_blocked(int number)
{
    sigset_t blocked;

    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    return sigismember(&blocked, number) == 1;
}

Test(sigpipe, does_not_come_from_a_write_to_a_broken_pipe, .timeout = 10)
{
    struct iovec piece = {.iov_base = (char[]){"x"}, .iov_len = 1};
    struct ring *ring = open_ring(plain);
    int ends[2];

    signal(SIGPIPE, SIG_DFL);
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    close(ends[0]);
    ring->ops->count_pipes(ring, 1);
    queue_write(ring, ends[1], &piece);
    cr_assert_eq(wait_for_one(ring)->res, -EPIPE);
    ring->ops->count_pipes(ring, -1);
    cr_assert_not(is_pending(SIGPIPE));
    cr_assert_not(is_blocked(SIGPIPE));
    ring->ops->destroy(ring);
}

/* Shows that the story above says something. */
Test(sigpipe, would_kill_us_if_pipes_were_not_counted, .timeout = 10, .signal = SIGPIPE)
{
    struct iovec piece = {.iov_base = (char[]){"x"}, .iov_len = 1};
    struct ring *ring = open_ring(plain);
    int ends[2];

    signal(SIGPIPE, SIG_DFL);
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    close(ends[0]);
    queue_write(ring, ends[1], &piece);
    enter(ring, 1, never);
}

Test(sigpipe, does_not_come_when_a_pipe_breaks_while_a_write_waits, .timeout = 10)
{
    static char much[1 << 20];
    struct iovec piece = {.iov_base = much, .iov_len = sizeof much};
    struct ring *ring = open_ring(plain);
    int ends[2];

    if (!(ring->features & RING_DEFER_TASKRUN))
        cr_skip_test("this kernel has no DEFER_TASKRUN: see enter.c");
    signal(SIGPIPE, SIG_DFL);
    cr_assert_eq(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    ring->ops->count_pipes(ring, 1);
    while (write(ends[1], much, sizeof much) > 0)
        continue;
    cr_assert_eq(fcntl(ends[1], F_SETFL, 0), 0);
    queue_write(ring, ends[1], &piece);
    enter(ring, 0, 0);
    cr_assert_eq(count_ready(ring), 0);
    close(ends[0]);
    cr_assert_eq(wait_for_one(ring)->res, -EPIPE);
    cr_assert_not(is_pending(SIGPIPE));
    ring->ops->destroy(ring);
}

Test(sigpipe, of_the_host_program_stays_pending, .timeout = 10)
{
    struct iovec piece = {.iov_base = (char[]){"x"}, .iov_len = 1};
    struct ring *ring = open_ring(plain);
    sigset_t sigpipe;
    int ends[2];

    sigemptyset(&sigpipe);
    sigaddset(&sigpipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &sigpipe, NULL);
    raise(SIGPIPE);
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    close(ends[0]);
    ring->ops->count_pipes(ring, 1);
    queue_write(ring, ends[1], &piece);
    cr_assert_eq(wait_for_one(ring)->res, -EPIPE);
    cr_assert(is_pending(SIGPIPE));
    cr_assert(is_blocked(SIGPIPE));
    ring->ops->destroy(ring);
}

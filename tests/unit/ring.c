/* The ring on the real kernel: entries, completions, entering, waiting, and the end. */
#include "tests/support/real_ring.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

/* -- Entries and completions --------------------------------------------------------------------------------- */

Test(ring, grants_what_was_asked_for, .timeout = 10)
{
    struct ring *ring = open_ring(plain);

    cr_assert_eq(ring->entries, ENTRIES);
    cr_assert_eq(ring->completion_entries, COMPLETIONS);
    cr_assert_eq(ring->features & ~ring->kernel_features, 0);
    cr_assert(ring->features & RING_INLINE_SEND);
    ring->ops->destroy(ring);
}

Test(ring, gives_entries_without_traces_of_the_last_request, .timeout = 10)
{
    static const struct io_uring_sqe zero;
    struct ring *ring = open_ring(plain);

    for (int i = 0; i < 3 * ENTRIES; i++) {
        struct io_uring_sqe *entry = ring->ops->get_entry(ring);

        cr_assert_eq(memcmp(entry, &zero, sizeof zero), 0);
        memset(entry, 0xff, sizeof *entry); /* an invalid request */
        enter(ring, 1, never);
        cr_assert_eq(take(ring)->res, -EINVAL);
    }
    ring->ops->destroy(ring);
}

Test(ring, gives_no_entry_when_the_queue_is_full_and_all_after_entering, .timeout = 10)
{
    struct ring *ring = open_ring(plain);

    for (uint64_t i = 0; i < ENTRIES; i++)
        queue_nothing(ring, i);
    cr_assert_null(ring->ops->get_entry(ring));
    enter(ring, 0, 0);
    for (uint64_t i = 0; i < ENTRIES; i++)
        queue_nothing(ring, ENTRIES + i);
    enter(ring, 2 * ENTRIES, never);
    for (uint64_t i = 0; i < 2 * ENTRIES; i++)
        cr_assert_eq(take(ring)->user_data, i);
    ring->ops->destroy(ring);
}

Test(ring, shows_completions_until_they_are_seen, .timeout = 10)
{
    struct ring *ring = open_ring(plain);

    queue_nothing(ring, 1);
    queue_nothing(ring, 2);
    enter(ring, 2, never);
    cr_assert_eq(count_ready(ring), 2);
    cr_assert_eq(count_ready(ring), 2);
    ring->ops->seen(ring, 1);
    cr_assert_eq(count_ready(ring), 1);
    cr_assert_eq(take(ring)->user_data, 2);
    ring->ops->destroy(ring);
}

Test(ring, loses_no_completion_when_its_queue_overflows, .timeout = 10)
{
    struct ring *ring = open_ring(plain);
    const uint64_t count = 3 * COMPLETIONS;

    for (uint64_t i = 0; i < count; i++) {
        queue_nothing(ring, i);
        enter(ring, 0, 0);
    }
    cr_assert_eq(count_ready(ring), COMPLETIONS);
    cr_assert_gt(ring->overflows, 0);
    for (uint64_t i = 0; i < count; i++) {
        enter(ring, 1, 0);
        cr_assert_eq(take(ring)->user_data, i);
    }
    ring->ops->destroy(ring);
}

Test(ring, waits_for_no_more_than_its_queue_can_hold, .timeout = 10)
{
    struct ring *ring = open_ring(plain);

    for (uint64_t i = 0; i < COMPLETIONS; i++) {
        queue_nothing(ring, i);
        enter(ring, 0, 0);
    }
    enter(ring, UINT32_MAX, never);
    cr_assert_eq(count_ready(ring), COMPLETIONS);
    ring->ops->destroy(ring);
}

/* -- Entering ------------------------------------------------------------------------------------------------ */

Test(ring, submits_and_waits_in_one_system_call, .timeout = 10)
{
    struct ring *ring = open_ring(plain);
    uint64_t before;
    char byte;
    int sockets[2];

    open_sockets(sockets);
    ring_prep(get_entry(ring, 1), IORING_OP_RECV, sockets[0], &byte, 1);
    enter(ring, 0, 0);
    before = ring->enters;
    ring_prep_send(get_entry(ring, 2), sockets[1], "x", 1, 0);
    enter(ring, 2, ring->ops->now(ring) + 1000000000);
    cr_assert_eq(ring->enters, before + 1);
    cr_assert_eq(count_ready(ring), 2);
    ring->ops->destroy(ring);
}

Test(ring, makes_no_system_call_for_nothing, .timeout = 10)
{
    struct ring *ring = open_ring(plain);
    uint64_t before = ring->enters;

    enter(ring, 1, 0);
    cr_assert_eq(ring->enters, before);
    queue_nothing(ring, 1);
    enter(ring, 1, never);
    cr_assert_eq(ring->enters, before + 1);
    enter(ring, 1, never); /* it was not seen yet */
    cr_assert_eq(ring->enters, before + 1);
    ring->ops->destroy(ring);
}

Test(ring, waits_until_its_deadline, .timeout = 10)
{
    struct ring *ring = open_ring(plain);
    uint64_t deadline_ns = ring->ops->now(ring) + 2000000;

    enter(ring, 1, deadline_ns);
    cr_assert_geq(ring->ops->now(ring), deadline_ns);
    cr_assert_eq(count_ready(ring), 0);
    enter(ring, 1, deadline_ns); /* which is over */
    cr_assert_eq(count_ready(ring), 0);
    ring->ops->destroy(ring);
}

Test(ring, fetches_without_waiting_what_the_kernel_has_ready, .timeout = 10)
{
    struct ring *ring = open_ring(plain);
    char byte;
    int sockets[2];

    open_sockets(sockets);
    ring_prep(get_entry(ring, 1), IORING_OP_RECV, sockets[0], &byte, 1);
    enter(ring, 0, 0);
    cr_assert_eq(write(sockets[1], "x", 1), 1);
    enter(ring, 1, 0);
    cr_assert_eq(take(ring)->res, 1);
    ring->ops->destroy(ring);
}

static void *wake_from_elsewhere(void *argument)
{
    struct ring *ring = argument;

    ring->ops->wake(ring);
    return NULL;
}

Test(ring, waits_for_a_deadline_that_is_centuries_away, .timeout = 10)
{
    static const uint64_t deadlines[] = {UINT64_MAX, UINT64_MAX - 1, (uint64_t)INT64_MAX + 1, INT64_MAX};
    struct ring *ring = open_ring(plain);

    for (size_t i = 0; i < sizeof deadlines / sizeof *deadlines; i++) {
        pthread_t thread;

        cr_assert_eq(pthread_create(&thread, NULL, wake_from_elsewhere, ring), 0);
        enter(ring, 1, deadlines[i]);
        cr_assert_eq(take(ring)->user_data, RING_WAKE);
        pthread_join(thread, NULL);
        enter(ring, 0, 0);
        ring->ops->seen(ring, count_ready(ring)); /* it may have been heard twice */
    }
    ring->ops->destroy(ring);
}

static void hear_signal(int number)
{
    (void)number;
}

Test(ring, returns_early_for_a_signal, .timeout = 10)
{
    const struct itimerval every_millisecond = {.it_interval = {.tv_usec = 1000}, .it_value = {.tv_usec = 1000}};
    struct ring *ring = open_ring(plain);

    signal(SIGALRM, hear_signal);
    setitimer(ITIMER_REAL, &every_millisecond, NULL);
    enter(ring, 1, never);
    cr_assert_eq(count_ready(ring), 0);
    ring->ops->destroy(ring);
}

static void *enter_from_elsewhere(void *argument)
{
    struct ring *ring = argument;

    queue_nothing(ring, 1);
    return (void *)(intptr_t)ring->ops->enter(ring, 0, 0);
}

Test(ring, tells_a_thread_that_it_is_the_wrong_one, .timeout = 10)
{
    struct ring_config config = plain;
    struct ring *ring;
    pthread_t thread;
    void *result;

    config.disabled = RING_REGISTERED_RING; /* a place in another thread's table says nothing here */
    ring = open_ring(config);
    if (!(ring->features & RING_SINGLE_ISSUER))
        cr_skip_test("this kernel has no SINGLE_ISSUER");
    cr_assert_eq(pthread_create(&thread, NULL, enter_from_elsewhere, ring), 0);
    pthread_join(thread, &result);
    cr_assert_eq((intptr_t)result, -EEXIST);
    ring->ops->destroy(ring);
}

/* -- The end ------------------------------------------------------------------------------------------------- */

Test(ring, lets_go_of_sockets_that_were_still_receiving, .timeout = 10)
{
    struct ring *ring = open_ring(plain);
    static char byte;
    int sockets[2];

    open_sockets(sockets);
    ring_prep(get_entry(ring, 1), IORING_OP_RECV, sockets[0], &byte, 1);
    enter(ring, 0, 0);
    close(sockets[0]);
    cr_assert_eq(recv(sockets[1], &byte, 1, MSG_DONTWAIT), -1); /* the request holds it open */
    ring->ops->destroy(ring);
    cr_assert_eq(recv(sockets[1], &byte, 1, MSG_DONTWAIT), 0);
}

Test(ring, leaves_no_descriptor_behind, .timeout = 10)
{
    int before = next_descriptor();

    for (int i = 0; i < 3; i++) {
        struct ring *ring = open_ring(plain);

        cr_assert_neq(next_descriptor(), before);
        ring->ops->destroy(ring);
        cr_assert_eq(next_descriptor(), before);
    }
}

Test(ring, goes_without_a_registered_descriptor_when_the_thread_has_no_place_left, .timeout = 20)
{
    enum {
        RINGS = 20
    }; /* the kernel has 16 places a thread */
    struct ring *rings[RINGS];

    for (int i = 0; i < RINGS; i++) {
        rings[i] = open_ring(plain);
        queue_nothing(rings[i], 1);
        cr_assert_eq(wait_for_one(rings[i])->user_data, 1);
    }
    cr_assert(rings[0]->features & RING_REGISTERED_RING);
    cr_assert_not(rings[RINGS - 1]->features & RING_REGISTERED_RING);
    for (int i = 0; i < RINGS; i++)
        rings[i]->ops->destroy(rings[i]);
}

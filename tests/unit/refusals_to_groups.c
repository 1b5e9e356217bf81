/* Groups and listeners that cannot be had in full: nothing of them is left, and the next attempt succeeds. */
#include "tests/support/refusing_kernel.h"

#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <sluice/sluice.h>

#include "tests/support/real_ring.h"

enum {
    THREADS = 3,
};

TestSuite(groups, .timeout = 60);

static struct sluice_engine_options small(void)
{
    return (struct sluice_engine_options){
        .size = sizeof(struct sluice_engine_options),
        .ring_entries = 8,
        .completion_entries = 16,
        .receive_buffer_count = 8,
    };
}

/* -- Making them --------------------------------------------------------------------------------------------- */

static int try_group(size_t threads)
{
    struct sluice_engine_options options = small();
    struct sluice_group *group;
    int error = sluice_group_create(&options, threads, &group);

    if (error == 0) {
        cr_assert_eq(sluice_group_size(group), threads);
        sluice_group_destroy(group);
    }
    return error;
}

Test(groups, have_a_number_of_threads_with_limits)
{
    cr_assert_eq(try_group(0), -EINVAL);
    cr_assert_eq(try_group(257), -EINVAL);
    cr_assert_eq(try_group(THREADS), 0);
    sluice_group_destroy(NULL);
}

Test(groups, are_refused_settings_that_no_engine_has)
{
    struct sluice_engine_options options = small();
    struct sluice_group *group;

    options.ring_entries = 3;
    cr_assert_eq(sluice_group_create(&options, 1, &group), -EINVAL);
}

Test(groups, of_which_one_thread_cannot_be_had_do_not_run)
{
    int before = next_descriptor();

    for (unsigned nth = 1; nth <= THREADS; nth++) {
        refuse_nothing();
        refuse(CALL_THREAD, nth, EAGAIN);
        cr_assert_eq(try_group(THREADS), -EAGAIN);
        cr_assert_eq(calls_made(CALL_THREAD), nth);
        cr_assert_eq(next_descriptor(), before);
    }
}

Test(groups, of_which_one_ring_cannot_be_had_do_not_run)
{
    unsigned rings;
    int before = next_descriptor();

    refuse_nothing();
    cr_assert_eq(try_group(THREADS), 0);
    rings = calls_made(CALL_RING);
    cr_assert_geq(rings, THREADS);
    refuse(CALL_RING, rings + rings / THREADS + 1, EMFILE); /* of the second thread, next time */
    cr_assert_eq(try_group(THREADS), -EMFILE);
    cr_assert_eq(next_descriptor(), before);
    cr_assert_eq(calls_made(CALL_THREAD), THREADS + 2);
}

Test(groups, do_not_mind_signals_while_they_start)
{
    refuse(CALL_WAIT, 1, EINTR);
    refuse(CALL_WAIT, 2, EINTR);
    cr_assert_eq(try_group(THREADS), 0);
    cr_assert_geq(calls_made(CALL_WAIT), THREADS + 2);
}

Test(groups, need_memory)
{
    unsigned allocations;

    refuse_nothing();
    cr_assert_eq(try_group(THREADS), 0);
    allocations = calls_made(CALL_CALLOC);
    for (unsigned nth = 1; nth <= allocations; nth++) {
        refuse_nothing();
        refuse(CALL_CALLOC, nth, ENOMEM);
        cr_assert_eq(try_group(THREADS), -ENOMEM, "without allocation %u of %u", nth, allocations);
    }
}

/* -- Listening ----------------------------------------------------------------------------------------------- */

/* What the threads of a group are told. */
struct listening {
    struct sluice_group *group;
    sem_t is_closed; /* posted for each listener */
};

static void ignore_connection(struct sluice_listener *listener, struct sluice_stream *stream, void *user)
{
    (void)listener;
    (void)user;
    sluice_stream_abort(stream, 0);
}

static void hear_close(struct sluice_listener *listener, void *user)
{
    struct listening *listening = user;

    (void)listener;
    sem_post(&listening->is_closed);
}

static const struct sluice_listener_events events = {
    .on_accept = ignore_connection,
    .on_close = hear_close,
};

static void listening_open(struct listening *listening)
{
    struct sluice_engine_options options = small();

    sem_init(&listening->is_closed, 0, 0);
    cr_assert_eq(sluice_group_create(&options, THREADS, &listening->group), 0);
    refuse_nothing();
}

static int try_listening(struct listening *listening, const char *address, char *text, size_t text_size)
{
    return sluice_group_listen(listening->group, address, NULL, &events, listening, text, text_size);
}

/* Waits until so many have closed. */
static void await_closed(struct listening *listening, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        while (sem_wait(&listening->is_closed) < 0)
            continue;
}

/* Destroys the group. All listeners have told that they are closed, and none more than that. */
static void listening_close(struct listening *listening, unsigned open)
{
    sluice_group_destroy(listening->group);
    for (unsigned i = 0; i < open; i++)
        cr_assert_eq(sem_trywait(&listening->is_closed), 0);
    cr_assert_eq(sem_trywait(&listening->is_closed), -1);
}

/* `call` fails for the second member. The first stops listening, and all can listen thereafter. */
static void assert_none_listens(const char *address, enum call call, unsigned nth, int error)
{
    struct listening listening;

    listening_open(&listening);
    refuse(call, nth, error);
    cr_assert_eq(try_listening(&listening, address, NULL, 0), -error);
    await_closed(&listening, 1);
    refuse_nothing();
    cr_assert_eq(try_listening(&listening, address, NULL, 0), 0);
    listening_close(&listening, THREADS);
}

Test(groups, of_which_one_finds_the_port_taken_do_not_listen)
{
    assert_none_listens("127.0.0.1:0", CALL_BIND, 2, EADDRINUSE);
}

Test(groups, of_which_the_first_may_not_share_its_port_do_not_listen)
{
    assert_none_listens("127.0.0.1:0", CALL_SETSOCKOPT, 3, ENOPROTOOPT);
}

Test(groups, of_which_one_gets_no_copy_of_a_unix_socket_do_not_listen)
{
    assert_none_listens("unix:@sluice-refusals-to-groups-1", CALL_FCNTL, 1, EMFILE);
}

Test(groups, that_have_no_room_for_their_address_do_not_listen)
{
    struct listening listening;
    char text[4];

    listening_open(&listening);
    cr_assert_eq(try_listening(&listening, "127.0.0.1:0", text, sizeof text), -ENOSPC);
    await_closed(&listening, THREADS);
    listening_close(&listening, 0);
}

Test(groups, do_not_mind_signals_while_they_start_to_listen)
{
    struct listening listening;
    char text[SLUICE_ADDRESS_MAX];

    listening_open(&listening);
    refuse(CALL_WAIT, 1, EINTR);
    refuse(CALL_WAIT, 3, EINTR);
    cr_assert_eq(try_listening(&listening, "127.0.0.1:0", text, sizeof text), 0);
    cr_assert_eq(strncmp(text, "127.0.0.1:", strlen("127.0.0.1:")), 0);
    cr_assert_eq(calls_made(CALL_WAIT), THREADS + 2);
    listening_close(&listening, THREADS);
}

/* Each allocation of it fails in turn. */
static void assert_memory_is_needed(const char *address)
{
    struct listening listening;
    unsigned allocations;

    listening_open(&listening);
    cr_assert_eq(try_listening(&listening, address, NULL, 0), 0);
    allocations = calls_made(CALL_CALLOC);
    listening_close(&listening, THREADS);
    cr_assert_gt(allocations, THREADS);
    for (unsigned nth = 1; nth <= allocations; nth++) {
        listening_open(&listening);
        refuse(CALL_CALLOC, nth, ENOMEM);
        cr_assert_eq(try_listening(&listening, address, NULL, 0), -ENOMEM, "without allocation %u", nth);
        refuse_nothing();
        sluice_group_destroy(listening.group);
    }
}

Test(groups, need_memory_to_listen)
{
    assert_memory_is_needed("127.0.0.1:0");
    assert_memory_is_needed("unix:@sluice-refusals-to-groups-2");
}

/* -- One listener -------------------------------------------------------------------------------------------- */

/* On a fresh engine, `call` failing so at once. */
static int try_listener(const char *address, enum call call, int error)
{
    struct sluice_engine_options options = small();
    struct listening listening;
    struct sluice_listener *listener;
    struct sluice_engine *engine;
    int before = next_descriptor();
    int result;

    refuse_nothing();
    sem_init(&listening.is_closed, 0, 0);
    cr_assert_eq(sluice_engine_create(&options, &engine), 0);
    refuse_nothing();
    refuse(call, 1, error);
    if (call == CALL_BIND || call == CALL_SOCKET)
        refuse(CALL_BIND, call == CALL_BIND ? 2 : 1, EACCES);
    result = sluice_listen(engine, address, NULL, &events, &listening, &listener);
    sluice_engine_destroy(engine);
    cr_assert_eq(sem_trywait(&listening.is_closed), result ? -1 : 0);
    cr_assert_eq(next_descriptor(), before);
    return result;
}

Test(groups, of_one_wait_for_a_name_also_when_a_signal_comes)
{
    cr_assert_eq(try_listener("localhost:0", CALL_WAIT, EINTR), 0);
    cr_assert_eq(calls_made(CALL_WAIT), 2);
}

Test(groups, of_one_cannot_listen_on_a_name_that_nobody_looks_up)
{
    cr_assert_eq(try_listener("localhost:0", CALL_THREAD, EAGAIN), -EAGAIN);
    cr_assert_eq(try_listener("localhost:0", CALL_CALLOC, ENOMEM), -ENOMEM);
}

Test(groups, of_one_listen_on_addresses_alone)
{
    cr_assert_eq(try_listener("nowhere", CALL_WAIT, EINTR), -EINVAL);
}

Test(groups, of_one_close_the_socket_for_which_they_have_no_memory)
{
    cr_assert_eq(try_listener("127.0.0.1:0", CALL_CALLOC, ENOMEM), -ENOMEM);
}

/* Nothing is bound: the second attempt, on IPv4, is refused as well. */
Test(groups, of_one_listen_on_every_ipv4_address_where_there_is_no_ipv6)
{
    cr_assert_eq(try_listener("*:0", CALL_SOCKET, EAFNOSUPPORT), -EACCES);
    cr_assert_eq(family_bound(), AF_INET);
    cr_assert_eq(try_listener("*:0", CALL_BIND, EADDRNOTAVAIL), -EACCES);
    cr_assert_eq(family_bound(), AF_INET);
    cr_assert_eq(try_listener("*:0", CALL_SOCKET, EMFILE), -EMFILE);
    cr_assert_eq(calls_made(CALL_BIND), 0);
}

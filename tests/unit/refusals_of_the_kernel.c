/*
 * What the parts of uring/ do when a system call fails that hardly ever does: each says so, and leaves nothing behind.
 */
#include "tests/support/refusing_kernel.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <criterion/criterion.h>

#include "tests/support/real_ring.h"
#include "uring/buffers.h"
#include "uring/lookup.h"
#include "uring/probe.h"
#include "uring/socket.h"

enum {
    BACKLOG = 8,
    GROUP = 3,
    TEXT_SIZE = 256,
};

static struct ring *const none = NULL;

TestSuite(kernel, .timeout = 30);

/* -- Sockets ------------------------------------------------------------------------------------------------- */

static char folder[] = "/tmp/sluice-refusals-XXXXXX";
static char path[sizeof folder + sizeof "/socket"];

static void make_folder(void)
{
    cr_assert(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/socket", folder);
}

static void remove_folder(void)
{
    unlink(path);
    cr_assert_eq(rmdir(folder), 0, "something is left");
}

static struct ring_address path_address(void)
{
    struct ring_address address = {0};
    struct sockaddr_un *name = (struct sockaddr_un *)&address.storage;

    name->sun_family = AF_UNIX;
    strcpy(name->sun_path, path);
    address.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1);
    return address;
}

/* A socket's file on which nobody listens. */
static void leave_path_over(void)
{
    struct ring_address address = path_address();

    socket_close(none, socket_listen(none, &address, BACKLOG, false), false);
    refuse_nothing();
}

static struct ring_address internet_address(void)
{
    struct ring_address address = {.len = sizeof(struct sockaddr_in)};
    struct sockaddr_in *name = (struct sockaddr_in *)&address.storage;

    name->sin_family = AF_INET;
    name->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

/* Listening fails so, and no descriptor is left. */
static void assert_no_listener(struct ring_address address, bool reuse_port, int error)
{
    int before = next_descriptor();

    cr_assert_eq(socket_listen(none, &address, BACKLOG, reuse_port), error);
    cr_assert_eq(next_descriptor(), before);
    refuse_nothing();
}

Test(kernel, that_gives_no_socket_says_why)
{
    refuse(CALL_SOCKET, 1, ENOBUFS);
    assert_no_listener(internet_address(), false, -ENOBUFS);
}

Test(kernel, that_refuses_an_option_gives_no_listener)
{
    struct ring_address address = internet_address();
    int listener;

    refuse(CALL_SETSOCKOPT, 2, ENOMEM); /* the first makes sends leave at once, which is no more than a wish */
    assert_no_listener(internet_address(), true, -ENOMEM);
    refuse(CALL_SETSOCKOPT, 3, ENOPROTOOPT);
    assert_no_listener(internet_address(), true, -ENOPROTOOPT);
    refuse(CALL_SETSOCKOPT, 1, ENOMEM);
    listener = socket_listen(none, &address, BACKLOG, true);
    cr_assert_geq(listener, 0);
    socket_close(none, listener, false);
}

Test(kernel, that_does_not_let_us_listen_keeps_no_path)
{
    make_folder();
    refuse(CALL_LISTEN, 1, EADDRINUSE);
    assert_no_listener(path_address(), true, -EADDRINUSE);
    cr_assert_eq(access(path, F_OK), -1);
    refuse(CALL_GETSOCKNAME, 1, ENOBUFS);
    assert_no_listener(path_address(), false, -ENOBUFS);
    cr_assert_eq(access(path, F_OK), -1);
    remove_folder();
}

Test(kernel, that_lets_nobody_ask_who_listens_keeps_the_path)
{
    make_folder();
    leave_path_over();
    refuse(CALL_SOCKET, 2, EMFILE);
    assert_no_listener(path_address(), false, -EADDRINUSE);
    cr_assert_eq(access(path, F_OK), 0);
    remove_folder();
}

Test(kernel, that_refuses_a_path_which_is_gone_by_then_is_believed)
{
    make_folder();
    refuse(CALL_BIND, 1, EADDRINUSE);
    assert_no_listener(path_address(), false, -EADDRINUSE);
    remove_folder();
}

Test(kernel, that_has_given_a_free_path_to_another_is_believed)
{
    make_folder();
    leave_path_over();
    refuse(CALL_BIND, 2, EACCES);
    assert_no_listener(path_address(), false, -EACCES);
    remove_folder();
}

Test(kernel, that_has_no_path_for_an_unnamed_socket_removes_none)
{
    struct ring_address unnamed = {.any.sa_family = AF_UNIX, .len = sizeof unnamed.any.sa_family};

    make_folder();
    leave_path_over();
    socket_unlink(none, &unnamed);
    cr_assert_eq(access(path, F_OK), 0);
    remove_folder();
}

Test(kernel, that_has_other_addresses_than_any_is_not_asked_for_both_protocols)
{
    for (int word = 0; word < 4; word++) {
        struct ring_address address = {.len = sizeof(struct sockaddr_in6)};
        struct sockaddr_in6 *name = (struct sockaddr_in6 *)&address.storage;

        name->sin6_family = AF_INET6;
        name->sin6_addr.s6_addr[4 * word] = 1;
        refuse(CALL_BIND, 1, EADDRNOTAVAIL);
        cr_assert_eq(socket_listen(none, &address, BACKLOG, false), -EADDRNOTAVAIL);
        cr_assert_eq(calls_made(CALL_SETSOCKOPT), 2); /* an option more would be IPV6_V6ONLY */
        refuse_nothing();
    }
}

Test(kernel, that_does_not_tell_what_a_socket_is_has_no_stream_there)
{
    int sockets[2];

    open_sockets(sockets);
    refuse(CALL_GETSOCKOPT, 1, ENOBUFS);
    cr_assert_eq(socket_classify(none, sockets[0]), -EINVAL);
    cr_assert_eq(socket_classify(none, sockets[0]), RING_FD_SOCKET);
}

/* -- Receive buffers ----------------------------------------------------------------------------------------- */

static int try_buffers(struct ring *ring, bool wants_huge_pages)
{
    struct buffers buffers;
    int result = buffers_init(&buffers, ring, GROUP, 4, 4096, 4, wants_huge_pages);

    if (result == 0) {
        memset(buffers.memory, 1, buffers.memory_size);
        buffers_finish(&buffers, ring);
    }
    return result;
}

/* Pages of this process, as the kernel counts them. */
static long mapped_pages(void)
{
    char text[64] = "";
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);

    cr_assert_gt(read(fd, text, sizeof text - 1), 0);
    close(fd);
    return strtol(text, NULL, 10);
}

Test(kernel, that_has_no_memory_gives_no_receive_buffers)
{
    struct ring *ring = open_ring(plain);
    long before = mapped_pages();

    for (unsigned nth = 1; nth <= 2; nth++) {
        refuse_nothing();
        refuse(CALL_MAP, nth, ENOMEM);
        cr_assert_eq(try_buffers(ring, false), -ENOMEM);
        cr_assert_eq(calls_made(CALL_MAP), nth);
    }
    cr_assert_eq(try_buffers(ring, false), 0);
    cr_assert_eq(mapped_pages(), before);
    ring->ops->destroy(ring);
}

Test(kernel, that_has_huge_pages_is_not_asked_for_others)
{
    struct ring *ring = open_ring(plain);

    refuse_nothing();
    grant_huge_pages();
    cr_assert_eq(try_buffers(ring, true), 0);
    cr_assert_eq(calls_made(CALL_MAP), 2);
    refuse_nothing();
    refuse(CALL_MAP, 1, ENOMEM);
    cr_assert_eq(try_buffers(ring, true), 0);
    cr_assert_eq(calls_made(CALL_MAP), 3);
    refuse_nothing();
    refuse(CALL_MAP, 1, ENOMEM);
    refuse(CALL_MAP, 2, ENOMEM);
    cr_assert_eq(try_buffers(ring, true), -ENOMEM);
    ring->ops->destroy(ring);
}

/* -- Names --------------------------------------------------------------------------------------------------- */

struct question {
    struct ring_lookup lookup;
    sem_t is_answered;
    sem_t may_go_on;
    bool is_slow; /* its thread waits for `may_go_on` */
};

static void hear_answer(struct ring_lookup *lookup)
{
    struct question *question = (struct question *)lookup;
    bool is_slow = question->is_slow;

    if (question->lookup.addresses)
        freeaddrinfo(question->lookup.addresses);
    sem_post(&question->is_answered); /* unless it is slow, it may be gone from here on */
    if (is_slow)
        sem_wait(&question->may_go_on);
}

static int ask(struct lookup_pool *pool, struct question *question)
{
    sem_init(&question->is_answered, 0, 0);
    sem_init(&question->may_go_on, 0, 0);
    question->lookup = (struct ring_lookup){.done = hear_answer, .host = "127.0.0.1", .port = "80"};
    return lookup_start(pool, &question->lookup);
}

Test(kernel, that_has_no_memory_lets_no_name_be_looked_up)
{
    struct lookup_pool *pool;
    struct question question = {0};

    refuse(CALL_CALLOC, 1, ENOMEM);
    cr_assert_null(lookup_pool_create());
    pool = lookup_pool_create();
    cr_assert(pool);
    refuse(CALL_CALLOC, 3, ENOMEM);
    cr_assert_eq(ask(pool, &question), -ENOMEM);
    refuse(CALL_THREAD_ATTRIBUTES, 1, ENOMEM);
    cr_assert_eq(ask(pool, &question), -ENOMEM);
    refuse(CALL_THREAD, 1, EAGAIN);
    cr_assert_eq(ask(pool, &question), -EAGAIN);
    lookup_pool_destroy(pool);
}

Test(kernel, that_gives_one_thread_only_lets_it_look_up_all_names)
{
    struct lookup_pool *pool = lookup_pool_create();
    struct question first = {.is_slow = true};
    struct question second = {0};

    cr_assert_eq(ask(pool, &first), 0);
    cr_assert_eq(sem_wait(&first.is_answered), 0);
    refuse_nothing();
    refuse_all(CALL_THREAD, EAGAIN);
    cr_assert_eq(ask(pool, &second), 0);
    sem_post(&first.may_go_on);
    cr_assert_eq(sem_wait(&second.is_answered), 0);
    cr_assert_eq(calls_made(CALL_THREAD), 1);
    lookup_pool_destroy(pool);
}

/* -- What a ring can do -------------------------------------------------------------------------------------- */

static void open_uring(struct io_uring *uring)
{
    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};

    if (io_uring_queue_init_params(8, uring, &params) < 0)
        cr_skip_test("this kernel has no DEFER_TASKRUN");
}

/* On a ring of its own, which must be left without a request, and no descriptor besides. */
static int64_t probe_fresh_ring(uint32_t flags)
{
    struct io_uring_params params = {.flags = flags};
    int before = next_descriptor();
    struct io_uring uring;
    int64_t features;

    if (io_uring_queue_init_params(8, &uring, &params) < 0)
        cr_assert_fail("no ring");
    features = probe_run(&uring);
    io_uring_queue_exit(&uring);
    cr_assert_eq(next_descriptor(), before);
    return features;
}

static const uint32_t best_flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;

/* Undisturbed. Then nothing was asked yet. */
static int64_t all_features(void)
{
    struct io_uring uring;
    int64_t features;

    open_uring(&uring);
    io_uring_queue_exit(&uring);
    features = probe_fresh_ring(best_flags);
    refuse_nothing();
    return features;
}

static void assert_some_of(int64_t features, int64_t all, int call, unsigned nth)
{
    if (features >= 0)
        cr_assert_eq(features & ~all, 0, "call %d, number %u: %#x of %#x", call, nth, (unsigned)features,
                     (unsigned)all);
    else
        cr_assert(features == -EOPNOTSUPP || features == -EMFILE || features == -ENOMEM, "call %d, number %u: %d", call,
                  nth, (int)features);
}

Test(kernel, that_refuses_any_one_call_of_a_trial_is_found_to_do_less)
{
    static const enum call calls[] = {
        CALL_ACCEPT, CALL_BIND,       CALL_CONNECT, CALL_GETSOCKNAME, CALL_LISTEN,           CALL_MAP,
        CALL_SEND,   CALL_SETSOCKOPT, CALL_SOCKET,  CALL_SOCKETPAIR,  CALL_REGISTER_BUFFERS, CALL_REGISTER_PROBE,
        CALL_SUBMIT,
    };
    const int64_t all = all_features();
    bool were_refused[sizeof calls / sizeof *calls] = {false};

    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        unsigned made;

        refuse_nothing();
        cr_assert_eq(probe_fresh_ring(best_flags), all);
        made = calls_made(calls[i]);
        cr_assert_gt(made, 0, "call %d is not part of it", calls[i]);
        for (unsigned nth = 1; nth <= made; nth++) {
            int64_t features;

            refuse_nothing();
            refuse(calls[i], nth, EMFILE);
            features = probe_fresh_ring(best_flags);
            assert_some_of(features, all, calls[i], nth);
            were_refused[i] |= features != all;
        }
        cr_assert(were_refused[i], "nothing depends on call %d", calls[i]);
    }
}

/* The send after it, which should be refused, is taken, and never answered. */
Test(kernel, that_cannot_shut_a_socket_is_of_no_use)
{
    all_features();
    refuse(CALL_SHUTDOWN, 1, EMFILE);
    cr_assert_eq(probe_fresh_ring(best_flags), -EOPNOTSUPP);
}

Test(kernel, that_cannot_cancel_at_once_is_too_old)
{
    all_features();
    refuse_all(CALL_SYNC_CANCEL, EINVAL);
    cr_assert_eq(probe_fresh_ring(best_flags), -EOPNOTSUPP);
}

Test(kernel, that_lacks_a_request_or_buffer_rings_is_too_old)
{
    all_features();
    hide_opcode(IORING_OP_ASYNC_CANCEL);
    cr_assert_eq(probe_fresh_ring(best_flags), -EOPNOTSUPP);
    refuse_nothing();
    refuse(CALL_REGISTER_BUFFERS, 1, EINVAL);
    cr_assert_eq(probe_fresh_ring(best_flags), -EOPNOTSUPP);
    refuse_nothing();
    refuse(CALL_MAP, 1, ENOMEM);
    cr_assert_eq(probe_fresh_ring(best_flags), -ENOMEM);
}

/* Each wait for an answer, answered in each way that there is. */
Test(kernel, that_answers_a_trial_badly_is_found_to_do_less)
{
    const int64_t all = all_features();
    bool is_noticed[ANSWERS] = {false};
    unsigned waits;

    cr_assert_eq(probe_fresh_ring(best_flags), all);
    waits = answers_asked_for();
    cr_assert_gt(waits, 5);
    for (unsigned nth = 1; nth <= waits; nth++)
        for (int answer = ANSWER_TRUE + 1; answer < ANSWERS; answer++) {
            int64_t features;

            refuse_nothing();
            answer_with(nth, (enum answer)answer);
            features = probe_fresh_ring(best_flags);
            assert_some_of(features, all, answer, nth);
            is_noticed[answer] |= features != all;
        }
    for (int answer = ANSWER_TRUE + 1; answer < ANSWERS; answer++)
        if (answer != ANSWER_SIGNAL)
            cr_assert(is_noticed[answer], "answer %d makes no difference", answer);
    cr_assert_not(is_noticed[ANSWER_SIGNAL], "a signal makes a difference");
}

Test(kernel, that_is_disturbed_by_one_signal_after_the_other_is_found_to_do_less)
{
    const int64_t all = all_features();
    int64_t features;

    for (unsigned nth = 1; nth <= REFUSALS_MAX; nth++)
        answer_with(nth, ANSWER_SIGNAL);
    features = probe_fresh_ring(best_flags);
    assert_some_of(features, all, ANSWER_SIGNAL, 0);
    cr_assert_neq(features, all);
}

Test(kernel, that_gives_no_second_ring_is_tried_on_the_first)
{
    const int64_t expected = RING_MULTISHOT_ACCEPT | RING_ZERO_COPY;
    const int64_t all = all_features();

    refuse(CALL_RING, 2, ENOMEM); /* the first is the ring itself */
    cr_assert_eq(probe_fresh_ring(0) & expected, all & expected);
    cr_assert_eq(calls_made(CALL_RING), 2);
}

/* -- Why there is none --------------------------------------------------------------------------------------- */

static const char disabled_file[] = "/proc/sys/kernel/io_uring_disabled";
static const char group_file[] = "/proc/sys/kernel/io_uring_group";
static const char status_file[] = "/proc/self/status";

/* Starts anew afterwards. */
static void assert_explained(int error, const char *word)
{
    char text[TEXT_SIZE] = "";

    probe_explain(error, text, sizeof text);
    cr_assert(strstr(text, word), "no \"%s\" in: %s", word, text);
    refuse_nothing();
}

Test(kernel, that_tells_nothing_of_itself_is_explained_all_the_same)
{
    refuse_all(CALL_OPEN, EACCES);
    assert_explained(-EPERM, "security module");
    refuse_all(CALL_READ, EIO);
    assert_explained(-ENOSYS, "CONFIG_IO_URING");
    pretend_file(status_file, "Name:\ttest\n");
    assert_explained(-ENOSYS, "CONFIG_IO_URING");
}

Test(kernel, that_filters_calls_is_blamed_for_it)
{
    pretend_file(disabled_file, "0\n");
    pretend_file(status_file, "Name:\ttest\nCapEff:\t0000000000000000\nSeccomp:\t2\n");
    assert_explained(-EPERM, "seccomp filter forbids");
    pretend_file(status_file, "Name:\ttest\nSeccomp:\t2\n");
    assert_explained(-ENOSYS, "seccomp filter (a container");
}

Test(kernel, that_has_its_rings_switched_off_is_blamed_for_it)
{
    pretend_file(disabled_file, "2\n");
    assert_explained(-EPERM, "kernel.io_uring_disabled = 2");
}

static void pretend_group_only(const char *group, const char *status)
{
    pretend_file(disabled_file, "1\n");
    pretend_file(group_file, group);
    pretend_file(status_file, status);
}

Test(kernel, that_lets_only_a_group_in_is_blamed_by_the_others_alone)
{
    static const char anybody[] = "Name:\ttest\nCapEff:\t0000000000000000\nSeccomp:\t0\n";
    static const char administrator[] = "Name:\ttest\nCapEff:\t000001ffffffffff\nSeccomp:\t0\n";
    char own_group[32];

    snprintf(own_group, sizeof own_group, "%ld\n", (long)getegid());
    pretend_group_only("4242\n", anybody);
    assert_explained(-EPERM, "kernel.io_uring_group = 4242");
    pretend_group_only("4242\n", administrator);
    assert_explained(-EPERM, "security module");
    pretend_group_only(own_group, anybody);
    assert_explained(-EPERM, "security module");
    pretend_group_only("4242\n", anybody);
    join_group(4242);
    assert_explained(-EPERM, "security module");
}

Test(kernel, that_limits_locked_memory_is_blamed_where_the_limit_binds)
{
    static const char anybody[] = "Name:\ttest\nCapEff:\t0000000000000000\n";
    static const char locker[] = "Name:\ttest\nCapEff:\t0000000000004000\n"; /* CAP_IPC_LOCK */
    const struct rlimit tiny = {.rlim_cur = 1024, .rlim_max = 1024};

    setrlimit(RLIMIT_MEMLOCK, &tiny);
    pretend_file(status_file, anybody);
    assert_explained(-ENOMEM, "RLIMIT_MEMLOCK = 1 KiB");
    pretend_file(status_file, locker);
    assert_explained(-ENOMEM, "no memory for a ring");
    pretend_file(status_file, anybody);
    refuse_all(CALL_LIMIT, 1);
    assert_explained(-ENOMEM, "no memory for a ring");
}

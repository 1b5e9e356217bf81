/* Bytes travel without malloc and free, once the way is warm. Counted by wrappers that the linker puts before them. */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/support/net_end.h"
#include "tests/support/net_pattern.h"

enum {
    KIB = 1024,
    WARM_ROUNDS = 300, /* more than once round the memory of a pair: then a message has come in two parts */
    ROUNDS = 200,
    QUICK_TURNS = 20,
    SIZE_MAX_SENT = 64 * KIB,
    PIECES = 7,
    KEPT_MAX = 64,
    BURST = 5,
    CROWD_MAX = 200,
    CROWD_MESSAGE = 64,
    CROWD_ROUNDS = 10,
};

TestSuite(allocations, .timeout = 60);

/* -- Counting ------------------------------------------------------------------------------------------------ */

/* Calls from the library and from this test, but not from libc, criterion or a sanitizer. */
static atomic_int allocations;
static atomic_int frees;
static atomic_bool are_refused; /* by calloc, with which the library makes what it has not had yet */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_reallocarray(void *memory, size_t count, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
int __real_posix_memalign(void **memory, size_t alignment, size_t size);
void __real_free(void *memory);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_reallocarray(void *memory, size_t count, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
int __wrap_posix_memalign(void **memory, size_t alignment, size_t size);
void __wrap_free(void *memory);

void *__wrap_malloc(size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return are_refused ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __real_realloc(memory, size);
}

void *__wrap_reallocarray(void *memory, size_t count, size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __real_reallocarray(memory, count, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __real_aligned_alloc(alignment, size);
}

int __wrap_posix_memalign(void **memory, size_t alignment, size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __real_posix_memalign(memory, alignment, size);
}

void __wrap_free(void *memory)
{
    atomic_fetch_add(&frees, memory != NULL);
    __real_free(memory);
}

Test(allocations, of_the_library_are_seen)
{
    struct net net;

    allocations = 0;
    frees = 0;
    net_open(&net, NULL);
    cr_assert_gt(allocations, 0);
    net_close(&net);
    cr_assert_eq(frees, allocations);
}

static void accept_nobody(struct sluice_listener *listener, struct sluice_stream *stream, void *user)
{
    (void)listener;
    (void)stream;
    (void)user;
}

Test(allocations, refused_to_a_listener_leave_no_path_behind)
{
    static const struct sluice_listener_events accepting = {.on_accept = accept_nobody};
    char address[SLUICE_ADDRESS_MAX];
    struct sluice_listener *listener;
    struct net net;
    int error;

    net_open(&net, NULL);
    peer_make_address(PEER_UNIX, address);
    are_refused = true;
    error = sluice_listen(net.engine, address, NULL, &accepting, NULL, &listener);
    are_refused = false;
    cr_assert_eq(error, -ENOMEM);
    cr_assert_eq(access(strchr(address, '/'), F_OK), -1);
    net_close(&net);
    peer_remove_folders();
}

/* -- Ways ---------------------------------------------------------------------------------------------------- */

enum transport {
    OVER_TCP,
    OVER_UNIX,
    OVER_PAIR,
    TRANSPORTS,
};

static const char *const transport_names[] = {"tcp", "unix", "a pair"};

/* How the client sends. */
enum sending {
    BY_COPY,
    BY_VECTOR,
    BY_VIEW,
    BY_POST,
    SENDINGS,
};

static const char *const sending_names[] = {"copied", "as a vector", "as a view", "from a post"};

/* Two ends, the second of which answers what the first says. */
struct way {
    struct net net;
    struct end client;
    struct end server;
    enum sending sending;
    struct sluice_post post;
    struct sluice_buffer buffer; /* of `data` */
    size_t len;                  /* of a message */
    int burst;                   /* so many at a time */
    uint8_t data[SIZE_MAX_SENT];
};

static struct way way;

static void never_release(struct sluice_buffer *buffer)
{
    (void)buffer;
    abort();
}

/* The library's own memory, of a layer of messages as of a plain stream, is not a message's. */
static void put_frames(struct end *end, int frames)
{
    struct sluice_frame_options options = {.length = SLUICE_FRAME_VARINT};

    while (frames-- > 0)
        cr_assert_eq(sluice_frame_stream(end->stream, &options, NULL, NULL, &end->stream), 0);
    end_take(end, end->stream);
}

static void join_by_sockets(int family)
{
    int fds[2];

    if (family == AF_UNIX) {
        cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    } else {
        char address[SLUICE_ADDRESS_MAX];
        int listener = peer_listen(PEER_TCP4, 1, address);

        fds[0] = peer_connect(address);
        fds[1] = peer_accept(listener);
        close(listener);
    }
    cr_assert_eq(sluice_fd_stream(way.net.engine, fds[0], fds[0], NULL, NULL, &way.client.stream), 0);
    cr_assert_eq(sluice_fd_stream(way.net.engine, fds[1], fds[1], NULL, NULL, &way.server.stream), 0);
}

static void join_in_memory(void)
{
    struct sluice_pair_end end = {.engine = way.net.engine};

    cr_assert_eq(sluice_pair(&end, &end, 0, &way.client.stream, &way.server.stream), 0);
}

static void way_open(enum transport transport, int frames, const struct sluice_engine_options *options,
                     const struct end_plan *server_plan)
{
    memset(&way, 0, sizeof way);
    sluice_buffer_init(&way.buffer, never_release);
    net_open(&way.net, options);
    end_init(&way.client, &way.net, &end_silent);
    end_init(&way.server, &way.net, server_plan);
    if (transport == OVER_PAIR)
        join_in_memory();
    else
        join_by_sockets(transport == OVER_UNIX ? AF_UNIX : AF_INET);
    put_frames(&way.client, frames);
    put_frames(&way.server, frames);
    net_turns(&way.net, 4);
}

static void way_close(void)
{
    end_close(&way.client);
    end_close(&way.server);
    net_until(&way.net, way.client.closes && way.server.closes);
    cr_assert_eq(way.client.why.error, 0, "%s", strerror(-way.client.why.error));
    cr_assert_eq(way.server.why.error, 0, "%s", strerror(-way.server.why.error));
    net_close(&way.net);
}

static int send_vector(void)
{
    struct iovec pieces[PIECES];
    size_t piece = way.len / PIECES;

    for (size_t i = 0; i < PIECES; i++)
        pieces[i] = (struct iovec){.iov_base = way.data + i * piece, .iov_len = piece};
    pieces[PIECES - 1].iov_len = way.len - (PIECES - 1) * piece;
    return sluice_stream_send_vector(way.client.stream, pieces, PIECES);
}

static int send_view(void)
{
    struct sluice_view view = {.data = way.data, .len = way.len, .buffer = &way.buffer};

    return sluice_stream_send_view(way.client.stream, &view);
}

static void answered(struct end *end, int answer, size_t len)
{
    cr_assert_geq(answer, 0, "%d", answer);
    end->accepted += len;
    if (answer == SLUICE_FULL)
        end->is_full = true;
}

static void sent(int answer)
{
    answered(&way.client, answer, way.len);
}

static void run_post(struct sluice_post *post)
{
    (void)post;
    sent(sluice_stream_send(way.client.stream, way.data, way.len));
}

static void send_message(void)
{
    pattern_fill(way.data, 0, way.client.accepted, way.len);
    switch (way.sending) {
    case BY_VECTOR:
        sent(send_vector());
        break;
    case BY_VIEW:
        sent(send_view());
        break;
    case BY_POST:
        way.post.run = run_post;
        sluice_engine_post(way.net.engine, &way.post);
        break;
    default:
        sent(sluice_stream_send(way.client.stream, way.data, way.len));
    }
}

static bool is_answered(uint64_t received)
{
    return way.client.received == received && way.buffer.references == 1 && !way.client.is_full;
}

/* There and back, and nobody holds our memory any more. Most often that takes a few turns and no wait. */
static void make_rounds(int count)
{
    for (int i = 0; i < count; i++) {
        uint64_t received = way.client.received + (uint64_t)way.burst * way.len;

        for (int message = 0; message < way.burst; message++)
            send_message();
        for (int turns = 0; turns < QUICK_TURNS && !is_answered(received); turns++)
            net_turns(&way.net, 1);
        net_until(&way.net, is_answered(received) || way.client.closes || way.server.closes);
        cr_assert_eq(way.client.closes + way.server.closes, 0, "%s, %s", strerror(-way.client.why.error),
                     strerror(-way.server.why.error));
    }
}

static void expect_no_allocation(const char *what, size_t len, int frames)
{
    way.len = len;
    make_rounds(WARM_ROUNDS);
    allocations = 0;
    frees = 0;
    make_rounds(ROUNDS);
    cr_expect_eq(allocations, 0, "%d allocations for %d messages of %zu bytes, %s, through %d frames", allocations,
                 ROUNDS, len, what, frames);
    cr_expect_eq(frees, 0, "%d frees for %d messages of %zu bytes, %s, through %d frames", frees, ROUNDS, len, what,
                 frames);
}

static void expect_none_on_each_way(const struct sluice_engine_options *options, enum sending sending, int burst,
                                    const struct end_plan *server_plan)
{
    static const size_t sizes[] = {64, 4 * KIB, 64 * KIB};

    for (enum transport transport = OVER_TCP; transport < TRANSPORTS; transport++)
        for (int frames = 0; frames <= 2; frames++) {
            way_open(transport, frames, options, server_plan);
            way.sending = sending;
            way.burst = burst;
            for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
                char what[64];

                snprintf(what, sizeof what, "%s over %s", sending_names[sending], transport_names[transport]);
                expect_no_allocation(what, sizes[i], frames);
            }
            way_close();
        }
}

/* -- Senders ------------------------------------------------------------------------------------------------- */

Test(allocations, none_for_copied_bytes)
{
    expect_none_on_each_way(NULL, BY_COPY, 1, &end_echo);
}

Test(allocations, none_for_a_burst_of_messages)
{
    expect_none_on_each_way(NULL, BY_COPY, BURST, &end_echo);
}

Test(allocations, none_for_vectors)
{
    expect_none_on_each_way(NULL, BY_VECTOR, 1, &end_echo);
}

Test(allocations, none_for_owned_bytes)
{
    expect_none_on_each_way(NULL, BY_VIEW, 1, &end_echo);
}

Test(allocations, none_for_owned_bytes_without_the_kernels_copy)
{
    struct sluice_engine_options options = net_options();

    options.zero_copy_minimum = 256;
    expect_none_on_each_way(&options, BY_VIEW, 1, &end_echo);
}

/* The memory of a post is the poster's. */
Test(allocations, none_for_what_a_post_sends)
{
    expect_none_on_each_way(NULL, BY_POST, 1, &end_echo);
}

/* -- Receivers ----------------------------------------------------------------------------------------------- */

static void echo_copy(struct end *end, const struct sluice_view *view)
{
    answered(end, sluice_stream_send(end->stream, view->data, view->len), view->len);
}

Test(allocations, none_for_answers_that_are_copied)
{
    static const struct end_plan plan = {.on_data = echo_copy};

    expect_none_on_each_way(NULL, BY_COPY, 1, &plan);
}

/* Connections that all ask, are all answered, and ask again. */
static struct {
    struct net net;
    struct server server;
    int peers[CROWD_MAX];
    int count;
    uint64_t rounds;
} crowd;

static void ask_and_hear_all(void)
{
    uint64_t offset = crowd.rounds++ * CROWD_MESSAGE;
    uint64_t expected = crowd.rounds * CROWD_MESSAGE * (unsigned)crowd.count;

    for (int i = 0; i < crowd.count; i++)
        cr_assert_eq(peer_send(crowd.peers[i], 0, offset, CROWD_MESSAGE), CROWD_MESSAGE);
    net_until(&crowd.net, net_stats(&crowd.net).bytes_sent == expected);
    for (int i = 0; i < crowd.count; i++) {
        struct peer_received answer = peer_receive(crowd.peers[i], 0, offset, CROWD_MESSAGE, CROWD_MESSAGE);

        cr_assert_eq(answer.bytes, CROWD_MESSAGE);
        cr_assert(answer.is_intact);
    }
}

static void expect_none_for_crowd(int count)
{
    struct sluice_engine_options options = net_options();

    memset(&crowd, 0, sizeof crowd);
    crowd.count = count;
    options.receive_buffer_count = 256; /* one for each that asks */
    options.receive_buffer_size = 1 * KIB;
    net_open(&crowd.net, &options);
    server_open(&crowd.server, &crowd.net, PEER_TCP4, &end_echo);
    for (int i = 0; i < count; i++)
        crowd.peers[i] = peer_connect(crowd.server.address);
    net_until(&crowd.net, crowd.server.accepted == count);
    for (int i = 0; i < CROWD_ROUNDS; i++)
        ask_and_hear_all();
    allocations = 0;
    frees = 0;
    for (int i = 0; i < CROWD_ROUNDS; i++)
        ask_and_hear_all();
    cr_assert_eq(allocations, 0, "%d connections: %d allocations", count, allocations);
    cr_assert_eq(frees, 0, "%d connections: %d frees", count, frees);
    for (int i = 0; i < count; i++)
        close(crowd.peers[i]);
    server_close(&crowd.server);
    net_close(&crowd.net);
}

Test(allocations, none_for_a_crowd_of_connections)
{
    expect_none_for_crowd(50);
    expect_none_for_crowd(CROWD_MAX);
}

/* What the server keeps, to send it on after on_data. */
static struct {
    struct sluice_view views[KEPT_MAX];
    int count;
    struct sluice_post post;
} kept;

static void forward_kept(struct sluice_post *post)
{
    (void)post;
    for (int i = 0; i < kept.count; i++) {
        answered(&way.server, sluice_stream_send_view(way.server.stream, &kept.views[i]), kept.views[i].len);
        sluice_buffer_drop(kept.views[i].buffer);
    }
    kept.count = 0;
}

static void keep(struct end *end, const struct sluice_view *view)
{
    cr_assert_lt(kept.count, KEPT_MAX);
    cr_assert_eq(sluice_view_keep(end->stream, view, &kept.views[kept.count]), 0);
    if (kept.count++ > 0)
        return;
    kept.post.run = forward_kept;
    sluice_engine_post(end->net->engine, &kept.post);
}

Test(allocations, none_for_views_that_are_kept_and_forwarded)
{
    static const struct end_plan plan = {.on_data = keep};

    expect_none_on_each_way(NULL, BY_COPY, 1, &plan);
}

/* So few buffers that what is kept must be copied out of them. */
Test(allocations, none_for_views_that_are_kept_while_buffers_are_scarce)
{
    static const struct end_plan plan = {.on_data = keep};
    struct sluice_engine_options options = net_options();

    options.receive_buffer_count = 8;
    options.receive_buffer_size = 4 * KIB;
    way_open(OVER_TCP, 0, &options, &plan);
    way.burst = 1;
    expect_no_allocation("kept of few buffers", 64 * KIB, 0);
    cr_expect_gt(net_stats(&way.net).views_copied, 0);
    way_close();
}

/* Pauses at each view, and is resumed by a post: what arrives in the meantime is copied out of the shared buffers. */
static void resume(struct sluice_post *post)
{
    (void)post;
    if (way.server.stream)
        cr_assert_eq(sluice_stream_resume(way.server.stream), 0);
}

static void echo_and_pause(struct end *end, const struct sluice_view *view)
{
    echo_copy(end, view);
    cr_assert_eq(sluice_stream_pause(end->stream), 0);
    kept.post.run = resume;
    sluice_engine_post(end->net->engine, &kept.post);
}

Test(allocations, none_for_a_receiver_that_pauses_again_and_again)
{
    static const struct end_plan plan = {.on_data = echo_and_pause};

    expect_none_on_each_way(NULL, BY_COPY, 1, &plan);
}

/* -- Sends from other threads -------------------------------------------------------------------------------- */

Test(allocations, one_for_each_send_from_another_thread)
{
    uint8_t message[64];

    way_open(OVER_TCP, 0, NULL, &end_echo);
    way.burst = 1;
    way.len = sizeof message;
    make_rounds(WARM_ROUNDS);
    allocations = 0;
    frees = 0;
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t expected = way.client.received + sizeof message;

        pattern_fill(message, 0, way.client.accepted, sizeof message);
        cr_assert_eq(sluice_stream_post_send(way.client.stream, message, sizeof message), 0);
        way.client.accepted += sizeof message;
        net_until(&way.net, way.client.received == expected);
    }
    cr_assert_eq(allocations, ROUNDS);
    cr_assert_eq(frees, ROUNDS);
    way_close();
}

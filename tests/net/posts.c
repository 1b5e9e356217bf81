/* Other threads and streams over real sockets: posting, stopping, aborting and asking while the engine runs. */
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/net_end.h"
#include "tests/support/peer.h"
#include "tests/support/random.h"

TestSuite(posts, .timeout = 100);

enum {
    POSTERS = 4,
    POSTS = 3000, /* of each */
    ROUNDS = 100,
    SPIN_MAX = 20000, /* before another thread does what it does */
    KIB = 1024,
};

static void spin(uint64_t count)
{
    for (volatile uint64_t i = 0; i < count; i++)
        continue;
}

static void start(pthread_t *thread, void *(*run)(void *argument), void *argument)
{
    cr_assert_eq(pthread_create(thread, NULL, run, argument), 0);
}

static void join(pthread_t thread)
{
    cr_assert_eq(pthread_join(thread, NULL), 0);
}

/* -- Sending from four threads ------------------------------------------------------------------------------- */

struct number {
    uint32_t poster;
    uint32_t count;
};

struct poster {
    pthread_t thread;
    struct sluice_stream *stream; /* held */
    uint32_t index;
    uint64_t accepted; /* bytes */
    int refusal;       /* that ended it; 0: all was posted */
};

static void *post_numbers(void *argument)
{
    struct poster *poster = argument;

    for (uint32_t i = 0; i < POSTS && !poster->refusal; i++) {
        const struct number number = {.poster = poster->index, .count = i};

        while ((poster->refusal = sluice_stream_post_send(poster->stream, &number, sizeof number)) == -ENOBUFS)
            sched_yield();
        if (!poster->refusal)
            poster->accepted += sizeof number;
    }
    sluice_stream_release(poster->stream);
    return NULL;
}

static void start_posters(struct poster posters[POSTERS], struct sluice_stream *stream)
{
    for (uint32_t i = 0; i < POSTERS; i++) {
        posters[i] = (struct poster){.stream = stream, .index = i};
        sluice_stream_hold(stream);
        start(&posters[i].thread, post_numbers, &posters[i]);
    }
}

static uint64_t join_posters(struct poster posters[POSTERS])
{
    uint64_t accepted = 0;

    for (int i = 0; i < POSTERS; i++) {
        join(posters[i].thread);
        accepted += posters[i].accepted;
    }
    return accepted;
}

/* The plain peer: reads numbers to the end, closes, and stops the engine. */
struct reader {
    pthread_t thread;
    struct sluice_engine *engine;
    int fd;
    uint64_t bytes;
    bool is_in_order; /* those of each poster, without a gap */
};

static void *read_numbers(void *argument)
{
    struct reader *reader = argument;
    uint32_t next[POSTERS] = {0};
    struct number number;
    size_t partial = 0;
    ssize_t count;

    reader->is_in_order = true;
    while (peer_wait(reader->fd, POLLIN) &&
           (count = read(reader->fd, (char *)&number + partial, sizeof number - partial)) > 0) {
        partial += (size_t)count;
        reader->bytes += (uint64_t)count;
        if (partial < sizeof number)
            continue;
        partial = 0;
        reader->is_in_order = reader->is_in_order && number.poster < POSTERS && number.count == next[number.poster];
        next[number.poster % POSTERS]++;
    }
    close(reader->fd);
    sluice_engine_stop(reader->engine);
    return NULL;
}

/* The engine sleeps in its own loop; only posts bring it bytes, and only the peer's thread ends it. */
Test(posts, of_four_threads_to_one_stream_arrive_each_in_order)
{
    struct poster posters[POSTERS];
    struct meeting meeting;
    struct reader reader = {0};
    uint64_t accepted;

    meeting_start(&meeting, NULL, PEER_TCP4, 0, &end_silent);
    meeting.end->accepted = POSTERS * POSTS * sizeof(struct number); /* not by end_send() */
    /* So that they meet the limit, and have to wait. */
    cr_assert_eq(sluice_stream_set_send_limits(meeting.end->stream, 100, 200, 400), 0);
    reader.engine = meeting.net.engine;
    reader.fd = meeting.peer;
    start(&reader.thread, read_numbers, &reader);
    start_posters(posters, meeting.end->stream);
    net_until(&meeting.net, net_stats(&meeting.net).bytes_sent == POSTERS * POSTS * sizeof(struct number));
    accepted = join_posters(posters);
    end_finish(meeting.end);
    cr_assert_eq(sluice_engine_run(meeting.net.engine), 0);
    join(reader.thread);
    cr_assert_eq(accepted, POSTERS * POSTS * sizeof(struct number));
    cr_assert_eq(reader.bytes, accepted);
    cr_assert(reader.is_in_order);
    net_until(&meeting.net, meeting.end->closes);
    cr_assert_eq(meeting.end->why.error, 0);
    meeting_stop(&meeting);
}

struct stopper {
    pthread_t thread;
    struct sluice_engine *engine;
    uint64_t delay;
};

static void *stop_later(void *argument)
{
    const struct stopper *stopper = argument;

    spin(stopper->delay);
    sluice_engine_stop(stopper->engine);
    return NULL;
}

/* What was accepted arrives or is counted, whenever we close. */
Test(posts, that_were_accepted_are_sent_or_counted_when_the_stream_closes)
{
    uint64_t random = 11;

    for (int round = 0; round < ROUNDS / 4; round++) {
        struct poster posters[POSTERS];
        struct meeting meeting;
        struct reader reader = {0};
        struct stopper stopper = {.delay = random_below(&random, 20 * SPIN_MAX)};
        uint64_t accepted;

        meeting_start(&meeting, NULL, PEER_TCP4, 0, &end_silent);
        meeting.end->accepted = UINT64_MAX; /* not by end_send() */
        reader.engine = stopper.engine = meeting.net.engine;
        reader.fd = meeting.peer;
        start(&reader.thread, read_numbers, &reader);
        start_posters(posters, meeting.end->stream);
        start(&stopper.thread, stop_later, &stopper);
        cr_assert_eq(sluice_engine_run(meeting.net.engine), 0);
        end_close(meeting.end);
        net_until(&meeting.net, meeting.end->closes);
        accepted = join_posters(posters);
        join(stopper.thread);
        join(reader.thread);
        cr_assert_eq(meeting.end->why.error, 0);
        cr_assert(reader.is_in_order);
        cr_assert_eq(reader.bytes + meeting.end->why.unsent, accepted);
        for (int i = 0; i < POSTERS; i++)
            cr_assert(posters[i].refusal == 0 || posters[i].refusal == -EPIPE);
        meeting_stop(&meeting);
    }
}

/* -- Refusals ------------------------------------------------------------------------------------------------ */

static void *post_one_in_vain(void *stream)
{
    cr_assert_eq(sluice_stream_post_send(stream, "x", 1), -EPIPE);
    cr_assert_eq(sluice_stream_write_status(stream), SLUICE_WRITE_CLOSED);
    sluice_stream_abort(stream, -EINTR);
    return NULL;
}

static void post_in_vain_from_elsewhere(struct sluice_stream *stream)
{
    pthread_t thread;

    start(&thread, post_one_in_vain, stream);
    join(thread);
}

/* A held stream says no for as long as it is held, also when its engine is gone. */
Test(posts, are_refused_after_the_end)
{
    struct meeting meeting;
    struct sluice_stream *stream;

    meeting_start(&meeting, NULL, PEER_TCP4, 0, &end_polite);
    stream = meeting.end->stream;
    sluice_stream_hold(stream);
    end_finish(meeting.end);
    cr_assert_eq(sluice_stream_post_send(stream, "x", 1), -EPIPE);
    close(meeting.peer);
    net_until(&meeting.net, meeting.end->closes);
    cr_assert_eq(meeting.end->why.error, 0);
    post_in_vain_from_elsewhere(stream);
    meeting_stop(&meeting);
    post_in_vain_from_elsewhere(stream);
    sluice_stream_release(stream);
}

/* -- From a callback ----------------------------------------------------------------------------------------- */

static void post_back(struct end *end, const struct sluice_view *view)
{
    cr_assert_eq(sluice_stream_post_send(end->stream, view->data, view->len), 0);
    end->accepted += view->len;
}

static void finish_too(struct end *end)
{
    end_finish(end);
}

/* An echo by posts: what was posted goes out before the end of our direction. */
Test(posts, from_a_callback_arrive_before_our_end)
{
    static const struct end_plan plan = {.on_data = post_back, .on_end = finish_too};
    struct peer_thread source = {.send_bytes = 2000 * KIB};
    struct meeting meeting;

    meeting_start(&meeting, NULL, PEER_TCP4, 0, &plan);
    source.fd = meeting.peer;
    peer_thread_start(&source, peer_run_source);
    net_until(&meeting.net, meeting.end->closes);
    peer_thread_join(&source);
    cr_assert_eq(meeting.end->why.error, 0);
    cr_assert_eq(source.received.bytes, 2000 * KIB);
    cr_assert(source.received.is_intact);
    meeting_stop(&meeting);
}

/* -- Plain posts --------------------------------------------------------------------------------------------- */

struct numbered_post {
    struct sluice_post post;
    struct writer *writer;
    uint32_t number;
};

struct writer {
    pthread_t thread;
    struct sluice_engine *engine;
    uint32_t next;  /* number to run; the engine's */
    uint32_t *left; /* of all writers; the engine's */
    struct numbered_post posts[POSTS];
};

static void run_numbered(struct sluice_post *post)
{
    struct numbered_post *numbered = (struct numbered_post *)post;
    struct writer *writer = numbered->writer;

    cr_assert_eq(numbered->number, writer->next);
    writer->next++;
    if (--*writer->left == 0)
        sluice_engine_stop(writer->engine);
}

static void *post_all(void *argument)
{
    struct writer *writer = argument;

    for (uint32_t i = 0; i < POSTS; i++) {
        writer->posts[i] = (struct numbered_post){.post.run = run_numbered, .writer = writer, .number = i};
        sluice_engine_post(writer->engine, &writer->posts[i].post);
    }
    return NULL;
}

/* The engine sleeps whenever it has nothing to do: a post that woke nobody would leave it asleep. */
Test(posts, of_four_threads_run_each_in_order)
{
    struct writer *writers = calloc(POSTERS, sizeof *writers);
    uint32_t left = POSTERS * POSTS;
    struct net net;

    cr_assert(writers);
    net_open(&net, NULL);
    for (int i = 0; i < POSTERS; i++) {
        writers[i].engine = net.engine;
        writers[i].left = &left;
        start(&writers[i].thread, post_all, &writers[i]);
    }
    cr_assert_eq(sluice_engine_run(net.engine), 0);
    for (int i = 0; i < POSTERS; i++)
        join(writers[i].thread);
    cr_assert_eq(left, 0);
    net_close(&net);
    free(writers);
}

/* One at a time: each finds the engine with nothing to do. */
struct pinger {
    struct sluice_post post;
    struct sluice_engine *engine;
    atomic_uint pings;
};

static void run_ping(struct sluice_post *post)
{
    struct pinger *pinger = (struct pinger *)post;

    if (atomic_fetch_add(&pinger->pings, 1) == POSTS - 1)
        sluice_engine_stop(pinger->engine);
}

static void *ping(void *argument)
{
    struct pinger *pinger = argument;

    pinger->post.run = run_ping;
    for (unsigned i = 0; i < POSTS; i++) {
        sluice_engine_post(pinger->engine, &pinger->post);
        while (atomic_load(&pinger->pings) == i)
            sched_yield();
    }
    return NULL;
}

/* Else each would be a write to an event descriptor, and an entry to hear of it. */
Test(posts, reach_an_engine_that_busy_polls_without_a_system_call)
{
    const struct sluice_engine_options options = {.size = sizeof options, .busy_poll_ns = UINT64_C(1000000000000)};
    struct pinger pinger = {0};
    struct sluice_stats stats;
    pthread_t thread;
    struct net net;

    net_open(&net, &options);
    pinger.engine = net.engine;
    start(&thread, ping, &pinger);
    cr_assert_eq(sluice_engine_run(net.engine), 0);
    join(thread);
    sluice_engine_stats(net.engine, &stats);
    cr_assert_lt(stats.enters, 10);
    net_close(&net);
}

/* -- Stopping ------------------------------------------------------------------------------------------------ */

/* Before it runs, while it falls asleep, while it sleeps. */
Test(posts, stop_the_engine_at_any_moment)
{
    uint64_t random = 5;
    struct net net;

    net_open(&net, NULL);
    for (int round = 0; round < 10 * ROUNDS; round++) {
        struct stopper stopper = {.engine = net.engine, .delay = random_below(&random, SPIN_MAX)};

        start(&stopper.thread, stop_later, &stopper);
        spin(random_below(&random, SPIN_MAX));
        cr_assert_eq(sluice_engine_run(net.engine), 0);
        join(stopper.thread);
    }
    sluice_engine_stop(net.engine);
    sluice_engine_stop(net.engine);
    cr_assert_eq(sluice_engine_run(net.engine), 0, "stopped before it ran, and twice");
    net_close(&net);
}

static struct sluice_engine *engine_to_stop;

static void stop_from_signal(int number)
{
    (void)number;
    sluice_engine_stop(engine_to_stop);
}

struct signaller {
    pthread_t thread;
    pthread_t target;
    uint64_t delay;
};

static void *signal_later(void *argument)
{
    const struct signaller *signaller = argument;

    spin(signaller->delay);
    pthread_kill(signaller->target, SIGUSR1);
    return NULL;
}

Test(posts, stop_the_engine_from_a_signal_handler)
{
    uint64_t random = 6;
    struct net net;

#ifdef __SANITIZE_THREAD__
    cr_skip_test("it lets handlers run only in calls that it knows, and a ring is entered by none of them");
#endif
    net_open(&net, NULL);
    engine_to_stop = net.engine;
    signal(SIGUSR1, stop_from_signal);
    for (int round = 0; round < ROUNDS; round++) {
        struct signaller signaller = {.target = pthread_self(), .delay = random_below(&random, SPIN_MAX)};

        start(&signaller.thread, signal_later, &signaller);
        cr_assert_eq(sluice_engine_run(net.engine), 0);
        join(signaller.thread);
    }
    net_close(&net);
}

/* -- Aborting and asking ------------------------------------------------------------------------------------- */

struct observer {
    pthread_t thread;
    struct sluice_stream *stream; /* held */
    bool aborts;
    uint64_t delay;
};

/* The write status goes one way only, and what others see of it is never older than what they saw before. */
static void *observe(void *argument)
{
    struct observer *observer = argument;
    enum sluice_write_status before = SLUICE_WRITABLE;

    spin(observer->delay);
    if (observer->aborts) {
        sluice_stream_abort(observer->stream, -ETIME);
        cr_assert_eq(sluice_stream_write_status(observer->stream), SLUICE_WRITE_CLOSED, "from this call on");
    }
    while (before != SLUICE_WRITE_CLOSED) {
        enum sluice_write_status status = sluice_stream_write_status(observer->stream);

        cr_assert_geq(status, before);
        before = status;
        sched_yield();
    }
    sluice_stream_release(observer->stream);
    return NULL;
}

static void start_observer(struct observer *observer, struct sluice_stream *stream, bool aborts, uint64_t delay)
{
    *observer = (struct observer){.stream = stream, .aborts = aborts, .delay = delay};
    sluice_stream_hold(stream);
    start(&observer->thread, observe, observer);
}

/* As end_pour(), for a stream that another thread may have aborted. */
static void send_some(struct end *end)
{
    for (int i = 0; i < 10 && end->stream; i++)
        if (end_send(end, 5000) < 0)
            return;
}

/* What the peer got is the beginning of what was accepted, and the rest is counted. */
Test(posts, abort_a_connection_at_any_moment)
{
    uint64_t random = 9;

    for (int round = 0; round < ROUNDS; round++) {
        struct peer_thread sink = {0};
        struct observer observers[2];
        struct meeting meeting;
        struct end *end;

        meeting_start(&meeting, NULL, round % 2 ? PEER_TCP4 : PEER_ABSTRACT, 0, &end_silent);
        end = meeting.end;
        /* Never full: a drain must not find the stream aborted between the engine's look at it and ours. */
        cr_assert_eq(sluice_stream_set_send_limits(end->stream, 1, 65536 * KIB, 65536 * KIB), 0);
        sink.fd = meeting.peer;
        peer_thread_start(&sink, peer_run_sink);
        start_observer(&observers[0], end->stream, true, random_below(&random, 10 * SPIN_MAX));
        start_observer(&observers[1], end->stream, false, 0);
        net_start_waiting(&meeting.net);
        while (!end->closes) {
            send_some(end);
            net_wait_turn(&meeting.net, __FILE__, __LINE__, "the abort");
        }
        join(observers[0].thread);
        join(observers[1].thread);
        peer_thread_join(&sink);
        cr_assert_eq(end->why.error, -ETIME);
        cr_assert_eq(end->why.side, SLUICE_LOCAL);
        cr_assert(sink.received.is_intact);
        cr_assert_leq(sink.received.bytes, end->accepted - end->why.unsent);
        meeting_stop(&meeting);
    }
}

/* They are asked at any moment of a graceful end. */
Test(posts, do_not_disturb_who_closes)
{
    for (int round = 0; round < ROUNDS / 4; round++) {
        struct peer_thread sink = {0};
        struct observer observers[2];
        struct meeting meeting;

        meeting_start(&meeting, NULL, PEER_TCP4, 0, &end_silent);
        sink.fd = meeting.peer;
        peer_thread_start(&sink, peer_run_sink);
        start_observer(&observers[0], meeting.end->stream, false, 0);
        start_observer(&observers[1], meeting.end->stream, false, 0);
        end_pour(meeting.end, 500 * KIB, 5000, END_CLOSE);
        net_until(&meeting.net, meeting.end->closes);
        join(observers[0].thread);
        join(observers[1].thread);
        peer_thread_join(&sink);
        cr_assert_eq(meeting.end->why.error, 0);
        cr_assert_eq(sink.received.bytes, 500 * KIB);
        meeting_stop(&meeting);
    }
}

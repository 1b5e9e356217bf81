/*
 * Two engines on two CPUs against one engine on one: do they get in each other's way? Each engine echoes messages
 * between the ends of Unix sockets that are both its own, so that no load generator bounds it. What two CPUs share
 * (memory bandwidth, a core's other half, clock rates) is in the ratio as well. It does not measure the network.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <sluice/sluice.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "perf/inside/inside.h"

enum {
    PAIRS = 32, /* of an engine; each with one message on its way */
    MESSAGE_SIZE = 64,
    ROUNDS = 5,
    WARMUP_NS = 50 * 1000 * 1000,
    WINDOW_NS = 300 * 1000 * 1000,
};

struct worker {
    _Alignas(128) atomic_uint_fast64_t bytes; /* received; written by its own thread only */
    unsigned number;
    pthread_t thread;
    struct sluice_engine *engine;
    sem_t is_ready;
};

static struct sluice_engine_options options = {.size = sizeof options};

static void on_data(struct sluice_stream *stream, const struct sluice_view *view, void *user)
{
    struct worker *worker = user;
    uint64_t bytes = atomic_load_explicit(&worker->bytes, memory_order_relaxed);

    atomic_store_explicit(&worker->bytes, bytes + view->len, memory_order_relaxed);
    if (sluice_stream_send_view(stream, view) < 0)
        inside_die("sluice_stream_send_view", EPROTO);
}

static const struct sluice_stream_events events = {.on_data = on_data};

static void open_pair(struct worker *worker)
{
    static const char message[MESSAGE_SIZE];
    struct sluice_stream *streams[2];
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0)
        inside_die("socketpair", errno);
    for (size_t i = 0; i < 2; i++) {
        int error = sluice_fd_stream(worker->engine, ends[i], ends[i], &events, worker, &streams[i]);

        if (error)
            inside_die("sluice_fd_stream", error);
    }
    sluice_stream_send(streams[0], message, sizeof message);
}

static void *work(void *user)
{
    struct worker *worker = user;
    int error;

    inside_pin(worker->number);
    error = sluice_engine_create(&options, &worker->engine);
    if (error)
        inside_die("sluice_engine_create", error);
    for (size_t i = 0; i < PAIRS; i++)
        open_pair(worker);
    sem_post(&worker->is_ready);
    error = sluice_engine_run(worker->engine);
    if (error)
        inside_die("sluice_engine_run", error);
    sluice_engine_destroy(worker->engine);
    return NULL;
}

static void sleep_ns(uint64_t duration_ns)
{
    struct timespec duration = {.tv_nsec = (long)duration_ns};

    while (nanosleep(&duration, &duration) < 0 && errno == EINTR)
        ;
}

static uint64_t count(const struct worker *workers, unsigned number)
{
    uint64_t bytes = 0;

    for (unsigned i = 0; i < number; i++)
        bytes += atomic_load_explicit(&workers[i].bytes, memory_order_relaxed);
    return bytes;
}

/* Messages a second of so many engines together. */
static uint64_t measure(unsigned number)
{
    struct worker workers[2] = {{.number = 0}, {.number = 1}};
    uint64_t bytes;
    uint64_t start;
    uint64_t rate;

    for (unsigned i = 0; i < number; i++) {
        sem_init(&workers[i].is_ready, 0, 0);
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
            inside_die("pthread_create", EAGAIN);
        sem_wait(&workers[i].is_ready);
    }
    sleep_ns(WARMUP_NS);
    start = inside_now_ns();
    bytes = count(workers, number);
    sleep_ns(WINDOW_NS);
    bytes = count(workers, number) - bytes;
    rate = bytes / MESSAGE_SIZE * 1000000 / ((inside_now_ns() - start) / 1000);
    for (unsigned i = 0; i < number; i++)
        sluice_engine_stop(workers[i].engine);
    for (unsigned i = 0; i < number; i++)
        pthread_join(workers[i].thread, NULL);
    return rate;
}

int main(void)
{
    uint64_t one[ROUNDS];
    uint64_t two[ROUNDS];
    uint64_t median_of_one;
    uint64_t median_of_two;
    char why[SLUICE_REASON_MAX];

    if (sluice_engine_options_from_env(&options, why, sizeof why) < 0) {
        fprintf(stderr, "scaling_sluice: %s\n", why);
        return 2;
    }
    if (inside_cpu_count() < 2) {
        fprintf(stderr, "scaling_sluice: this process may use 1 CPU: it needs two\n");
        return 2;
    }
    for (size_t i = 0; i < ROUNDS; i++) {
        one[i] = measure(1);
        two[i] = measure(2);
    }
    median_of_one = inside_percentile(one, ROUNDS, 500);
    median_of_two = inside_percentile(two, ROUNDS, 500);
    printf("{\"one\":%llu,\"two\":%llu,\"ratio\":%.3f}\n", (unsigned long long)median_of_one,
           (unsigned long long)median_of_two, (double)median_of_two / (double)median_of_one);
    return 0;
}

/* The echo server of perf/echo_floor.c as a user of Sluice writes it. It prints the same lines. */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include <sluice/sluice.h>

static struct sluice_engine *engine;
static uint64_t answers;

static void on_data(struct sluice_stream *stream, const struct sluice_view *view, void *user)
{
    (void)user;
    answers++;
    if (sluice_stream_send_view(stream, view) != SLUICE_ROOM)
        sluice_stream_pause(stream);
}

static void on_drain(struct sluice_stream *stream, void *user)
{
    (void)user;
    sluice_stream_resume(stream);
}

static void on_end(struct sluice_stream *stream, void *user)
{
    (void)user;
    sluice_stream_finish(stream);
}

static const struct sluice_stream_events events = {.on_data = on_data, .on_drain = on_drain, .on_end = on_end};

static void on_accept(struct sluice_listener *listener, struct sluice_stream *stream, void *user)
{
    (void)listener;
    (void)user;
    sluice_stream_set_events(stream, &events, NULL);
}

static const struct sluice_listener_events listener_events = {.on_accept = on_accept};

static void stop(int signal)
{
    (void)signal;
    sluice_engine_stop(engine);
}

int main(void)
{
    struct sluice_engine_options options = {.size = sizeof options};
    struct sigaction action = {.sa_handler = stop};
    struct sluice_listener *listener;
    struct rusage usage;
    char text[SLUICE_REASON_MAX + SLUICE_ADDRESS_MAX];
    int error;

    if (sluice_engine_options_from_env(&options, text, sizeof text) < 0) {
        fprintf(stderr, "echo_sluice: %s\n", text);
        return 2;
    }
    error = sluice_engine_create(&options, &engine);
    if (!error)
        error = sluice_listen(engine, "127.0.0.1:0", NULL, &listener_events, NULL, &listener);
    if (error) {
        sluice_engine_explain(error, text, sizeof text);
        fprintf(stderr, "echo_sluice: %s\n", text);
        return 1;
    }
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sluice_listener_address(listener, text, sizeof text);
    printf("listening on %s\n", text);
    fflush(stdout);
    sluice_engine_run(engine);
    getrusage(RUSAGE_SELF, &usage);
    printf("cpu_us %lld answers %llu\n",
           (long long)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 + usage.ru_utime.tv_usec +
               usage.ru_stime.tv_usec,
           (unsigned long long)answers);
    sluice_engine_destroy(engine);
    return 0;
}

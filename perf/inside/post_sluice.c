/* Posts to an engine of Sluice. */
#include <sluice/sluice.h>
#include <stdio.h>
#include <stdlib.h>

#include "perf/inside/inside.h"

static struct sluice_engine *engine;
static struct sluice_post posts[INSIDE_POST_WINDOW];

static void on_post(struct sluice_post *post)
{
    inside_delivered((unsigned)(post - posts));
}

static void create(void)
{
    struct sluice_engine_options options = {.size = sizeof options};
    char why[SLUICE_REASON_MAX];
    int error;

    if (inside_busy_polls)
        options.busy_poll_ns = 1000000000;
    if (sluice_engine_options_from_env(&options, why, sizeof why) < 0) {
        fprintf(stderr, "post_sluice: %s\n", why);
        exit(2);
    }
    error = sluice_engine_create(&options, &engine);
    if (error)
        inside_die("sluice_engine_create", error);
    for (size_t i = 0; i < INSIDE_POST_WINDOW; i++)
        posts[i].run = on_post;
}

static void run(void)
{
    sluice_engine_run(engine);
    sluice_engine_destroy(engine);
}

static void stop(void)
{
    sluice_engine_stop(engine);
}

static void post(unsigned slot)
{
    sluice_engine_post(engine, &posts[slot]);
}

int main(int argc, char **argv)
{
    static const struct inside_post_library library = {.create = create, .run = run, .stop = stop, .post = post};

    return inside_post_main(argc, argv, &library);
}

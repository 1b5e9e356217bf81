/*
 * Posts to a loop of libuv: a queue behind a mutex and uv_async_send, as its documentation has it, for several sends
 * may become one callback.
 */
#include <uv.h>

#include "perf/inside/inside.h"

static uv_loop_t loop;
static uv_async_t async;
static struct inside_queue queue = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void on_async(uv_async_t *handle)
{
    (void)handle;
    inside_queue_deliver(&queue);
}

static void create(void)
{
    int error = uv_loop_init(&loop);

    if (!error)
        error = uv_async_init(&loop, &async, on_async);
    if (error)
        inside_die("libuv", error);
}

static void run(void)
{
    while (uv_run(&loop, inside_busy_polls ? UV_RUN_NOWAIT : UV_RUN_DEFAULT))
        continue;
}

static void stop(void)
{
    uv_close((uv_handle_t *)&async, NULL);
}

/* Who finds the queue empty wakes the loop: it takes everything that is there. */
static void post(unsigned slot)
{
    if (inside_queue_push(&queue, slot))
        uv_async_send(&async);
}

int main(int argc, char **argv)
{
    static const struct inside_post_library library = {.create = create, .run = run, .stop = stop, .post = post};

    return inside_post_main(argc, argv, &library);
}

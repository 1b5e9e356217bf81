/* Posts to a loop of libevent with its locks: a queue behind a mutex, and event_active, for several may become one. */
#include <errno.h>
#include <event2/event.h>
#include <event2/thread.h>

#include "perf/inside/inside.h"

static struct event_base *base;
static struct event *event;
static struct inside_queue queue = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void on_active(evutil_socket_t fd, short what, void *user)
{
    (void)fd;
    (void)what;
    (void)user;
    inside_queue_deliver(&queue);
}

static void create(void)
{
    evthread_use_pthreads();
    base = event_base_new();
    if (base)
        event = event_new(base, -1, EV_PERSIST, on_active, NULL);
    if (!event)
        inside_die("libevent", ENOMEM);
}

static void run(void)
{
    do
        event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY | (inside_busy_polls ? EVLOOP_NONBLOCK : 0));
    while (!event_base_got_break(base));
    event_free(event);
    event_base_free(base);
}

static void stop(void)
{
    event_base_loopbreak(base);
}

/* Who finds the queue empty wakes the loop: it takes everything that is there. */
static void post(unsigned slot)
{
    if (inside_queue_push(&queue, slot))
        event_active(event, EV_READ, 0);
}

int main(int argc, char **argv)
{
    static const struct inside_post_library library = {.create = create, .run = run, .stop = stop, .post = post};

    return inside_post_main(argc, argv, &library);
}

/* Groups of engines, one a thread: see <sluice/group.h>. */
#include <sluice/group.h>

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/config.h"
#include "engine/engine.h"
#include "engine/listener.h"

enum {
    THREADS_MAX = 256,
};

struct member {
    pthread_t thread;
    struct sluice_engine_options options;
    struct sluice_engine *engine;
    int error;           /* of creating the engine */
    sem_t is_ready;      /* `engine` and `error` stand */
    sem_t is_asked;      /* one for each post of the group, and one for `may_end` */
    atomic_bool may_end; /* nobody names `engine` any more */
    bool has_stopped;    /* its own thread's: the engine takes no more turns until it is destroyed */
};

struct sluice_group {
    size_t count;
    struct member members[];
};

/* -- Threads ------------------------------------------------------------------------------------------------- */

static void *run_member(void *argument)
{
    struct member *member = argument;

    member->error = sluice_engine_create(&member->options, &member->engine);
    sem_post(&member->is_ready);
    if (member->error)
        return NULL;
    sluice_engine_run(member->engine);
    member->has_stopped = true;
    /* Perhaps its ring failed, or a user stopped it. Until the group ends it is asked like the others, and answers. */
    while (!atomic_load(&member->may_end)) {
        mailbox_run(member->engine->mailbox);
        sem_wait(&member->is_asked);
    }
    sluice_engine_destroy(member->engine);
    return NULL;
}

static void finish_member(struct member *member)
{
    sem_destroy(&member->is_asked);
    sem_destroy(&member->is_ready);
}

/* Starts the thread and waits until its engine stands. Returns 0, or -errno: then there is no thread. */
static int start_member(struct member *member, size_t index)
{
    char name[16]; /* so that a kernel worker, a stack trace or top can be told whose it is */
    int error;

    sem_init(&member->is_ready, 0, 0);
    sem_init(&member->is_asked, 0, 0);
    error = -pthread_create(&member->thread, NULL, run_member, member);
    if (error) {
        finish_member(member);
        return error;
    }
    while (sem_wait(&member->is_ready) < 0)
        continue;
    if (member->error) {
        pthread_join(member->thread, NULL);
        finish_member(member);
        return member->error;
    }
    snprintf(name, sizeof name, "sluice-%u", (unsigned)(index % THREADS_MAX));
    pthread_setname_np(member->thread, name);
    return 0;
}

static void stop_member(struct member *member)
{
    sluice_engine_stop(member->engine);
    atomic_store(&member->may_end, true);
    sem_post(&member->is_asked);
    pthread_join(member->thread, NULL);
    finish_member(member);
}

static int start_members(struct sluice_group *group, const struct sluice_engine_options *options, size_t threads)
{
    uint32_t cpus = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
    /* Only those that follow the first wrap: a first CPU that is not there is as wrong here as for a lone engine. */
    int error = options->thread_cpu > cpus ? -EINVAL : 0;

    while (!error && group->count < threads) {
        struct member *member = &group->members[group->count];

        member->options = *options;
        if (options->thread_cpu)
            member->options.thread_cpu = 1 + (options->thread_cpu - 1 + (uint32_t)group->count) % cpus;
        error = start_member(member, group->count);
        if (!error)
            group->count++;
    }
    return error;
}

int sluice_group_create(const struct sluice_engine_options *given, size_t threads, struct sluice_group **result)
{
    struct sluice_engine_options options;
    struct sluice_group *group;
    char why[SLUICE_REASON_MAX];
    sigset_t all;
    sigset_t before;
    int error = config_complete(given, &options, why, sizeof why);

    if (error)
        return error;
    if (threads < 1 || threads > THREADS_MAX)
        return -EINVAL;
    group = calloc(1, sizeof *group + threads * sizeof group->members[0]);
    if (!group)
        return -ENOMEM;
    /* New threads inherit the mask: signals are the program's own business. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = start_members(group, &options, threads);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        sluice_group_destroy(group);
        return error;
    }
    *result = group;
    return 0;
}

void sluice_group_destroy(struct sluice_group *group)
{
    if (!group)
        return;
    while (group->count > 0)
        stop_member(&group->members[--group->count]);
    free(group);
}

size_t sluice_group_size(const struct sluice_group *group)
{
    return group->count;
}

struct sluice_engine *sluice_group_engine(const struct sluice_group *group, size_t index)
{
    return group->members[index % group->count].engine;
}

/* -- Listening ----------------------------------------------------------------------------------------------- */

/* A request to the thread of one engine, which the caller waits for. */
struct listen_request {
    struct sluice_post post;
    sem_t is_done;
    struct member *member;
    const char *address;
    const struct sluice_listener_options *options;
    const struct sluice_listener_events *events;
    void *user;
    const struct sluice_listener *model; /* share its socket; NULL: open one on `address` */
    bool shares_port;                    /* once it listens, others may join it on its address */
    struct sluice_listener *listener;    /* the result; or what to close */
    int error;
};

static bool is_unix(const struct sluice_listener *listener)
{
    return listener->address.any.sa_family == AF_UNIX;
}

/*
 * Only once the first socket listens may others join it. Were it bound with SO_REUSEPORT already, it would join those
 * of another program on that port, where it has to be refused.
 */
static int share_port(struct listen_request *request)
{
    struct ring *ring = request->member->engine->ring;
    int error = ring->ops->share(ring, request->listener->fd);

    if (error)
        sluice_listener_close(request->listener);
    return error;
}

/* On the engine's thread. */
static void run_listen(struct sluice_post *post)
{
    struct listen_request *request = container_of(post, struct listen_request, post);
    struct sluice_engine *engine = request->member->engine;
    struct ring *ring = engine->ring;
    int fd;

    if (request->member->has_stopped) {
        request->error = -ESHUTDOWN;
    } else if (!request->model) {
        request->error = sluice_listen(engine, request->address, request->options, request->events, request->user,
                                       &request->listener);
        if (!request->error && request->shares_port && !is_unix(request->listener))
            request->error = share_port(request);
    } else {
        fd = ring->ops->duplicate(ring, request->model->fd);
        request->error = fd < 0 ? fd
                                : listener_adopt(engine, fd, &request->model->address, false, request->options,
                                                 request->events, request->user, &request->listener);
        if (fd >= 0 && request->error)
            ring->ops->close(ring, fd, false);
    }
    sem_post(&request->is_done);
}

static void run_close(struct sluice_post *post)
{
    struct listen_request *request = container_of(post, struct listen_request, post);

    sluice_listener_close(request->listener);
    sem_post(&request->is_done);
}

static void run_and_wait(struct listen_request *request, void (*run)(struct sluice_post *post))
{
    request->post.run = run;
    sem_init(&request->is_done, 0, 0);
    sluice_engine_post(request->member->engine, &request->post);
    sem_post(&request->member->is_asked);
    while (sem_wait(&request->is_done) < 0)
        continue;
    sem_destroy(&request->is_done);
}

/* Has every engine but the first listen as the first does. On failure `count` says how many listen. */
static int listen_on_others(struct sluice_group *group, struct listen_request *requests, const char *address,
                            size_t *count)
{
    struct sluice_listener_options joining = *requests[0].options;

    joining.reuse_port = 1;
    for (*count = 1; *count < group->count; ++*count) {
        struct listen_request *request = &requests[*count];

        *request = requests[0];
        request->member = &group->members[*count];
        request->address = address;
        request->options = &joining;
        request->shares_port = false;
        /* Unix sockets cannot share an address, but accept from one socket just as well. */
        request->model = is_unix(requests[0].listener) ? requests[0].listener : NULL;
        run_and_wait(request, run_listen);
        if (request->error)
            return request->error;
    }
    return 0;
}

static int listen_on_all(struct sluice_group *group, struct listen_request *requests, char *text, char *given,
                         size_t given_size)
{
    size_t count = 0;
    int error;

    run_and_wait(&requests[0], run_listen);
    error = requests[0].error;
    if (!error) {
        count = 1;
        error = sluice_listener_address(requests[0].listener, text, SLUICE_ADDRESS_MAX);
    }
    if (!error)
        error = listen_on_others(group, requests, text, &count);
    if (!error && given && snprintf(given, given_size, "%s", text) >= (int)given_size)
        error = -ENOSPC;
    while (error && count > 0)
        run_and_wait(&requests[--count], run_close);
    return error;
}

int sluice_group_listen(struct sluice_group *group, const char *address, const struct sluice_listener_options *given,
                        const struct sluice_listener_events *events, void *user, char *text, size_t text_size)
{
    struct sluice_listener_options options = given ? *given : (struct sluice_listener_options){0};
    struct listen_request *requests = calloc(group->count, sizeof *requests);
    char bound[SLUICE_ADDRESS_MAX];
    int error;

    if (!requests)
        return -ENOMEM;
    requests[0] = (struct listen_request){
        .member = &group->members[0],
        .address = address,
        .options = &options,
        .events = events,
        .user = user,
        .shares_port = group->count > 1,
    };
    error = listen_on_all(group, requests, bound, text, text_size);
    free(requests);
    return error;
}

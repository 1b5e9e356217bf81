/*
 * Name look-ups: getaddrinfo() on a bounded number of detached threads.
 *
 * Not on getaddrinfo_a(): glibc's loses the notification when it cannot start a thread for it, and when it fails it
 * may or may not notify.
 */
#include "uring/lookup.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

enum {
    LOOKUP_THREADS_MAX = 16,
};

struct request {
    struct request *next;
    struct ring_lookup *lookup;
};

struct lookup_pool {
    pthread_mutex_t lock;
    struct request *first;
    struct request **last; /* where the next one goes */
    uint32_t threads;
    bool is_open; /* true exactly until destroy; then the last thread frees the pool */
};

/* -- Looking up ---------------------------------------------------------------------------------------------- */

static int error_from(int code)
{
    switch (code) {
    case 0:
        return 0;
    case EAI_AGAIN:
    case EAI_SYSTEM: /* out of descriptors, most likely */
        return -EAGAIN;
    case EAI_MEMORY:
        return -ENOMEM;
    default:
        return -EHOSTUNREACH;
    }
}

static int resolve(const struct ring_lookup *lookup, int flags, struct addrinfo **addresses)
{
    const struct addrinfo hints = {.ai_flags = flags, .ai_socktype = SOCK_STREAM};

    return getaddrinfo(lookup->host, lookup->port, &hints, addresses);
}

/* A numeric address is one whatever is configured; ADDRCONFIG would refuse IPv6 ones on a host that has none. */
static void answer(struct ring_lookup *lookup)
{
    struct addrinfo *addresses = NULL;
    int code = resolve(lookup, AI_NUMERICHOST, &addresses);

    if (code == EAI_NONAME)
        code = resolve(lookup, AI_ADDRCONFIG, &addresses);
    lookup->error = error_from(code);
    lookup->addresses = code == 0 ? addresses : NULL;
    lookup->done(lookup); /* it is the caller's again */
}

/* -- The pool ------------------------------------------------------------------------------------------------ */

struct lookup_pool *lookup_pool_create(void)
{
    struct lookup_pool *pool = calloc(1, sizeof *pool);

    if (!pool)
        return NULL;
    pthread_mutex_init(&pool->lock, NULL);
    pool->last = &pool->first;
    pool->is_open = true;
    return pool;
}

static void free_pool(struct lookup_pool *pool)
{
    assert(!pool->first);
    assert(pool->threads == 0);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

void lookup_pool_destroy(struct lookup_pool *pool)
{
    bool is_last;

    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->is_open = false;
    is_last = pool->threads == 0;
    pthread_mutex_unlock(&pool->lock);
    if (is_last)
        free_pool(pool);
}

static void push(struct lookup_pool *pool, struct request *request)
{
    *pool->last = request;
    pool->last = &request->next;
}

static struct request *pop(struct lookup_pool *pool)
{
    struct request *request = pool->first;

    if (!request)
        return NULL;
    pool->first = request->next;
    if (!pool->first)
        pool->last = &pool->first;
    return request;
}

/* Looks up what is queued until nothing is. */
static void *work(void *argument)
{
    struct lookup_pool *pool = argument;
    struct request *request;
    bool is_last;

    pthread_mutex_lock(&pool->lock);
    while ((request = pop(pool))) {
        pthread_mutex_unlock(&pool->lock);
        answer(request->lookup);
        free(request);
        pthread_mutex_lock(&pool->lock);
    }
    pool->threads--;
    is_last = pool->threads == 0 && !pool->is_open;
    pthread_mutex_unlock(&pool->lock);
    if (is_last)
        free_pool(pool);
    return NULL;
}

/* With every signal blocked: they are the host program's. */
static int start_thread(struct lookup_pool *pool)
{
    pthread_attr_t attributes;
    sigset_t all;
    sigset_t before;
    pthread_t thread;
    int error;

    if (pthread_attr_init(&attributes) != 0)
        return -ENOMEM;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&thread, &attributes, work, pool);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return -error;
}

/* Without a new thread the request is still served, if there is an old one: none ends while anything is queued. */
static int enqueue(struct lookup_pool *pool, struct request *request)
{
    if (pool->threads < LOOKUP_THREADS_MAX) {
        int result = start_thread(pool); /* it waits for the lock that we hold */

        if (result < 0 && pool->threads == 0)
            return result;
        if (result == 0)
            pool->threads++;
    }
    push(pool, request);
    return 0;
}

int lookup_start(struct lookup_pool *pool, struct ring_lookup *lookup)
{
    struct request *request = calloc(1, sizeof *request);
    int result;

    if (!request)
        return -ENOMEM;
    request->lookup = lookup;
    pthread_mutex_lock(&pool->lock);
    assert(pool->is_open);
    result = enqueue(pool, request);
    pthread_mutex_unlock(&pool->lock);
    if (result < 0)
        free(request);
    return result;
}

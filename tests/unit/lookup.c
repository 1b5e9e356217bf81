/* Name look-ups: what is found, which errors are told apart, and that each is answered exactly once. */
#include "uring/lookup.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

/* A look-up that can be waited for. */
struct question {
    struct ring_lookup lookup;
    sem_t is_answered;
    sigset_t blocked; /* in the thread that answered */
};

static void hear_answer(struct ring_lookup *lookup)
{
    struct question *question = (struct question *)lookup;

    pthread_sigmask(SIG_BLOCK, NULL, &question->blocked);
    sem_post(&question->is_answered);
}

static int ask(struct lookup_pool *pool, struct question *question, const char *host, const char *port)
{
    memset(question, 0, sizeof *question);
    sem_init(&question->is_answered, 0, 0);
    question->lookup = (struct ring_lookup){.done = hear_answer, .host = host, .port = port};
    return lookup_start(pool, &question->lookup);
}

static void wait_for_answer(struct question *question)
{
    while (sem_wait(&question->is_answered) < 0)
        cr_assert_eq(errno, EINTR);
}

/* The whole life of one look-up. The addresses are the caller's to free. */
static struct ring_lookup look_up(const char *host, const char *port)
{
    struct lookup_pool *pool = lookup_pool_create();
    struct question question;

    cr_assert(pool);
    cr_assert_eq(ask(pool, &question, host, port), 0);
    wait_for_answer(&question);
    lookup_pool_destroy(pool);
    return question.lookup;
}

Test(lookup, finds_a_numeric_address, .timeout = 10)
{
    struct ring_lookup lookup = look_up("192.0.2.7", "443");
    const struct sockaddr_in *found;

    cr_assert_eq(lookup.error, 0);
    found = (const struct sockaddr_in *)(const void *)lookup.addresses->ai_addr;
    cr_assert_eq(found->sin_addr.s_addr, inet_addr("192.0.2.7"));
    cr_assert_eq(found->sin_port, htons(443));
    cr_assert_eq(lookup.addresses->ai_socktype, SOCK_STREAM);
    cr_assert_null(lookup.addresses->ai_next);
    freeaddrinfo(lookup.addresses);
}

Test(lookup, finds_a_numeric_ipv6_address_also_where_there_is_no_ipv6, .timeout = 10)
{
    struct ring_lookup lookup = look_up("2001:db8::7", "443");

    cr_assert_eq(lookup.error, 0);
    cr_assert_eq(lookup.addresses->ai_family, AF_INET6);
    freeaddrinfo(lookup.addresses);
}

Test(lookup, finds_a_name, .timeout = 10)
{
    struct ring_lookup lookup = look_up("localhost", "7000");

    cr_assert_eq(lookup.error, 0);
    cr_assert(lookup.addresses);
    freeaddrinfo(lookup.addresses);
}

Test(lookup, says_that_there_is_no_such_name, .timeout = 10)
{
    char name[1001];
    struct ring_lookup lookup;

    memset(name, 'x', sizeof name - 1); /* too long for any: nobody has to be asked */
    name[sizeof name - 1] = '\0';
    lookup = look_up(name, "443");
    cr_assert_eq(lookup.error, -EHOSTUNREACH);
    cr_assert_null(lookup.addresses);
}

Test(lookup, says_that_there_is_no_such_service, .timeout = 10)
{
    struct ring_lookup lookup = look_up("localhost", "no-such-service");

    cr_assert_eq(lookup.error, -EHOSTUNREACH);
    cr_assert_null(lookup.addresses);
}

Test(lookup, answers_each_of_very_many_exactly_once, .timeout = 30)
{
    enum {
        QUESTIONS = 500
    }; /* far more than there are threads */
    static struct question questions[QUESTIONS];
    struct lookup_pool *pool = lookup_pool_create();

    for (int i = 0; i < QUESTIONS; i++)
        cr_assert_eq(ask(pool, &questions[i], i % 2 ? "127.0.0.1" : "localhost", "80"), 0);
    for (int i = 0; i < QUESTIONS; i++)
        wait_for_answer(&questions[i]);
    lookup_pool_destroy(pool);
    for (int i = 0; i < QUESTIONS; i++) {
        cr_assert_eq(sem_trywait(&questions[i].is_answered), -1);
        cr_assert_eq(questions[i].lookup.error, 0);
        freeaddrinfo(questions[i].lookup.addresses);
    }
}

Test(lookup, answers_also_after_its_pool_was_destroyed, .timeout = 30)
{
    enum {
        QUESTIONS = 100
    };
    static struct question questions[QUESTIONS];
    struct lookup_pool *pool = lookup_pool_create();

    for (int i = 0; i < QUESTIONS; i++)
        cr_assert_eq(ask(pool, &questions[i], "127.0.0.1", "80"), 0);
    lookup_pool_destroy(pool);
    for (int i = 0; i < QUESTIONS; i++) {
        wait_for_answer(&questions[i]);
        freeaddrinfo(questions[i].lookup.addresses);
    }
}

Test(lookup, leaves_the_signals_of_the_program_to_its_own_threads, .timeout = 10)
{
    struct lookup_pool *pool = lookup_pool_create();
    struct question question;
    sigset_t mine;

    cr_assert_eq(ask(pool, &question, "127.0.0.1", "80"), 0);
    wait_for_answer(&question);
    pthread_sigmask(SIG_BLOCK, NULL, &mine);
    cr_assert_eq(sigismember(&question.blocked, SIGTERM), 1);
    cr_assert_eq(sigismember(&question.blocked, SIGUSR1), 1);
    cr_assert_eq(sigismember(&mine, SIGTERM), 0);
    freeaddrinfo(question.lookup.addresses);
    lookup_pool_destroy(pool);
}

Test(lookup, is_refused_when_no_thread_can_be_had, .timeout = 10)
{
    struct lookup_pool *pool = lookup_pool_create();
    struct question question;
    struct rlimit limit;

    if (geteuid() == 0)
        cr_assert_eq(setuid(65534), 0); /* the limit does not bind root */
    prctl(PR_SET_DUMPABLE, 1);          /* lets a leak checker look at us all the same */
    getrlimit(RLIMIT_NPROC, &limit);
    setrlimit(RLIMIT_NPROC, &(struct rlimit){.rlim_cur = 0, .rlim_max = limit.rlim_max});
    cr_assert_eq(ask(pool, &question, "127.0.0.1", "80"), -EAGAIN);
    setrlimit(RLIMIT_NPROC, &limit);
    lookup_pool_destroy(pool);
    cr_assert_eq(sem_trywait(&question.is_answered), -1);
}

Test(lookup, of_nothing_leaves_nothing, .timeout = 10)
{
    lookup_pool_destroy(NULL);
    lookup_pool_destroy(lookup_pool_create());
}

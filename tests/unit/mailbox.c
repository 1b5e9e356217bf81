/* The mailbox: posts of many threads run on one, those of each in order, and a sleeping reader is woken once. */
#include "engine/mailbox.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

enum {
    THREADS = 4,
    POSTS = 5000,
};

/* A ring that counts wakes: a mailbox uses nothing else of it. */
struct counting_ring {
    struct ring ring;
    _Atomic(unsigned) wakes;
};

static void count_wake(struct ring *ring)
{
    atomic_fetch_add(&((struct counting_ring *)ring)->wakes, 1);
}

static const struct ring_ops counting_ops = {.wake = count_wake};

struct letter {
    struct sluice_post post;
    unsigned writer;
    unsigned number;
    unsigned *read; /* how many of this writer's were read */
    struct mailbox *again;
};

static void read_letter(struct sluice_post *post)
{
    struct letter *letter = (struct letter *)post;

    cr_assert_eq(letter->number, letter->read[letter->writer], "letters of writer %u out of order", letter->writer);
    letter->read[letter->writer]++;
}

Test(mailbox, is_empty_at_first)
{
    struct counting_ring ring = {.ring.ops = &counting_ops};
    struct mailbox *mailbox = mailbox_create(&ring.ring);

    cr_assert(mailbox_is_empty(mailbox));
    mailbox_run(mailbox);
    cr_assert(mailbox_may_sleep(mailbox));
    mailbox_close(mailbox);
    mailbox_drop(mailbox);
}

Test(mailbox, runs_posts_in_order)
{
    struct counting_ring ring = {.ring.ops = &counting_ops};
    struct mailbox *mailbox = mailbox_create(&ring.ring);
    struct letter letters[10];
    unsigned read = 0;

    for (unsigned i = 0; i < 10; i++) {
        letters[i] = (struct letter){.post.run = read_letter, .number = i, .read = &read};
        cr_assert(mailbox_post(mailbox, &letters[i].post));
        cr_assert_eq(read, 0);
    }
    cr_assert_not(mailbox_is_empty(mailbox));
    cr_assert_not(mailbox_may_sleep(mailbox));
    mailbox_run(mailbox);
    cr_assert_eq(read, 10);
    cr_assert(mailbox_is_empty(mailbox));
    mailbox_close(mailbox);
    mailbox_drop(mailbox);
}

Test(mailbox, wakes_a_reader_that_may_sleep_and_only_once)
{
    struct counting_ring ring = {.ring.ops = &counting_ops};
    struct mailbox *mailbox = mailbox_create(&ring.ring);
    struct letter letters[4];
    unsigned read = 0;

    for (unsigned i = 0; i < 4; i++)
        letters[i] = (struct letter){.post.run = read_letter, .number = i, .read = &read};
    mailbox_stay_awake(mailbox);
    mailbox_post(mailbox, &letters[0].post);
    cr_assert_eq(ring.wakes, 0, "it looks before it sleeps");
    mailbox_run(mailbox);
    cr_assert(mailbox_may_sleep(mailbox));
    mailbox_post(mailbox, &letters[1].post);
    cr_assert_eq(ring.wakes, 1);
    mailbox_post(mailbox, &letters[2].post);
    cr_assert_eq(ring.wakes, 1);
    mailbox_stay_awake(mailbox);
    mailbox_post(mailbox, &letters[3].post);
    cr_assert_eq(ring.wakes, 1);
    mailbox_run(mailbox);
    cr_assert_eq(read, 4);
    mailbox_close(mailbox);
    mailbox_drop(mailbox);
}

/* It may sleep in a loop that is not its own, before its first turn. */
Test(mailbox, wakes_a_reader_that_never_had_a_turn)
{
    struct counting_ring ring = {.ring.ops = &counting_ops};
    struct mailbox *mailbox = mailbox_create(&ring.ring);
    unsigned read = 0;
    struct letter letter = {.post.run = read_letter, .read = &read};

    mailbox_post(mailbox, &letter.post);
    cr_assert_eq(ring.wakes, 1);
    mailbox_run(mailbox);
    cr_assert_eq(read, 1);
    mailbox_close(mailbox);
    mailbox_drop(mailbox);
}

Test(mailbox, may_be_woken_without_a_post)
{
    struct counting_ring ring = {.ring.ops = &counting_ops};
    struct mailbox *mailbox = mailbox_create(&ring.ring);

    cr_assert(mailbox_may_sleep(mailbox));
    mailbox_wake(mailbox);
    mailbox_wake(mailbox);
    cr_assert_eq(ring.wakes, 1);
    mailbox_close(mailbox);
    mailbox_drop(mailbox);
}

static void post_again(struct sluice_post *post)
{
    struct letter *letter = (struct letter *)post;

    letter->number++;
    mailbox_post(letter->again, post);
}

Test(mailbox, runs_what_a_post_posts_the_next_time)
{
    struct counting_ring ring = {.ring.ops = &counting_ops};
    struct mailbox *mailbox = mailbox_create(&ring.ring);
    struct letter letter = {.post.run = post_again, .again = mailbox};

    mailbox_post(mailbox, &letter.post);
    for (unsigned i = 1; i <= 5; i++) {
        mailbox_run(mailbox);
        cr_assert_eq(letter.number, i);
    }
    mailbox_close(mailbox);
    cr_assert_eq(letter.number, 6);
    mailbox_drop(mailbox);
}

Test(mailbox, runs_what_made_it_when_it_closes_and_refuses_the_rest)
{
    struct counting_ring ring = {.ring.ops = &counting_ops};
    struct mailbox *mailbox = mailbox_create(&ring.ring);
    unsigned read = 0;
    struct letter letters[2];

    for (unsigned i = 0; i < 2; i++)
        letters[i] = (struct letter){.post.run = read_letter, .number = i, .read = &read};
    mailbox_may_sleep(mailbox);
    cr_assert(mailbox_post(mailbox, &letters[0].post));
    ring.wakes = 0;
    mailbox_may_sleep(mailbox);
    mailbox_close(mailbox);
    cr_assert_eq(read, 1);
    cr_assert_not(mailbox_post(mailbox, &letters[1].post));
    mailbox_wake(mailbox);
    cr_assert_eq(ring.wakes, 0, "the ring is gone");
    cr_assert_eq(read, 1);
    mailbox_drop(mailbox);
}

Test(mailbox, outlives_its_engine_while_somebody_holds_it)
{
    struct counting_ring ring = {.ring.ops = &counting_ops};
    struct mailbox *mailbox = mailbox_create(&ring.ring);
    struct letter letter = {.post.run = read_letter};

    mailbox_hold(mailbox);
    mailbox_close(mailbox);
    mailbox_drop(mailbox);
    cr_assert_not(mailbox_post(mailbox, &letter.post));
    mailbox_drop(mailbox);
}

/* -- Many threads -------------------------------------------------------------------------------------------- */

struct writer {
    pthread_t thread;
    struct mailbox *mailbox;
    struct letter *letters;
    unsigned posted; /* before it closed */
};

static void *write_letters(void *argument)
{
    struct writer *writer = argument;

    while (writer->posted < POSTS && mailbox_post(writer->mailbox, &writer->letters[writer->posted].post))
        writer->posted++;
    return NULL;
}

static void start_writers(struct writer writers[THREADS], struct mailbox *mailbox, unsigned *read)
{
    for (unsigned i = 0; i < THREADS; i++) {
        writers[i] = (struct writer){.mailbox = mailbox, .letters = calloc(POSTS, sizeof(struct letter))};
        cr_assert(writers[i].letters);
        for (unsigned j = 0; j < POSTS; j++)
            writers[i].letters[j] = (struct letter){.post.run = read_letter, .writer = i, .number = j, .read = read};
    }
    for (unsigned i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&writers[i].thread, NULL, write_letters, &writers[i]), 0);
}

static void join_writers(struct writer writers[THREADS])
{
    for (unsigned i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_join(writers[i].thread, NULL), 0);
}

Test(mailbox, takes_the_posts_of_many_threads, .timeout = 30)
{
    struct counting_ring ring = {.ring.ops = &counting_ops};
    struct mailbox *mailbox = mailbox_create(&ring.ring);
    unsigned read[THREADS] = {0};
    struct writer writers[THREADS];

    start_writers(writers, mailbox, read);
    while (read[0] + read[1] + read[2] + read[3] < THREADS * POSTS) {
        unsigned before = ring.wakes;

        /* A reader that would sleep is woken by the next post, or sees it. */
        mailbox_stay_awake(mailbox);
        mailbox_run(mailbox);
        if (mailbox_may_sleep(mailbox) && read[0] + read[1] + read[2] + read[3] < THREADS * POSTS)
            while (ring.wakes == before)
                sched_yield();
    }
    join_writers(writers);
    for (unsigned i = 0; i < THREADS; i++) {
        cr_assert_eq(read[i], POSTS);
        free(writers[i].letters);
    }
    mailbox_close(mailbox);
    mailbox_drop(mailbox);
}

Test(mailbox, runs_all_that_made_it_before_the_close, .timeout = 30)
{
    for (int round = 0; round < 20; round++) {
        struct counting_ring ring = {.ring.ops = &counting_ops};
        struct mailbox *mailbox = mailbox_create(&ring.ring);
        unsigned read[THREADS] = {0};
        struct writer writers[THREADS];

        start_writers(writers, mailbox, read);
        for (int i = 0; i < round * 10; i++) {
            mailbox_run(mailbox);
            mailbox_may_sleep(mailbox);
            sched_yield();
        }
        mailbox_close(mailbox);
        join_writers(writers);
        for (unsigned i = 0; i < THREADS; i++) {
            cr_assert_eq(read[i], writers[i].posted);
            free(writers[i].letters);
        }
        mailbox_drop(mailbox);
    }
}

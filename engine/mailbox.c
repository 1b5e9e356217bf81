/* The mailbox: see mailbox.h. A stack that writers push to; the reader takes it whole and turns it round. */
#include "engine/mailbox.h"

#include <sched.h>
#include <stdlib.h>

/* Stands for "closed" where the newest post would be. */
static struct sluice_post closed;

struct mailbox *mailbox_create(struct ring *ring)
{
    struct mailbox *mailbox = calloc(1, sizeof *mailbox);

    if (!mailbox)
        return NULL;
    mailbox->owner = pthread_self();
    mailbox->ring = ring;
    atomic_init(&mailbox->needs_wake, true); /* before its first turn an engine sleeps, in a loop that is not its own */
    atomic_init(&mailbox->holders, 1);
    return mailbox;
}

void mailbox_hold(struct mailbox *mailbox)
{
    atomic_fetch_add_explicit(&mailbox->holders, 1, memory_order_relaxed);
}

void mailbox_drop(struct mailbox *mailbox)
{
    /* Release what we wrote, acquire what the others wrote before they dropped it. */
    if (atomic_fetch_sub_explicit(&mailbox->holders, 1, memory_order_acq_rel) == 1)
        free(mailbox);
}

void mailbox_wake(struct mailbox *mailbox)
{
    /* Announced before `newest` is read and withdrawn after the ring was used: mailbox_close() waits for it. */
    atomic_fetch_add(&mailbox->wakers, 1);
    if (atomic_load(&mailbox->newest) != &closed && atomic_exchange(&mailbox->needs_wake, false))
        mailbox->ring->ops->wake(mailbox->ring);
    atomic_fetch_sub(&mailbox->wakers, 1);
}

bool mailbox_post(struct mailbox *mailbox, struct sluice_post *post)
{
    struct sluice_post *newest = atomic_load(&mailbox->newest);

    do {
        if (newest == &closed)
            return false;
        post->next = newest;
    } while (!atomic_compare_exchange_weak(&mailbox->newest, &newest, post));
    /*
     * Sequentially consistent against mailbox_may_sleep(): either the reader sees our post before it sleeps, or we
     * see that it needs a wake. Only the first writer of a sleep pays for it, the others look.
     */
    if (atomic_load(&mailbox->needs_wake))
        mailbox_wake(mailbox);
    return true;
}

void mailbox_stay_awake(struct mailbox *mailbox)
{
    /* Writers read it with every post: it is written only when it changes. */
    if (atomic_load_explicit(&mailbox->needs_wake, memory_order_relaxed))
        atomic_store(&mailbox->needs_wake, false);
}

bool mailbox_is_empty(const struct mailbox *mailbox)
{
    const struct sluice_post *newest = atomic_load(&mailbox->newest);

    return newest == NULL || newest == &closed;
}

bool mailbox_may_sleep(struct mailbox *mailbox)
{
    atomic_store(&mailbox->needs_wake, true);
    return mailbox_is_empty(mailbox);
}

static void run_oldest_first(struct sluice_post *newest)
{
    struct sluice_post *oldest = NULL;

    while (newest) {
        struct sluice_post *next = newest->next;

        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest) {
        struct sluice_post *next = oldest->next;

        oldest->run(oldest);
        oldest = next;
    }
}

bool mailbox_run(struct mailbox *mailbox)
{
    /* A look is cheaper than an exchange, and the usual turn has no post. */
    if (mailbox_is_empty(mailbox))
        return false;
    run_oldest_first(atomic_exchange(&mailbox->newest, NULL));
    return true;
}

void mailbox_close(struct mailbox *mailbox)
{
    struct sluice_post *last = atomic_exchange(&mailbox->newest, &closed);

    while (atomic_load(&mailbox->wakers) > 0)
        sched_yield();
    run_oldest_first(last);
}

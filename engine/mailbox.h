/*
 * Where other threads leave tasks for an engine: lock-free, many writers, one reader.
 *
 * A mailbox outlives its engine for as long as somebody holds it, and refuses posts once it is closed, so that the far
 * end of a pair can post without knowing whether the engine still lives.
 */
#ifndef ENGINE_MAILBOX_H
#define ENGINE_MAILBOX_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <sluice/engine.h>

#include "uring/ring.h"

struct mailbox {
    pthread_t owner;   /* the thread that reads it */
    struct ring *ring; /* to wake; gone once the mailbox is closed */
    _Atomic(struct sluice_post *) newest;
    atomic_bool needs_wake;    /* true exactly while the reader may sleep without having seen the next post */
    _Atomic(uint32_t) wakers;  /* threads that may be using `ring` right now */
    _Atomic(uint32_t) holders; /* the engine, its streams, ends of pairs */
};

/* One holder, and the calling thread for its owner. NULL if there is no memory. */
struct mailbox *mailbox_create(struct ring *ring);
void mailbox_hold(struct mailbox *mailbox);
void mailbox_drop(struct mailbox *mailbox);

static inline bool mailbox_is_mine(const struct mailbox *mailbox)
{
    return pthread_equal(mailbox->owner, pthread_self());
}

/* [any thread that holds it] Returns false if it is closed: then nothing was posted. */
bool mailbox_post(struct mailbox *mailbox, struct sluice_post *post);
/* [any thread, signal handlers] Wakes the reader without a post. */
void mailbox_wake(struct mailbox *mailbox);

/* The reader is awake, and will look before it sleeps: posts need not wake it. */
void mailbox_stay_awake(struct mailbox *mailbox);
/* The reader wants to sleep. Returns false if there are posts to run first. */
bool mailbox_may_sleep(struct mailbox *mailbox);
bool mailbox_is_empty(const struct mailbox *mailbox);

/* Runs what was posted so far, oldest first. Returns whether something was. */
bool mailbox_run(struct mailbox *mailbox);
/* Refuses posts from now on, and runs those that made it. On return nobody uses the ring any more. */
void mailbox_close(struct mailbox *mailbox);

#endif

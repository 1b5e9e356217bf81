/*
 * System calls of the library that fail when a test says so: the n-th of its kind from now, with an error of the test's
 * choice. The linker puts these functions before the true ones (see tests/meson.build); what is not refused goes
 * through.
 *
 * Counting begins anew with refuse_nothing(). Threads of the library are counted, too.
 */
#ifndef SUPPORT_REFUSING_KERNEL_H
#define SUPPORT_REFUSING_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

enum call {
    CALL_ACCEPT,
    CALL_BIND,
    CALL_CALLOC,
    CALL_CONNECT,
    CALL_FCNTL,
    CALL_GETSOCKNAME,
    CALL_GETSOCKOPT,
    CALL_LISTEN,
    CALL_LIMIT, /* getrlimit(): "refused", it says that there is none */
    CALL_MALLOC,
    CALL_MAP,
    CALL_OPEN,
    CALL_READ,
    CALL_REALLOC, /* reallocarray() */
    CALL_SEND,
    CALL_SETSOCKOPT,
    CALL_SHUTDOWN,
    CALL_SOCKET,
    CALL_SOCKETPAIR,
    CALL_THREAD,            /* pthread_create() */
    CALL_THREAD_ATTRIBUTES, /* pthread_attr_init() */
    CALL_WAIT,              /* sem_wait() */
    CALL_RING,              /* io_uring_queue_init() and io_uring_queue_init_params() */
    CALL_REGISTER_BUFFERS,
    CALL_REGISTER_PROBE,
    CALL_SUBMIT, /* "refused", it submits, and says that it did not */
    CALL_SYNC_CANCEL,
    CALL_COUNT,
};

enum {
    PRETENDED_MAX = 4, /* files */
    REFUSALS_MAX = 64, /* the calls of a kind after which none is refused */
};

/* Every call goes through from now on, and the next of each kind is the first. */
void refuse_nothing(void);

/* The `nth` call (from 1) fails with `error`, a positive errno. */
void refuse(enum call call, unsigned nth, int error);

/* All of them from the first on, as many as can be refused. */
void refuse_all(enum call call, int error);

/* How many were made since refuse_nothing(). */
unsigned calls_made(enum call call);

/* The family of the address that was last given to bind(). */
int family_bound(void);

/* As if some huge pages were reserved: ordinary ones are given for them. */
void grant_huge_pages(void);

/* As if this kernel did not know the request. */
void hide_opcode(uint8_t opcode);

/* As if the file said that: the next that are opened, until refuse_nothing(). `path` and `text` must stay. */
void pretend_file(const char *path, const char *text);

/* As if we were in the group. */
void join_group(uint32_t group);

/* -- What a trial of the ring is answered -------------------------------------------------------------------- */

enum answer {
    ANSWER_TRUE,      /* what the kernel says */
    ANSWER_LATE,      /* nothing; with the next wait, what the kernel says */
    ANSWER_NEVER,     /* nothing, also with every further wait */
    ANSWER_SIGNAL,    /* a signal comes before the answer */
    ANSWER_INVALID,   /* -EINVAL */
    ANSWER_EMPTY,     /* zero bytes in the buffer */
    ANSWER_NO_BUFFER, /* as told, but not in a buffer */
    ANSWER_LAST,      /* as told, and nothing follows though more was asked for */
    ANSWER_GOES_ON,   /* as told, and more is promised, which never ends */
    ANSWERS,
};

/* The `nth` wait for an answer (from 1) brings that. */
void answer_with(unsigned nth, enum answer answer);

unsigned answers_asked_for(void);

#endif

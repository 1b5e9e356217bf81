/*
 * What the loads have in common: their command line, their connections, the window in which they measure, and the one
 * JSON object that each prints. A load is a client of a peer (perf/peers): raw epoll on one thread, so cheap that the
 * peer is what limits. `load_cpu_ns` in its report says whether that held: next to `seconds` it shows how busy it was.
 *
 * Each ends with 0, with 1 and a line if the world or the peer did not do what it should, or with 2 and a line if its
 * command line is wrong.
 */
#ifndef PERF_LOAD_H
#define PERF_LOAD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/un.h>

#include "tools/histogram.h"

enum {
    LOAD_SIZE_MAX = 1 << 20,
    /* How long epoll_wait() sleeps at most: so late may a window begin and end when nothing happens. */
    LOAD_SLEEP_MS = 5,
};

/* How long we wait for what has to come before or after measuring. */
#define LOAD_PATIENCE_NS UINT64_C(10000000000)

struct load_address {
    union {
        struct sockaddr any;
        struct sockaddr_in tcp;
        struct sockaddr_un local;
    };
    socklen_t len; /* 0 if none was given */
    const char *text;
};

struct load_options {
    uint64_t connections;
    uint64_t size;
    uint64_t duration_ns;
    uint64_t warmup_ns;
    uint64_t server_pid; /* 0 if nobody asks */
    struct load_address address;
};

/* -- The command line ---------------------------------------------------------------------------------------- */

enum load_argument_kind {
    LOAD_COUNT,   /* a number */
    LOAD_SIZE,    /* bytes, with or without K, M or G */
    LOAD_TIME,    /* with ns, us, ms or s */
    LOAD_ADDRESS, /* 127.0.0.1:PORT or unix:/PATH */
};

/* An option of one load alone; those of all are known. What the variable holds before is its default. */
struct load_argument {
    const char *name;
    enum load_argument_kind kind;
    uint64_t min; /* of numbers, sizes and times */
    uint64_t max;
    union {
        uint64_t *number;
        struct load_address *address;
    };
};

/*
 * Reads the command line into `options`, whose members hold the defaults, and into the variables of `own`, a list that
 * a row without a name ends. `modes` are the words of which one stands before ADDRESS, a list that NULL ends, or NULL
 * if none does. Returns the index of the word. Exits with status 2 and a line if something is wrong.
 */
int load_read_arguments(int argc, char **argv, struct load_options *options, const struct load_argument *own,
                        const char *const *modes);

/* Refuses a value in the words of the command line: exits with status 2. */
void load_refuse(const char *what, const char *value, const char *allowed) __attribute__((noreturn));

/* Says what went wrong, and exits with status 1. */
void load_fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* The same with errno's text. */
void load_die(const char *what) __attribute__((noreturn));

/* -- Connections --------------------------------------------------------------------------------------------- */

/*
 * A nonblocking socket on its way to `address`, with TCP_NODELAY. `number` counts the connections of a run: it chooses
 * the source address, so that there are ports for many. Returns it, or -1 with errno EAGAIN if a Unix socket's backlog
 * is full. Exits if it cannot be had.
 */
int load_start_connecting(const struct load_address *address, uint64_t number);

/* The same, connected; waits for it. */
int load_connect(const struct load_address *address, uint64_t number);

/* A nonblocking socket that listens. */
int load_listen(const struct load_address *address);

/* An epoll set, and what it watches: `events` of `fd` come with `data`. */
int load_watch_create(void);
void load_watch(int epoll, int fd, uint32_t events, void *data);

/* -- Measuring ----------------------------------------------------------------------------------------------- */

enum load_phase {
    LOAD_WARMING,
    LOAD_MEASURING,
    LOAD_OVER,
};

/* Counts are added to at all times; what was counted while warming up is forgotten. */
struct load_window {
    const struct load_options *options;
    enum load_phase phase;
    uint64_t since_ns;      /* when the phase began */
    uint64_t measured_ns;   /* how long measuring took */
    uint64_t server_cpu_ns; /* CPU time before measuring, and, when it is over, in it */
    uint64_t load_cpu_ns;   /* the same of this process */
    uint64_t messages;
    uint64_t bytes;
    struct histogram latency;
};

/* All connections stand: from here on we warm up. */
void load_window_start(struct load_window *window, const struct load_options *options);

/* To be asked once a turn. Begins and ends measuring when it is time. */
bool load_window_is_over(struct load_window *window, uint64_t now_ns);

/* Prints the report. `has_messages`: the rate is that of messages, with latencies; otherwise that of bytes. */
void load_window_report(const struct load_window *window, bool has_messages);

#endif

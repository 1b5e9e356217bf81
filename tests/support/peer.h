/*
 * The other end: plain sockets, with nothing of Sluice in them. Every wait is bounded by PEER_PATIENCE_MS.
 *
 * What opens something asserts that it worked and is for the test's own thread; what moves bytes reports, and may be
 * called on any thread and in child processes.
 */
#ifndef SUPPORT_PEER_H
#define SUPPORT_PEER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include <sluice/address.h>

enum {
    PEER_PATIENCE_MS = 20000,
};

/* -- Addresses ----------------------------------------------------------------------------------------------- */

enum peer_family {
    PEER_TCP4,
    PEER_TCP6,
    PEER_UNIX,     /* a path in a folder of its own */
    PEER_ABSTRACT, /* a name of Linux's own */
    PEER_FAMILIES,
};

/* Writes an address to listen on: port 0, or a name that nobody has. */
void peer_make_address(enum peer_family family, char address[SLUICE_ADDRESS_MAX]);

/* Removes the folders that peer_make_address() made. */
void peer_remove_folders(void);

/* -- Opening ------------------------------------------------------------------------------------------------- */

/* Listens; writes the address with its port. */
int peer_listen(enum peer_family family, int backlog, char address[SLUICE_ADDRESS_MAX]);

/* A connected socket. `receive_size` (0: the kernel's choice) becomes SO_RCVBUF before connecting. */
int peer_connect_small(const char *address, int receive_size);
int peer_connect(const char *address);

/* The same without an assertion: the descriptor, or -errno. [any thread, child processes] */
int peer_try_connect(const char *address, int receive_size);

int peer_accept(int listener);

/* -- Moving bytes -------------------------------------------------------------------------------------------- */

/* Waits until the socket has one of these poll events. Returns false if it lost patience. */
bool peer_wait(int fd, short events);

/* Sends the bytes of a lane from `offset` on. Returns how many went: fewer only if the other end is gone. */
uint64_t peer_send(int fd, uint32_t lane, uint64_t offset, uint64_t len);

struct peer_received {
    uint64_t bytes;
    bool is_intact; /* all of them those of the lane */
    bool has_ended; /* the other end sends no more */
    int error;      /* -errno; -ETIMEDOUT if patience was lost; 0: `limit` is reached, or the end */
};

/* Receives at most `piece` bytes at a time until `limit` bytes, the end or an error. */
struct peer_received peer_receive(int fd, uint32_t lane, uint64_t offset, uint64_t limit, size_t piece);

/* The same, once, without waiting: bytes is 0 and error -EAGAIN if nothing is there. */
struct peer_received peer_receive_now(int fd, uint32_t lane, uint64_t offset, size_t piece);

/* Sends back what comes until it ends, then ends too. Returns the bytes, or -errno. */
int64_t peer_echo(int fd);

void peer_finish(int fd);
/* Closes with a reset (RST) rather than a FIN. */
void peer_reset(int fd);

/* -- Threads ------------------------------------------------------------------------------------------------- */

/* A peer that works by itself. */
struct peer_thread {
    pthread_t thread;
    void (*run)(struct peer_thread *peer);
    int fd;
    uint32_t lane;
    uint64_t send_bytes;
    size_t piece; /* 0: as comes */
    uint64_t sent;
    struct peer_received received;
    void *user;
};

void peer_thread_start(struct peer_thread *peer, void (*run)(struct peer_thread *peer));
void peer_thread_join(struct peer_thread *peer);

/* Bodies of threads. Each closes the socket. */
void peer_run_echo(struct peer_thread *peer);
/* Reads to the end, then closes. */
void peer_run_sink(struct peer_thread *peer);
/* Sends send_bytes and a FIN, then reads to the end. */
void peer_run_source(struct peer_thread *peer);

#endif

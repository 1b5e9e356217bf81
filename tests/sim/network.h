/* Simulated sockets, listeners and pipes: bytes on their way, with delay, bandwidth, limits and loss of the peer. */
#ifndef SIM_NETWORK_H
#define SIM_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "tests/sim/sim.h"

#define LOST_NS UINT64_C(5000000000) /* until the kernel gives up a lost peer */

enum {
    DESCRIPTORS = 256,
    ARRIVALS = 256, /* pieces under way in one channel */
    PIECES = 64,    /* in one write */
    BACKLOG = 16,
};

/* One direction. Bytes may be read once they have arrived. */
struct channel {
    uint8_t *memory;
    size_t capacity;
    uint64_t written;
    uint64_t taken;
    struct arrival {
        uint64_t upto;
        uint64_t at_ns;
    } arrivals[ARRIVALS];
    uint32_t first;
    uint32_t count;
    uint64_t last_ns; /* when the last of it arrives */
    uint64_t delay_ns;
    uint64_t ns_per_byte;
    bool has_ended;  /* FIN is on its way, behind the bytes */
    bool is_reset;   /* RST came: what has not arrived never will */
    bool is_refused; /* the reader is gone: what is sent is answered by a reset */
    bool is_lost;    /* so is everybody: nothing arrives, and some day the kernel gives up */
    uint64_t timeout_at_ns;
    uint32_t holders; /* the ends that use it */
};

enum descriptor_kind {
    DESCRIPTOR_FREE,
    DESCRIPTOR_SOCKET,
    DESCRIPTOR_LISTENER,
    DESCRIPTOR_PIPE,
};

struct descriptor {
    enum descriptor_kind kind;
    struct channel *in;
    struct channel *out;
    uint16_t port;     /* listeners */
    uint32_t requests; /* in flight; it must not be closed meanwhile */
    uint32_t sends;    /* of these */
    uint32_t receives;
    int waiting[BACKLOG]; /* listeners: connected and not accepted */
    uint32_t waiting_count;
    uint32_t backlog;
    bool was_told_reset; /* a send was: from now on a receive sees a plain end */
    int peer;            /* descriptor of the other end, or -1 */
};

struct network {
    struct sim *sim;
    struct descriptor descriptors[DESCRIPTORS];
    uint16_t next_port;
    size_t capacity; /* of new channels */
    uint64_t delay_ns;
    uint64_t ns_per_byte;
    bool has_devices; /* instead of pipes: a write may block whoever does it */
    uint32_t open;    /* descriptors */
    int top;          /* no descriptor at or behind it is open */
};

void network_init(struct network *network, struct sim *sim);
void network_finish(struct network *network);

/* Each returns a descriptor or -errno. */
int network_socket(struct network *network);
int network_listen(struct network *network, uint16_t *port, uint32_t backlog);
int network_accept(struct network *network, int listener);
int network_pipe(struct network *network, int *write_fd);
/* Connects a fresh socket to whoever listens. 0 or -errno. */
int network_connect(struct network *network, int fd, uint16_t port);

void network_shutdown_write(struct network *network, int fd);
void network_close(struct network *network, int fd, bool reset);

/* How much can be read now; *has_ended: and then comes the end. -errno: the connection is broken and read out. */
int64_t network_readable(const struct network *network, int fd, bool *has_ended);
void network_read(struct network *network, int fd, void *data, size_t len);
/* How much fits now, or -errno. */
int64_t network_writable(const struct network *network, int fd);
void network_write(struct network *network, int fd, const void *data, size_t len);
/* The peer vanishes: nothing arrives any more, in either direction. */
void network_lose(struct network *network, int fd);
/* The network breaks the connection, for both ends. */
void network_break(struct network *network, int fd);

struct descriptor *network_get(struct network *network, int fd);
uint64_t network_next_event(const struct network *network);

#endif

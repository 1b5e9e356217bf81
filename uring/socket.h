/*
 * The plain system calls on sockets: verbs of struct ring_ops that need no ring.
 *
 * See uring/ring.h for what each promises. They keep nothing, so any thread may call them.
 */
#ifndef URING_SOCKET_H
#define URING_SOCKET_H

#include "uring/ring.h"

int socket_open(struct ring *ring, int family);
int socket_listen(struct ring *ring, struct ring_address *address, uint32_t backlog, bool reuse_port);
int socket_share(struct ring *ring, int fd);
int socket_duplicate(struct ring *ring, int fd);
int socket_adopt(struct ring *ring, int fd);
int socket_shutdown_write(struct ring *ring, int fd);
void socket_close(struct ring *ring, int fd, bool reset);
void socket_unlink(struct ring *ring, const struct ring_address *address);
int socket_unacknowledged(struct ring *ring, int fd);
int socket_local_address(struct ring *ring, int fd, struct ring_address *address);
int socket_peer_address(struct ring *ring, int fd, struct ring_address *address);
int socket_classify(struct ring *ring, int fd);

#endif

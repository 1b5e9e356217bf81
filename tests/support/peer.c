/* Plain sockets at the other end: see peer.h. */
#include "tests/support/peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/support/net_pattern.h"

enum {
    PIECE_MAX = 65536,
    FOLDERS_MAX = 64,
};

/* -- Addresses ----------------------------------------------------------------------------------------------- */

static char folders[FOLDERS_MAX][32];
static int folder_count;
static int name_count;

static void make_folder(char address[SLUICE_ADDRESS_MAX])
{
    char *folder = folders[folder_count++];

    cr_assert_leq(folder_count, FOLDERS_MAX);
    strcpy(folder, "/tmp/sluice-test-XXXXXX");
    cr_assert(mkdtemp(folder));
    snprintf(address, SLUICE_ADDRESS_MAX, "unix:%s/socket", folder);
}

void peer_make_address(enum peer_family family, char address[SLUICE_ADDRESS_MAX])
{
    switch (family) {
    case PEER_TCP4:
        strcpy(address, "127.0.0.1:0");
        return;
    case PEER_TCP6:
        strcpy(address, "[::1]:0");
        return;
    case PEER_UNIX:
        make_folder(address);
        return;
    default:
        snprintf(address, SLUICE_ADDRESS_MAX, "unix:@sluice-test-%ld-%d", (long)getpid(), name_count++);
    }
}

void peer_remove_folders(void)
{
    for (int i = 0; i < folder_count; i++) {
        char path[64];

        snprintf(path, sizeof path, "%s/socket", folders[i]);
        unlink(path);
        cr_expect_eq(rmdir(folders[i]), 0, "%s: %s", folders[i], strerror(errno));
    }
    folder_count = 0;
}

/* What the kernel takes for an address as Sluice writes it: numeric, no names. */
struct name {
    union {
        struct sockaddr any;
        struct sockaddr_in tcp4;
        struct sockaddr_in6 tcp6;
        struct sockaddr_un local;
    };
    socklen_t len;
};

static void parse_unix(const char *path, struct name *name)
{
    size_t len = strlen(path);

    name->local.sun_family = AF_UNIX;
    memcpy(name->local.sun_path, path, len + 1);
    if (path[0] == '@')
        name->local.sun_path[0] = '\0';
    name->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (path[0] != '@'));
}

static void parse(const char *address, struct name *name)
{
    uint16_t port = htons((uint16_t)atoi(strrchr(address, ':') + 1));

    memset(name, 0, sizeof *name);
    if (strncmp(address, "unix:", 5) == 0) {
        parse_unix(address + 5, name);
    } else if (address[0] == '[') {
        name->tcp6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = port, .sin6_addr = in6addr_loopback};
        name->len = sizeof name->tcp6;
    } else {
        name->tcp4 = (struct sockaddr_in){
            .sin_family = AF_INET,
            .sin_port = port,
            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        };
        name->len = sizeof name->tcp4;
    }
}

/* -- Opening ------------------------------------------------------------------------------------------------- */

int peer_listen(enum peer_family family, int backlog, char address[SLUICE_ADDRESS_MAX])
{
    struct name name;
    int fd;

    peer_make_address(family, address);
    parse(address, &name);
    fd = socket(name.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_geq(fd, 0);
    cr_assert_eq(bind(fd, &name.any, name.len), 0, "%s: %s", address, strerror(errno));
    cr_assert_eq(listen(fd, backlog), 0);
    cr_assert_eq(getsockname(fd, &name.any, &name.len), 0);
    if (family == PEER_TCP4)
        snprintf(address, SLUICE_ADDRESS_MAX, "127.0.0.1:%d", ntohs(name.tcp4.sin_port));
    else if (family == PEER_TCP6)
        snprintf(address, SLUICE_ADDRESS_MAX, "[::1]:%d", ntohs(name.tcp6.sin6_port));
    return fd;
}

int peer_try_connect(const char *address, int receive_size)
{
    struct name name;
    int fd;
    int error;

    parse(address, &name);
    fd = socket(name.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (receive_size)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_size, sizeof receive_size);
    if (connect(fd, &name.any, name.len) == 0)
        return fd;
    error = -errno;
    close(fd);
    return error;
}

int peer_connect_small(const char *address, int receive_size)
{
    int fd = peer_try_connect(address, receive_size);

    cr_assert_geq(fd, 0, "%s: %s", address, strerror(-fd));
    return fd;
}

int peer_connect(const char *address)
{
    return peer_connect_small(address, 0);
}

int peer_accept(int listener)
{
    int fd;

    cr_assert(peer_wait(listener, POLLIN), "nobody connected");
    fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    cr_assert_geq(fd, 0);
    return fd;
}

/* -- Moving bytes -------------------------------------------------------------------------------------------- */

bool peer_wait(int fd, short events)
{
    struct pollfd watch = {.fd = fd, .events = events};
    int result;

    do
        result = poll(&watch, 1, PEER_PATIENCE_MS);
    while (result < 0 && errno == EINTR);
    return result > 0;
}

static size_t smaller(uint64_t a, uint64_t b)
{
    return (size_t)(a < b ? a : b);
}

/* Sends all of it, or as much as the other end takes. */
static size_t send_all(int fd, const uint8_t *data, size_t len)
{
    size_t done = 0;

    while (done < len && peer_wait(fd, POLLOUT)) {
        ssize_t result = send(fd, data + done, len - done, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (result < 0 && errno != EAGAIN && errno != EINTR)
            break;
        if (result > 0)
            done += (size_t)result;
    }
    return done;
}

uint64_t peer_send(int fd, uint32_t lane, uint64_t offset, uint64_t len)
{
    static _Thread_local uint8_t data[PIECE_MAX];
    uint64_t done = 0;

    while (done < len) {
        size_t part = smaller(len - done, sizeof data);
        size_t sent;

        pattern_fill(data, lane, offset + done, part);
        sent = send_all(fd, data, part);
        done += sent;
        if (sent < part)
            break;
    }
    return done;
}

static void receive_once(int fd, uint32_t lane, uint64_t offset, size_t piece, struct peer_received *received)
{
    static _Thread_local uint8_t data[PIECE_MAX];
    ssize_t result = recv(fd, data, smaller(piece, sizeof data), MSG_DONTWAIT);

    if (result < 0) {
        received->error = errno == EINTR ? -EAGAIN : -errno;
        return;
    }
    received->error = 0;
    received->has_ended = result == 0;
    received->is_intact = received->is_intact && pattern_matches(data, lane, offset + received->bytes, (size_t)result);
    received->bytes += (uint64_t)result;
}

struct peer_received peer_receive_now(int fd, uint32_t lane, uint64_t offset, size_t piece)
{
    struct peer_received received = {.is_intact = true};

    receive_once(fd, lane, offset, piece, &received);
    return received;
}

struct peer_received peer_receive(int fd, uint32_t lane, uint64_t offset, uint64_t limit, size_t piece)
{
    struct peer_received received = {.is_intact = true};

    while (received.bytes < limit && !received.has_ended) {
        if (!peer_wait(fd, POLLIN)) {
            received.error = -ETIMEDOUT;
            break;
        }
        receive_once(fd, lane, offset, smaller(limit - received.bytes, piece), &received);
        if (received.error && received.error != -EAGAIN)
            break;
    }
    if (received.error == -EAGAIN)
        received.error = 0;
    return received;
}

int64_t peer_echo(int fd)
{
    static _Thread_local uint8_t data[PIECE_MAX];
    int64_t total = 0;

    for (;;) {
        ssize_t result;

        if (!peer_wait(fd, POLLIN))
            return -ETIMEDOUT;
        result = recv(fd, data, sizeof data, MSG_DONTWAIT);
        if (result < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (result < 0)
            return -errno;
        if (result == 0)
            break;
        if (send_all(fd, data, (size_t)result) < (size_t)result)
            return -EPIPE;
        total += result;
    }
    peer_finish(fd);
    return total;
}

void peer_finish(int fd)
{
    shutdown(fd, SHUT_WR);
}

void peer_reset(int fd)
{
    const struct linger linger = {.l_onoff = 1};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(fd);
}

/* -- Threads ------------------------------------------------------------------------------------------------- */

static void *run_thread(void *argument)
{
    struct peer_thread *peer = argument;

    peer->run(peer);
    return NULL;
}

void peer_thread_start(struct peer_thread *peer, void (*run)(struct peer_thread *peer))
{
    peer->run = run;
    cr_assert_eq(pthread_create(&peer->thread, NULL, run_thread, peer), 0);
}

void peer_thread_join(struct peer_thread *peer)
{
    cr_assert_eq(pthread_join(peer->thread, NULL), 0);
}

static void read_to_end(struct peer_thread *peer)
{
    peer->received = peer_receive(peer->fd, peer->lane, 0, UINT64_MAX, peer->piece ? peer->piece : PIECE_MAX);
}

void peer_run_echo(struct peer_thread *peer)
{
    int64_t result = peer_echo(peer->fd);

    if (result < 0)
        peer->received.error = (int)result;
    else
        peer->received.bytes = (uint64_t)result;
    close(peer->fd);
}

void peer_run_sink(struct peer_thread *peer)
{
    read_to_end(peer);
    close(peer->fd);
}

void peer_run_source(struct peer_thread *peer)
{
    peer->sent = peer_send(peer->fd, peer->lane, 0, peer->send_bytes);
    peer_finish(peer->fd);
    read_to_end(peer);
    close(peer->fd);
}

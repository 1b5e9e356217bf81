/*
 * The peer with blocking sockets and a thread for each connection: what read and write with 64 KiB buffers move. It is
 * a bound for streams, and no server: thousands of connections are thousands of threads.
 *
 * Of the roles it plays echo, source, sink and forward. A reset is passed on as an end: no thread can abort a stream in
 * which another waits.
 */
#include "perf/peers/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    BUFFER_SIZE = 64 << 10,
    STACK_SIZE = 64 << 10,
};

/* What a thread works for. */
struct connection {
    const struct peer_options *options;
    int fd;
};

/* One direction of a forwarding; its buffer is its thread's. */
struct direction {
    pthread_t thread;
    int from;
    int to;
};

/* -- Bytes --------------------------------------------------------------------------------------------------- */

static ssize_t read_some(int fd, char *bytes, size_t size)
{
    ssize_t count;

    do
        count = read(fd, bytes, size);
    while (count < 0 && errno == EINTR);
    return count;
}

static bool write_all(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t count = write(fd, bytes, size);

        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return false;
        bytes += count;
        size -= (size_t)count;
    }
    return true;
}

static char *allocate(size_t size)
{
    char *bytes = malloc(size);

    if (!bytes)
        peer_die("malloc", ENOMEM);
    return bytes;
}

/* Until `from` ends; true if it did, false if one of the two broke. */
static bool copy(int from, int to)
{
    char *bytes = allocate(BUFFER_SIZE);
    ssize_t count;

    while ((count = read_some(from, bytes, BUFFER_SIZE)) > 0)
        if (!write_all(to, bytes, (size_t)count)) {
            count = -1;
            break;
        }
    free(bytes);
    return count == 0;
}

static void fill(int fd, size_t size)
{
    char *bytes = allocate(size);

    memset(bytes, 's', size);
    while (write_all(fd, bytes, size))
        ;
    free(bytes);
}

static void drain(int fd)
{
    char *bytes = allocate(BUFFER_SIZE);

    while (read_some(fd, bytes, BUFFER_SIZE) > 0)
        ;
    free(bytes);
}

/* -- Forwarding ---------------------------------------------------------------------------------------------- */

/* An end is passed on; what broke one side breaks both, and so wakes the other direction's thread. */
static void *pass_on(void *argument)
{
    struct direction *direction = argument;

    if (copy(direction->from, direction->to)) {
        shutdown(direction->to, SHUT_WR);
    } else {
        shutdown(direction->from, SHUT_RDWR);
        shutdown(direction->to, SHUT_RDWR);
    }
    return NULL;
}

static int connect_upstream(const struct peer_address *upstream)
{
    int fd = socket(upstream->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;

    if (fd < 0)
        return -1;
    if (upstream->any.sa_family == AF_INET)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, &upstream->any, upstream->len)) {
        close(fd);
        return -1;
    }
    return fd;
}

static void forward(const struct peer_options *options, int fd)
{
    int upstream = connect_upstream(&options->upstream);
    struct direction down = {.from = upstream, .to = fd};
    struct direction up = {.from = fd, .to = upstream};

    if (upstream < 0)
        return;
    if (pthread_create(&down.thread, NULL, pass_on, &down) == 0) {
        pass_on(&up);
        pthread_join(down.thread, NULL);
    }
    close(upstream);
}

/* -- Threads ------------------------------------------------------------------------------------------------- */

static void *serve(void *argument)
{
    struct connection connection = *(struct connection *)argument;
    const struct peer_options *options = connection.options;

    free(argument);
    peer_set_nodelay(options, connection.fd);
    if (options->role == PEER_ECHO)
        copy(connection.fd, connection.fd);
    else if (options->role == PEER_SOURCE)
        fill(connection.fd, options->size);
    else if (options->role == PEER_SINK)
        drain(connection.fd);
    else
        forward(options, connection.fd);
    close(connection.fd);
    return NULL;
}

/* Without a thread to be had, the connection is closed. */
static void start_thread(const struct peer_options *options, const pthread_attr_t *attributes, int fd)
{
    struct connection *connection = malloc(sizeof *connection);
    pthread_t thread;

    if (connection)
        *connection = (struct connection){.options = options, .fd = fd};
    if (!connection || pthread_create(&thread, attributes, serve, connection)) {
        free(connection);
        close(fd);
    }
}

/* With no descriptor left the next try waits a little. */
static int accept_one(int listening)
{
    for (;;) {
        // cppcheck-suppress nullPointer
        int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);

        if (fd >= 0)
            return fd;
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
            nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
        else if (errno != EINTR && errno != ECONNABORTED)
            peer_die("accept", errno);
    }
}

int main(int argc, char **argv)
{
    struct peer_options options;
    pthread_attr_t attributes;
    int listening;

    peer_read_arguments(argc, argv, &options);
    if (options.role == PEER_MESSAGES || options.role == PEER_FANOUT) {
        fprintf(stderr, "%s: role \"%s\": allowed here is echo, source, sink or forward\n",
                program_invocation_short_name, argv[argc - 2]);
        return 2;
    }
    listening = peer_listen(&options);
    fcntl(listening, F_SETFL, fcntl(listening, F_GETFL) & ~O_NONBLOCK);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    peer_announce(&options);
    for (;;)
        start_thread(&options, &attributes, accept_one(listening));
}

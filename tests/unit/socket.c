/* The plain system calls on sockets: listening, closing, naming, and telling what a descriptor is. */
#include "uring/socket.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    BACKLOG = 8
};

/* They need no ring. */
static struct ring *const none = NULL;

static struct ring_address loopback(void)
{
    struct ring_address address = {.len = sizeof(struct sockaddr_in)};
    struct sockaddr_in *name = (struct sockaddr_in *)&address.storage;

    name->sin_family = AF_INET;
    name->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static struct ring_address loopback6(struct in6_addr host)
{
    struct ring_address address = {.len = sizeof(struct sockaddr_in6)};
    struct sockaddr_in6 *name = (struct sockaddr_in6 *)&address.storage;

    name->sin6_family = AF_INET6;
    name->sin6_addr = host;
    return address;
}

static struct ring_address unix_name(const char *path, size_t path_len)
{
    struct ring_address address = {.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path_len)};
    struct sockaddr_un *name = (struct sockaddr_un *)&address.storage;

    name->sun_family = AF_UNIX;
    memcpy(name->sun_path, path, path_len);
    return address;
}

static uint16_t port_of(const struct ring_address *address)
{
    return ntohs(((const struct sockaddr_in *)&address->storage)->sin_port); /* IPv6 has it in the same place */
}

/* A path in a new folder, which is the current one from here on. */
static const char *new_path(void)
{
    static char folder[] = "/tmp/sluice-socket-XXXXXX";

    cr_assert(mkdtemp(folder));
    cr_assert_eq(chdir(folder), 0);
    return "socket";
}

static void remove_folder(void)
{
    char folder[64];

    cr_assert(getcwd(folder, sizeof folder));
    cr_assert_eq(rmdir(folder), 0, "the test left something in %s", folder);
}

static int listen_on(struct ring_address *address)
{
    int fd = socket_listen(none, address, BACKLOG, false);

    cr_assert_geq(fd, 0, "%s", strerror(-fd));
    return fd;
}

static int connect_to(const struct ring_address *address)
{
    int fd = socket_open(none, address->any.sa_family);

    cr_assert_geq(fd, 0);
    cr_assert_eq(connect(fd, &address->any, address->len), 0, "%s", strerror(errno));
    return fd;
}

/* A client and the server's end of the same connection. */
static void connect_pair(int pair[2], struct ring_address address)
{
    int listener = listen_on(&address);

    pair[0] = connect_to(&address);
    pair[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    cr_assert_geq(pair[1], 0);
    close(listener);
}

static int get_option(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof value;

    cr_assert_eq(getsockopt(fd, level, name, &value, &len), 0);
    return value;
}

static bool closes_on_exec(int fd)
{
    return fcntl(fd, F_GETFD) & FD_CLOEXEC;
}

/* -- Listening ----------------------------------------------------------------------------------------------- */

Test(socket, listens_on_a_port_of_the_kernels_choice_and_says_which)
{
    struct ring_address address = loopback();
    int listener = listen_on(&address);
    int client;

    cr_assert_neq(port_of(&address), 0);
    cr_assert_eq(address.len, sizeof(struct sockaddr_in));
    client = connect_to(&address);
    cr_assert(closes_on_exec(listener));
    cr_assert(closes_on_exec(client));
    cr_assert_eq(get_option(client, IPPROTO_TCP, TCP_NODELAY), 1);
}

Test(socket, is_refused_a_port_that_is_taken)
{
    struct ring_address address = loopback();

    listen_on(&address);
    cr_assert_eq(socket_listen(none, &address, BACKLOG, false), -EADDRINUSE);
}

Test(socket, shares_a_port_with_those_who_want_to_share_it)
{
    struct ring_address address = loopback();

    cr_assert_geq(socket_listen(none, &address, BACKLOG, true), 0);
    cr_assert_geq(socket_listen(none, &address, BACKLOG, true), 0);
    cr_assert_eq(socket_listen(none, &address, BACKLOG, false), -EADDRINUSE);
}

Test(socket, listens_again_at_once_where_old_connections_linger)
{
    struct ring_address address = loopback();
    int listener = listen_on(&address);
    int client = connect_to(&address);
    int server = accept(listener, NULL, NULL);
    char byte;

    socket_close(none, server, false); /* first: its end goes to TIME_WAIT */
    cr_assert_eq(read(client, &byte, 1), 0);
    socket_close(none, client, false);
    socket_close(none, listener, false);
    listen_on(&address);
}

Test(socket, listens_on_ipv4_too_where_it_listens_on_any_ipv6)
{
    struct ring_address address = loopback6(in6addr_any);
    struct ring_address ipv4 = loopback();
    int listener = socket_listen(none, &address, BACKLOG, false);

    if (listener == -EAFNOSUPPORT || listener == -EADDRNOTAVAIL)
        cr_skip_test("this machine has no IPv6");
    ((struct sockaddr_in *)&ipv4.storage)->sin_port = htons(port_of(&address));
    connect_to(&ipv4);
}

/* In a network of our own, where the system's default is the other way. */
static void prefer_ipv6_only(void)
{
    int fd;

    if (unshare(CLONE_NEWNET) < 0)
        cr_skip_test("only root can have a network of its own");
    fd = open("/proc/sys/net/ipv6/bindv6only", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        cr_skip_test("this machine has no IPv6");
    cr_assert_eq(write(fd, "1", 1), 1);
    close(fd);
}

Test(socket, listens_on_ipv4_too_whatever_the_default_of_the_system)
{
    struct ring_address address = loopback6(in6addr_any);

    prefer_ipv6_only();
    cr_assert_eq(get_option(listen_on(&address), IPPROTO_IPV6, IPV6_V6ONLY), 0);
}

Test(socket, refuses_an_address_that_is_not_ours)
{
    struct ring_address address = loopback();

    ((struct sockaddr_in *)&address.storage)->sin_addr.s_addr = htonl(0xc0000263); /* 192.0.2.99, for documents */
    cr_assert_eq(socket_listen(none, &address, BACKLOG, false), -EADDRNOTAVAIL);
    cr_assert_eq(port_of(&address), 0);
}

Test(socket, may_have_a_backlog_without_bounds)
{
    struct ring_address address = loopback();

    cr_assert_geq(socket_listen(none, &address, UINT32_MAX, false), 0);
    connect_to(&address);
}

Test(socket, sets_on_an_accepted_socket_what_ours_have_set)
{
    struct ring_address address = loopback();
    int listener = listen_on(&address);
    int server;

    connect_to(&address);
    server = accept(listener, NULL, NULL);
    setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &(int){0}, sizeof(int));
    socket_adopt(none, server);
    cr_assert_eq(get_option(server, IPPROTO_TCP, TCP_NODELAY), 1);
}

/* -- Listening on a path ------------------------------------------------------------------------------------- */

Test(socket, listens_on_a_path_until_it_is_removed)
{
    const char *path = new_path();
    struct ring_address address = unix_name(path, strlen(path) + 1);
    int listener = listen_on(&address);

    connect_to(&address);
    socket_close(none, listener, false);
    cr_assert_eq(access(path, F_OK), 0);
    socket_unlink(none, &address);
    cr_assert_eq(access(path, F_OK), -1);
    remove_folder();
}

Test(socket, leaves_a_path_to_who_listens_there_since_it_was_moved)
{
    const char *path = new_path();
    struct ring_address first = unix_name(path, strlen(path) + 1);
    struct ring_address second = first;

    listen_on(&first);
    cr_assert_eq(rename(path, "old"), 0);
    listen_on(&second);
    socket_unlink(none, &first);
    connect_to(&second);
    cr_assert_eq(unlink("old"), 0);
    socket_unlink(none, &second);
    cr_assert_eq(access(path, F_OK), -1);
    remove_folder();
}

Test(socket, finds_its_path_gone_and_leaves_it_so)
{
    const char *path = new_path();
    struct ring_address address = unix_name(path, strlen(path) + 1);

    listen_on(&address);
    cr_assert_eq(unlink(path), 0);
    socket_unlink(none, &address);
    cr_assert_eq(access(path, F_OK), -1);
    remove_folder();
}

/* As long as the first is open, the second cannot have its number. */
Test(socket, leaves_a_path_to_who_listens_there_since_it_was_removed)
{
    const char *path = new_path();
    struct ring_address first = unix_name(path, strlen(path) + 1);
    struct ring_address second = first;

    listen_on(&first);
    cr_assert_eq(unlink(path), 0);
    listen_on(&second);
    socket_unlink(none, &first);
    connect_to(&second);
    socket_unlink(none, &second);
    remove_folder();
}

Test(socket, takes_over_a_path_on_which_nobody_listens_any_more)
{
    const char *path = new_path();
    struct ring_address address = unix_name(path, strlen(path) + 1);

    socket_close(none, listen_on(&address), false);
    listen_on(&address);
    connect_to(&address);
    socket_unlink(none, &address);
    remove_folder();
}

Test(socket, does_not_take_a_path_from_one_who_listens)
{
    const char *path = new_path();
    struct ring_address address = unix_name(path, strlen(path) + 1);

    listen_on(&address);
    cr_assert_eq(socket_listen(none, &address, BACKLOG, false), -EADDRINUSE);
    connect_to(&address);
    socket_unlink(none, &address);
    remove_folder();
}

Test(socket, does_not_take_a_path_from_one_who_is_too_busy_to_answer)
{
    const char *path = new_path();
    struct ring_address address = unix_name(path, strlen(path) + 1);
    int listener = socket_listen(none, &address, 0, false);

    connect_to(&address); /* the backlog is full */
    cr_assert_eq(socket_listen(none, &address, BACKLOG, false), -EADDRINUSE);
    cr_assert_geq(listener, 0);
    socket_unlink(none, &address);
    remove_folder();
}

Test(socket, does_not_take_a_path_from_a_datagram_socket)
{
    const char *path = new_path();
    struct ring_address address = unix_name(path, strlen(path) + 1);
    int other = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    cr_assert_eq(bind(other, &address.any, address.len), 0);
    cr_assert_eq(socket_listen(none, &address, BACKLOG, false), -EADDRINUSE);
    cr_assert_eq(access(path, F_OK), 0);
    cr_assert_eq(unlink(path), 0);
    remove_folder();
}

Test(socket, never_removes_what_is_no_socket)
{
    const char *path = new_path();
    struct ring_address address = unix_name(path, strlen(path) + 1);

    close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    cr_assert_eq(socket_listen(none, &address, BACKLOG, false), -EADDRINUSE);
    cr_assert_eq(access(path, F_OK), 0);
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(symlink("nowhere", path), 0);
    cr_assert_eq(socket_listen(none, &address, BACKLOG, false), -EADDRINUSE);
    cr_assert_eq(unlink(path), 0);
    remove_folder();
}

Test(socket, listens_on_the_longest_path_there_can_be)
{
    char path[sizeof((struct sockaddr_un *)NULL)->sun_path];
    struct ring_address address;

    new_path();
    memset(path, 'x', sizeof path); /* no room is left for a NUL */
    address = unix_name(path, sizeof path);
    socket_close(none, listen_on(&address), false);
    address = unix_name(path, sizeof path);
    listen_on(&address);
    socket_unlink(none, &address);
    remove_folder();
}

Test(socket, leaves_no_file_for_an_abstract_name)
{
    char name[32] = "";
    struct ring_address address;

    new_path();
    snprintf(name + 1, sizeof name - 1, "sluice-test-%d", getpid());
    address = unix_name(name, 1 + strlen(name + 1));
    listen_on(&address);
    cr_assert_eq(socket_listen(none, &address, BACKLOG, false), -EADDRINUSE);
    socket_unlink(none, &address);
    connect_to(&address);
    remove_folder();
}

Test(socket, says_why_a_path_cannot_be_had)
{
    struct ring_address address = unix_name("/no-such-folder/socket", sizeof "/no-such-folder/socket");

    cr_assert_eq(socket_listen(none, &address, BACKLOG, false), -ENOENT);
}

/* -- Connected sockets --------------------------------------------------------------------------------------- */

Test(socket, closes_with_an_end_or_with_a_reset)
{
    char byte;
    int pair[2];

    connect_pair(pair, loopback());
    socket_close(none, pair[0], false);
    cr_assert_eq(read(pair[1], &byte, 1), 0);
    connect_pair(pair, loopback());
    socket_close(none, pair[0], true);
    cr_assert_eq(read(pair[1], &byte, 1), -1);
    cr_assert_eq(errno, ECONNRESET);
}

Test(socket, ends_one_direction)
{
    char byte;
    int pair[2];

    connect_pair(pair, loopback());
    cr_assert_eq(socket_shutdown_write(none, pair[0]), 0);
    cr_assert_eq(read(pair[1], &byte, 1), 0);
    cr_assert_eq(write(pair[1], "x", 1), 1);
    cr_assert_eq(read(pair[0], &byte, 1), 1);
    cr_assert_eq(socket_shutdown_write(none, socket_open(none, AF_INET)), -ENOTCONN);
}

Test(socket, counts_what_a_unix_peer_has_not_read)
{
    char bytes[100] = "";
    int pair[2];

    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    cr_assert_eq(socket_unacknowledged(none, pair[0]), 0);
    cr_assert_eq(write(pair[0], bytes, sizeof bytes), sizeof bytes);
    cr_assert_gt(socket_unacknowledged(none, pair[0]), 0);
    cr_assert_eq(read(pair[1], bytes, sizeof bytes), sizeof bytes);
    cr_assert_eq(socket_unacknowledged(none, pair[0]), 0);
}

Test(socket, counts_what_a_tcp_peer_has_no_room_for)
{
    static char bytes[1 << 16];
    int pair[2];

    connect_pair(pair, loopback());
    cr_assert_eq(socket_unacknowledged(none, pair[0]), 0);
    while (send(pair[0], bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        continue;
    cr_assert_gt(socket_unacknowledged(none, pair[0]), 0);
    cr_assert_eq(socket_unacknowledged(none, pair[1]), 0);
    cr_assert_eq(socket_unacknowledged(none, -1), -EBADF);
}

Test(socket, duplicates_a_descriptor_that_closes_on_exec)
{
    char byte;
    int pair[2];
    int copy;

    connect_pair(pair, loopback());
    copy = socket_duplicate(none, pair[0]);
    cr_assert_neq(copy, pair[0]);
    cr_assert(closes_on_exec(copy));
    close(pair[0]);
    cr_assert_eq(write(copy, "x", 1), 1);
    cr_assert_eq(read(pair[1], &byte, 1), 1);
    cr_assert_eq(socket_duplicate(none, -1), -EBADF);
}

Test(socket, names_both_ends)
{
    struct ring_address mine;
    struct ring_address theirs;
    int pair[2];

    connect_pair(pair, loopback());
    cr_assert_eq(socket_local_address(none, pair[0], &mine), 0);
    cr_assert_eq(socket_peer_address(none, pair[1], &theirs), 0);
    cr_assert_eq(mine.len, theirs.len);
    cr_assert_eq(port_of(&mine), port_of(&theirs));
    cr_assert_eq(socket_peer_address(none, socket_open(none, AF_INET), &theirs), -ENOTCONN);
    cr_assert_eq(port_of(&mine), port_of(&theirs)); /* untouched by the failure */
}

/* -- What a descriptor is ------------------------------------------------------------------------------------ */

Test(socket, knows_a_connected_socket)
{
    int pair[2];

    connect_pair(pair, loopback());
    cr_assert_eq(socket_classify(none, pair[0]), RING_FD_SOCKET);
    cr_assert_eq(socket_classify(none, pair[1]), RING_FD_SOCKET);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    cr_assert_eq(socket_classify(none, pair[0]), RING_FD_SOCKET);
}

Test(socket, knows_what_can_be_read_and_written)
{
    int ends[2];

    cr_assert_eq(pipe(ends), 0);
    cr_assert_eq(socket_classify(none, ends[0]), RING_FD_OTHER);
    cr_assert_eq(socket_classify(none, ends[1]), RING_FD_OTHER);
    cr_assert_eq(socket_classify(none, open("/proc/self/exe", O_RDONLY)), RING_FD_OTHER);
    cr_assert_eq(socket_classify(none, open("/dev/null", O_WRONLY)), RING_FD_DEVICE);
    cr_assert_eq(socket_classify(none, posix_openpt(O_RDWR | O_NOCTTY)), RING_FD_DEVICE);
}

Test(socket, knows_what_cannot_be_a_stream)
{
    struct ring_address address = loopback();
    int pair[2];

    cr_assert_eq(socket_classify(none, -1), -EBADF);
    cr_assert_eq(socket_classify(none, open("/", O_RDONLY | O_DIRECTORY)), -EINVAL);
    cr_assert_eq(socket_classify(none, eventfd(0, 0)), -EINVAL);
    cr_assert_eq(socket_classify(none, epoll_create1(0)), -EINVAL);
    cr_assert_eq(socket_classify(none, listen_on(&address)), -EINVAL);
    cr_assert_eq(socket_classify(none, socket(AF_INET, SOCK_STREAM, 0)), -EINVAL);
    cr_assert_eq(socket_classify(none, socket(AF_INET, SOCK_DGRAM, 0)), -EINVAL);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), 0);
    cr_assert_eq(socket_classify(none, pair[0]), -EINVAL);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    cr_assert_eq(socket_classify(none, pair[0]), -EINVAL);
}

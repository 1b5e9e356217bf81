/* The plain system calls on sockets: open, bind, listen, name, shut and close. */
#include "uring/socket.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int set_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value) < 0 ? -errno : 0;
}

static bool is_internet(int family)
{
    return family == AF_INET || family == AF_INET6;
}

int socket_open(struct ring *ring, int family)
{
    /* Not O_NONBLOCK: to wait is the ring's business, and a connect would not. */
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    if (is_internet(family))
        socket_adopt(ring, fd);
    return fd;
}

int socket_adopt(struct ring *ring, int fd)
{
    int family = AF_UNSPEC;
    socklen_t len = sizeof family;

    (void)ring;
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1); /* of no concern where there is no TCP */
    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &len);
    return family;
}

/* -- Paths of Unix sockets ----------------------------------------------------------------------------------- */

struct path {
    char text[sizeof((struct sockaddr_un *)NULL)->sun_path + 1]; /* that of an address need not be terminated */
};

/* False for anything but a Unix socket with a path: abstract and unnamed ones have none. */
static bool get_path(const struct ring_address *address, struct path *path)
{
    const struct sockaddr_un *name = (const struct sockaddr_un *)&address->storage;
    const size_t start = offsetof(struct sockaddr_un, sun_path);
    size_t len;

    if (address->any.sa_family != AF_UNIX || address->len <= start || name->sun_path[0] == '\0')
        return false;
    /* The kernel counts the NUL of the longest path, for which there is no room. */
    len = address->len < sizeof *name ? address->len - start : sizeof name->sun_path;
    memcpy(path->text, name->sun_path, len);
    path->text[len] = '\0';
    return true;
}

/* Whoever moves or removes the path of a listener may have made room for another: it is known by what bind() made. */
static void remember_path(struct ring_address *address)
{
    struct path path;
    struct stat status;

    if (get_path(address, &path) && lstat(path.text, &status) == 0) {
        address->path_device = status.st_dev;
        address->path_inode = status.st_ino;
    }
}

static bool is_remembered(const struct ring_address *address, const char *path)
{
    struct stat status;

    return lstat(path, &status) == 0 && status.st_dev == address->path_device && status.st_ino == address->path_inode;
}

static void remove_path(const struct ring_address *address)
{
    struct path path;

    if (get_path(address, &path))
        unlink(path.text);
}

static bool refuses_connections(const struct ring_address *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool refuses;

    if (fd < 0)
        return false;
    refuses = connect(fd, &address->any, address->len) < 0 && errno == ECONNREFUSED;
    close(fd);
    return refuses;
}

/* A socket's file outlives the process that bound it. It is left over when nobody listens any more. */
static bool is_left_over(const struct ring_address *address)
{
    struct path path;
    struct stat status;

    return get_path(address, &path) && lstat(path.text, &status) == 0 && S_ISSOCK(status.st_mode) &&
           refuses_connections(address);
}

/* -- Listening ----------------------------------------------------------------------------------------------- */

static int bind_address(int fd, const struct ring_address *address)
{
    int result = bind(fd, &address->any, address->len) < 0 ? -errno : 0;

    if (result != -EADDRINUSE || !is_left_over(address))
        return result;
    remove_path(address);
    return bind(fd, &address->any, address->len) < 0 ? -errno : 0;
}

static bool is_any_internet6(const struct ring_address *address)
{
    const struct sockaddr_in6 *name = (const struct sockaddr_in6 *)&address->storage;

    return address->any.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&name->sin6_addr);
}

static int set_listen_options(int fd, const struct ring_address *address, bool reuse_port)
{
    int result = 0;

    if (is_internet(address->any.sa_family))
        result = set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (result == 0 && reuse_port && is_internet(address->any.sa_family))
        result = set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (result == 0 && is_any_internet6(address))
        result = set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0); /* IPv4 as well, whatever the system's default */
    return result;
}

static int name_socket(int fd, struct ring_address *address,
                       int (*get_name)(int, struct sockaddr *restrict, socklen_t *restrict))
{
    struct ring_address name = {.len = sizeof name.storage};

    if (get_name(fd, &name.any, &name.len) < 0)
        return -errno;
    *address = name;
    return 0;
}

static int listen_on(int fd, struct ring_address *address, uint32_t backlog)
{
    if (listen(fd, backlog < INT32_MAX ? (int)backlog : INT32_MAX) < 0)
        return -errno;
    return name_socket(fd, address, getsockname);
}

int socket_listen(struct ring *ring, struct ring_address *address, uint32_t backlog, bool reuse_port)
{
    int fd = socket_open(ring, address->any.sa_family);
    int result;

    if (fd < 0)
        return fd;
    result = set_listen_options(fd, address, reuse_port);
    if (result < 0)
        goto close_socket;
    result = bind_address(fd, address);
    if (result < 0)
        goto close_socket;
    result = listen_on(fd, address, backlog);
    if (result < 0)
        goto unlink_path;
    remember_path(address);
    return fd;

unlink_path:
    remove_path(address);
close_socket:
    close(fd);
    return result;
}

int socket_share(struct ring *ring, int fd)
{
    (void)ring;
    return set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
}

void socket_unlink(struct ring *ring, const struct ring_address *address)
{
    struct path path;

    (void)ring;
    if (get_path(address, &path) && is_remembered(address, path.text))
        unlink(path.text);
}

/* -- Connected sockets --------------------------------------------------------------------------------------- */

int socket_duplicate(struct ring *ring, int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    (void)ring;
    return copy < 0 ? -errno : copy;
}

int socket_shutdown_write(struct ring *ring, int fd)
{
    (void)ring;
    return shutdown(fd, SHUT_WR) < 0 ? -errno : 0;
}

void socket_close(struct ring *ring, int fd, bool reset)
{
    const struct linger linger = {.l_onoff = 1, .l_linger = 0};

    (void)ring;
    assert(fd >= 0);
    if (reset)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(fd); /* never again on an error: the number is free for others in any case */
}

int socket_unacknowledged(struct ring *ring, int fd)
{
    int count;

    (void)ring;
    return ioctl(fd, SIOCOUTQ, &count) < 0 ? -errno : count;
}

int socket_local_address(struct ring *ring, int fd, struct ring_address *address)
{
    (void)ring;
    return name_socket(fd, address, getsockname);
}

int socket_peer_address(struct ring *ring, int fd, struct ring_address *address)
{
    (void)ring;
    return name_socket(fd, address, getpeername);
}

static bool is_stream(int fd)
{
    int type;
    socklen_t len = sizeof type;

    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM;
}

static bool is_connected_stream(int fd)
{
    struct ring_address peer;

    return is_stream(fd) && name_socket(fd, &peer, getpeername) == 0; /* one that listens has no peer */
}

int socket_classify(struct ring *ring, int fd)
{
    struct stat status;

    (void)ring;
    if (fstat(fd, &status) < 0)
        return -errno;
    if (S_ISSOCK(status.st_mode))
        return is_connected_stream(fd) ? RING_FD_SOCKET : -EINVAL;
    if (S_ISCHR(status.st_mode))
        return RING_FD_DEVICE;
    if (S_ISREG(status.st_mode) || S_ISFIFO(status.st_mode))
        return RING_FD_OTHER;
    return -EINVAL;
}

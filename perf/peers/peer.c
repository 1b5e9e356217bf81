/* What the peers have in common: see peer.h. */
#include "perf/peers/peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const char *const roles[] = {
    [PEER_ECHO] = "echo",     [PEER_MESSAGES] = "messages", [PEER_FANOUT] = "fanout",
    [PEER_SOURCE] = "source", [PEER_SINK] = "sink",         [PEER_FORWARD] = "forward",
};

void peer_die(const char *what, int error)
{
    fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(abs(error)));
    exit(1);
}

/* -- The command line ---------------------------------------------------------------------------------------- */

static void refuse(const char *what, const char *value, const char *allowed) __attribute__((noreturn));

static void refuse(const char *what, const char *value, const char *allowed)
{
    fprintf(stderr, "%s: %s \"%s\": allowed is %s\n", program_invocation_short_name, what, value, allowed);
    exit(2);
}

static enum peer_role parse_role(const char *text)
{
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++)
        if (strcmp(text, roles[i]) == 0)
            return (enum peer_role)i;
    refuse("role", text, "echo, messages, fanout, source, sink or forward");
}

static size_t parse_size(const char *text)
{
    char *end;
    unsigned long size = strtoul(text, &end, 10);

    if (*end || size == 0 || size > PEER_SIZE_MAX)
        refuse("--size", text, "1 to 1048576 bytes");
    return size;
}

static struct peer_address parse_address(const char *option, const char *text)
{
    static const char allowed[] = "127.0.0.1:PORT or unix:/PATH";
    struct peer_address address = {.tcp = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}};
    unsigned port;
    char more;

    if (strlen(text) >= sizeof address.local.sun_path)
        refuse(option, text, allowed);
    strcpy(address.text, text);
    if (strncmp(text, "unix:/", 6) == 0) {
        address.local = (struct sockaddr_un){.sun_family = AF_UNIX};
        strcpy(address.local.sun_path, text + 5);
        address.len = sizeof address.local;
        return address;
    }
    if (sscanf(text, "127.0.0.1:%u%c", &port, &more) != 1 || port == 0 || port > UINT16_MAX)
        refuse(option, text, allowed);
    address.tcp.sin_port = htons((uint16_t)port);
    address.len = sizeof address.tcp;
    return address;
}

/* As many descriptors as we may have: 10,000 connections are more than the usual limit. */
static void raise_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

void peer_read_arguments(int argc, char **argv, struct peer_options *options)
{
    static const struct option long_options[] = {
        {"size", required_argument, NULL, 's'},
        {"to", required_argument, NULL, 't'},
        {"busy-poll", no_argument, NULL, 'b'},
        {0},
    };
    int option;

    *options = (struct peer_options){.size = 64};
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) >= 0) {
        if (option == 's')
            options->size = parse_size(optarg);
        else if (option == 't')
            options->upstream = parse_address("--to", optarg);
        else if (option == 'b')
            options->busy_polls = true;
        else
            exit(2);
    }
    if (argc - optind != 2) {
        fprintf(stderr, "usage: %s [--size BYTES] [--to ADDRESS] [--busy-poll] ROLE ADDRESS\n",
                program_invocation_short_name);
        exit(2);
    }
    options->role = parse_role(argv[optind]);
    options->listen = parse_address("address", argv[optind + 1]);
    if ((options->role == PEER_FORWARD) != (options->upstream.len > 0))
        refuse("--to with role", argv[optind], "forward, which needs it, and no other");
    signal(SIGPIPE, SIG_IGN);
    raise_limit();
}

/* -- Sockets ------------------------------------------------------------------------------------------------- */

int peer_listen(const struct peer_options *options)
{
    const struct peer_address *address = &options->listen;
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;

    if (fd < 0)
        peer_die("socket", errno);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, &address->any, address->len) || listen(fd, PEER_BACKLOG))
        peer_die(address->text, errno);
    return fd;
}

void peer_announce(const struct peer_options *options)
{
    printf("listening on %s\n", options->listen.text);
    fflush(stdout);
}

void peer_set_nodelay(const struct peer_options *options, int fd)
{
    int one = 1;

    if (options->listen.any.sa_family == AF_INET)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

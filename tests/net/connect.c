/*
 * Connecting on real sockets: names and the race between their addresses (RFC 8305), what cannot be reached, giving up,
 * and what cannot be listened on.
 *
 * Names that end in ".test" are resolved by a resolver of this file, which takes the place of the C library's: so a
 * story decides which addresses a name has, and for how long nobody knows them. All other names go to the C library.
 */
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netdb.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/support/net_end.h"
#include "tests/support/peer.h"

TestSuite(connect, .timeout = 60);

enum {
    ADDRESSES_MAX = 16, /* of a name, that Sluice tries */
    FILLERS = 4,        /* connections that fill the shortest backlog, and more */
    SOON_MS = 50,       /* for what is to time out */
    NOBODY = 65534,
};

static const uint64_t ms = 1000000;

/* -- A resolver of our own ----------------------------------------------------------------------------------- */

static struct {
    const char *addresses[ADDRESSES_MAX]; /* as people write them */
    size_t count;
    int refusal; /* EAI_…; 0: it answers with the addresses */
    bool is_slow;
    sem_t is_asked; /* while it is slow */
    sem_t may_answer;
} resolver;

typedef int lookup_function(const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **result);

static lookup_function *real_lookup(void)
{
    return (lookup_function *)dlsym(RTLD_NEXT, "getaddrinfo");
}

static void wait_for(sem_t *semaphore)
{
    while (sem_wait(semaphore) < 0)
        continue;
}

/* Each address as the C library reads it, in one list: it is freed node by node. */
static struct addrinfo *list_addresses(const struct addrinfo *hints)
{
    struct addrinfo numeric = {.ai_flags = AI_NUMERICHOST, .ai_socktype = hints->ai_socktype};
    struct addrinfo *first = NULL;
    struct addrinfo **link = &first;

    for (size_t i = 0; i < resolver.count; i++) {
        char host[SLUICE_ADDRESS_MAX];
        char *port;

        snprintf(host, sizeof host, "%s", resolver.addresses[i] + (resolver.addresses[i][0] == '['));
        port = strrchr(host, ':');
        port[resolver.addresses[i][0] == '[' ? -1 : 0] = '\0';
        cr_assert_eq(real_lookup()(host, port + 1, &numeric, link), 0, "%s", host);
        link = &(*link)->ai_next;
    }
    return first;
}

static bool is_ours(const char *host)
{
    size_t len = strlen(host);

    return len > 5 && strcmp(host + len - 5, ".test") == 0;
}

/* In place of the C library's. */
int getaddrinfo(const char *restrict host, const char *restrict port, const struct addrinfo *restrict hints,
                struct addrinfo **restrict result)
{
    if (!is_ours(host) || (hints->ai_flags & AI_NUMERICHOST))
        return real_lookup()(host, port, hints, result);
    if (resolver.is_slow) {
        sem_post(&resolver.is_asked);
        wait_for(&resolver.may_answer);
    }
    if (resolver.refusal)
        return resolver.refusal;
    *result = list_addresses(hints);
    return 0;
}

static void resolve_to(const char *address)
{
    cr_assert_lt(resolver.count, ADDRESSES_MAX);
    resolver.addresses[resolver.count++] = address;
}

static void resolve_slowly(void)
{
    resolver.is_slow = true;
    cr_assert_eq(sem_init(&resolver.is_asked, 0, 0), 0);
    cr_assert_eq(sem_init(&resolver.may_answer, 0, 0), 0);
}

/* -- Peers that do not answer -------------------------------------------------------------------------------- */

/* A listener whose backlog is full. On TCP the kernel drops what asks to connect, on Unix it lets it wait. */
struct dead_end {
    int listener;
    int fillers[FILLERS];
    char address[SLUICE_ADDRESS_MAX];
};

static void dead_end_open(struct dead_end *dead_end, enum peer_family family)
{
    struct sockaddr_storage name;
    socklen_t len = sizeof name;

    dead_end->listener = peer_listen(family, 0, dead_end->address);
    cr_assert_eq(getsockname(dead_end->listener, (struct sockaddr *)&name, &len), 0);
    for (int i = 0; i < FILLERS; i++) {
        int filler = socket(name.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        cr_assert_geq(filler, 0);
        cr_assert(connect(filler, (struct sockaddr *)&name, len) == 0 || errno == EINPROGRESS || errno == EAGAIN);
        dead_end->fillers[i] = filler;
    }
}

static void dead_end_close(const struct dead_end *dead_end)
{
    for (int i = 0; i < FILLERS; i++)
        close(dead_end->fillers[i]);
    close(dead_end->listener);
}

/* An address where nobody listens: the port was free a moment ago. */
static void vacate(enum peer_family family, char address[SLUICE_ADDRESS_MAX])
{
    close(peer_listen(family, 1, address));
}

/* -- How it ends --------------------------------------------------------------------------------------------- */

/* Nothing was heard but on_close. */
static void assert_only_closed(const struct end *end, int error, enum sluice_side side)
{
    cr_assert_eq(end->closes, 1);
    cr_assert_eq(end->why.error, error, "%s, not %s", strerror(-end->why.error), strerror(-error));
    cr_assert_eq(end->why.side, side);
    cr_assert_eq(end->why.unsent, end->accepted);
    cr_assert_eq(end->opens, 0);
    cr_assert_eq(end->drains, 0);
    cr_assert_eq(end->ends, 0);
    cr_assert_eq(end->received, 0);
}

/* Nobody is there: on_close says so, and counts what was to be sent. */
static void fail_on(const char *address, int error, enum sluice_side side)
{
    struct end end;
    struct net net;
    int answer;

    net_open(&net, NULL);
    end_connect(&end, &net, address, &end_silent);
    answer = end_send(&end, 1000);
    cr_assert(answer == SLUICE_ROOM || (answer == -EPIPE && sluice_stream_state(end.stream) >= SLUICE_CLOSING));
    cr_assert_eq(end.closes, 0, "a callback from inside a call");
    net_until(&net, end.closes);
    assert_only_closed(&end, error, side);
    net_close(&net);
}

static void fail_to_connect(const char *address, int error)
{
    fail_on(address, error, SLUICE_REMOTE);
}

/* Opens, and closes in peace. Writes the address of who was reached. */
static void connect_and_close(struct net *net, const char *name, char reached[SLUICE_ADDRESS_MAX])
{
    struct end end;

    end_connect(&end, net, name, &end_silent);
    net_until(net, end.opens || end.closes);
    cr_assert_eq(end.closes, 0, "%s", strerror(-end.why.error));
    cr_assert_eq(sluice_stream_peer_address(end.stream, reached, SLUICE_ADDRESS_MAX), 0);
    end_close(&end);
    net_until(net, end.closes);
    cr_assert_eq(end.why.error, 0);
}

/* -- Names --------------------------------------------------------------------------------------------------- */

Test(connect, to_a_name_of_this_machine)
{
    char reached[SLUICE_ADDRESS_MAX];
    char name[SLUICE_ADDRESS_MAX];
    struct server server;
    struct net net;

    net_open(&net, NULL);
    server_open_at(&server, &net, "127.0.0.1:0", NULL, &end_polite);
    snprintf(name, sizeof name, "localhost:%s", strrchr(server.address, ':') + 1);
    connect_and_close(&net, name, reached);
    cr_assert_str_eq(reached, server.address);
    server_close(&server);
    net_close(&net);
}

Test(connect, to_a_name_that_does_not_exist)
{
    resolver.refusal = EAI_NONAME;
    fail_to_connect("nobody.test:7000", -EHOSTUNREACH);
}

Test(connect, to_a_name_that_cannot_be_asked_for_now)
{
    resolver.refusal = EAI_AGAIN;
    fail_to_connect("later.test:7000", -EAGAIN);
}

Test(connect, to_a_name_when_the_resolver_has_no_memory)
{
    resolver.refusal = EAI_MEMORY;
    fail_on("much.test:7000", -ENOMEM, SLUICE_LOCAL);
}

Test(connect, to_what_is_no_address_makes_no_stream)
{
    static const char *const addresses[] = {"", "nonsense", "127.0.0.1", "127.0.0.1:65536", "[::1:7000", "unix:"};
    struct sluice_stream *stream = NULL;
    struct net net;

    net_open(&net, NULL);
    for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++)
        cr_assert_eq(sluice_connect(net.engine, addresses[i], NULL, NULL, &stream), -EINVAL, "%s", addresses[i]);
    cr_assert_null(stream);
    net_close(&net);
}

/* -- The race ------------------------------------------------------------------------------------------------ */

/* If each refusal cost the pause between two attempts, 15 of them would last longer than the connection may. */
Test(connect, goes_on_at_once_when_an_address_refuses)
{
    struct sluice_engine_options options = net_options();
    char vacant[SLUICE_ADDRESS_MAX];
    char reached[SLUICE_ADDRESS_MAX];
    struct server server;
    struct net net;

    options.connect_timeout_ns = 3000 * ms;
    vacate(PEER_TCP4, vacant);
    net_open(&net, &options);
    server_open(&server, &net, PEER_TCP4, &end_polite);
    for (int i = 0; i < ADDRESSES_MAX - 1; i++)
        resolve_to(vacant);
    resolve_to(server.address);
    connect_and_close(&net, "patient.test:1", reached);
    cr_assert_str_eq(reached, server.address);
    server_close(&server);
    net_close(&net);
}

/* Nothing but the pause between two attempts brings the second address into play. */
static void overtake(enum peer_family dead, enum peer_family alive)
{
    struct dead_end dead_end;
    char reached[SLUICE_ADDRESS_MAX];
    struct server server;
    struct net net;

    net_open(&net, NULL);
    dead_end_open(&dead_end, dead);
    server_open(&server, &net, alive, &end_polite);
    resolver.count = 0;
    resolve_to(dead_end.address);
    resolve_to(server.address);
    connect_and_close(&net, "half-dead.test:1", reached);
    cr_assert_str_eq(reached, server.address);
    cr_assert_eq(server.accepted, 1);
    server_close(&server);
    dead_end_close(&dead_end);
    net_close(&net);
}

Test(connect, tries_the_next_address_when_the_first_does_not_answer)
{
    overtake(PEER_TCP4, PEER_TCP4);
    overtake(PEER_TCP6, PEER_TCP4);
    overtake(PEER_TCP4, PEER_TCP6);
}

/* The resolver prefers three of one family; the only one of the other family is tried second all the same. */
Test(connect, tries_the_families_in_turn)
{
    struct dead_end dead_end;
    struct server other;
    struct server same;
    struct end end;
    struct net net;
    char reached[SLUICE_ADDRESS_MAX];

    net_open(&net, NULL);
    dead_end_open(&dead_end, PEER_TCP6);
    server_open(&same, &net, PEER_TCP6, &end_polite);
    server_open(&other, &net, PEER_TCP4, &end_polite);
    resolve_to(dead_end.address);
    resolve_to(same.address);
    resolve_to(same.address);
    resolve_to(other.address);
    end_connect(&end, &net, "mixed.test:1", &end_silent);
    net_until(&net, end.opens || end.closes);
    cr_assert_eq(end.opens, 1);
    cr_assert_eq(sluice_stream_peer_address(end.stream, reached, sizeof reached), 0);
    cr_assert_str_eq(reached, other.address);
    end_close(&end);
    net_until(&net, end.closes);
    server_close(&other);
    server_close(&same);
    dead_end_close(&dead_end);
    net_close(&net);
}

Test(connect, tells_the_cause_of_the_last_attempt)
{
    char vacant[SLUICE_ADDRESS_MAX];

    vacate(PEER_TCP4, vacant);
    resolve_to("255.255.255.255:7"); /* nobody may connect there: -ENETUNREACH or -EACCES */
    resolve_to(vacant);
    fail_to_connect("refused.test:1", -ECONNREFUSED);
}

/*
 * The dead ones are still being tried when the first of them is overtaken; they are given up and their sockets closed.
 */
Test(connect, keeps_no_attempt_that_lost)
{
    struct dead_end dead_ends[3];
    char reached[SLUICE_ADDRESS_MAX];
    struct server server;
    struct net net;
    int fds;

    net_open(&net, NULL);
    for (int i = 0; i < 3; i++) {
        dead_end_open(&dead_ends[i], i % 2 ? PEER_TCP4 : PEER_TCP6);
        resolve_to(dead_ends[i].address);
    }
    server_open(&server, &net, PEER_TCP4, &end_polite);
    resolve_to(server.address);
    fds = net_count_fds();
    connect_and_close(&net, "crowded.test:1", reached);
    net_until(&net, net_count_fds() == fds && server.ends->closes);
    server_close(&server);
    for (int i = 0; i < 3; i++)
        dead_end_close(&dead_ends[i]);
    net_close(&net);
}

/* -- Sending before it stands -------------------------------------------------------------------------------- */

/* More than the high mark: who was told FULL is told of the drain once the connection stands, and not before. */
Test(connect, sends_in_order_what_was_sent_before_it_stood)
{
    enum {
        MANY = 3 * 1000 * 1000
    };
    struct peer_thread sink = {.piece = 4096};
    struct dead_end dead_end;
    char address[SLUICE_ADDRESS_MAX];
    struct end end;
    struct net net;
    int listener;

    net_open(&net, NULL);
    listener = peer_listen(PEER_TCP4, 1, address);
    dead_end_open(&dead_end, PEER_TCP4);
    resolve_to(dead_end.address);
    resolve_to(address);
    end_connect(&end, &net, "slow.test:1", &end_silent);
    end_pour(&end, MANY, 7777, END_FINISH);
    cr_assert_eq(end.fulls, 1);
    net_turns(&net, 10);
    cr_assert_eq(end.drains, 0);
    net_until(&net, end.opens || end.closes);
    cr_assert_eq(end.opens, 1);
    sink.fd = peer_accept(listener);
    peer_thread_start(&sink, peer_run_sink);
    net_until(&net, end.closes);
    peer_thread_join(&sink);
    cr_assert_eq(end.why.error, 0);
    cr_assert_eq(sink.received.bytes, MANY);
    cr_assert(sink.received.is_intact);
    close(listener);
    dead_end_close(&dead_end);
    net_close(&net);
}

/* A close after a send is no cancel: the bytes were accepted. */
static void close_with_bytes(enum peer_family family)
{
    struct peer_received received;
    char address[SLUICE_ADDRESS_MAX];
    struct end end;
    struct net net;
    int listener;
    int peer;

    net_open(&net, NULL);
    listener = peer_listen(family, 1, address);
    end_connect(&end, &net, address, &end_silent);
    cr_assert_eq(end_send(&end, 5000), SLUICE_ROOM);
    end_close(&end);
    net_until(&net, sluice_stream_queued(end.stream) == 0);
    peer = peer_accept(listener);
    received = peer_receive(peer, 0, 0, 5000, 5000);
    cr_assert_eq(received.bytes, 5000);
    cr_assert(received.is_intact);
    close(peer);
    net_until(&net, end.closes);
    cr_assert_eq(end.why.error, 0);
    cr_assert_eq(end.why.side, SLUICE_LOCAL);
    cr_assert_eq(end.why.unsent, 0);
    close(listener);
    net_close(&net);
    peer_remove_folders();
}

Test(connect, is_not_cancelled_by_a_close_after_a_send)
{
    close_with_bytes(PEER_TCP4);
    close_with_bytes(PEER_UNIX);
}

Test(connect, half_closes_once_it_stands)
{
    struct server server;
    struct end end;
    struct net net;

    net_open(&net, NULL);
    server_open(&server, &net, PEER_TCP4, &end_echo);
    end_connect(&end, &net, server.address, &end_silent);
    cr_assert_eq(end_send(&end, 5000), SLUICE_ROOM);
    end_finish(&end);
    cr_assert_eq(sluice_stream_finish(end.stream), -EPIPE);
    net_until(&net, end.closes);
    cr_assert_eq(end.opens, 1);
    cr_assert_eq(end.ends, 1);
    cr_assert_eq(end.received, 5000);
    cr_assert_eq(end.why.error, 0);
    server_close(&server);
    net_close(&net);
}

/* -- Whom nobody answers ------------------------------------------------------------------------------------- */

Test(connect, to_a_port_where_nobody_listens_tells_only_its_close)
{
    char address[SLUICE_ADDRESS_MAX];

    vacate(PEER_TCP4, address);
    fail_to_connect(address, -ECONNREFUSED);
    vacate(PEER_TCP6, address);
    fail_to_connect(address, -ECONNREFUSED);
    fail_to_connect("unix:@sluice-test-nobody", -ECONNREFUSED);
}

Test(connect, to_unix_paths_without_a_listener)
{
    char address[SLUICE_ADDRESS_MAX];
    char file[SLUICE_ADDRESS_MAX + 8];
    const char *path = address + strlen("unix:");
    int fd;

    peer_make_address(PEER_UNIX, address);
    fail_to_connect(address, -ENOENT);
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    cr_assert_geq(fd, 0);
    close(fd);
    fail_to_connect(address, -ECONNREFUSED);
    snprintf(file, sizeof file, "%s/below", address);
    fail_to_connect(file, -ENOTDIR);
    unlink(path);
    close(peer_listen(PEER_UNIX, 1, address));
    fail_to_connect(address, -ECONNREFUSED);
    peer_remove_folders();
}

/* Without the privileges of root, if we have them. */
static void become_nobody(void)
{
    if (geteuid() == 0)
        cr_assert_eq(seteuid(NOBODY), 0);
}

/* What reads our memory afterwards, to find leaks, may not read that of a program that changes users. */
static void become_ourselves(void)
{
    cr_assert_eq(seteuid(getuid()), 0);
    prctl(PR_SET_DUMPABLE, 1);
}

Test(connect, to_a_unix_path_that_is_not_ours_to_use)
{
    char address[SLUICE_ADDRESS_MAX];
    int listener = peer_listen(PEER_UNIX, 1, address);

    cr_assert_eq(chmod(address + strlen("unix:"), 0), 0);
    become_nobody();
    fail_to_connect(address, -EACCES);
    become_ourselves();
    close(listener);
    peer_remove_folders();
}

/* As on a kernel without IPv6. */
static void forget_internet6(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAFNOSUPPORT),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = sizeof filter / sizeof filter[0], .filter = filter};

    cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

Test(connect, to_a_family_that_this_kernel_does_not_have)
{
    struct sluice_listener_events events = {0};
    struct sluice_listener *listener;
    char reached[SLUICE_ADDRESS_MAX];
    struct server server;
    struct net net;

    forget_internet6();
    fail_to_connect("[::1]:7000", -EAFNOSUPPORT);
    net_open(&net, NULL);
    server_open(&server, &net, PEER_TCP4, &end_polite);
    resolve_to("[::1]:7000");
    resolve_to(server.address);
    connect_and_close(&net, "both.test:1", reached);
    cr_assert_str_eq(reached, server.address);
    cr_assert_eq(sluice_listen(net.engine, "[::1]:0", NULL, &events, NULL, &listener), -EAFNOSUPPORT);
    server_close(&server);
    net_close(&net);
}

Test(connect, without_a_descriptor_left)
{
    char address[SLUICE_ADDRESS_MAX];
    struct rlimit before;
    struct rlimit none;
    struct end end;
    struct net net;

    vacate(PEER_TCP4, address);
    net_open(&net, NULL);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){.rlim_cur = 3, .rlim_max = before.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    end_connect(&end, &net, address, &end_silent);
    net_until(&net, end.closes);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_only_closed(&end, -EMFILE, SLUICE_LOCAL);
    net_close(&net);
}

/* -- Giving up ----------------------------------------------------------------------------------------------- */

/* Ways to give up. */
enum way {
    BY_CLOSE,
    BY_ABORT,
    BY_ANOTHER_THREAD,
    BY_TIMEOUT,
    BY_THE_END_OF_THE_ENGINE,
    WAYS,
};

static void *abort_from_elsewhere(void *stream)
{
    sluice_stream_abort(stream, -EINTR);
    sluice_stream_release(stream);
    return NULL;
}

static void give_up(struct end *end, enum way way)
{
    pthread_t thread;

    switch (way) {
    case BY_CLOSE:
        end_close(end);
        break;
    case BY_ABORT:
        end_abort(end, -EINTR);
        break;
    case BY_ANOTHER_THREAD:
        end->is_silenced = true;
        sluice_stream_hold(end->stream);
        cr_assert_eq(pthread_create(&thread, NULL, abort_from_elsewhere, end->stream), 0);
        cr_assert_eq(pthread_join(thread, NULL), 0);
        break;
    default:
        break;
    }
}

static int cause_of(enum way way)
{
    static const int causes[WAYS] = {
        [BY_CLOSE] = -ECANCELED,
        [BY_ABORT] = -EINTR,
        [BY_ANOTHER_THREAD] = -EINTR,
        [BY_TIMEOUT] = -ETIMEDOUT,
        [BY_THE_END_OF_THE_ENGINE] = -ECANCELED,
    };

    return causes[way];
}

/* Starts to connect, gives up, and leaves nothing behind. */
static void connect_and_give_up(const char *address, enum way way, void (*meanwhile)(struct net *net))
{
    struct sluice_engine_options options = net_options();
    struct end end;
    struct net net;

    if (way == BY_TIMEOUT)
        options.connect_timeout_ns = SOON_MS * ms;
    net_open(&net, &options);
    end_connect(&end, &net, address, &end_silent);
    if (way != BY_CLOSE)
        cr_assert_eq(end_send(&end, 1000), SLUICE_ROOM);
    meanwhile(&net);
    cr_assert_eq(end.opens, 0);
    give_up(&end, way);
    cr_assert_eq(end.closes, 0, "a callback from inside a call");
    if (way == BY_THE_END_OF_THE_ENGINE)
        net.is_unsettled = true;
    else
        net_until(&net, end.closes);
    net_close(&net);
    assert_only_closed(&end, cause_of(way), SLUICE_LOCAL);
}

static void do_nothing(struct net *net)
{
    (void)net;
}

static void turn_a_little(struct net *net)
{
    net_turns(net, 3);
}

static void until_asked(struct net *net)
{
    net_turns(net, 3);
    wait_for(&resolver.is_asked);
}

/* The resolver still works on it, and answers in vain: too late for the stream, and for the engine. */
Test(connect, is_given_up_while_a_name_is_looked_up)
{
    resolve_slowly();
    resolve_to("127.0.0.1:7");
    for (enum way way = 0; way < WAYS; way++)
        connect_and_give_up("slow.test:1", way, until_asked);
    for (enum way way = 0; way < WAYS; way++)
        sem_post(&resolver.may_answer);
}

/* As above, but the answer comes while the engine still lives. */
Test(connect, that_was_given_up_is_not_disturbed_by_the_answer)
{
    struct end end;
    struct net net;

    resolve_slowly();
    resolve_to("127.0.0.1:7");
    net_open(&net, NULL);
    end_connect(&end, &net, "slow.test:1", &end_silent);
    until_asked(&net);
    end_close(&end);
    sem_post(&resolver.may_answer);
    net_until(&net, end.closes);
    assert_only_closed(&end, -ECANCELED, SLUICE_LOCAL);
    net_turns(&net, 20);
    net_close(&net);
}

static void give_up_on_dead_end(enum peer_family family)
{
    struct dead_end dead_end;

    dead_end_open(&dead_end, family);
    for (enum way way = 0; way < WAYS; way++) {
        connect_and_give_up(dead_end.address, way, do_nothing);
        connect_and_give_up(dead_end.address, way, turn_a_little);
    }
    dead_end_close(&dead_end);
    peer_remove_folders();
}

Test(connect, is_given_up_while_nobody_answers)
{
    give_up_on_dead_end(PEER_TCP4);
    give_up_on_dead_end(PEER_TCP6);
}

Test(connect, is_given_up_while_a_full_backlog_lets_it_wait)
{
    give_up_on_dead_end(PEER_UNIX);
    give_up_on_dead_end(PEER_ABSTRACT);
}

/* True once our engine has opened three sockets for the same stream. */
static void until_three_attempts(struct net *net)
{
    int fds = net_count_fds();

    net_until(net, net_count_fds() >= fds + 3);
}

Test(connect, is_given_up_while_several_addresses_are_tried)
{
    struct dead_end dead_ends[3];

    for (int i = 0; i < 3; i++) {
        dead_end_open(&dead_ends[i], i % 2 ? PEER_TCP4 : PEER_TCP6);
        resolve_to(dead_ends[i].address);
    }
    for (enum way way = 0; way < WAYS; way++)
        if (way != BY_TIMEOUT)
            connect_and_give_up("dead.test:1", way, until_three_attempts);
    for (int i = 0; i < 3; i++)
        dead_end_close(&dead_ends[i]);
}

Test(connect, waits_for_room_in_a_backlog)
{
    struct dead_end dead_end;
    struct end end;
    struct net net;

    net_open(&net, NULL);
    dead_end_open(&dead_end, PEER_UNIX);
    end_connect(&end, &net, dead_end.address, &end_silent);
    net_turns(&net, 20);
    cr_assert_eq(end.opens + end.closes, 0);
    close(peer_accept(dead_end.listener));
    net_until(&net, end.opens || end.closes);
    cr_assert_eq(end.opens, 1);
    dead_end_close(&dead_end);
    net_until(&net, end.closes || end.ends);
    if (!end.closes)
        end_close(&end);
    net_until(&net, end.closes);
    net_close(&net);
    peer_remove_folders();
}

/* -- From a callback ----------------------------------------------------------------------------------------- */

static char second_address[SLUICE_ADDRESS_MAX];
static struct end second_end;

static void connect_again(struct end *end)
{
    end_connect(&second_end, end->net, second_address, &end_polite);
}

Test(connect, again_from_the_close_of_the_one_before)
{
    static const struct end_plan plan = {.on_close = connect_again};
    char vacant[SLUICE_ADDRESS_MAX];
    struct server server;
    struct end end;
    struct net net;

    vacate(PEER_TCP4, vacant);
    net_open(&net, NULL);
    server_open(&server, &net, PEER_TCP4, &end_echo);
    memcpy(second_address, server.address, sizeof second_address);
    end_connect(&end, &net, vacant, &plan);
    net_until(&net, end.closes && second_end.opens);
    end_pour(&second_end, 100, 100, END_FINISH);
    net_until(&net, second_end.closes);
    cr_assert_eq(second_end.received, 100);
    server_close(&server);
    net_close(&net);
}

static void close_at_once(struct end *end)
{
    end_close(end);
}

Test(connect, closes_from_its_own_on_open)
{
    static const struct end_plan plan = {.on_open = close_at_once};
    struct server server;
    struct end end;
    struct net net;

    net_open(&net, NULL);
    server_open(&server, &net, PEER_TCP4, &end_polite);
    end_connect(&end, &net, server.address, &plan);
    net_until(&net, end.closes);
    cr_assert_eq(end.opens, 1);
    cr_assert_eq(end.why.error, 0);
    server_close(&server);
    net_close(&net);
}

/* -- What cannot be listened on ------------------------------------------------------------------------------ */

static int try_to_listen(const struct net *net, const char *address)
{
    static const struct sluice_listener_events events = {0};
    struct sluice_listener *listener;
    int error = sluice_listen(net->engine, address, NULL, &events, NULL, &listener);

    if (error == 0)
        sluice_listener_close(listener);
    return error;
}

Test(connect, finds_the_first_listener_when_a_second_is_refused)
{
    for (enum peer_family family = PEER_TCP4; family < PEER_FAMILIES; family++) {
        char reached[SLUICE_ADDRESS_MAX];
        struct server server;
        struct net net;

        net_open(&net, NULL);
        server_open(&server, &net, family, &end_polite);
        cr_assert_eq(try_to_listen(&net, server.address), -EADDRINUSE);
        connect_and_close(&net, server.address, reached);
        cr_assert_str_eq(reached, server.address);
        server_close(&server);
        net_close(&net);
        peer_remove_folders();
    }
}

Test(connect, has_no_listener_at_an_address_that_is_not_ours)
{
    char address[SLUICE_ADDRESS_MAX];
    char missing[SLUICE_ADDRESS_MAX + 8];
    struct stat status;
    struct net net;
    int fd;

    net_open(&net, NULL);
    cr_assert_eq(try_to_listen(&net, "192.0.2.1:0"), -EADDRNOTAVAIL);
    resolver.refusal = EAI_NONAME;
    cr_assert_eq(try_to_listen(&net, "nobody.test:0"), -EHOSTUNREACH);
    peer_make_address(PEER_UNIX, address);
    snprintf(missing, sizeof missing, "%s/below", address);
    cr_assert_eq(try_to_listen(&net, missing), -ENOENT);
    /* A file that is no socket is nobody's left-over. */
    fd = open(address + strlen("unix:"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    cr_assert_geq(fd, 0);
    close(fd);
    cr_assert_eq(try_to_listen(&net, address), -EADDRINUSE);
    cr_assert_eq(lstat(address + strlen("unix:"), &status), 0);
    cr_assert(S_ISREG(status.st_mode));
    net_close(&net);
    peer_remove_folders();
}

Test(connect, has_no_listener_where_we_may_not_listen)
{
    char address[SLUICE_ADDRESS_MAX];
    char *folder;
    struct net net;

    peer_make_address(PEER_UNIX, address);
    folder = strdup(address + strlen("unix:"));
    *strrchr(folder, '/') = '\0';
    cr_assert_eq(chmod(folder, 0500), 0);
    become_nobody();
    net_open(&net, NULL);
    cr_assert_eq(try_to_listen(&net, address), -EACCES);
    net_close(&net);
    become_ourselves();
    free(folder);
    peer_remove_folders();
}

Test(connect, has_a_listener_where_a_dead_one_left_its_path)
{
    char address[SLUICE_ADDRESS_MAX];
    char reached[SLUICE_ADDRESS_MAX];
    struct server server;
    struct net net;

    close(peer_listen(PEER_UNIX, 1, address));
    net_open(&net, NULL);
    server_open_at(&server, &net, address, NULL, &end_polite);
    connect_and_close(&net, address, reached);
    server_close(&server);
    cr_assert_neq(access(address + strlen("unix:"), F_OK), 0, "the path is removed with its listener");
    net_close(&net);
    peer_remove_folders();
}

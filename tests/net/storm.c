/*
 * Storms: connections that send, finish, close and abort at random, with every kind of peer. Afterwards every byte is
 * accounted for, and nothing is left: streams, queued bytes, receive buffers, descriptors, memory.
 *
 * TEST_SEED, printed at the start, repeats what the ends decide.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/support/net_end.h"
#include "tests/support/net_pattern.h"
#include "tests/support/random.h"

enum {
    KIB = 1024,
    STORMS = 100,
    LINKS = 12, /* connections in a storm */
};

TestSuite(storm, .timeout = 100);

/* -- Ends that act at random --------------------------------------------------------------------------------- */

enum act {
    ACT_NOTHING, /* pours and finishes; closes when the peer has finished, too */
    ACT_CLOSE,
    ACT_ABORT,
};

/* What an end is going to do. */
struct script {
    uint64_t bytes; /* to pour */
    size_t piece;
    enum end_then then;
    enum act act;         /* … */
    uint64_t act_at;      /* … once so many bytes have come, or on_open told, or the peer ended */
    uint64_t pause_every; /* bytes; 0: never */
    uint64_t pause_next;
    bool has_acted;
    bool is_pausing;
};

static uint64_t random_bytes(uint64_t *seed)
{
    static const uint64_t limits[] = {1, 2, 100, KIB, 16 * KIB, 300 * KIB};

    return random_below(seed, limits[random_below(seed, 6)]);
}

static void write_script(struct script *script, uint64_t *seed)
{
    *script = (struct script){
        .bytes = random_bytes(seed),
        .piece = 1 + (size_t)random_below(seed, 20 * KIB),
        .then = random_below(seed, 2) ? END_FINISH : END_CLOSE,
        .act = random_below(seed, 3) ? ACT_NOTHING : 1 + (enum act)random_below(seed, 2),
        .act_at = random_bytes(seed),
        .pause_every = random_below(seed, 3) ? 0 : 1 + random_below(seed, 32 * KIB),
    };
    script->pause_next = script->pause_every;
}

static void act(struct end *end)
{
    struct script *script = end->user;

    if (script->has_acted || script->act == ACT_NOTHING)
        return;
    script->has_acted = true;
    end->pours = false;
    if (script->act == ACT_CLOSE)
        end_close(end);
    else
        end_abort(end, 0);
}

static void play_data(struct end *end, const struct sluice_view *view)
{
    struct script *script = end->user;

    (void)view;
    if (end->received >= script->act_at)
        act(end);
    if (script->pause_every && end->received >= script->pause_next && !end->is_silenced) {
        script->pause_next = end->received + script->pause_every;
        script->is_pausing = sluice_stream_pause(end->stream) == 0;
    }
}

static void play_end(struct end *end)
{
    act(end);
}

static const struct end_plan play = {.on_data = play_data, .on_end = play_end};

static void begin(struct end *end, struct script *script)
{
    end->user = script;
    end_pour(end, script->bytes, script->piece, script->then);
    if (script->act != ACT_NOTHING && script->act_at == 0)
        act(end);
}

static void resume_if_pausing(struct end *end)
{
    struct script *script = end->user;

    if (!script->is_pausing || end->closes)
        return;
    script->is_pausing = false;
    sluice_stream_resume(end->stream);
}

/* True if the end closed while its peer might still send, or aborted: what came later, it did not want. */
static bool stopped_listening(const struct end *end)
{
    const struct script *script = end->user;

    return script->then == END_CLOSE || script->has_acted;
}

/* The end did not want what was still on its way: it aborted, or it closed before it was connected. */
static bool has_aborted(const struct end *end)
{
    const struct script *script = end->user;

    return (script->has_acted && script->act == ACT_ABORT) || (end->is_silenced && end->why.error == -ECANCELED);
}

/* -- Both ends ours ------------------------------------------------------------------------------------------ */

/* A connection, with a listener of its own so that we know who is whose. */
struct joined {
    struct server server;
    struct end client;
    struct script scripts[2];
};

static void accept_player(struct server *server, struct end *end)
{
    struct joined *joined = server->user;

    end->lane_in = joined->client.lane_out;
    end->lane_out = joined->client.lane_in;
    begin(end, &joined->scripts[1]);
}

static void join(struct joined *joined, struct net *net, uint32_t number, uint64_t *seed)
{
    write_script(&joined->scripts[0], seed);
    write_script(&joined->scripts[1], seed);
    server_open(&joined->server, net, (enum peer_family)random_below(seed, PEER_FAMILIES), &play);
    joined->server.user = joined;
    joined->server.on_accept = accept_player;
    end_connect(&joined->client, net, joined->server.address, &play);
    joined->client.lane_out = 2 * number;
    joined->client.lane_in = 2 * number + 1;
    begin(&joined->client, &joined->scripts[0]);
}

static bool all_parted(struct joined *all)
{
    bool is_over = true;

    for (int i = 0; i < LINKS; i++) {
        struct end *accepted = all[i].server.ends;

        resume_if_pausing(&all[i].client);
        if (accepted)
            resume_if_pausing(accepted);
        /* Who aborts while connecting may never be accepted. */
        is_over = is_over && all[i].client.closes && (accepted ? accepted->closes : has_aborted(&all[i].client));
    }
    return is_over;
}

/* Of the bytes from one end to the other, each arrived, was counted unsent, or was lost for a reason. */
static void account(const struct end *from, const struct end *to)
{
    cr_assert_leq(to->received, from->accepted - from->why.unsent);
    if (has_aborted(from) || has_aborted(to))
        return;
    cr_assert_eq(from->why.error, 0, "%d", from->why.error);
    cr_assert_eq(from->why.unsent, 0);
    if (!stopped_listening(to))
        cr_assert_eq(to->received, from->accepted);
}

static void rage_inside(uint64_t *seed)
{
    struct joined *all = calloc(LINKS, sizeof *all);
    struct net net;

    net_open(&net, NULL);
    for (uint32_t i = 0; i < LINKS; i++)
        join(&all[i], &net, i, seed);
    net_until(&net, all_parted(all));
    for (int i = 0; i < LINKS; i++) {
        struct end *accepted = all[i].server.ends;

        cr_assert_leq(all[i].server.accepted, 1);
        if (accepted) {
            account(&all[i].client, accepted);
            account(accepted, &all[i].client);
        }
    }
    for (int i = 0; i < LINKS; i++)
        server_close(&all[i].server);
    net_close(&net);
    peer_remove_folders();
    free(all);
}

Test(storm, of_both_ends_ours)
{
    uint64_t seed = random_seed();

    for (int i = 0; i < STORMS; i++)
        rage_inside(&seed);
}

/* -- Plain sockets at the other end -------------------------------------------------------------------------- */

enum plain_way {
    PLAIN_FINISHES, /* sends, finishes, reads to the end */
    PLAIN_CLOSES,   /* sends and closes, whatever comes */
    PLAIN_RESETS,
    PLAIN_WAYS,
};

struct plain {
    struct peer_thread thread;
    struct end *end;
    struct end dialed; /* memory of `end` if we connected */
    struct script script;
    enum plain_way way;
};

static void run_plain(struct peer_thread *peer)
{
    struct plain *plain = peer->user;

    peer->sent = peer_send(peer->fd, peer->lane, 0, peer->send_bytes);
    if (plain->way == PLAIN_FINISHES) {
        peer_finish(peer->fd);
        peer->received = peer_receive(peer->fd, peer->lane + 1, 0, UINT64_MAX, 16 * KIB);
    }
    if (plain->way == PLAIN_RESETS)
        peer_reset(peer->fd);
    else
        close(peer->fd);
}

static void meet_plain(struct plain *plain, struct net *net, struct server *server, int listener,
                       const char *listener_address, uint32_t number, uint64_t *seed)
{
    write_script(&plain->script, seed);
    plain->way = (enum plain_way)random_below(seed, PLAIN_WAYS);
    plain->thread.send_bytes = random_bytes(seed);
    plain->thread.lane = 2 * number;
    plain->thread.user = plain;
    if (random_below(seed, 2)) {
        int accepted = server->accepted;

        plain->thread.fd = peer_connect(server->address);
        net_until(net, server->accepted == accepted + 1);
        plain->end = server->ends;
    } else {
        plain->end = &plain->dialed;
        end_connect(plain->end, net, listener_address, &play);
        /* One turn for the connect to go out. */
        net_turns(net, 1);
        plain->thread.fd = peer_accept(listener);
    }
    plain->end->lane_in = plain->thread.lane;
    plain->end->lane_out = plain->thread.lane + 1;
    begin(plain->end, &plain->script);
    peer_thread_start(&plain->thread, run_plain);
}

static bool all_plain_parted(struct plain *all)
{
    bool is_over = true;

    for (int i = 0; i < LINKS; i++) {
        resume_if_pausing(all[i].end);
        is_over = is_over && all[i].end->closes;
    }
    return is_over;
}

static void account_plain(const struct plain *plain)
{
    const struct end *end = plain->end;
    bool is_gentle = plain->way == PLAIN_FINISHES && !has_aborted(end);

    cr_assert_leq(end->received, plain->thread.sent);
    if (plain->way == PLAIN_FINISHES)
        cr_assert(plain->thread.received.is_intact);
    cr_assert_leq(plain->thread.received.bytes, end->accepted - end->why.unsent);
    if (!is_gentle)
        return;
    cr_assert_eq(end->why.error, 0, "%d", end->why.error);
    cr_assert_eq(end->why.unsent, 0);
    cr_assert_eq(plain->thread.received.error, 0, "%d", plain->thread.received.error);
    cr_assert_eq(plain->thread.sent, plain->thread.send_bytes);
    cr_assert_eq(plain->thread.received.bytes, end->accepted);
    if (!stopped_listening(end))
        cr_assert_eq(end->received, plain->thread.sent);
}

static void rage_plain(uint64_t *seed)
{
    struct plain *all = calloc(LINKS, sizeof *all);
    enum peer_family family = (enum peer_family)random_below(seed, PEER_FAMILIES);
    char address[SLUICE_ADDRESS_MAX];
    int listener = peer_listen(family, 10, address);
    struct server server;
    struct net net;

    net_open(&net, NULL);
    server_open(&server, &net, family, &play);
    for (uint32_t i = 0; i < LINKS; i++)
        meet_plain(&all[i], &net, &server, listener, address, i, seed);
    net_until(&net, all_plain_parted(all));
    for (int i = 0; i < LINKS; i++)
        peer_thread_join(&all[i].thread);
    for (int i = 0; i < LINKS; i++)
        account_plain(&all[i]);
    server_close(&server);
    net_close(&net);
    close(listener);
    peer_remove_folders();
    free(all);
}

Test(storm, of_plain_sockets_at_the_other_end)
{
    uint64_t seed = random_seed();

    for (int i = 0; i < STORMS; i++)
        rage_plain(&seed);
}

/* -- Other people's programs at the other end ---------------------------------------------------------------- */

enum {
    PROGRAM_BYTES_MAX = 400 * KIB,
    PROGRAM_ROUNDS = 6,
};

static bool has_program(const char *name)
{
    char path[64];

    snprintf(path, sizeof path, "/usr/bin/%s", name);
    return access(path, X_OK) == 0;
}

static int open_in(const char *folder, const char *name, int flags)
{
    char path[64];
    int fd;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    fd = open(path, flags | O_CLOEXEC, 0600);
    cr_assert_geq(fd, 0, "%s", path);
    return fd;
}

static pid_t start_program(char *const words[], int input, int output)
{
    pid_t child = fork();

    cr_assert_geq(child, 0);
    if (child == 0) {
        dup2(input, STDIN_FILENO);
        dup2(output, STDOUT_FILENO);
        execvp(words[0], words);
        _exit(127);
    }
    return child;
}

static void write_pattern(int fd, size_t len)
{
    uint8_t *data = malloc(len + 1);

    pattern_fill(data, 0, 0, len);
    cr_assert_eq(write(fd, data, len), (ssize_t)len);
    cr_assert_eq(lseek(fd, 0, SEEK_SET), 0);
    free(data);
}

static void expect_pattern(int fd, size_t len)
{
    uint8_t *data = malloc(len + 1);

    cr_assert_eq(pread(fd, data, len + 1, 0), (ssize_t)len);
    cr_assert(pattern_matches(data, 0, 0, len));
    free(data);
}

static bool has_exited(pid_t child, int *status)
{
    return waitpid(child, status, WNOHANG) == child;
}

/* A program connects to our echo, sends a file, and writes what comes back to another. */
static void echo_program(char *const words[], struct server *server, const char *folder, size_t len)
{
    int accepted = server->accepted;
    int input = open_in(folder, "input", O_RDWR | O_CREAT | O_TRUNC);
    int output = open_in(folder, "output", O_RDWR | O_CREAT | O_TRUNC);
    int status = -1;
    pid_t child;

    write_pattern(input, len);
    child = start_program(words, input, output);
    net_until(server->net, has_exited(child, &status));
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s: %x", words[0], (unsigned)status);
    net_until(server->net, server->accepted == accepted + 1 && server->ends->closes);
    cr_assert_eq(server->ends->why.error, 0, "%d", server->ends->why.error);
    cr_assert_eq(server->ends->received, len);
    expect_pattern(output, len);
    close(input);
    close(output);
}

/* Connects as soon as the program listens. */
static void connect_to_program(struct end *end, struct net *net, const char *address, pid_t child)
{
    int status;

    do {
        end_connect(end, net, address, &end_silent);
        net_until(net, end->opens || end->closes);
        cr_assert(!has_exited(child, &status), "it does not listen");
    } while (!end->opens);
}

/* A program listens and sends back what comes. */
static void serve_program(char *const words[], struct net *net, const char *address, uint64_t len)
{
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    pid_t child = start_program(words, nothing, nothing);
    int status = -1;
    struct end end;

    connect_to_program(&end, net, address, child);
    end_pour(&end, len, 10000, END_FINISH);
    net_until(net, end.closes);
    net_until(net, has_exited(child, &status));
    cr_assert_eq(end.why.error, 0);
    cr_assert_eq(end.received, len);
    close(nothing);
}

struct program_test {
    struct net net;
    struct server servers[2]; /* TCP, Unix */
    char folder[32];
    char port[16];
    char path[64];
};

static void start_program_test(struct program_test *test)
{
    strcpy(test->folder, "/tmp/sluice-test-XXXXXX");
    cr_assert(mkdtemp(test->folder));
    net_open(&test->net, NULL);
    server_open(&test->servers[0], &test->net, PEER_TCP4, &end_echo);
    server_open(&test->servers[1], &test->net, PEER_UNIX, &end_echo);
    snprintf(test->port, sizeof test->port, "%s", strrchr(test->servers[0].address, ':') + 1);
    snprintf(test->path, sizeof test->path, "%s", test->servers[1].address + strlen("unix:"));
}

static void remove_in(const char *folder, const char *name)
{
    char path[64];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path);
}

static void stop_program_test(struct program_test *test)
{
    server_close(&test->servers[0]);
    server_close(&test->servers[1]);
    net_close(&test->net);
    peer_remove_folders();
    remove_in(test->folder, "input");
    remove_in(test->folder, "output");
    remove_in(test->folder, "listener");
    cr_assert_eq(rmdir(test->folder), 0);
}

Test(storm, of_socat_at_the_other_end)
{
    uint64_t seed = random_seed();
    struct program_test test;
    char address[SLUICE_ADDRESS_MAX];
    char listen[128];
    char tcp[64];
    char local[128];

    if (!has_program("socat"))
        cr_skip_test("there is no socat");
    start_program_test(&test);
    snprintf(tcp, sizeof tcp, "TCP4:127.0.0.1:%s", test.port);
    snprintf(local, sizeof local, "UNIX-CONNECT:%s", test.path);
    snprintf(listen, sizeof listen, "UNIX-LISTEN:%s/listener,unlink-early", test.folder);
    snprintf(address, sizeof address, "unix:%s/listener", test.folder);
    for (int i = 0; i < PROGRAM_ROUNDS; i++) {
        size_t len = (size_t)random_below(&seed, PROGRAM_BYTES_MAX);

        echo_program((char *[]){"socat", "-t20", "-", tcp, NULL}, &test.servers[0], test.folder, len);
        echo_program((char *[]){"socat", "-t20", "-", local, NULL}, &test.servers[1], test.folder, len);
        serve_program((char *[]){"socat", "-t20", listen, "EXEC:cat", NULL}, &test.net, address, len);
    }
    stop_program_test(&test);
}

Test(storm, of_netcat_at_the_other_end)
{
    uint64_t seed = random_seed();
    struct program_test test;

    if (!has_program("nc"))
        cr_skip_test("there is no netcat");
    start_program_test(&test);
    for (int i = 0; i < PROGRAM_ROUNDS; i++) {
        size_t len = (size_t)random_below(&seed, PROGRAM_BYTES_MAX);

        echo_program((char *[]){"nc", "-N", "127.0.0.1", test.port, NULL}, &test.servers[0], test.folder, len);
        echo_program((char *[]){"nc", "-N", "-U", test.path, NULL}, &test.servers[1], test.folder, len);
    }
    stop_program_test(&test);
}

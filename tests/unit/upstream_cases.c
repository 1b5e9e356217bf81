/* Cases of js-libp2p's tests that no other file tells: see docs/compliance.md, whose numbers stand above each. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/net_end.h"
#include "tests/support/scripted_stream.h"
#include "tests/support/stacks.h"

/* -- In memory ----------------------------------------------------------------------------------------------- */

enum {
    LEN = 300 * 1000,
    NARROW = 1000,
};

struct scene {
    struct world world;
    struct record left;
    struct record right;
    uint8_t *data;
};

static void set_scene(struct scene *scene, const struct stack *stack)
{
    world_open(&scene->world, NULL);
    stack_open_narrow(stack, &scene->world, &scene->left, &scene->right, NARROW);
    scene->data = pattern(LEN, stack->seed);
}

static void clear_scene(struct scene *scene)
{
    if (scene->left.stream)
        sluice_stream_abort(scene->left.stream, 0);
    if (scene->right.stream)
        sluice_stream_abort(scene->right.stream, 0);
    world_until_closed(&scene->world, &scene->left, &scene->right);
    record_finish(&scene->left);
    record_finish(&scene->right);
    free(scene->data);
    world_close_empty(&scene->world);
}

static void assert_fresh(const struct record *record)
{
    cr_assert_eq(sluice_stream_state(record->stream), SLUICE_OPEN);
    cr_assert_eq(sluice_stream_write_status(record->stream), SLUICE_WRITABLE);
    cr_assert_eq(sluice_stream_read_status(record->stream), SLUICE_READABLE);
    cr_assert_eq(sluice_stream_queued(record->stream), 0);
    cr_assert_str_eq(record->told, "");
}

/* 62, 63 */
STORY(upstream, a_fresh_stream_is_open_both_ways_and_tells_nothing)
{
    struct scene scene;

    set_scene(&scene, stack);
    assert_fresh(&scene.left);
    assert_fresh(&scene.right);
    world_settle(&scene.world);
    assert_fresh(&scene.left);
    assert_fresh(&scene.right);
    clear_scene(&scene);
}

static void pause_when_data(struct record *record, const struct sluice_view *view)
{
    (void)view;
    cr_assert_eq(sluice_stream_pause(record->stream), 0);
}

/* 10. The first user takes what it wants and pauses; what came since is for the next, and in order. */
STORY(upstream, a_stream_that_is_handed_over_while_it_is_paused_keeps_its_order)
{
    struct scene scene;
    struct record next;
    size_t first;

    set_scene(&scene, stack);
    scene.right.when_data = pause_when_data;
    send_all(&scene.left, scene.data, LEN, 100);
    world_turns_until(&scene.world, scene.right.len > 0, MANY_TURNS);
    world_settle(&scene.world);
    first = scene.right.len;
    cr_assert_lt(first, LEN);
    cr_assert(memcmp(scene.right.bytes, scene.data, first) == 0);

    record_init(&next, &scene.world);
    next.stream = scene.right.stream;
    sluice_stream_set_events(next.stream, &record_events, &next);
    world_settle(&scene.world);
    cr_assert_eq(next.len, 0, "it is still paused");
    cr_assert_eq(sluice_stream_resume(next.stream), 0);
    world_turns_until(&scene.world, next.len == LEN - first, MANY_TURNS);
    cr_assert(has_heard(&next, scene.data + first, LEN - first));
    cr_assert_eq(scene.right.len, first, "nothing more for the first");

    sluice_stream_abort(scene.left.stream, 0);
    world_until_closed(&scene.world, &scene.left, &next);
    scene.right.stream = NULL;
    scene.right.closes = 1;
    record_finish(&next);
    clear_scene(&scene);
}

/* Left has been told FULL, and right does not read. */
static void send_until_full(struct scene *scene)
{
    sluice_stream_pause(scene->right.stream);
    world_settle(&scene->world);
    cr_assert_eq(send_now(&scene->left, scene->data, LEN), SLUICE_FULL);
    world_settle(&scene->world);
    cr_assert_eq(send_now(&scene->left, scene->data, LEN), SLUICE_FULL);
    scene->left.drains = 0;
}

/* 19, X18 */
STORY(upstream, who_waits_for_a_drain_hears_of_our_abort_instead)
{
    struct scene scene;

    set_scene(&scene, stack);
    send_until_full(&scene);
    sluice_stream_abort(scene.left.stream, -ETIME);
    cr_assert_eq(sluice_stream_write_status(scene.left.stream), SLUICE_WRITE_CLOSED, "before anything is told");
    world_until_closed(&scene.world, &scene.left, &scene.right);
    cr_assert_eq(scene.left.drains, 0);
    cr_assert_eq(scene.left.why.error, -ETIME);
    cr_assert_eq(scene.left.why.side, SLUICE_LOCAL);
    clear_scene(&scene);
}

/* 20, 69 */
STORY(upstream, who_waits_for_a_drain_hears_of_the_peers_reset_instead)
{
    struct scene scene;
    struct sluice_stream *left;

    set_scene(&scene, stack);
    left = scene.left.stream;
    sluice_stream_hold(left);
    send_until_full(&scene);
    sluice_stream_abort(scene.right.stream, 0);
    world_until_closed(&scene.world, &scene.left, &scene.right);
    cr_assert_eq(scene.left.drains, 0);
    cr_assert_eq(scene.left.why.error, -ECONNRESET);
    cr_assert_eq(scene.left.why.side, SLUICE_REMOTE);
    cr_assert_gt(scene.left.why.unsent, 0);
    cr_assert_eq(sluice_stream_send(left, "x", 1), -EPIPE);
    sluice_stream_release(left);
    clear_scene(&scene);
}

/* 101 */
STORY(upstream, a_half_close_that_is_answered_by_a_close_is_graceful_at_both_ends)
{
    struct scene scene;

    set_scene(&scene, stack);
    scene.right.when_end = close_when_end;
    send_now(&scene.left, scene.data, LEN);
    cr_assert_eq(sluice_stream_finish(scene.left.stream), 0);
    world_until_closed(&scene.world, &scene.left, &scene.right);
    cr_assert(has_heard(&scene.right, scene.data, LEN));
    cr_assert_eq(scene.left.ends, 1);
    assert_closed(&scene.left, 0, 0);
    assert_closed(&scene.right, 0, 0);
    clear_scene(&scene);
}

/* -- On a script --------------------------------------------------------------------------------------------- */

struct script {
    struct world world;
    struct record user;
    struct scripted *below;
};

static void start_script(struct script *script, const struct sluice_engine_options *options)
{
    world_open(&script->world, options);
    record_init(&script->user, &script->world);
    script->below = scripted_create(script->world.engine, SLUICE_OPEN, &record_events, &script->user);
    script->user.stream = &script->below->stream;
    sluice_stream_hold(&script->below->stream); /* what it was asked for is looked at when all is over */
}

static void end_script(struct script *script)
{
    if (script->user.stream)
        sluice_stream_abort(script->user.stream, 0);
    world_settle(&script->world);
    sluice_stream_release(&script->below->stream);
    record_finish(&script->user);
    world_close_empty(&script->world);
}

/* 14 */
Test(upstream, more_than_may_be_held_is_our_error_and_a_reset_for_the_peer, .timeout = 10)
{
    struct sluice_engine_options options = {.receive_limit = 4096};
    static const uint8_t bytes[4097];
    struct script script;

    start_script(&script, &options);
    sluice_stream_set_events(script.user.stream, &(struct sluice_stream_events){.on_close = record_events.on_close},
                             &script.user);
    scripted_receive(script.below, bytes, 4096);
    world_settle(&script.world);
    cr_assert_eq(script.below->aborts, 0, "exactly the limit is held");
    scripted_receive(script.below, bytes, 1);
    cr_assert_eq(script.below->aborts, 1);
    world_settle(&script.world);
    assert_closed(&script.user, -ENOBUFS, 0);
    cr_assert_eq(script.user.why.side, SLUICE_LOCAL);
    end_script(&script);
}

/* 71 */
Test(upstream, the_peers_end_asks_nothing_of_our_direction, .timeout = 10)
{
    struct script script;

    start_script(&script, NULL);
    scripted_end(script.below);
    world_settle(&script.world);
    cr_assert_eq(script.user.ends, 1);
    cr_assert_eq(script.below->finishes, 0);
    cr_assert_eq(script.below->closes, 0);
    cr_assert_eq(script.below->aborts, 0);
    end_script(&script);
}

/* 72. Also if the reset still waits behind bytes that are held. */
Test(upstream, a_close_after_the_peers_reset_ends_no_direction, .timeout = 10)
{
    for (int has_bytes = 0; has_bytes < 2; has_bytes++) {
        struct script script;

        start_script(&script, NULL);
        sluice_stream_pause(script.user.stream);
        if (has_bytes)
            scripted_receive(script.below, "unheard", 7);
        scripted_vanish(script.below, -ECONNRESET);
        sluice_stream_close(script.user.stream);
        world_settle(&script.world);
        cr_assert_eq(script.below->finishes, 0);
        cr_assert_eq(script.below->closes, 0);
        assert_closed(&script.user, -ECONNRESET, 0);
        cr_assert_eq(script.user.why.side, SLUICE_REMOTE);
        end_script(&script);
    }
}

/* -- On sockets ---------------------------------------------------------------------------------------------- */

/* 88, 89 */
Test(upstream, a_listener_answers_from_its_first_moment_to_its_close, .timeout = 30)
{
    struct server server;
    struct net net;
    int peer;

    net_open(&net, NULL);
    server_open(&server, &net, PEER_TCP4, &end_polite);
    peer = peer_connect(server.address); /* before any turn was taken */
    net_until(&net, server.accepted == 1);
    close(peer);
    net_until(&net, server.ends->closes);

    sluice_listener_close(server.listener);
    cr_assert_eq(server.listener_closes, 0, "never from inside a call");
    net_until(&net, server.listener_closes);
    cr_assert_eq(peer_try_connect(server.address, 0), -ECONNREFUSED);
    server_close(&server);
    cr_assert_eq(server.listener_closes, 1);
    net_close(&net);
}

/* 91 */
Test(upstream, two_listeners_of_one_engine_both_echo, .timeout = 30)
{
    struct server servers[2];
    struct end clients[2];
    struct net net;

    net_open(&net, NULL);
    for (int i = 0; i < 2; i++) {
        server_open(&servers[i], &net, PEER_TCP4, &end_echo);
        end_connect(&clients[i], &net, servers[i].address, &end_silent);
        end_pour(&clients[i], 5, 5, END_FINISH);
    }
    cr_assert_neq(strcmp(servers[0].address, servers[1].address), 0);
    net_until(&net, clients[0].closes && clients[1].closes);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(clients[i].received, 5);
        cr_assert_eq(servers[i].accepted, 1);
        server_close(&servers[i]);
    }
    net_close(&net);
}

/* 93 */
Test(upstream, a_connect_that_is_given_up_at_once_tells_only_its_close, .timeout = 30)
{
    struct server server;
    struct end clients[2];
    struct net net;

    net_open(&net, NULL);
    server_open(&server, &net, PEER_TCP4, &end_polite);
    for (int i = 0; i < 2; i++)
        end_connect(&clients[i], &net, server.address, &end_silent);
    end_close(&clients[0]);
    end_abort(&clients[1], -EINTR);
    net_until(&net, clients[0].closes && clients[1].closes);
    cr_assert_eq(clients[0].why.error, -ECANCELED);
    cr_assert_eq(clients[1].why.error, -EINTR);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(clients[i].opens, 0);
        cr_assert_eq(clients[i].why.side, SLUICE_LOCAL);
    }
    server_close(&server);
    net_close(&net);
}

static int count_open(const struct server *server)
{
    int count = 0;

    for (const struct end *end = server->ends; end; end = end->next)
        count += end->closes == 0;
    return count;
}

/* 118 to 122. Ours lets newcomers wait where theirs refuses or drops them. */
Test(upstream, a_listener_at_its_limit_stays_and_takes_who_waits_when_there_is_room, .timeout = 30)
{
    struct sluice_listener_options options = {.connection_limit = 2};
    struct server server;
    struct net net;
    int peers[4];

    net_open(&net, NULL);
    server_open_at(&server, &net, "127.0.0.1:0", &options, &end_polite);
    for (int i = 0; i < 4; i++)
        peers[i] = peer_connect(server.address);
    net_until(&net, server.accepted == 2);
    net_turns(&net, 20);
    cr_assert_eq(server.accepted, 2, "the others wait");

    close(peers[0]);
    net_until(&net, server.accepted == 3);
    net_turns(&net, 20);
    cr_assert_eq(count_open(&server), 2);
    cr_assert_eq(server.accepted, 3);
    cr_assert_eq(server.listener_closes, 0);
    cr_assert_eq(server.errors, 0);
    for (int i = 1; i < 4; i++)
        close(peers[i]);
    net_until(&net, server.accepted == 4 && count_open(&server) == 0);
    server_close(&server);
    net_close(&net);
}

/* 125 */
Test(upstream, a_second_listener_on_one_address_is_refused, .timeout = 30)
{
    static const struct sluice_listener_events events;
    struct sluice_listener *second = NULL;
    struct server server;
    struct net net;

    net_open(&net, NULL);
    for (enum peer_family family = PEER_TCP4; family < PEER_FAMILIES; family++) {
        server_open(&server, &net, family, &end_polite);
        cr_assert_eq(sluice_listen(net.engine, server.address, NULL, &events, NULL, &second), -EADDRINUSE);
        cr_assert_null(second);
        server_close(&server);
    }
    net_close(&net);
    peer_remove_folders();
}

/* Listens, tells its address, and is talked to at `reach` and its port. */
static void listen_and_tell(const char *address, const char *told, const char *reach)
{
    char expected[SLUICE_ADDRESS_MAX];
    char there[SLUICE_ADDRESS_MAX];
    struct server server;
    struct end client;
    const char *port;
    struct net net;

    net_open(&net, NULL);
    server_open_at(&server, &net, address, NULL, &end_echo);
    port = strrchr(server.address, ':') + 1;
    cr_assert_neq(strcmp(port, "0"), 0);
    snprintf(expected, sizeof expected, "%s:%s", told, port);
    cr_assert_str_eq(server.address, expected);
    snprintf(there, sizeof there, "%s:%s", reach, port);
    end_connect(&client, &net, there, &end_silent);
    end_pour(&client, 5, 5, END_FINISH);
    net_until(&net, client.closes);
    cr_assert_eq(client.received, 5);

    /* Once more, at the port that is known now. */
    server_close(&server);
    server_open_at(&server, &net, expected, NULL, &end_echo);
    cr_assert_str_eq(server.address, expected);
    server_close(&server);
    net_close(&net);
}

/* 127 to 132 */
Test(upstream, a_listener_tells_its_address_with_its_port, .timeout = 30)
{
    listen_and_tell("127.0.0.1:0", "127.0.0.1", "127.0.0.1");
    listen_and_tell("0.0.0.0:0", "0.0.0.0", "127.0.0.1");
    listen_and_tell("[::1]:0", "[::1]", "[::1]");
    listen_and_tell("[::]:0", "[::]", "[::1]");
    listen_and_tell("*:0", "[::]", "127.0.0.1");
}

/* 137, 138 */
Test(upstream, connections_outlive_the_listener_that_accepted_them, .timeout = 30)
{
    struct server server;
    struct end client;
    struct net net;

    net_open(&net, NULL);
    server_open(&server, &net, PEER_TCP4, &end_echo);
    end_connect(&client, &net, server.address, &end_silent);
    net_until(&net, client.opens && server.accepted);
    sluice_listener_close(server.listener);
    net_until(&net, server.listener_closes);
    cr_assert_eq(client.closes + server.ends->closes, 0);
    end_pour(&client, 100 * 1000, 1000, END_FINISH);
    net_until(&net, client.closes && server.ends->closes);
    cr_assert_eq(client.received, 100 * 1000);
    cr_assert_eq(client.why.error, 0);
    server_close(&server);
    net_close(&net);
}

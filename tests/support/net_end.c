/* Our end of connections: see net_end.h. */
#include "tests/support/net_end.h"

#include <dirent.h>
#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tests/support/net_pattern.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
size_t __sanitizer_get_current_allocated_bytes(void);
#endif

enum {
    NAP_MS = 1, /* between two looks at what the engine does not know of */
    PIECE_MAX = 1024 * 1024,
};

/* -- Engines ------------------------------------------------------------------------------------------------- */

struct sluice_engine_options net_options(void)
{
    return (struct sluice_engine_options){
        .size = sizeof(struct sluice_engine_options),
        .ring_entries = 64,
        .completion_entries = 512,
        .receive_buffer_count = 32,
        .receive_buffer_size = 16384,
        .send_high_mark = 65536,
    };
}

static uint64_t clock_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

int net_count_fds(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int count = -3; /* ".", ".." and the folder itself */

    cr_assert(folder);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

size_t net_heap_in_use(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return __sanitizer_get_current_allocated_bytes();
#else
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
#endif
}

void net_open(struct net *net, const struct sluice_engine_options *options)
{
    struct sluice_engine_options defaults = net_options();
    int error;

    *net = (struct net){.fds_before = net_count_fds()};
    error = sluice_engine_create(options ? options : &defaults, &net->engine);
    cr_assert_eq(error, 0, "%s", strerror(-error));
    cr_assert_geq(sluice_engine_fd(net->engine), 0); /* opens it: stories count descriptors */
}

struct sluice_stats net_stats(const struct net *net)
{
    struct sluice_stats stats;

    sluice_engine_stats(net->engine, &stats);
    return stats;
}

static void expect_rest(struct net *net)
{
    struct sluice_stats stats;

    net_turns(net, 2);
    stats = net_stats(net);
    cr_assert_eq(stats.streams, 0, "%llu streams are left", (unsigned long long)stats.streams);
    cr_assert_eq(stats.queued_bytes, 0, "%llu bytes are left in queues", (unsigned long long)stats.queued_bytes);
    cr_assert_eq(stats.receive_buffers_lent, 0, "%llu buffers are away",
                 (unsigned long long)stats.receive_buffers_lent);
    cr_assert_eq(stats.stale_completions, 0);
}

void net_close(struct net *net)
{
    int fds;

    if (!net->is_unsettled)
        expect_rest(net);
    sluice_engine_destroy(net->engine);
    net->engine = NULL;
    fds = net_count_fds();
    cr_assert_eq(fds, net->fds_before, "%d descriptors, %d before", fds, net->fds_before);
}

void net_start_waiting(struct net *net)
{
    net->deadline = clock_now() + UINT64_C(1000000) * PEER_PATIENCE_MS;
}

void net_wait_turn(struct net *net, const char *file, int line, const char *condition)
{
    struct pollfd watch = {.fd = sluice_engine_fd(net->engine), .events = POLLIN};

    cr_assert_eq(sluice_engine_turn(net->engine), 0);
    if (sluice_engine_wait_ns(net->engine) > 0)
        poll(&watch, 1, NAP_MS);
    if (clock_now() < net->deadline)
        return;
    struct sluice_stats stats = net_stats(net);

    cr_assert_fail("%s:%d: never: %s (streams %llu, queued %llu, lent %llu, exhausted %llu, turns %llu)", file, line,
                   condition, (unsigned long long)stats.streams, (unsigned long long)stats.queued_bytes,
                   (unsigned long long)stats.receive_buffers_lent, (unsigned long long)stats.buffers_exhausted,
                   (unsigned long long)stats.turns);
}

void net_turns(struct net *net, int count)
{
    for (int i = 0; i < count; i++)
        cr_assert_eq(sluice_engine_turn(net->engine), 0);
}

/* -- What ends hear ------------------------------------------------------------------------------------------ */

static void enter_callback(struct end *end, struct sluice_stream *stream)
{
    cr_assert(!end->is_inside, "a callback inside a callback");
    cr_assert_eq(end->closes, 0, "a callback after on_close");
    cr_assert_eq(end->stream, stream);
    end->is_inside = true;
}

static void hear_open(struct sluice_stream *stream, void *user)
{
    struct end *end = user;

    enter_callback(end, stream);
    cr_assert(!end->is_silenced, "on_open after close");
    cr_assert_eq(end->opens++, 0);
    cr_assert_eq(end->received, 0);
    cr_assert_eq(sluice_stream_state(stream), SLUICE_OPEN);
    if (end->plan->on_open)
        end->plan->on_open(end);
    end->is_inside = false;
}

static void hear_data(struct sluice_stream *stream, const struct sluice_view *view, void *user)
{
    struct end *end = user;

    enter_callback(end, stream);
    cr_assert(!end->is_silenced, "on_data after close");
    cr_assert_eq(end->ends, 0, "on_data after on_end");
    cr_assert_eq(sluice_stream_read_status(stream), SLUICE_READABLE);
    cr_assert_gt(view->len, 0);
    if (!end->is_unpatterned)
        cr_assert(pattern_matches(view->data, end->lane_in, end->received, view->len), "wrong bytes at %llu (%zu)",
                  (unsigned long long)end->received, view->len);
    end->received += view->len;
    if (end->plan->on_data)
        end->plan->on_data(end, view);
    end->is_inside = false;
}

static void pour(struct end *end);

static void hear_drain(struct sluice_stream *stream, void *user)
{
    struct end *end = user;

    enter_callback(end, stream);
    cr_assert(!end->is_silenced, "on_drain after close");
    cr_assert(end->is_full, "on_drain without SLUICE_FULL");
    cr_assert_eq(sluice_stream_write_status(stream), SLUICE_WRITABLE);
    end->is_full = false;
    end->drains++;
    if (end->plan->on_drain)
        end->plan->on_drain(end);
    if (end->pours)
        pour(end);
    end->is_inside = false;
}

static void hear_end(struct sluice_stream *stream, void *user)
{
    struct end *end = user;

    enter_callback(end, stream);
    cr_assert(!end->is_silenced, "on_end after close");
    cr_assert_eq(end->ends++, 0);
    cr_assert_eq(sluice_stream_read_status(stream), SLUICE_READ_CLOSED);
    if (end->plan->on_end)
        end->plan->on_end(end);
    end->is_inside = false;
}

static void hear_close(struct sluice_stream *stream, const struct sluice_close *why, void *user)
{
    struct end *end = user;

    enter_callback(end, stream);
    end->closes++;
    end->why = *why;
    cr_assert_leq(why->error, 0);
    cr_assert_leq(why->unsent, end->accepted);
    cr_assert_eq(sluice_stream_state(stream), SLUICE_CLOSED);
    cr_assert_eq(sluice_stream_write_status(stream), SLUICE_WRITE_CLOSED);
    cr_assert_eq(sluice_stream_read_status(stream), SLUICE_READ_CLOSED);
    cr_assert_eq(sluice_stream_queued(stream), 0);
    if (end->plan->on_close)
        end->plan->on_close(end);
    end->is_inside = false;
    end->stream = NULL;
}

static const struct sluice_stream_events hearing = {
    .on_open = hear_open,
    .on_data = hear_data,
    .on_drain = hear_drain,
    .on_end = hear_end,
    .on_close = hear_close,
};

/* -- Ends ---------------------------------------------------------------------------------------------------- */

void end_init(struct end *end, struct net *net, const struct end_plan *plan)
{
    *end = (struct end){.net = net, .plan = plan};
}

void end_take(struct end *end, struct sluice_stream *stream)
{
    end->stream = stream;
    sluice_stream_set_events(stream, &hearing, end);
}

void end_connect(struct end *end, struct net *net, const char *address, const struct end_plan *plan)
{
    end_init(end, net, plan);
    cr_assert_eq(sluice_connect(net->engine, address, &hearing, end, &end->stream), 0, "%s", address);
}

void end_open_fd(struct end *end, struct net *net, int read_fd, int write_fd, const struct end_plan *plan)
{
    int error;

    end_init(end, net, plan);
    error = sluice_fd_stream(net->engine, read_fd, write_fd, &hearing, end, &end->stream);
    cr_assert_eq(error, 0, "%s", strerror(-error));
}

int end_send(struct end *end, size_t len)
{
    static uint8_t data[PIECE_MAX];
    int answer;

    cr_assert_leq(len, sizeof data);
    pattern_fill(data, end->lane_out, end->accepted, len);
    answer = sluice_stream_send(end->stream, data, len);
    cr_assert(answer == SLUICE_ROOM || answer == SLUICE_FULL || answer == -EPIPE || answer == -ENOBUFS, "%d", answer);
    if (answer >= 0)
        end->accepted += len;
    /* A refusal promises a drain, too, if there is a queue to be drained. */
    if (answer == SLUICE_FULL || (answer == -ENOBUFS && sluice_stream_queued(end->stream) > 0)) {
        end->fulls += !end->is_full;
        end->is_full = true;
    }
    return answer;
}

static void pour(struct end *end)
{
    while (end->accepted < end->pour_bytes) {
        uint64_t left = end->pour_bytes - end->accepted;
        int answer = end_send(end, left < end->pour_piece ? (size_t)left : end->pour_piece);

        if (answer == -EPIPE)
            return;
        cr_assert_geq(answer, 0, "room was promised: %d", answer);
        if (answer == SLUICE_FULL)
            break;
    }
    if (end->accepted < end->pour_bytes)
        return;
    end->pours = false;
    if (end->pour_then == END_FINISH)
        end_finish(end);
    else if (end->pour_then == END_CLOSE)
        end_close(end);
}

void end_pour(struct end *end, uint64_t bytes, size_t piece, enum end_then then)
{
    end->pour_bytes = end->accepted + bytes;
    end->pour_piece = piece;
    end->pour_then = then;
    end->pours = true;
    if (!end->is_full)
        pour(end);
}

void end_finish(struct end *end)
{
    cr_assert_eq(sluice_stream_finish(end->stream), 0);
}

void end_close(struct end *end)
{
    end->is_silenced = true;
    sluice_stream_close(end->stream);
}

void end_abort(struct end *end, int error)
{
    end->is_silenced = true;
    sluice_stream_abort(end->stream, error);
}

/* -- Plans --------------------------------------------------------------------------------------------------- */

const struct end_plan end_silent = {0};

static void echo_data(struct end *end, const struct sluice_view *view)
{
    int answer = sluice_stream_send_view(end->stream, view);

    if (answer == -EPIPE)
        return;
    cr_assert_geq(answer, 0, "%d", answer);
    end->accepted += view->len;
    if (answer == SLUICE_FULL) {
        end->is_full = true;
        end->fulls++;
        sluice_stream_pause(end->stream);
    }
}

static void echo_drain(struct end *end)
{
    if (end->ends == 0)
        cr_assert_eq(sluice_stream_resume(end->stream), 0);
}

static void echo_end(struct end *end)
{
    end_finish(end);
}

const struct end_plan end_echo = {
    .on_data = echo_data,
    .on_drain = echo_drain,
    .on_end = echo_end,
};

static void polite_end(struct end *end)
{
    end_close(end);
}

const struct end_plan end_polite = {
    .on_end = polite_end,
};

/* -- Servers ------------------------------------------------------------------------------------------------- */

static void accept_end(struct sluice_listener *listener, struct sluice_stream *stream, void *user)
{
    struct server *server = user;
    struct end *end = malloc(sizeof *end);

    (void)listener;
    cr_assert(end);
    end_init(end, server->net, server->plan);
    end->next = server->ends;
    server->ends = end;
    server->accepted++;
    end_take(end, stream);
    if (server->on_accept)
        server->on_accept(server, end);
}

static void accept_error(struct sluice_listener *listener, int error, void *user)
{
    struct server *server = user;

    (void)listener;
    server->errors++;
    server->last_error = error;
}

static void listener_closed(struct sluice_listener *listener, void *user)
{
    struct server *server = user;

    cr_assert_eq(server->listener, listener);
    cr_assert_eq(server->listener_closes++, 0);
    server->listener = NULL;
}

static const struct sluice_listener_events accepting = {
    .on_accept = accept_end,
    .on_error = accept_error,
    .on_close = listener_closed,
};

void server_open_at(struct server *server, struct net *net, const char *address,
                    const struct sluice_listener_options *options, const struct end_plan *plan)
{
    int error;

    *server = (struct server){.net = net, .plan = plan};
    error = sluice_listen(net->engine, address, options, &accepting, server, &server->listener);
    cr_assert_eq(error, 0, "%s: %s", address, strerror(-error));
    cr_assert_eq(sluice_listener_address(server->listener, server->address, sizeof server->address), 0);
}

void server_open(struct server *server, struct net *net, enum peer_family family, const struct end_plan *plan)
{
    char address[SLUICE_ADDRESS_MAX];

    peer_make_address(family, address);
    server_open_at(server, net, address, NULL, plan);
}

static bool all_closed(const struct server *server)
{
    for (const struct end *end = server->ends; end; end = end->next)
        if (end->closes == 0)
            return false;
    return true;
}

void server_free_ends(struct server *server)
{
    while (server->ends) {
        struct end *end = server->ends;

        server->ends = end->next;
        cr_assert_eq(end->closes, 1);
        free(end);
    }
}

void server_close(struct server *server)
{
    if (server->listener)
        sluice_listener_close(server->listener);
    net_until(server->net, !server->listener && all_closed(server));
    server_free_ends(server);
}

void meeting_start(struct meeting *meeting, const struct sluice_engine_options *options, enum peer_family family,
                   int peer_receive_size, const struct end_plan *plan)
{
    *meeting = (struct meeting){0};
    net_open(&meeting->net, options);
    server_open(&meeting->server, &meeting->net, family, plan);
    meeting->peer = peer_connect_small(meeting->server.address, peer_receive_size);
    net_until(&meeting->net, meeting->server.accepted == 1);
    meeting->end = meeting->server.ends;
}

void meeting_stop(struct meeting *meeting)
{
    server_close(&meeting->server);
    net_close(&meeting->net);
    peer_remove_folders();
}

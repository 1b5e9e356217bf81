/* Streams by script: see scripted_stream.h. */
#include "tests/support/scripted_stream.h"

#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

static struct scripted *scripted_of(const struct sluice_stream *stream)
{
    return container_of(stream, struct scripted, stream);
}

/* Like any transport: gone once nothing is in the kernel's hands. */
static void settle(struct scripted *scripted)
{
    if (scripted->in_flight > 0 || scripted->is_gone)
        return;
    scripted->is_gone = true;
    stream_closed(&scripted->stream);
}

/* -- What the engine asks for -------------------------------------------------------------------------------- */

static const char *scripted_kind(const struct sluice_stream *stream)
{
    (void)stream;
    return "scripted";
}

static bool scripted_is_blocked(const struct sluice_stream *stream)
{
    struct scripted *scripted = scripted_of(stream);

    if (scripted->when_asked)
        scripted->when_asked(scripted);
    return scripted->in_flight > 0 || scripted->is_full;
}

static void scripted_flush(struct sluice_stream *stream)
{
    struct scripted *scripted = scripted_of(stream);
    size_t max = scripted->submission_max ? scripted->submission_max : SIZE_MAX;

    if (scripted->when_flushed)
        scripted->when_flushed(scripted);
    if (stream->is_aborted)
        return;
    cr_assert_not(scripted->is_gone, "a submission on a transport that is gone");
    cr_assert_eq(scripted->in_flight, 0, "two submissions at a time");
    cr_assert_eq(scripted->finishes, 0, "a submission after the end of our direction");
    scripted->submissions++;
    scripted->in_flight = stream->unsent.len < max ? stream->unsent.len : max;
    stream_guard(stream);
}

static void scripted_finish(struct sluice_stream *stream)
{
    scripted_of(stream)->finishes++;
    cr_assert(bytes_is_empty(&stream->unsent));
}

static void scripted_close(struct sluice_stream *stream)
{
    scripted_of(stream)->closes++;
    if (stream->has_ended)
        settle(scripted_of(stream));
    else
        stream_start_linger(stream);
}

static void scripted_abort(struct sluice_stream *stream)
{
    scripted_of(stream)->aborts++;
    settle(scripted_of(stream));
}

static void scripted_update_receive(struct sluice_stream *stream)
{
    scripted_of(stream)->wants_data = stream_may_receive(stream);
}

static void scripted_linger_over(struct sluice_stream *stream)
{
    settle(scripted_of(stream));
}

static int scripted_address(const struct sluice_stream *stream, bool wants_peer, struct ring_address *address)
{
    struct sockaddr_in *in = (struct sockaddr_in *)&address->storage;

    (void)stream;
    *address = (struct ring_address){.len = sizeof *in};
    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    in->sin_port = htons(wants_peer ? SCRIPTED_PEER_PORT : SCRIPTED_LOCAL_PORT);
    return 0;
}

static void scripted_destroy(struct sluice_stream *stream)
{
    cr_assert(scripted_of(stream)->is_gone);
}

static const struct stream_ops scripted_ops = {
    .kind = scripted_kind,
    .is_blocked = scripted_is_blocked,
    .flush = scripted_flush,
    .finish = scripted_finish,
    .close = scripted_close,
    .abort = scripted_abort,
    .update_receive = scripted_update_receive,
    .linger_over = scripted_linger_over,
    .prefix = stream_no_prefix,
    .last_active = stream_own_last_active,
    .address = scripted_address,
    .destroy = scripted_destroy,
};

struct scripted *scripted_create(struct sluice_engine *engine, enum sluice_state state,
                                 const struct sluice_stream_events *events, void *user)
{
    struct scripted *scripted = calloc(1, sizeof *scripted);

    cr_assert(scripted);
    stream_init(&scripted->stream, &scripted_ops, engine, state, events, user);
    scripted->wants_data = stream_may_receive(&scripted->stream);
    return scripted;
}

/* -- What happens to it -------------------------------------------------------------------------------------- */

void scripted_complete_short(struct scripted *scripted, size_t len)
{
    struct sluice_stream *stream = &scripted->stream;
    struct iovec pieces[64];
    size_t gathered;
    uint32_t count;

    cr_assert_gt(scripted->in_flight, 0, "nothing is out");
    cr_assert_leq(len, scripted->in_flight);
    cr_assert_leq(scripted->wire_len + len, sizeof scripted->wire);
    count = bytes_gather(&stream->unsent, pieces, 64, len, &gathered);
    cr_assert_eq(gathered, len, "what is out is still queued");
    for (uint32_t i = 0; i < count; i++) {
        memcpy(scripted->wire + scripted->wire_len, pieces[i].iov_base, pieces[i].iov_len);
        scripted->wire_len += pieces[i].iov_len;
    }
    scripted->in_flight = 0;
    stream_sent(stream, len);
    if (stream->is_aborted)
        settle(scripted);
    stream_unguard(stream);
}

void scripted_complete(struct scripted *scripted)
{
    scripted_complete_short(scripted, scripted->in_flight);
}

void scripted_vanish(struct scripted *scripted, int error)
{
    stream_fail_after_data(&scripted->stream, error, SLUICE_REMOTE);
}

void scripted_receive_view(struct scripted *scripted, const struct sluice_view *view)
{
    stream_hold(&scripted->stream, view);
}

void scripted_receive(struct scripted *scripted, const void *data, size_t len)
{
    struct block *block = pool_take_block(&scripted->stream.engine->pool, len, true);

    cr_assert(block);
    memcpy(block->data, data, len);
    block->used = len;
    stream_hold(&scripted->stream, &(struct sluice_view){.data = block->data, .len = len, .buffer = &block->buffer});
    sluice_buffer_drop(&block->buffer);
}

void scripted_end(struct scripted *scripted)
{
    stream_end(&scripted->stream);
    if (scripted->stream.is_winding_down)
        settle(scripted);
}

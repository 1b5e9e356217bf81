/*
 * What must hold between any two steps of an engine, whatever its users do: nobody waits for what will not come,
 * nothing passes its limit, and time is spent on something.
 */
#include <string.h>

#include "engine/engine.h"
#include "engine/layer.h"
#include "engine/stream.h"
#include "engine/transport.h"
#include "tests/sim/connection.h"
#include "tests/sim/network.h"
#include "tests/sim/sim.h"

enum {
    IDLE_LOOKS_MAX = 300,     /* at one moment, without a change: more is a spin */
    HOARD_MAX = 64,           /* shared buffers of an engine */
    STUCK_MOMENTS_MAX = 3000, /* in which bytes could move and do not: more is starvation */
    PASSED_MAX = 64 * 1024,   /* bytes that a layer may pass down on top of a queue's high mark */
    PREFIX_SPACE = 64 * 1024, /* what layers above may add in front of messages */
};

bool check_is_transport(const struct sluice_stream *stream)
{
    return stream->ops->is_blocked == transport_is_blocked;
}

static bool is_pair(const struct sluice_stream *stream)
{
    return !check_is_transport(stream) && strcmp(stream->ops->kind(stream), "pair") == 0;
}

static bool is_layer(const struct sluice_stream *stream)
{
    return !check_is_transport(stream) && !is_pair(stream);
}

static void require(struct sim *sim, bool holds, const struct sluice_stream *stream, const char *what)
{
    if (!holds)
        sim_violated(sim, "%s (%s, state %u, write %d, read %u, queued %zu, held %zu)", what,
                     check_is_transport(stream) ? "transport" : stream->ops->kind(stream), stream->state,
                     stream_write_status(stream), stream->read_status, stream->unsent.len, stream->held.len);
}

/* -- Nobody waits in vain ------------------------------------------------------------------------------------ */

/* Bytes are queued, or a drain or the end is due: then the flush is scheduled, or somebody who is busy will do it. */
static void check_flush(struct sim *sim, const struct sluice_stream *stream)
{
    enum sluice_write_status status = stream_write_status(stream);
    /* The other end of a pair may have made room: its notice is in the mailbox. */
    bool will_run = task_is_queued(&stream->flush) || (is_pair(stream) && !mailbox_is_empty(stream->mailbox));

    if (will_run || !stream->is_ready)
        return;
    if (status != SLUICE_WRITE_CLOSED && !bytes_is_empty(&stream->unsent))
        require(sim, stream->ops->is_blocked(stream), stream, "bytes are queued, and nobody will send them");
    if (status == SLUICE_WRITABLE && stream->state == SLUICE_OPEN)
        require(sim,
                !stream->owes_drain || stream->unsent.len > stream->low_mark ||
                    /*
                 * A refusal for want of the engine's budget may owe one below the mark: the next bytes to leave bring
                 * it.
                 */
                    (!bytes_is_empty(&stream->unsent) && stream->ops->is_blocked(stream)),
                stream, "a drain is owed, and nobody will tell it");
    if (status == SLUICE_WRITE_CLOSING && bytes_is_empty(&stream->unsent) && atomic_load(&stream->posted) == 0)
        require(sim, stream->is_finished || stream->ops->is_blocked(stream), stream,
                "our direction is to end, and nobody will end it");
}

/* Something is to be told: then the telling is scheduled. */
static void check_work(struct sim *sim, const struct sluice_stream *stream)
{
    bool is_heard = stream->state == SLUICE_OPEN && stream->events;

    if (task_is_queued(&stream->work))
        return;
    require(sim, stream->state != SLUICE_CLOSED || stream->has_told_close, stream, "nobody will tell on_close");
    require(sim, !stream->owes_open || !is_heard, stream, "nobody will tell on_open");
    if (!is_heard)
        return;
    if (stream->read_status == SLUICE_READABLE && stream->events->on_data)
        require(sim, bytes_is_empty(&stream->held), stream, "bytes are held, and nobody will tell them");
    if (bytes_is_empty(&stream->held) && !stream->is_broken && !stream->is_failing)
        require(sim, !stream->has_ended || stream->has_told_end, stream, "nobody will tell on_end");
}

/* Whoever is to end has something that ends it: time, the kernel, or the stream below. */
static void check_end(struct sim *sim, const struct sluice_stream *stream)
{
    bool has_timer = timer_is_armed(&stream->timer);

    if (stream->is_aborted || stream->state == SLUICE_CLOSED)
        return;
    if (stream->state == SLUICE_CONNECTING)
        require(sim, has_timer, stream, "a stream connects without a limit of time");
    if (stream->state != SLUICE_CLOSING || has_timer)
        return;
    if (is_layer(stream))
        require(sim, stream->is_winding_down && layer_of(stream)->lower, stream, "a layer closes, and nothing ends it");
    else
        require(sim, check_is_transport(stream) && transport_of(stream)->is_leaving, stream,
                "a stream closes, and nothing ends it");
}

static void check_receive(struct sim *sim, const struct sluice_stream *stream)
{
    const struct transport *transport = transport_of(stream);
    const struct leases *leases = &stream->engine->leases;
    bool is_starving = !link_is_alone(&transport->starving);
    bool wants = stream->is_ready && !stream->has_ended && !stream->is_failing && !transport->is_leaving &&
                 transport->read_fd >= 0 && stream_wants_data(stream);

    if (wants)
        require(sim, transport->receive.is_armed || is_starving, stream,
                "nobody receives for a stream that wants data");
    else if (stream->state == SLUICE_OPEN && stream->read_status == SLUICE_READ_PAUSED)
        require(sim, !transport->receive.is_armed || transport->receive.is_cancelling, stream,
                "a paused stream still receives");
    require(sim, !transport->fills_buffers || stream->keeps_views, stream,
            "receives are bundled for somebody who only looks at what comes");
    if (is_starving)
        require(sim, task_is_queued(&leases->feed) || leases->buffers.available < leases->buffers.count, stream,
                "a stream waits for buffers, and all are there");
    if (transport->is_leaving)
        require(sim, transport->is_gone || transport->sending || transport->receive.is_armed, stream,
                "a descriptor is to be closed, and nobody will close it");
}

/* -- Limits -------------------------------------------------------------------------------------------------- */

static void check_limits(struct sim *sim, const struct sluice_stream *stream)
{
    const struct sluice_engine_options *options = &stream->engine->options;
    size_t buffers = (size_t)options->receive_buffer_count * options->receive_buffer_size;
    uint32_t reasons = (uint32_t)task_is_queued(&stream->work) + task_is_queued(&stream->flush);

    if (check_is_transport(stream))
        reasons += transport_of(stream)->receive.is_armed;
    require(sim, stream->guards >= reasons, stream, "a stream is not guarded by what will come back to it");
    require(sim, stream->held.len <= options->receive_limit + buffers + PASSED_MAX, stream,
            "a stream holds more than its limit");
    require(sim, stream->unsent.len <= stream->send_limit + options->send_high_mark + PASSED_MAX + PREFIX_SPACE, stream,
            "a queue passes its limit");
}

/* Shared buffers that paused streams hold: layers may hold parts of one. */
struct hoard {
    const struct sluice_buffer *buffers[HOARD_MAX];
    uint32_t count;
};

static void add_to_hoard(struct hoard *hoard, const struct sluice_buffer *buffer)
{
    for (uint32_t i = 0; i < hoard->count; i++)
        if (hoard->buffers[i] == buffer)
            return;
    if (hoard->count < HOARD_MAX)
        hoard->buffers[hoard->count++] = buffer;
}

/* What the stream holds for a user who takes nothing. */
static void find_hoarded(struct hoard *hoard, const struct sluice_stream *stream)
{
    if (stream->read_status != SLUICE_READ_PAUSED)
        return;
    for (const struct slice *slice = stream->held.first; slice; slice = slice->next)
        if (buffer_is_lease(slice->buffer))
            add_to_hoard(hoard, slice->buffer);
}

/* Paused streams leave the others more buffers than are scarce, unless there is no memory to copy to. */
static void check_hoards(struct sim *sim, const struct sluice_engine *engine, const struct hoard *hoard)
{
    uint32_t count = engine->leases.buffers.count;

    if (hoard->count >= count - count / LEASES_SCARCE_FRACTION && !engine->error && !sim->odds[FAULT_NO_MEMORY] &&
        !sim->torture.allocation)
        sim_violated(sim, "paused streams hold %u of %u shared buffers", hoard->count, count);
}

static void check_layer(struct sim *sim, const struct sluice_stream *stream)
{
    const struct sluice_stream *lower = layer_of(stream)->lower;

    if (!lower || stream->state != SLUICE_OPEN || lower->state != SLUICE_OPEN || stream->is_failing ||
        !stream->is_ready)
        return;
    /* Unless it is broken, and listens for what came before the end. */
    if (stream->read_status == SLUICE_READ_PAUSED && !stream->is_broken)
        require(sim, lower->read_status != SLUICE_READABLE, stream, "a layer is paused, and the stream below is not");
}

/* -- Progress ------------------------------------------------------------------------------------------------ */

static uint64_t mix(uint64_t digest, uint64_t value)
{
    return (digest ^ value) * UINT64_C(0x100000001b3);
}

/* Everything that a step may have changed for the better. */
static uint64_t digest_of(const struct sluice_engine *engine)
{
    uint64_t digest = UINT64_C(0xcbf29ce484222325);

    for (const struct link *link = engine->streams.next; link != &engine->streams; link = link->next) {
        const struct sluice_stream *stream = container_of(link, struct sluice_stream, link);

        digest = mix(digest, stream->unsent.len);
        digest = mix(digest, stream->held.len);
        digest = mix(digest, (uint64_t)stream->state | (uint64_t)stream->read_status << 2 |
                                 (uint64_t)stream_write_status(stream) << 4 | (uint64_t)stream->has_ended << 6 |
                                 (uint64_t)stream->has_told_end << 7 | (uint64_t)stream->is_finished << 8 |
                                 (uint64_t)stream->owes_open << 9 | (uint64_t)stream->owes_drain << 10 |
                                 (uint64_t)stream->is_winding_down << 11);
    }
    digest = mix(digest, engine->counters.streams);
    digest = mix(digest, engine->counters.bytes_sent + engine->counters.bytes_received);
    return mix(digest, engine->counters.accepts);
}

static void check_spin(struct sim *sim, struct watch *watch)
{
    uint64_t digest = 0;

    /* What one engine takes from a pair shows at the other end. */
    for (uint32_t i = 0; i < sim->story->engine_count; i++)
        if (sim->story->engines[i])
            digest = mix(digest, digest_of(sim->story->engines[i]));
    if (watch->looked_ns != sim->now_ns) {
        watch->looked_ns = sim->now_ns;
        watch->moments++;
        watch->idle_looks = 0;
    }
    if (watch->digest != digest)
        watch->idle_looks = 0;
    watch->digest = digest;
    if (++watch->idle_looks > IDLE_LOOKS_MAX)
        sim_violated(sim, "an engine spins without progress");
}

/* Counts the moments in which a stream could have moved bytes and has not. */
static void check_starvation(struct sim *sim, const struct sluice_stream *stream, struct watch *watch)
{
    const struct transport *transport = transport_of(stream);
    int fd = transport->read_fd >= 0 ? transport->read_fd : transport->write_fd;
    struct stuck *stuck = &watch->stuck[fd >= 0 ? fd : 0];
    uint64_t moved = 0;
    bool could = false;

    /* One that fails receives no more: its user has only to take what is held. */
    if (transport->is_leaving || !stream->is_ready || stream->is_failing)
        return;
    if (transport->read_fd >= 0 && stream_wants_data(stream)) {
        bool has_ended;

        could = network_readable(sim->network, transport->read_fd, &has_ended) > 0;
        moved = network_get(sim->network, transport->read_fd)->in->taken;
    }
    if (transport->write_fd >= 0 && !bytes_is_empty(&stream->unsent) &&
        stream_write_status(stream) != SLUICE_WRITE_CLOSED) {
        could = could || network_writable(sim->network, transport->write_fd) > 0;
        moved += network_get(sim->network, transport->write_fd)->out->written;
    }
    if (stuck->stream == stream && stuck->moved == moved && could) {
        if (watch->moments - stuck->since > STUCK_MOMENTS_MAX)
            require(sim, false, stream, "a stream starves");
        return;
    }
    *stuck = (struct stuck){.stream = stream, .moved = moved, .since = watch->moments};
}

/* -- All of it ----------------------------------------------------------------------------------------------- */

static void check_stream(struct sim *sim, const struct sluice_stream *stream, struct watch *watch)
{
    check_work(sim, stream);
    check_limits(sim, stream);
    check_end(sim, stream);
    if (check_is_transport(stream))
        check_receive(sim, stream);
    if (stream->is_aborted || stream->state == SLUICE_CLOSED)
        return;
    check_flush(sim, stream);
    if (is_layer(stream))
        check_layer(sim, stream);
    if (check_is_transport(stream))
        check_starvation(sim, stream, watch);
}

void check_engine(struct sim *sim, const struct sluice_engine *engine, struct watch *watch)
{
    struct hoard hoard = {.count = 0};
    uint64_t queued = 0;

    for (const struct link *link = engine->streams.next; link != &engine->streams; link = link->next) {
        const struct sluice_stream *stream = container_of(link, struct sluice_stream, link);

        queued += stream->unsent.len;
        find_hoarded(&hoard, stream);
        check_stream(sim, stream, watch);
    }
    check_hoards(sim, engine, &hoard);
    if (queued != engine->counters.queued_bytes)
        sim_violated(sim, "%llu bytes are queued, and %llu are counted", (unsigned long long)queued,
                     (unsigned long long)engine->counters.queued_bytes);
    check_spin(sim, watch);
}

void check_ended_engine(struct sim *sim, const struct sluice_engine *engine)
{
    if (engine->streams.next != &engine->streams || engine->error)
        return;
    if (engine->listeners.next == &engine->listeners && timers_next(&engine->timers) != TIMERS_NEVER)
        sim_violated(sim, "a timer is left");
    if (engine->listeners.next == &engine->listeners && !run_queue_is_empty(&engine->tasks))
        sim_violated(sim, "a task is left in the run queue");
    if (engine->counters.streams || engine->counters.queued_bytes)
        sim_violated(sim, "%llu streams and %llu bytes are still counted", (unsigned long long)engine->counters.streams,
                     (unsigned long long)engine->counters.queued_bytes);
    if (engine->leases.buffers.available != engine->leases.buffers.count)
        sim_violated(sim, "%u of %u receive buffers are back", engine->leases.buffers.available,
                     engine->leases.buffers.count);
}

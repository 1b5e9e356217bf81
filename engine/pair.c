/*
 * Two streams joined in memory, on one engine or on two. See <sluice/pair.h>.
 *
 * Each direction is a ring of bytes with one writer and one reader, which move its two counters and otherwise share
 * nothing; after moving one, an end notifies the other through the mailbox of its engine. So the ends need no lock,
 * need not know whether they share a thread, and can close without waiting for each other.
 */
#include <sluice/pair.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/stream.h"

enum {
    CAPACITY_DEFAULT = 64 * 1024,
};

struct pair_stream;

/* The bytes on their way in one direction. */
struct direction {
    uint8_t *memory;
    size_t capacity;
    _Atomic(uint64_t) written; /* by the writer: bytes in all */
    _Atomic(uint64_t) taken;   /* by the reader */
    atomic_bool has_ended;     /* by the writer: `written` is final */
    atomic_bool is_reset;      /* by the writer: what has not been read is void */
    atomic_bool is_refused;    /* by the reader: it takes no more */
};

/* How to reach one end from the other. */
struct pair_end {
    struct pair *pair;
    struct mailbox *mailbox;
    struct pair_stream *stream; /* NULL before it is born and once it is freed; the end's own thread only */
    struct sluice_post notice;
    atomic_bool is_notified; /* `notice` is posted */
};

struct pair {
    struct direction directions[2]; /* by the end that writes */
    struct pair_end ends[2];
    _Atomic(uint32_t) holders; /* the two streams, and notices on their way */
};

struct pair_stream {
    struct sluice_stream stream;
    struct pair_end *end;
    struct pair_end *peer;
    struct direction *outgoing;
    struct direction *incoming;
    struct sluice_buffer passing;  /* what views of incoming bytes belong to */
    struct sluice_post birth;      /* starts the second stream on its own thread */
    struct sluice_pair_end wanted; /* what it is to be born with */
};

static struct pair_stream *pair_of(const struct sluice_stream *stream)
{
    return container_of(stream, struct pair_stream, stream);
}

static void drop_pair(struct pair *pair)
{
    if (atomic_fetch_sub_explicit(&pair->holders, 1, memory_order_acq_rel) > 1)
        return;
    for (int i = 0; i < 2; i++) {
        mailbox_drop(pair->ends[i].mailbox);
        free(pair->directions[i].memory);
    }
    free(pair);
}

/* Has the end look at its directions, on its own thread. One notice at a time is enough: it looks at everything. */
static void notify(struct pair_end *end)
{
    if (atomic_exchange(&end->is_notified, true))
        return;
    atomic_fetch_add_explicit(&end->pair->holders, 1, memory_order_relaxed);
    if (!mailbox_post(end->mailbox, &end->notice))
        drop_pair(end->pair);
}

/* -- Moving bytes -------------------------------------------------------------------------------------------- */

static bool pair_is_blocked(const struct sluice_stream *stream)
{
    const struct direction *outgoing = pair_of(stream)->outgoing;
    uint64_t taken = atomic_load_explicit(&outgoing->taken, memory_order_acquire);

    return !atomic_load(&outgoing->is_refused) &&
           atomic_load_explicit(&outgoing->written, memory_order_relaxed) - taken == outgoing->capacity;
}

/* Copies `len` bytes to where `written` points, round the end if need be. */
static void copy_in(struct direction *direction, uint64_t written, const uint8_t *data, size_t len)
{
    size_t at = (size_t)(written % direction->capacity);
    size_t part = direction->capacity - at < len ? direction->capacity - at : len;

    memcpy(direction->memory + at, data, part);
    memcpy(direction->memory, data + part, len - part);
}

static void pair_flush(struct sluice_stream *stream)
{
    struct pair_stream *pair = pair_of(stream);
    struct direction *outgoing = pair->outgoing;
    uint64_t written = atomic_load_explicit(&outgoing->written, memory_order_relaxed);
    size_t room = outgoing->capacity - (size_t)(written - atomic_load_explicit(&outgoing->taken, memory_order_acquire));
    struct iovec pieces[GATHER_PIECES];
    size_t len;
    uint32_t count;

    if (atomic_load(&outgoing->is_refused)) {
        /* A peer that aborts resets first, and refuses then. */
        if (atomic_load(&pair->incoming->is_reset))
            stream_fail(stream, -ECONNRESET, SLUICE_REMOTE);
        else
            stream_break(stream, -EPIPE, SLUICE_REMOTE);
        return;
    }
    count = bytes_gather(&stream->unsent, pieces, GATHER_PIECES, room, &len);
    for (uint32_t i = 0; i < count; i++) {
        copy_in(outgoing, written, pieces[i].iov_base, pieces[i].iov_len);
        written += pieces[i].iov_len;
    }
    /* Release: the bytes are there before the reader sees the count. */
    atomic_store_explicit(&outgoing->written, written, memory_order_release);
    stream_sent(stream, len);
    notify(pair->peer);
}

/*
 * Tells the reader's user what lies in one piece at the front. Returns false if there is nothing, or nobody wants it.
 */
static bool read_piece(struct pair_stream *pair)
{
    struct direction *incoming = pair->incoming;
    uint64_t taken = atomic_load_explicit(&incoming->taken, memory_order_relaxed);
    size_t len = (size_t)(atomic_load_explicit(&incoming->written, memory_order_acquire) - taken);
    size_t at = (size_t)(taken % incoming->capacity);
    struct sluice_view view = {.data = incoming->memory + at, .buffer = &pair->passing};

    if (len == 0 || !stream_may_receive(&pair->stream))
        return false;
    view.len = incoming->capacity - at < len ? incoming->capacity - at : len;
    stream_receive(&pair->stream, &view);
    /* Release: we are done with the bytes before the writer may overwrite them. */
    atomic_store_explicit(&incoming->taken, taken + view.len, memory_order_release);
    return true;
}

static bool is_read_out(const struct direction *direction)
{
    /* The end first: `written` is final once it is seen. */
    return atomic_load(&direction->has_ended) && atomic_load_explicit(&direction->written, memory_order_acquire) ==
                                                     atomic_load_explicit(&direction->taken, memory_order_relaxed);
}

static void leave(struct pair_stream *pair);

static void read_incoming(struct pair_stream *pair)
{
    struct sluice_stream *stream = &pair->stream;
    bool has_read = false;

    /* At most two pieces: the ring's end is in between at most once. More waits for the next notice. */
    for (int pieces = 0; pieces < 2 && read_piece(pair); pieces++)
        has_read = true;
    if (has_read)
        notify(pair->peer);
    if (stream->has_ended || stream->is_aborted || !is_read_out(pair->incoming))
        return;
    stream_end(stream);
    if (stream->is_winding_down)
        leave(pair);
}

/* The other end moved something: it may have written, made room, ended, reset, or gone. */
static void take_notice(struct sluice_post *post)
{
    struct pair_end *end = container_of(post, struct pair_end, notice);
    struct pair_stream *pair = end->stream;

    /* Cleared before looking: what the other end does from here on brings a new notice. */
    atomic_store(&end->is_notified, false);
    if (pair && pair->stream.state != SLUICE_CLOSED) {
        stream_guard(&pair->stream);
        if (atomic_load(&pair->incoming->is_reset))
            stream_fail(&pair->stream, -ECONNRESET, SLUICE_REMOTE);
        else
            read_incoming(pair);
        stream_schedule_flush(&pair->stream);
        stream_unguard(&pair->stream);
    }
    drop_pair(end->pair);
}

/* Reading may go on: look at what waits, as if it had just come. */
static void pair_update_receive(struct sluice_stream *stream)
{
    if (stream_may_receive(stream))
        notify(pair_of(stream)->end);
}

/* -- Ending -------------------------------------------------------------------------------------------------- */

static void leave(struct pair_stream *pair)
{
    if (pair->stream.state == SLUICE_CLOSED)
        return;
    atomic_store(&pair->incoming->is_refused, true);
    notify(pair->peer);
    stream_closed(&pair->stream);
}

static void pair_finish(struct sluice_stream *stream)
{
    atomic_store(&pair_of(stream)->outgoing->has_ended, true);
    notify(pair_of(stream)->peer);
}

/* Like a socket: discards what still comes until the peer ends, so that its sends do not fail. */
static void pair_close(struct sluice_stream *stream)
{
    if (stream->has_ended) {
        leave(pair_of(stream));
        return;
    }
    stream_start_linger(stream);
    pair_update_receive(stream);
}

static void pair_linger_over(struct sluice_stream *stream)
{
    leave(pair_of(stream));
}

static void pair_abort(struct sluice_stream *stream)
{
    atomic_store(&pair_of(stream)->outgoing->is_reset, true);
    leave(pair_of(stream));
}

static int pair_address(const struct sluice_stream *stream, bool wants_peer, struct ring_address *address)
{
    (void)stream;
    (void)wants_peer;
    (void)address;
    return -EOPNOTSUPP;
}

static const char *pair_kind(const struct sluice_stream *stream)
{
    (void)stream;
    return "pair";
}

static void pair_destroy(struct sluice_stream *stream)
{
    struct pair_stream *pair = pair_of(stream);

    pair->end->stream = NULL;
    drop_pair(pair->end->pair);
}

static const struct stream_ops pair_ops = {
    .kind = pair_kind,
    .is_blocked = pair_is_blocked,
    .flush = pair_flush,
    .finish = pair_finish,
    .close = pair_close,
    .abort = pair_abort,
    .update_receive = pair_update_receive,
    .linger_over = pair_linger_over,
    .prefix = stream_no_prefix,
    .last_active = stream_own_last_active,
    .address = pair_address,
    .destroy = pair_destroy,
};

/* -- Making -------------------------------------------------------------------------------------------------- */

/* On the thread of the stream's engine. */
static void start_end(struct pair_stream *pair)
{
    const struct sluice_pair_end wanted = pair->wanted;
    struct pair_end *end = pair->end;

    stream_init(&pair->stream, &pair_ops, wanted.engine, SLUICE_OPEN, wanted.events, wanted.user);
    end->stream = pair;
    pair_update_receive(&pair->stream);
}

static void run_birth(struct sluice_post *post)
{
    struct pair_stream *pair = container_of(post, struct pair_stream, birth);

    start_end(pair);
    /* Its engine ends before it began. */
    if (pair->wanted.engine->is_destroying)
        sluice_stream_abort(&pair->stream, -ECANCELED);
}

static struct pair_stream *create_end(struct pair *pair, int index, const struct sluice_pair_end *wanted)
{
    struct pair_stream *stream = calloc(1, sizeof *stream);

    if (!stream)
        return NULL;
    stream->end = &pair->ends[index];
    stream->peer = &pair->ends[!index];
    stream->outgoing = &pair->directions[index];
    stream->incoming = &pair->directions[!index];
    stream->wanted = *wanted;
    stream->birth.run = run_birth;
    buffer_init_passing(&stream->passing);
    return stream;
}

static struct pair *create_pair(const struct sluice_pair_end *const wanted[2], size_t capacity)
{
    struct pair *pair = calloc(1, sizeof *pair);

    if (!pair)
        return NULL;
    atomic_init(&pair->holders, 2);
    for (int i = 0; i < 2; i++) {
        pair->directions[i].capacity = capacity;
        pair->directions[i].memory = malloc(capacity);
        pair->ends[i].pair = pair;
        pair->ends[i].notice.run = take_notice;
        pair->ends[i].mailbox = wanted[i]->engine->mailbox;
        mailbox_hold(pair->ends[i].mailbox);
    }
    return pair;
}

int sluice_pair(const struct sluice_pair_end *first, const struct sluice_pair_end *second, size_t capacity,
                struct sluice_stream **first_stream, struct sluice_stream **second_stream)
{
    const struct sluice_pair_end *const wanted[2] = {first, second};
    struct pair_stream *streams[2] = {NULL, NULL};
    struct pair *pair;

    assert(engine_is_mine(first->engine));
    if (first->engine->is_destroying)
        return -ESHUTDOWN;
    pair = create_pair(wanted, capacity ? capacity : CAPACITY_DEFAULT);
    if (!pair)
        return -ENOMEM;
    for (int i = 0; i < 2; i++)
        streams[i] = create_end(pair, i, wanted[i]);
    if (!streams[0] || !streams[1] || !pair->directions[0].memory || !pair->directions[1].memory) {
        free(streams[0]);
        free(streams[1]);
        drop_pair(pair);
        drop_pair(pair);
        return -ENOMEM;
    }
    *first_stream = &streams[0]->stream;
    *second_stream = &streams[1]->stream;
    start_end(streams[0]);
    if (engine_is_mine(second->engine))
        start_end(streams[1]);
    else
        sluice_engine_post(second->engine, &streams[1]->birth);
    return 0;
}

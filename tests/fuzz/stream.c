/*
 * Fuzzes the stream API: the input is a program of calls on the two ends of a stack in memory, made at any time, also
 * within callbacks. A model of each end knows what every call has to answer, and what has to be told.
 *
 * Input: three bytes that choose the stack; then calls, each a byte (the highest bit chooses the end) and what it
 * needs. With FUZZ_TRACE set, tells what it does.
 */
#include <errno.h>
#include <stdarg.h>

#include <sluice/sluice.h>

#include "engine/config.h"
#include "engine/mailbox.h"
#include "engine/stream.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/still_ring.h"
#include "tests/support/shuffle_layer.h"

#define MILLISECOND UINT64_C(1000000)
#define HOUR        (3600 * 1000 * MILLISECOND)

enum {
    BYTES_MAX = 256 * 1024, /* that one end sends in a run… */
    PORTIONS_MAX = 4096,    /* …if there is room for so much between the ends at a time, in so many */
    SEND_MAX = 70000,       /* in one call */
    MESSAGE_MAX = 60000,
    MESSAGES_MAX = 4096,
    KEPT_MAX = 4,
    LAYERS_MAX = 3,
};

/* Choices in the first byte. */
enum {
    TWO_ENGINES = 1,
    FIRST_POSTS = 2,
    SECOND_POSTS = 4,
    SHORT_TIMES = 8,
    CUT_SHORT = 16, /* the engines are destroyed with everything on them */
    FINISHES = 32,  /* both ends finish, neither closes */
    LAYERS = 64,    /* times their number */
};

/* What is told, as bits. */
enum told {
    TOLD_OPEN = 1,
    TOLD_DATA = 2,
    TOLD_DRAIN = 4,
    TOLD_END = 8,
    TOLD_CLOSE = 16,
    TOLD_TIMER = 32,
    TOLD_POST = 64,
};

struct world;

/* A view that was kept, and where in the peer's bytes it lies. */
struct kept {
    struct sluice_view view;
    size_t at;
};

/* One end, and what is known of it. */
struct end {
    struct world *world;
    struct end *peer;
    const char *name;
    struct sluice_engine *engine;
    struct sluice_stream *stream; /* NULL once closed, unless held */
    bool is_poster;               /* sends by posts only: the two have no order among each other */
    bool has_messages;

    uint8_t *bytes; /* all it sent */
    size_t bytes_max;
    size_t accepted;
    size_t heard; /* of the peer's */
    uint32_t lens[MESSAGES_MAX];
    size_t messages;
    size_t messages_heard;

    size_t low_mark;
    size_t high_mark;
    size_t limit;
    enum sluice_write_status status; /* as last seen */

    bool has_opened;
    bool is_owed;   /* a drain */
    size_t owed_at; /* with so many bytes queued */
    bool is_paused;
    bool is_deaf; /* its events have no on_data */
    bool has_ended;
    bool has_finished; /* called finish or close */
    bool has_closed;   /* called close */
    bool has_aborted;
    bool was_aborted_from_afar;
    int abort_error;     /* what on_close must tell; 0: not known */
    size_t abort_unsent; /* likewise */
    bool knows_unsent;
    bool is_closed;
    bool is_held;
    bool is_telling;
    struct sluice_close why;

    uint8_t armed; /* TOLD_ bits in which the next call of the program is made */
    struct kept kept[KEPT_MAX];
    size_t kept_count;
    bool keeps;                     /* the next view */
    const struct sluice_view *lent; /* the view of the on_data that runs */
    struct sluice_timer timer;
    struct sluice_post post;
    bool is_posted;
};

struct world {
    struct input input;
    uint64_t now_ns;
    uint8_t choices;
    struct sluice_engine *engines[2];
    size_t engine_count;
    char layers[LAYERS_MAX + 1];
    struct end ends[2];
    unsigned buffers_out; /* owned ones that were not released */
    bool may_fail;        /* somebody aborted, or time may run out */
    bool is_in_turn;
    bool is_calling; /* right now */
    bool is_over;    /* the program is */
    bool is_traced;
};

static void trace(const struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void trace(const struct world *world, const char *format, ...)
{
    va_list arguments;

    if (!world->is_traced)
        return;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

static void run_call(struct world *world);

/* -- What is told -------------------------------------------------------------------------------------------- */

/* A callback begins. */
static void enter(struct end *end, enum told told)
{
    must(end->world->is_in_turn, "%s is told outside of a turn", end->name);
    must(!end->world->is_calling, "%s is told within a call", end->name);
    must(!end->is_telling, "%s is told within a callback", end->name);
    must(!end->is_closed, "%s is told after on_close", end->name);
    trace(end->world, "    %s is told %d", end->name, (int)told);
    end->is_telling = true;
}

/* …and ends, perhaps with a call. */
static void leave(struct end *end, enum told told)
{
    if (end->armed & told && !end->world->is_over) {
        end->armed &= (uint8_t)~told;
        run_call(end->world);
    }
    end->is_telling = false;
}

static void on_open(struct sluice_stream *stream, void *user)
{
    struct end *end = user;

    enter(end, TOLD_OPEN);
    must(stream == end->stream);
    must(!end->has_opened && !end->has_ended && end->heard == 0);
    must(end->world->layers[0], "pairs are open from the start");
    end->has_opened = true;
    leave(end, TOLD_OPEN);
}

static void on_data(struct sluice_stream *stream, const struct sluice_view *view, void *user)
{
    struct end *end = user;
    const struct end *peer = end->peer;

    enter(end, TOLD_DATA);
    must(stream == end->stream);
    must(!end->has_ended && !end->is_paused && !end->is_deaf && !end->has_aborted);
    must(!end->has_closed);
    must(view->len <= peer->accepted - end->heard, "%s hears more than was sent", end->name);
    must(view->len == 0 || memcmp(view->data, peer->bytes + end->heard, view->len) == 0);
    must(end->has_messages || view->len > 0);
    if (end->has_messages) {
        must(end->messages_heard < peer->messages);
        must(view->len == peer->lens[end->messages_heard], "%s hears a message cut or joined", end->name);
        end->messages_heard++;
    }
    if (end->keeps && end->kept_count < KEPT_MAX && !end->world->is_over) {
        struct kept *kept = &end->kept[end->kept_count++];

        must(sluice_view_keep(stream, view, &kept->view) == 0);
        kept->at = end->heard;
        end->keeps = false;
    }
    end->heard += view->len;
    end->lent = view;
    leave(end, TOLD_DATA);
    end->lent = NULL;
}

static void on_drain(struct sluice_stream *stream, void *user)
{
    struct end *end = user;

    enter(end, TOLD_DRAIN);
    must(end->is_owed, "%s hears a drain that it was not owed", end->name);
    must(sluice_stream_write_status(stream) == SLUICE_WRITABLE);
    must(sluice_stream_queued(stream) <= end->low_mark);
    end->is_owed = false;
    leave(end, TOLD_DRAIN);
}

static void on_end(struct sluice_stream *stream, void *user)
{
    struct end *end = user;

    enter(end, TOLD_END);
    must(!end->has_ended && !end->has_aborted);
    must(!end->has_closed);
    must(end->peer->has_finished, "%s hears an end that nobody made", end->name);
    must(end->heard == end->peer->accepted, "%s hears the end after %zu of %zu bytes", end->name, end->heard,
         end->peer->accepted);
    must(sluice_stream_read_status(stream) == SLUICE_READ_CLOSED);
    end->has_ended = true;
    leave(end, TOLD_END);
}

static void on_close(struct sluice_stream *stream, const struct sluice_close *why, void *user)
{
    struct end *end = user;

    enter(end, TOLD_CLOSE);
    trace(end->world, "    %s closes: %d, unsent %llu", end->name, why->error, (unsigned long long)why->unsent);
    must(sluice_stream_state(stream) == SLUICE_CLOSED);
    must(sluice_stream_write_status(stream) == SLUICE_WRITE_CLOSED);
    must(why->error <= 0);
    must(why->error != 0 || why->unsent == 0, "%s ended well with %llu bytes unsent", end->name,
         (unsigned long long)why->unsent);
    must(why->error == 0 || end->world->may_fail, "%s failed with %d for no reason", end->name, why->error);
    must(end->world->layers[0] || why->unsent + end->peer->heard <= end->accepted, "bytes were sent and not sent");
    if (end->abort_error && !end->peer->has_aborted && !end->peer->was_aborted_from_afar) {
        must(why->error == end->abort_error, "%s was aborted with %d, and told %d", end->name, end->abort_error,
             why->error);
        must(why->side == SLUICE_LOCAL);
    }
    must(!end->knows_unsent || why->unsent == end->abort_unsent, "%llu instead of %zu bytes are unsent",
         (unsigned long long)why->unsent, end->abort_unsent);
    end->why = *why;
    end->is_closed = true;
    leave(end, TOLD_CLOSE);
    if (!end->is_held)
        end->stream = NULL;
}

static const struct sluice_stream_events all_events = {
    .on_open = on_open,
    .on_data = on_data,
    .on_drain = on_drain,
    .on_end = on_end,
    .on_close = on_close,
};
static const struct sluice_stream_events deaf_events = {
    .on_open = on_open,
    .on_drain = on_drain,
    .on_end = on_end,
    .on_close = on_close,
};

static void run_timer(struct sluice_timer *timer)
{
    struct end *end = container_of(timer, struct end, timer);

    must(end->world->is_in_turn && !end->world->is_calling);
    if (end->armed & TOLD_TIMER && !end->world->is_over)
        run_call(end->world);
}

static void run_post(struct sluice_post *post)
{
    struct end *end = container_of(post, struct end, post);

    must(end->is_posted && !end->world->is_calling);
    end->is_posted = false;
    if (end->armed & TOLD_POST && !end->world->is_over)
        run_call(end->world);
}

/* -- Sending ------------------------------------------------------------------------------------------------- */

/* Puts the next bytes behind what was accepted, where they count once they are. Returns how many there is room for. */
static size_t make_bytes(struct end *end, size_t len)
{
    if (len > end->bytes_max - end->accepted)
        len = end->bytes_max - end->accepted;
    for (size_t i = 0; i < len; i++) {
        size_t at = end->accepted + i;

        end->bytes[at] = (uint8_t)(at * 31 + (at >> 8) * 17 + (size_t)(end->name[0]));
    }
    return len;
}

static size_t choose_len(struct world *world)
{
    size_t len = input_byte(&world->input);

    if (len < 192)
        return len % 64;
    if (len < 250)
        return (len - 190) * 128;
    return (len - 249) * (SEND_MAX / 6);
}

static void note_accepted(struct end *end, size_t len)
{
    end->accepted += len;
    if (!end->has_messages)
        return;
    must(end->messages < MESSAGES_MAX);
    end->lens[end->messages++] = (uint32_t)len;
}

/* What a send has to answer. */
static int expect_answer(const struct end *end, size_t len)
{
    size_t queued;

    if (sluice_stream_write_status(end->stream) != SLUICE_WRITABLE)
        return -EPIPE;
    queued = sluice_stream_queued(end->stream);
    if (end->has_messages && len > MESSAGE_MAX)
        return -EMSGSIZE;
    if (len > end->limit || queued > end->limit - len)
        return -ENOBUFS;
    return SLUICE_ROOM; /* or FULL: that is known afterwards */
}

static void note_owed(struct end *end)
{
    end->is_owed = true;
    end->owed_at = sluice_stream_queued(end->stream);
}

static void check_answer(struct end *end, size_t len, size_t queued_before, int expected, int answer)
{
    trace(end->world, "%s sends %zu: %d", end->name, len, answer);
    if (expected < 0) {
        must(answer == expected, "%s sends %zu bytes: %d instead of %d", end->name, len, answer, expected);
        if (answer == -ENOBUFS && queued_before > 0)
            note_owed(end);
        return;
    }
    expected = sluice_stream_queued(end->stream) >= end->high_mark ? SLUICE_FULL : SLUICE_ROOM;
    must(answer == expected, "%s sends %zu bytes: %d instead of %d", end->name, len, answer, expected);
    if (answer == SLUICE_FULL)
        note_owed(end);
    note_accepted(end, len);
}

static bool may_send(const struct end *end)
{
    return !end->is_poster && end->messages < MESSAGES_MAX;
}

static size_t queued_now(const struct end *end)
{
    return end->is_closed ? 0 : sluice_stream_queued(end->stream);
}

static void call_send(struct end *end)
{
    size_t len = make_bytes(end, choose_len(end->world));
    int expected;
    size_t queued;

    if (!may_send(end))
        return;
    expected = expect_answer(end, len);
    queued = queued_now(end);
    check_answer(end, len, queued, expected, sluice_stream_send(end->stream, end->bytes + end->accepted, len));
}

static void call_send_vector(struct end *end)
{
    size_t len = make_bytes(end, choose_len(end->world));
    size_t count = input_byte(&end->world->input) % 9;
    struct iovec pieces[9];
    size_t at = 0;
    int expected;
    size_t queued;

    for (size_t i = 0; i < count; i++) {
        size_t part = i + 1 == count ? len - at : (len - at) / (1 + i % 3);

        pieces[i] = (struct iovec){end->bytes + end->accepted + at, part};
        at += part;
    }
    if (!may_send(end))
        return;
    expected = expect_answer(end, at);
    queued = queued_now(end);
    check_answer(end, at, queued, expected, sluice_stream_send_vector(end->stream, pieces, count));
}

/* Memory of ours that travels without a copy. */
struct owned {
    struct sluice_buffer buffer;
    struct world *world;
    uint8_t data[];
};

static void release_owned(struct sluice_buffer *buffer)
{
    struct owned *owned = container_of(buffer, struct owned, buffer);

    must(owned->world->buffers_out > 0);
    owned->world->buffers_out--;
    free(owned);
}

static void call_send_view(struct end *end)
{
    size_t len = make_bytes(end, choose_len(end->world));
    struct owned *owned;
    struct sluice_view view;
    int expected;
    size_t queued;

    if (!may_send(end))
        return;
    owned = malloc(sizeof *owned + len);
    must(owned);
    owned->world = end->world;
    end->world->buffers_out++;
    sluice_buffer_init(&owned->buffer, release_owned);
    memcpy(owned->data, end->bytes + end->accepted, len);
    view = (struct sluice_view){.data = owned->data, .len = len, .buffer = &owned->buffer};
    expected = expect_answer(end, len);
    queued = queued_now(end);
    check_answer(end, len, queued, expected, sluice_stream_send_view(end->stream, &view));
    must(expected >= 0 || owned->buffer.references == 1, "a refused view was kept");
    sluice_buffer_drop(&owned->buffer);
}

/* Sends back what it is shown, or has kept. */
static void call_forward(struct end *end)
{
    struct sluice_view view;
    int expected;
    size_t queued;

    if (!end->lent && end->kept_count == 0)
        return;
    view = end->lent ? *end->lent : end->kept[end->kept_count - 1].view;
    if (!may_send(end) || view.len > end->bytes_max - end->accepted)
        return;
    if (view.len > 0)
        memcpy(end->bytes + end->accepted, view.data, view.len);
    expected = expect_answer(end, view.len);
    queued = queued_now(end);
    check_answer(end, view.len, queued, expected, sluice_stream_send_view(end->stream, &view));
}

static void call_post_send(struct end *end)
{
    size_t len = make_bytes(end, choose_len(end->world));
    bool is_writable = sluice_stream_write_status(end->stream) == SLUICE_WRITABLE;
    int answer;

    if (!end->is_poster || end->messages == MESSAGES_MAX)
        return;
    answer = sluice_stream_post_send(end->stream, end->bytes + end->accepted, len);
    trace(end->world, "%s posts %zu: %d", end->name, len, answer);
    must(is_writable == (answer != -EPIPE));
    must((answer == -EMSGSIZE) == (is_writable && end->has_messages && len > MESSAGE_MAX));
    must(answer != -ENOBUFS || len > 0);
    must(answer == 0 || answer == -EPIPE || answer == -EMSGSIZE || answer == -ENOBUFS);
    if (answer == 0)
        note_accepted(end, len);
}

static void call_set_send_limits(struct end *end)
{
    size_t low = input_number(&end->world->input);
    size_t high = input_number(&end->world->input);
    size_t limit = input_number(&end->world->input);
    int error;

    if (end->is_closed)
        return;
    error = sluice_stream_set_send_limits(end->stream, low, high, limit);
    must(error == (low < high && high <= limit ? 0 : -EINVAL));
    if (error)
        return;
    end->low_mark = low;
    end->high_mark = high;
    end->limit = limit;
}

/* -- Receiving ----------------------------------------------------------------------------------------------- */

static void call_pause(struct end *end)
{
    bool is_over = end->is_closed || sluice_stream_read_status(end->stream) == SLUICE_READ_CLOSED;

    if (end->is_closed)
        return;
    must(sluice_stream_pause(end->stream) == (is_over ? -EPIPE : 0));
    end->is_paused = !is_over;
    trace(end->world, "%s pauses", end->name);
}

static void call_resume(struct end *end)
{
    bool is_over = end->is_closed || sluice_stream_read_status(end->stream) == SLUICE_READ_CLOSED;

    if (end->is_closed)
        return;
    must(sluice_stream_resume(end->stream) == (is_over ? -EPIPE : 0));
    end->is_paused = false;
    trace(end->world, "%s resumes", end->name);
}

static void call_keep(struct end *end)
{
    end->keeps = true;
}

static void drop_kept(struct end *end)
{
    while (end->kept_count > 0) {
        const struct kept *kept = &end->kept[--end->kept_count];

        must(memcmp(kept->view.data, end->peer->bytes + kept->at, kept->view.len) == 0, "what was kept has changed");
        sluice_buffer_drop(kept->view.buffer);
    }
}

static void hear(struct end *end, bool is_deaf)
{
    if (end->is_closed)
        return;
    end->is_deaf = is_deaf;
    sluice_stream_set_events(end->stream, is_deaf ? &deaf_events : &all_events, end);
}

static void call_turn_deaf(struct end *end)
{
    hear(end, true);
}

static void call_listen(struct end *end)
{
    hear(end, false);
}

static void call_idle_timeout(struct end *end)
{
    uint64_t timeout_ns = input_byte(&end->world->input) * MILLISECOND;

    if (end->is_closed)
        return;
    end->world->may_fail = true;
    sluice_stream_set_idle_timeout(end->stream, timeout_ns);
}

/* -- Ending -------------------------------------------------------------------------------------------------- */

static void call_finish(struct end *end)
{
    bool is_writable = sluice_stream_write_status(end->stream) == SLUICE_WRITABLE;
    int error;

    if (end->is_closed)
        return;
    error = sluice_stream_finish(end->stream);
    trace(end->world, "%s finishes: %d", end->name, error);
    must(error == (is_writable ? 0 : -EPIPE));
    must(sluice_stream_write_status(end->stream) != SLUICE_WRITABLE);
    end->has_finished = true;
    end->is_owed = false;
}

/* What is known of the end that an abort makes: everything, if nothing went wrong before. */
static void note_abort(struct end *end, int error)
{
    if (sluice_stream_state(end->stream) < SLUICE_CLOSING && !end->world->may_fail) {
        end->abort_error = error < 0 ? error : -ECONNABORTED;
        end->knows_unsent = !end->world->layers[0] && !end->is_poster;
        end->abort_unsent = sluice_stream_queued(end->stream);
    }
    end->world->may_fail = true;
    end->has_finished = true;
    end->is_owed = false;
}

static int choose_error(struct world *world)
{
    return -(int)(input_byte(&world->input) % 32);
}

static void call_close(struct end *end)
{
    trace(end->world, "%s closes", end->name);
    /* What closes before it is open, with nothing to send, is cancelled. */
    if (sluice_stream_state(end->stream) == SLUICE_CONNECTING)
        end->world->may_fail = true;
    if (!end->is_closed)
        sluice_stream_close(end->stream);
    must(sluice_stream_state(end->stream) >= SLUICE_CLOSING || end->was_aborted_from_afar);
    must(sluice_stream_write_status(end->stream) != SLUICE_WRITABLE);
    end->has_closed = true;
    end->has_finished = true;
    end->is_owed = false;
}

static void call_abort(struct end *end)
{
    int error = choose_error(end->world);

    note_abort(end, error);
    sluice_stream_abort(end->stream, error);
    trace(end->world, "%s aborts with %d", end->name, error);
    must(sluice_stream_write_status(end->stream) == SLUICE_WRITE_CLOSED);
    must(sluice_stream_state(end->stream) >= SLUICE_CLOSING);
    end->has_aborted = true;
}

/* As if by another thread: the engine learns of it in its next turn, but submits nothing from here on. */
static void call_abort_from_afar(struct end *end)
{
    struct mailbox *mailbox = end->stream->mailbox;
    pthread_t owner = mailbox->owner;
    int error = choose_error(end->world);

    note_abort(end, error);
    end->was_aborted_from_afar = true;
    memset(&mailbox->owner, 0, sizeof mailbox->owner);
    sluice_stream_abort(end->stream, error);
    mailbox->owner = owner;
    trace(end->world, "%s is aborted from afar with %d", end->name, error);
    must(sluice_stream_write_status(end->stream) == SLUICE_WRITE_CLOSED);
}

static void call_hold(struct end *end)
{
    if (end->is_held || end->is_closed)
        return;
    sluice_stream_hold(end->stream);
    end->is_held = true;
}

/* -- Other calls --------------------------------------------------------------------------------------------- */

static void call_drop(struct end *end)
{
    drop_kept(end);
}

static void call_arm(struct end *end)
{
    end->armed |= input_byte(&end->world->input);
}

static void call_timer(struct end *end)
{
    uint8_t delay = input_byte(&end->world->input);

    if (delay == 0)
        sluice_timer_stop(end->engine, &end->timer);
    else
        sluice_timer_start(end->engine, &end->timer, delay * MILLISECOND / 16);
}

static void call_post(struct end *end)
{
    if (end->is_posted)
        return;
    end->is_posted = true;
    sluice_engine_post(end->engine, &end->post);
}

static void call_ask(struct end *end)
{
    char text[SLUICE_ADDRESS_MAX];
    const char *top = end->world->layers[0] ? strchr(end->world->layers, '\0') - 1 : "";

    must(strcmp(sluice_stream_kind(end->stream), *top == 'f' ? "frame" : *top == 's' ? "shuffle" : "pair") == 0);
    must(sluice_stream_user(end->stream) == end);
    must(sluice_stream_peer_address(end->stream, text, sizeof text) < 0);
    must(sluice_stream_local_address(end->stream, text, sizeof text) < 0);
    if (!end->is_closed)
        must(sluice_stream_engine(end->stream) == end->engine);
}

/* -- Time ---------------------------------------------------------------------------------------------------- */

static void settle(struct world *world, uint64_t patience_ns)
{
    world->is_in_turn = true;
    still_settle(world->engines, world->engine_count, &world->now_ns, patience_ns);
    world->is_in_turn = false;
}

/* True if it will hear whatever its peer sent. */
static bool listens(const struct end *end)
{
    return !end->is_closed && !end->has_closed && !end->is_paused && !end->is_deaf &&
           sluice_stream_state(end->stream) == SLUICE_OPEN;
}

/* At rest, whatever can move has moved. */
static void check_rest(const struct end *end)
{
    const struct end *peer = end->peer;

    /* After a refusal below the low mark, the drain comes once something has left the queue. */
    if (!end->is_closed && end->is_owed && sluice_stream_write_status(end->stream) == SLUICE_WRITABLE)
        must(sluice_stream_queued(end->stream) > end->low_mark || sluice_stream_queued(end->stream) >= end->owed_at,
             "%s waits for a drain in vain", end->name);
    if (end->world->may_fail || !listens(peer))
        return;
    must(peer->heard == end->accepted, "%s heard %zu of %zu bytes, and nothing moves", peer->name, peer->heard,
         end->accepted);
    must(peer->has_ended == end->has_finished);
}

static void call_settle(struct end *end)
{
    struct world *world = end->world;

    trace(world, "all comes to rest");
    settle(world, MILLISECOND / 2);
    check_rest(&world->ends[0]);
    check_rest(&world->ends[1]);
}

static void call_turn(struct end *end)
{
    struct world *world = end->world;

    trace(world, "a turn of %s's engine", end->name);
    world->is_in_turn = true;
    must(sluice_engine_turn(end->engine) == 0);
    world->is_in_turn = false;
}

static void call_wait(struct end *end)
{
    end->world->now_ns += input_byte(&end->world->input) * MILLISECOND;
}

/* -- The program --------------------------------------------------------------------------------------------- */

enum when {
    WHILE_NAMED,   /* as long as the stream may be named */
    ALWAYS,        /* it does not name it */
    BETWEEN_TURNS, /* likewise, and not within one */
};

struct call {
    void (*run)(struct end *end);
    enum when when;
};

static const struct call calls[] = {
    {call_send, WHILE_NAMED},
    {call_send_vector, WHILE_NAMED},
    {call_send_view, WHILE_NAMED},
    {call_forward, WHILE_NAMED},
    {call_post_send, WHILE_NAMED},
    {call_set_send_limits, WHILE_NAMED},
    {call_pause, WHILE_NAMED},
    {call_resume, WHILE_NAMED},
    {call_keep, ALWAYS},
    {call_drop, ALWAYS},
    {call_turn_deaf, WHILE_NAMED},
    {call_listen, WHILE_NAMED},
    {call_idle_timeout, WHILE_NAMED},
    {call_finish, WHILE_NAMED},
    {call_close, WHILE_NAMED},
    {call_abort, WHILE_NAMED},
    {call_abort_from_afar, WHILE_NAMED},
    {call_hold, WHILE_NAMED},
    {call_arm, ALWAYS},
    {call_timer, ALWAYS},
    {call_post, ALWAYS},
    {call_ask, WHILE_NAMED},
    {call_settle, BETWEEN_TURNS},
    {call_turn, BETWEEN_TURNS},
    {call_wait, BETWEEN_TURNS},
};

static void check_status(struct end *end)
{
    enum sluice_write_status status;

    if (!end->stream)
        return;
    status = sluice_stream_write_status(end->stream);
    must(status >= end->status, "the write status went back");
    end->status = status;
    if (!end->is_closed)
        must(!end->has_closed || end->was_aborted_from_afar ||
             sluice_stream_read_status(end->stream) == SLUICE_READ_CLOSED);
}

static void run_call(struct world *world)
{
    uint8_t code = input_byte(&world->input);
    struct end *end = &world->ends[code >> 7];
    const struct call *call = &calls[(code & 0x7f) % (sizeof calls / sizeof *calls)];

    if (call->when == WHILE_NAMED && !end->stream)
        return;
    if (call->when == BETWEEN_TURNS && world->is_in_turn)
        return;
    world->is_calling = call->when != BETWEEN_TURNS;
    call->run(end);
    world->is_calling = false;
    check_status(&world->ends[0]);
    check_status(&world->ends[1]);
}

/* -- Beginning and end --------------------------------------------------------------------------------------- */

static void begin_engines(struct world *world)
{
    struct sluice_engine_options options;
    char why[SLUICE_REASON_MAX];

    must(config_complete(NULL, &options, why, sizeof why) == 0);
    options.receive_buffer_count = 8;
    options.receive_buffer_size = 256;
    options.send_low_mark = 256;
    options.send_high_mark = 1024;
    options.send_limit = 8192;
    options.linger_ns = world->choices & SHORT_TIMES ? MILLISECOND : HOUR;
    options.connect_timeout_ns = options.linger_ns;
    world->may_fail = world->choices & SHORT_TIMES;
    world->engine_count = world->choices & TWO_ENGINES ? 2 : 1;
    for (size_t i = 0; i < world->engine_count; i++)
        world->engines[i] = still_engine_create(&options, &world->now_ns);
    for (int i = 0; i < 2; i++) {
        struct end *end = &world->ends[i];

        *end = (struct end){
            .world = world,
            .peer = &world->ends[!i],
            .name = i ? "right" : "left",
            .engine = world->engines[i % (int)world->engine_count],
            .bytes = end->bytes,
            .is_poster = world->choices & (i ? SECOND_POSTS : FIRST_POSTS),
            .low_mark = options.send_low_mark,
            .high_mark = options.send_high_mark,
            .limit = options.send_limit,
            .timer.fire = run_timer,
            .post.run = run_post,
        };
    }
}

static void begin_stack(struct world *world, uint8_t kinds, size_t capacity)
{
    size_t count = world->choices / LAYERS;
    struct sluice_frame_options frame = {.length = (enum sluice_frame_length)(kinds % 5), .message_limit = MESSAGE_MAX};
    struct sluice_pair_end wanted[2];

    for (size_t i = 0; i < count; i++)
        world->layers[i] = kinds >> (5 + i) & 1 ? 's' : 'f';
    world->layers[count] = '\0';
    for (int i = 0; i < 2; i++)
        wanted[i] = (struct sluice_pair_end){world->ends[i].engine, &all_events, &world->ends[i]};
    must(sluice_pair(&wanted[0], &wanted[1], capacity, &world->ends[0].stream, &world->ends[1].stream) == 0);
    for (int i = 0; i < 2; i++) {
        struct end *end = &world->ends[i];

        end->bytes_max = capacity < BYTES_MAX / PORTIONS_MAX ? capacity * PORTIONS_MAX : BYTES_MAX;
        for (const char *layer = world->layers; *layer; layer++) {
            int error = *layer == 'f' ? sluice_frame_stream(end->stream, &frame, &all_events, end, &end->stream)
                                      : shuffle_stream(end->stream, kinds, &all_events, end, &end->stream);

            must(error == 0);
            end->has_messages = *layer == 'f';
        }
    }
    trace(world, "layers \"%s\", capacity %zu, %zu engines", world->layers, capacity, world->engine_count);
}

static void wind_up(struct world *world)
{
    world->is_over = true;
    for (int i = 0; i < 2; i++) {
        struct end *end = &world->ends[i];

        sluice_timer_stop(end->engine, &end->timer);
        drop_kept(end);
        if (end->is_closed || world->choices & CUT_SHORT)
            continue;
        call_listen(end);
        call_resume(end);
    }
    if (world->choices & CUT_SHORT)
        return;
    settle(world, MILLISECOND / 2);
    for (int i = 0; i < 2; i++) {
        struct end *end = &world->ends[i];

        if (end->is_closed)
            continue;
        if (world->choices & FINISHES)
            call_finish(end);
        else
            call_close(end);
    }
    settle(world, MILLISECOND / 2);
    if (!world->may_fail)
        must(world->ends[0].is_closed && world->ends[1].is_closed, "a graceful end took its time");
    settle(world, 3 * HOUR);
}

static void check_end(const struct end *end)
{
    const struct end *peer = end->peer;

    must(end->is_closed, "%s never heard its end", end->name);
    if (end->world->may_fail || end->has_closed)
        return;
    must(end->has_ended && end->heard == peer->accepted, "%s heard %zu of %zu bytes", end->name, end->heard,
         peer->accepted);
}

static void check_nothing_left(const struct sluice_engine *engine)
{
    struct sluice_stats stats;

    sluice_engine_stats(engine, &stats);
    must(stats.streams == 0 && stats.queued_bytes == 0 && stats.receive_buffers_lent == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct world world;
    static uint8_t bytes[2][BYTES_MAX];
    uint8_t kinds;

    world = (struct world){.input = {data, len}, .now_ns = MILLISECOND, .is_traced = getenv("FUZZ_TRACE") != NULL};
    world.ends[0].bytes = bytes[0];
    world.ends[1].bytes = bytes[1];
    world.choices = input_byte(&world.input);
    kinds = input_byte(&world.input);
    begin_engines(&world);
    begin_stack(&world, kinds, 1 + (size_t)input_byte(&world.input) * 17);
    while (world.input.len > 0)
        run_call(&world);
    wind_up(&world);
    if (!(world.choices & CUT_SHORT)) {
        check_end(&world.ends[0]);
        check_end(&world.ends[1]);
        for (size_t i = 0; i < world.engine_count; i++)
            check_nothing_left(world.engines[i]);
    }
    world.may_fail = true;
    world.is_in_turn = true;
    for (size_t i = 0; i < world.engine_count; i++)
        sluice_engine_destroy(world.engines[i]);
    must(world.ends[0].is_closed && world.ends[1].is_closed);
    must(world.buffers_out == 0, "%u buffers were not released", world.buffers_out);
    for (int i = 0; i < 2; i++) {
        if (!world.ends[i].is_held)
            continue;
        sluice_stream_abort(world.ends[i].stream, 0);
        must(sluice_stream_send(world.ends[i].stream, "", 0) == -EPIPE);
        must(sluice_stream_post_send(world.ends[i].stream, "", 0) == -EPIPE);
        sluice_stream_release(world.ends[i].stream);
    }
    return 0;
}

/* Users in stories: see user.h. */
#include "tests/sim/user.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/stream.h"

enum {
    CHUNK_MAX = 3000,
    ACTION_NS = 2000000,
};

/* Bytes of a user's own that it shares. */
struct own_buffer {
    struct sluice_buffer buffer;
    struct user *user;
    size_t len;
    uint64_t place;
    uint8_t data[];
};

static bool chance(struct user *user, uint32_t odds)
{
    return odds && sim_below(user->sim, odds) == 0;
}

static void violated(const struct user *user, const char *what)
{
    sim_violated(user->sim, "%s: %s", user->name, what);
}

/* -- Sending ------------------------------------------------------------------------------------------------- */

static void release_own(struct sluice_buffer *buffer)
{
    struct own_buffer *own = container_of(buffer, struct own_buffer, buffer);

    for (size_t i = 0; i < own->len; i++)
        if (own->data[i] != user_byte(own->user->pattern, own->place + i))
            violated(own->user, "a shared buffer was changed before its release");
    own->user->buffers_out--;
    free(own);
}

static void write_pattern(const struct user *user, uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        data[i] = user_byte(user->pattern, user->accepted + i);
}

static int send_copy(struct user *user, size_t len)
{
    uint8_t data[CHUNK_MAX];

    write_pattern(user, data, len);
    return sluice_stream_send(user->stream, data, len);
}

static int send_pieces(struct user *user, size_t len)
{
    uint8_t data[CHUNK_MAX];
    size_t cut = sim_below(user->sim, len + 1);
    struct iovec pieces[2] = {{.iov_base = data, .iov_len = cut}, {.iov_base = data + cut, .iov_len = len - cut}};

    write_pattern(user, data, len);
    return sluice_stream_send_vector(user->stream, pieces, 2);
}

static int send_shared(struct user *user, size_t len)
{
    struct own_buffer *own = malloc(sizeof *own + len);
    struct sluice_view view = {.data = own->data, .len = len, .buffer = &own->buffer};
    int answer;

    sluice_buffer_init(&own->buffer, release_own);
    own->user = user;
    own->len = len;
    own->place = user->accepted;
    write_pattern(user, own->data, len);
    user->buffers_out++;
    answer = sluice_stream_send_view(user->stream, &view);
    sluice_buffer_drop(&own->buffer);
    return answer;
}

static void note_message(struct user *user, size_t len)
{
    user->message_lens[user->messages_sent++ % USER_MESSAGES] = (uint32_t)len;
}

static bool may_still_send(const struct user *user)
{
    return !user->has_finished && !user->has_closed && !user->has_aborted && !user->is_closed;
}

/* Sends once. Returns false when it should wait. */
static bool send_some(struct user *user)
{
    size_t max = user->to_send < CHUNK_MAX ? (size_t)user->to_send : CHUNK_MAX;
    size_t len;
    int answer;

    if (max == 0 || !may_still_send(user) || user->messages_sent - user->messages_heard == USER_MESSAGES)
        return false;
    len = random_size(&user->sim->random, max);
    switch (sim_below(user->sim, 3)) {
    case 0:
        answer = send_copy(user, len);
        break;
    case 1:
        answer = send_pieces(user, len);
        break;
    default:
        answer = send_shared(user, len);
    }
    sim_trace(user->sim, "%s sends %zu: %d", user->name, len, answer);
    if (answer >= 0) {
        user->accepted += len;
        user->to_send -= len;
        note_message(user, len);
    }
    if (answer == SLUICE_FULL || answer == -ENOBUFS)
        user->is_owed = true;
    else if (answer != SLUICE_ROOM && answer != -EPIPE && answer != -ENOMEM)
        violated(user, "a send was refused for no good reason");
    if (answer == -EPIPE && sluice_stream_write_status(user->stream) == SLUICE_WRITABLE)
        violated(user, "a writable stream refused a send");
    return answer == SLUICE_ROOM || (answer == SLUICE_FULL && user->habits.ignores_full);
}

/* -- Acting -------------------------------------------------------------------------------------------------- */

static void act_soon(struct user *user)
{
    sluice_timer_start(user->engine, &user->action, sim_below(user->sim, ACTION_NS));
}

static void drop_kept(struct user *user, uint32_t index)
{
    struct sluice_view *view = &user->kept[index];

    for (size_t i = 0; i < view->len; i++)
        if (view->data[i] != user_byte(user->heard_pattern, user->kept_at[index] + i))
            violated(user, "a kept view changed");
    sluice_buffer_drop(view->buffer);
    user->kept[index] = user->kept[--user->kept_count];
    user->kept_at[index] = user->kept_at[user->kept_count];
}

static void do_close(struct user *user)
{
    sim_trace(user->sim, "%s closes", user->name);
    user->has_closed = true;
    sluice_stream_close(user->stream);
}

static void do_abort(struct user *user)
{
    sim_trace(user->sim, "%s aborts", user->name);
    user->has_aborted = true;
    sluice_stream_abort(user->stream, -EINTR);
}

/* Something at random, also from within callbacks. */
static void act(struct user *user)
{
    const struct habits *habits = &user->habits;

    if (user->is_closed)
        return;
    if (chance(user, habits->abort)) {
        do_abort(user);
    } else if (chance(user, habits->close)) {
        do_close(user);
    } else if (chance(user, habits->finish)) {
        sim_trace(user->sim, "%s finishes", user->name);
        sluice_stream_finish(user->stream);
        user->has_finished = true;
    } else if (chance(user, habits->pause)) {
        user->is_paused = !user->is_paused;
        sim_trace(user->sim, "%s %s", user->name, user->is_paused ? "pauses" : "resumes");
        if (user->is_paused)
            sluice_stream_pause(user->stream);
        else
            sluice_stream_resume(user->stream);
    } else if (chance(user, habits->limits)) {
        size_t high = 1 + sim_below(user->sim, 5000);

        sluice_stream_set_send_limits(user->stream, sim_below(user->sim, high), high,
                                      high + sim_below(user->sim, 9000));
    } else if (user->kept_count > 0 && chance(user, 4)) {
        drop_kept(user, (uint32_t)sim_below(user->sim, user->kept_count));
    } else if (!habits->posts && (!user->is_owed || habits->ignores_full)) {
        for (uint64_t times = 1 + sim_below(user->sim, 20); times > 0 && send_some(user); times--)
            continue;
    }
}

static void run_action(struct sluice_timer *timer)
{
    struct user *user = container_of(timer, struct user, action);

    act(user);
    if (!user->is_closed)
        act_soon(user);
}

/* -- Being told ---------------------------------------------------------------------------------------------- */

static struct user *told(struct sluice_stream *stream, void *argument)
{
    struct user *user = argument;
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);

    if (user->is_closed)
        violated(user, "is told something after on_close");
    if (stream != user->stream)
        violated(user, "is told about a stream that is not its own");
    if (!user->engine->is_in_turn)
        violated(user, "is told something outside a turn");
    if (here < user->stack_low)
        user->stack_low = here;
    if (here > user->stack_high)
        user->stack_high = here;
    return user;
}

static void told_alive(const struct user *user, const char *what)
{
    if (user->has_closed || user->has_aborted)
        violated(user, what);
}

static void on_open(struct sluice_stream *stream, void *argument)
{
    struct user *user = told(stream, argument);

    told_alive(user, "is told on_open after it ended the stream");
    if (user->has_opened)
        violated(user, "is told on_open twice");
    user->has_opened = true;
    sim_trace(user->sim, "%s is open", user->name);
}

static void check_message(struct user *user, size_t len)
{
    struct user *peer = user->peer;

    if (!user->has_messages || !peer)
        return;
    if (peer->messages_heard == peer->messages_sent)
        violated(user, "hears a message that nobody sent");
    if (peer->message_lens[peer->messages_heard % USER_MESSAGES] != len)
        violated(user, "hears a message of another length");
}

static void on_data(struct sluice_stream *stream, const struct sluice_view *view, void *argument)
{
    struct user *user = told(stream, argument);

    told_alive(user, "is told data after it ended the stream");
    if (user->is_paused)
        violated(user, "is told data while paused");
    if (!user->has_opened && !user->is_open_at_once)
        violated(user, "is told data before on_open");
    if (user->has_ended)
        violated(user, "is told data after on_end");
    check_message(user, view->len);
    if (user->peer)
        user->peer->messages_heard++;
    for (size_t i = 0; i < view->len; i++)
        if (view->data[i] != user_byte(user->heard_pattern, user->heard + i))
            violated(user, "hears a wrong byte");
    if (user->kept_count < USER_KEPT && chance(user, user->habits.keep) &&
        sluice_view_keep(stream, view, &user->kept[user->kept_count]) == 0)
        user->kept_at[user->kept_count++] = user->heard;
    user->heard += view->len;
    if (user->peer && user->heard > user->peer->accepted)
        violated(user, "hears more than was sent");
    sim_trace(user->sim, "%s hears %zu", user->name, view->len);
    if (chance(user, 3))
        act(user);
}

static void on_drain(struct sluice_stream *stream, void *argument)
{
    struct user *user = told(stream, argument);

    told_alive(user, "is told on_drain after it ended the stream");
    if (user->has_finished)
        violated(user, "is told on_drain after finish");
    if (!user->is_owed)
        violated(user, "is told on_drain and was not owed one");
    if (sluice_stream_queued(stream) > stream->low_mark)
        violated(user, "is told on_drain above the low mark");
    user->is_owed = false;
    sim_trace(user->sim, "%s is drained", user->name);
    act(user);
}

static void on_end(struct sluice_stream *stream, void *argument)
{
    struct user *user = told(stream, argument);

    told_alive(user, "is told on_end after it ended the stream");
    if (user->has_ended)
        violated(user, "is told on_end twice");
    user->has_ended = true;
    sim_trace(user->sim, "%s hears the end", user->name);
    /* What another thread posted may have come too late: the peer's on_close counts it. */
    if (user->is_on_pipes && (user->peer->has_aborted || user->peer->has_been_aborted || user->peer->why.error))
        return;
    if (user->peer && !user->peer->is_poster && user->heard != user->peer->accepted)
        violated(user, "hears the end before everything that was sent");
    if (chance(user, 2))
        act(user);
}

static void on_close(struct sluice_stream *stream, const struct sluice_close *why, void *argument)
{
    struct user *user = told(stream, argument);

    sim_trace(user->sim, "%s is closed: error %d side %d unsent %llu", user->name, why->error, why->side,
              (unsigned long long)why->unsent);
    user->is_closed = true;
    user->why = *why;
    if (!why->error && why->unsent)
        violated(user, "ends gracefully with unsent bytes");
    sluice_timer_stop(user->engine, &user->action);
    while (user->kept_count > 0)
        drop_kept(user, 0);
    if (!user->is_held)
        user->stream = NULL;
}

const struct sluice_stream_events user_events = {
    .on_open = on_open,
    .on_data = on_data,
    .on_drain = on_drain,
    .on_end = on_end,
    .on_close = on_close,
};

/* -- Other threads ------------------------------------------------------------------------------------------- */

/* Calls as another thread would: the stream does not take them for its own thread's. */
static void as_another_thread(struct user *user, void (*call)(struct user *user))
{
    struct mailbox *mailbox = user->stream->mailbox;
    pthread_t owner = mailbox->owner;

    memset(&mailbox->owner, 0, sizeof mailbox->owner);
    call(user);
    mailbox->owner = owner;
}

static void abort_from_afar(struct user *user)
{
    sim_trace(user->sim, "%s is aborted by another thread", user->name);
    user->has_been_aborted = true;
    sluice_stream_abort(user->stream, -EINTR);
    if (sluice_stream_write_status(user->stream) != SLUICE_WRITE_CLOSED)
        violated(user, "is writable after an abort");
}

static void post_from_afar(struct user *user)
{
    uint8_t data[CHUNK_MAX];
    size_t max = user->to_send < CHUNK_MAX ? (size_t)user->to_send : CHUNK_MAX;
    size_t len;
    int answer;

    if (max == 0 || user->messages_sent - user->messages_heard == USER_MESSAGES)
        return;
    len = random_size(&user->sim->random, max);
    write_pattern(user, data, len);
    answer = sluice_stream_post_send(user->stream, data, len);
    sim_trace(user->sim, "%s posts %zu: %d", user->name, len, answer);
    if (answer == 0) {
        user->accepted += len;
        user->to_send -= len;
        note_message(user, len);
    }
}

void user_other_thread(struct user *user)
{
    if (!user->stream || !user->is_held)
        return;
    if (chance(user, user->habits.abort_from_afar))
        as_another_thread(user, abort_from_afar);
    else if (chance(user, user->habits.posts))
        as_another_thread(user, post_from_afar);
}

/* -- Beginning and end --------------------------------------------------------------------------------------- */

void user_init(struct user *user, struct sim *sim, const char *name, struct sluice_engine *engine)
{
    *user =
        (struct user){.sim = sim, .name = name, .engine = engine, .action.fire = run_action, .stack_low = UINTPTR_MAX};
    user->pattern = sim_below(sim, 1000000);
    user->to_send = sim_below(sim, 3) ? random_size(&sim->random, 100000) : 0;
    user->habits = (struct habits){
        .pause = sim_below(sim, 2) ? 5 + (uint32_t)sim_below(sim, 50) : 0,
        .finish = sim_below(sim, 2) ? 20 + (uint32_t)sim_below(sim, 200) : 0,
        .close = sim_below(sim, 2) ? 20 + (uint32_t)sim_below(sim, 200) : 0,
        .abort = sim_below(sim, 4) ? 0 : 20 + (uint32_t)sim_below(sim, 200),
        .abort_from_afar = sim_below(sim, 6) ? 0 : 100 + (uint32_t)sim_below(sim, 1000),
        .keep = sim_below(sim, 2) ? 1 + (uint32_t)sim_below(sim, 10) : 0,
        .limits = sim_below(sim, 3) ? 0 : 10 + (uint32_t)sim_below(sim, 30),
        .posts = sim_below(sim, 6) ? 0 : 1 + (uint32_t)sim_below(sim, 20),
        .ignores_full = sim_below(sim, 4) == 0,
    };
}

void user_start(struct user *user, struct sluice_stream *stream)
{
    user->stream = stream;
    user->has_started = true;
    user->is_poster = user->habits.posts > 0;
    if (user->habits.abort_from_afar || user->habits.posts) {
        sluice_stream_hold(stream);
        user->is_held = true;
    }
    act_soon(user);
}

void user_wind_up(struct user *user)
{
    user->habits = (struct habits){0};
    user->to_send = 0;
    if (user->is_closed || !user->stream)
        return;
    if (user->is_paused) {
        user->is_paused = false;
        sluice_stream_resume(user->stream);
    }
    if (!user->has_closed && !user->has_aborted)
        do_close(user);
}

void user_finish(struct user *user)
{
    if (user->is_held && user->stream)
        sluice_stream_release(user->stream);
    if (user->buffers_out > 0)
        violated(user, "has shared buffers that were not released");
    if (user->stack_high > user->stack_low && user->stack_high - user->stack_low > 16 * 1024)
        violated(user, "is told from very different depths of the stack");
}

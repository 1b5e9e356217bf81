/* Users in stories: see user.h. */
#include "tests/sim/user.h"

#include <errno.h>
#include <string.h>

#include "engine/stream.h"
#include "tests/sim/memory.h"

enum {
    CHUNK_MAX = 3000,
    ACTION_NS = 2000000,
    STACK_MAX = 48 * 1024,                           /* how deep a callback may stand below the story */
    VIEWS_MAX = TURN_PASSES * STREAM_VIEWS_PER_TASK, /* heard in one turn, without layers */
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
    memory_put(own);
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
    struct own_buffer *own = memory_get(sizeof *own + len);
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

static void cover_answer(int answer)
{
    switch (answer) {
    case SLUICE_ROOM:
        cover(COVER_ANSWER_ROOM);
        break;
    case SLUICE_FULL:
        cover(COVER_ANSWER_FULL);
        break;
    case -ENOBUFS:
        cover(COVER_ANSWER_LIMIT);
        break;
    case -ENOMEM:
        cover(COVER_ANSWER_NO_MEMORY);
        break;
    default:
        cover(COVER_ANSWER_CLOSED);
    }
}

static void check_answer(struct user *user, int answer, size_t len, size_t queued, uint64_t budget)
{
    if (answer >= 0 && queued + len > user->stream->send_limit)
        violated(user, "a send passed the limit of the stream");
    if (answer >= 0 && budget < len)
        violated(user, "a send passed the budget of the engine");
    if (answer == -ENOBUFS && queued > 0 && !user->stream->owes_drain)
        violated(user, "is refused, and owed no drain");
    if (answer == -EPIPE && sluice_stream_write_status(user->stream) == SLUICE_WRITABLE)
        violated(user, "a writable stream refused a send");
    if (answer < 0 && answer != -ENOBUFS && answer != -EPIPE && answer != -ENOMEM)
        violated(user, "a send was refused for no good reason");
}

static int (*const ways_to_send[])(struct user *user, size_t len) = {send_copy, send_pieces, send_shared};

int user_send(struct user *user, size_t len, enum user_send how)
{
    size_t queued = sluice_stream_queued(user->stream);
    uint64_t budget = user->engine->options.memory_budget - user->engine->counters.queued_bytes;
    int answer = ways_to_send[how](user, len);

    sim_trace(user->sim, "%s sends %zu: %d", user->name, len, answer);
    cover_answer(answer);
    check_answer(user, answer, len, queued, budget);
    if (answer >= 0) {
        user->accepted += len;
        note_message(user, len);
    }
    if (answer == SLUICE_FULL || (answer == -ENOBUFS && queued > 0))
        user->is_owed = true;
    return answer;
}

static void wait_for_drain(struct user *user)
{
    cover(COVER_WAITED_FOR_DRAIN);
    sim_trace(user->sim, "%s pauses until it is drained", user->name);
    user->is_waiting = user->is_paused = true;
    sluice_stream_pause(user->stream);
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
    answer = user_send(user, len, (enum user_send)sim_below(user->sim, 3));
    if (answer >= 0)
        user->to_send -= len;
    if (answer == SLUICE_FULL && user->habits[HABIT_WAITS_FOR_DRAIN] && !user->is_paused)
        wait_for_drain(user);
    return answer == SLUICE_ROOM || (answer == SLUICE_FULL && user->habits[HABIT_IGNORES_FULL]);
}

/* -- Acting -------------------------------------------------------------------------------------------------- */

static void as_another_thread(struct user *user, void (*call)(struct user *user));
static void post_from_afar(struct user *user);

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

/* Another thread, at the last moment: what it posts now has been accepted. */
static void post_before_the_end(struct user *user)
{
    if (user->is_held && user->is_poster)
        as_another_thread(user, post_from_afar);
}

void user_close(struct user *user)
{
    post_before_the_end(user);
    sim_trace(user->sim, "%s closes", user->name);
    cover(COVER_CLOSED);
    user->has_closed = true;
    user->closed_at_ns = user->sim->now_ns;
    sluice_stream_close(user->stream);
}

void user_abort(struct user *user)
{
    sim_trace(user->sim, "%s aborts", user->name);
    cover(COVER_ABORTED);
    user->has_aborted = true;
    sluice_stream_abort(user->stream, -EINTR);
}

void user_finish_sending(struct user *user)
{
    int answer;

    post_before_the_end(user);
    answer = sluice_stream_finish(user->stream);
    sim_trace(user->sim, "%s finishes: %d", user->name, answer);
    cover(COVER_FINISHED);
    if (answer == 0 && !may_still_send(user))
        violated(user, "finishes a direction that has ended");
    user->has_finished = true;
}

void user_pause(struct user *user, bool is_paused)
{
    sim_trace(user->sim, "%s %s", user->name, is_paused ? "pauses" : "resumes");
    cover(is_paused ? COVER_PAUSED : COVER_RESUMED);
    user->is_paused = is_paused;
    if (is_paused)
        sluice_stream_pause(user->stream);
    else
        sluice_stream_resume(user->stream);
}

static void change_limits(struct user *user)
{
    size_t high = 1 + sim_below(user->sim, 5000);

    sluice_stream_set_send_limits(user->stream, sim_below(user->sim, high), high, high + sim_below(user->sim, 9000));
}

/* Something at random, also from within callbacks. */
static void act(struct user *user)
{
    const uint32_t *habits = user->habits;

    if (user->is_closed || user->is_waiting || user->sim->is_scripted)
        return;
    if (chance(user, habits[HABIT_ABORT])) {
        user_abort(user);
    } else if (chance(user, habits[HABIT_CLOSE])) {
        user_close(user);
    } else if (chance(user, habits[HABIT_FINISH])) {
        if (may_still_send(user) && !user->has_been_aborted)
            user_finish_sending(user);
    } else if (chance(user, habits[HABIT_PAUSE])) {
        user_pause(user, !user->is_paused);
    } else if (chance(user, habits[HABIT_LIMITS])) {
        change_limits(user);
    } else if (user->kept_count > 0 && chance(user, 4)) {
        drop_kept(user, (uint32_t)sim_below(user->sim, user->kept_count));
    } else if (!habits[HABIT_POSTS] && (!user->is_owed || habits[HABIT_IGNORES_FULL])) {
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
    struct sim *sim = user->sim;
    uint64_t turn = user->engine->counters.turns;

    if (user->is_closed)
        violated(user, "is told something after on_close");
    if (stream != user->stream)
        violated(user, "is told about a stream that is not its own");
    if (!user->engine->is_in_turn && !user->engine->is_destroying)
        violated(user, "is told something outside a turn");
    if (sim_ring_is_dispatching(user->engine->ring))
        violated(user, "is told something from within a completion");
    if (sim->stack - (uintptr_t)__builtin_frame_address(0) > STACK_MAX)
        violated(user, "is told something from deep in the stack");
    if (user->turn != turn)
        user->heard_in_turn = 0;
    user->turn = turn;
    story_other_threads(sim->story);
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
    cover(COVER_OPENED);
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
    cover(COVER_HEARD);
    if (++user->heard_in_turn > VIEWS_MAX && !user->layers[0])
        violated(user, "hears more in one turn than others have a chance to");
    check_message(user, view->len);
    if (user->peer)
        user->peer->messages_heard++;
    for (size_t i = 0; i < view->len; i++)
        if (view->data[i] != user_byte(user->heard_pattern, user->heard + i))
            violated(user, "hears a wrong byte");
    if (user->kept_count < USER_KEPT && chance(user, user->habits[HABIT_KEEP]) &&
        sluice_view_keep(stream, view, &user->kept[user->kept_count]) == 0) {
        cover(COVER_KEPT);
        user->kept_at[user->kept_count++] = user->heard;
    }
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
    if (!user->is_owed || user->sim->broken == BROKEN_DRAIN)
        violated(user, "is told on_drain and was not owed one");
    if (sluice_stream_queued(stream) > stream->low_mark)
        violated(user, "is told on_drain above the low mark");
    user->is_owed = false;
    cover(COVER_DRAINED);
    sim_trace(user->sim, "%s is drained", user->name);
    if (user->is_waiting) {
        user->is_waiting = user->is_paused = false;
        sluice_stream_resume(stream);
        if (user->winds_up && !user->has_closed)
            user_close(user);
    }
    act(user);
}

static void on_end(struct sluice_stream *stream, void *argument)
{
    struct user *user = told(stream, argument);

    told_alive(user, "is told on_end after it ended the stream");
    if (user->has_ended)
        violated(user, "is told on_end twice");
    user->has_ended = true;
    cover(COVER_ENDED);
    sim_trace(user->sim, "%s hears the end", user->name);
    /*
     * What another thread posted may have come too late: the peer's on_close counts it. On pipes any end looks like
     * this.
     */
    if (user->peer && !user->is_on_pipes && !user->peer->is_poster && user->heard != user->peer->accepted)
        violated(user, "hears the end before everything that was sent");
    if (chance(user, 2))
        act(user);
}

static void cover_cause(const struct sluice_close *why)
{
    static const struct {
        int error;
        enum coverage what;
    } causes[] = {
        {0, COVER_CLOSED_WELL},
        {-ECONNRESET, COVER_CLOSED_RESET},
        {-EPIPE, COVER_CLOSED_PIPE},
        {-ETIMEDOUT, COVER_CLOSED_TIMED_OUT},
        {-ECANCELED, COVER_CLOSED_CANCELLED},
        {-EINTR, COVER_CLOSED_ABORTED},
        {-ENOMEM, COVER_CLOSED_NO_MEMORY},
    };

    if (why->unsent)
        cover(COVER_CLOSED_UNSENT);
    for (size_t i = 0; i < sizeof causes / sizeof causes[0]; i++) {
        if (causes[i].error == why->error) {
            cover(causes[i].what);
            return;
        }
    }
    cover(COVER_CLOSED_OTHER);
}

static void on_close(struct sluice_stream *stream, const struct sluice_close *why, void *argument)
{
    struct user *user = told(stream, argument);

    sim_trace(user->sim, "%s is closed: error %d side %d unsent %llu", user->name, why->error, why->side,
              (unsigned long long)why->unsent);
    user->is_closed = true;
    user->why = *why;
    cover_cause(why);
    if (why->error == -ETIMEDOUT && !user->sim->torture.operation && user->has_closed && user->taken_ns &&
        user->sim->now_ns - user->taken_ns + 100000 < user->engine->options.linger_ns)
        violated(user, "gives up on a peer that reads");
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

/* What is not told must not be missed by the engine. */
static const struct sluice_stream_events few_events = {
    .on_data = on_data,
    .on_close = on_close,
};

void user_listen_little(struct user *user)
{
    cover(COVER_STORY_SILENT);
    user->events = &few_events;
    user->is_open_at_once = true;
    user->habits[HABIT_IGNORES_FULL] = 1;
    user->habits[HABIT_WAITS_FOR_DRAIN] = 0;
}

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
    cover(COVER_ABORTED_FROM_AFAR);
    sim_trace(user->sim, "%s is aborted by another thread", user->name);
    user->has_been_aborted = true;
    sluice_stream_abort(user->stream, -EINTR);
    if (sluice_stream_write_status(user->stream) != SLUICE_WRITE_CLOSED)
        violated(user, "is writable after an abort");
}

static void post(struct user *user, size_t len)
{
    uint8_t data[CHUNK_MAX];
    int answer;

    write_pattern(user, data, len);
    answer = sluice_stream_post_send(user->stream, data, len);
    sim_trace(user->sim, "%s posts %zu: %d", user->name, len, answer);
    cover(answer ? COVER_POST_REFUSED : COVER_POSTED);
    if (answer)
        return;
    user->accepted += len;
    user->to_send -= len < user->to_send ? len : user->to_send;
    note_message(user, len);
}

static void post_from_afar(struct user *user)
{
    size_t max = user->to_send < CHUNK_MAX ? (size_t)user->to_send : CHUNK_MAX;

    if (max > 0 && user->messages_sent - user->messages_heard < USER_MESSAGES)
        post(user, random_size(&user->sim->random, max));
}

static void post_one_byte(struct user *user)
{
    post(user, 1);
}

/* Statuses only move forward. */
static void look_from_afar(struct user *user)
{
    enum sluice_write_status status = sluice_stream_write_status(user->stream);

    cover(COVER_LOOKED_FROM_AFAR);
    if (status < user->seen_status)
        violated(user, "has a write status that went back");
    user->seen_status = status;
    if ((user->has_been_aborted || user->is_closed) && status != SLUICE_WRITE_CLOSED)
        violated(user, "is writable after its end");
}

void user_other_thread(struct user *user)
{
    if (!user->stream || !user->is_held)
        return;
    if (chance(user, user->habits[HABIT_ABORT_FROM_AFAR]))
        as_another_thread(user, abort_from_afar);
    else if (chance(user, user->habits[HABIT_POSTS]))
        as_another_thread(user, post_from_afar);
    else if (chance(user, user->habits[HABIT_LOOKS]))
        as_another_thread(user, look_from_afar);
}

void user_abort_from_afar(struct user *user)
{
    as_another_thread(user, abort_from_afar);
}

void user_post(struct user *user)
{
    as_another_thread(user, post_one_byte);
}

/* -- Beginning and end --------------------------------------------------------------------------------------- */

static const char *const habit_names[HABIT_COUNT] = {
    [HABIT_PAUSE] = "pause",
    [HABIT_FINISH] = "finish",
    [HABIT_CLOSE] = "close",
    [HABIT_ABORT] = "abort",
    [HABIT_ABORT_FROM_AFAR] = "abort-from-afar",
    [HABIT_KEEP] = "keep",
    [HABIT_LIMITS] = "limits",
    [HABIT_POSTS] = "posts",
    [HABIT_LOOKS] = "looks",
    [HABIT_IGNORES_FULL] = "ignores-full",
    [HABIT_WAITS_FOR_DRAIN] = "waits-for-drain",
};

const char *user_habit_name(enum habit habit)
{
    return habit_names[habit];
}

static void choose_habits(struct user *user)
{
    /* One in so many users has it, and acts on it at most and at least one time in so many. */
    static const uint32_t ranges[HABIT_COUNT][3] = {
        [HABIT_PAUSE] = {2, 5, 55},
        [HABIT_FINISH] = {2, 20, 220},
        [HABIT_CLOSE] = {2, 20, 220},
        [HABIT_ABORT] = {4, 20, 220},
        [HABIT_ABORT_FROM_AFAR] = {6, 20, 420},
        [HABIT_KEEP] = {2, 1, 11},
        [HABIT_LIMITS] = {3, 10, 40},
        [HABIT_POSTS] = {6, 1, 21},
        [HABIT_LOOKS] = {6, 2, 20},
        [HABIT_IGNORES_FULL] = {4, 1, 2},
        [HABIT_WAITS_FOR_DRAIN] = {8, 1, 2},
    };
    struct sim *sim = user->sim;

    for (int i = 0; i < HABIT_COUNT; i++) {
        bool has_it = sim_below(sim, ranges[i][0]) == 0;
        uint32_t odds = ranges[i][1] + (uint32_t)sim_below(sim, ranges[i][2] - ranges[i][1]);

        if (has_it && !(sim->limits.without >> (FAULT_COUNT + i) & 1))
            user->habits[i] = odds;
    }
}

void user_init(struct user *user, struct sim *sim, const char *name, struct sluice_engine *engine)
{
    *user = (struct user){.sim = sim, .name = name, .engine = engine, .action.fire = run_action};
    user->events = &user_events;
    user->pattern = sim_below(sim, 1000000);
    user->to_send = sim_below(sim, 3) ? random_size(&sim->random, 100000) : 0;
    if (sim->limits.bytes && user->to_send > sim->limits.bytes)
        user->to_send = sim->limits.bytes;
    user->to_send = sim->is_scripted ? 0 : user->to_send;
    if (!sim->is_scripted)
        choose_habits(user);
}

void user_start(struct user *user, struct sluice_stream *stream)
{
    user->stream = stream;
    user->has_started = true;
    user->is_poster = user->habits[HABIT_POSTS] > 0;
    if (user->sim->is_scripted || user->habits[HABIT_ABORT_FROM_AFAR] || user->habits[HABIT_POSTS] ||
        user->habits[HABIT_LOOKS]) {
        sluice_stream_hold(stream);
        user->is_held = true;
    }
    if (!user->sim->is_scripted)
        act_soon(user);
}

void user_wind_up(struct user *user)
{
    memset(user->habits, 0, sizeof user->habits);
    user->to_send = 0;
    user->winds_up = true;
    if (user->is_waiting)
        return;
    if (user->is_closed || !user->has_started)
        return;
    if (user->is_paused) {
        user->is_paused = false;
        sluice_stream_resume(user->stream);
    }
    /* What has broken ends by itself. */
    if (sluice_stream_write_status(user->stream) == SLUICE_WRITE_CLOSED && !user->has_finished &&
        sluice_stream_state(user->stream) == SLUICE_OPEN)
        return;
    if (!user->has_closed && !user->has_aborted)
        user_close(user);
}

void user_finish(struct user *user)
{
    if (user->is_held && user->stream)
        sluice_stream_release(user->stream);
    if (user->buffers_out > 0)
        violated(user, "has shared buffers that were not released");
}

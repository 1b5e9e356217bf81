/* The chat service: what one member says goes to all others, from one shared copy. */
#include <errno.h>
#include <stdlib.h>

#include <sluice/buffer.h>
#include <sluice/stream.h>

#include "tools/services.h"

struct chat_member {
    struct chat *chat;
    struct sluice_stream *stream;
    struct chat_member *next;
    struct chat_member **link; /* what points at us */
};

static void join(struct chat *chat, struct chat_member *member)
{
    member->next = chat->members;
    member->link = &chat->members;
    if (member->next != NULL)
        member->next->link = &member->next;
    chat->members = member;
}

static void leave(struct chat_member *member)
{
    *member->link = member->next;
    if (member->next != NULL)
        member->next->link = member->link;
}

/* Who does not read, and has filled its queue, must not make the others' memory its own. */
static void tell(struct chat_member *member, const struct sluice_view *words)
{
    int answer = sluice_stream_send_view(member->stream, words);

    if (answer >= 0 || answer == -EPIPE)
        return;
    member->chat->dropped++;
    sluice_stream_abort(member->stream, answer);
}

/* Aborting a member calls nobody back from here, so the list stays as it is while we walk it. */
static void on_data(struct sluice_stream *stream, const struct sluice_view *view, void *user)
{
    struct chat_member *speaker = user;
    struct sluice_view words;
    int error = sluice_view_keep(stream, view, &words);

    if (error < 0) {
        sluice_stream_abort(stream, error);
        return;
    }
    for (struct chat_member *member = speaker->chat->members; member != NULL; member = member->next) {
        if (member != speaker)
            tell(member, &words);
    }
    sluice_buffer_drop(words.buffer);
}

static void on_end(struct sluice_stream *stream, void *user)
{
    (void)user;
    sluice_stream_finish(stream);
}

static void on_close(struct sluice_stream *stream, const struct sluice_close *why, void *user)
{
    (void)stream;
    (void)why;
    leave(user);
    free(user);
}

static const struct sluice_stream_events chat_events = {
    .on_data = on_data,
    .on_end = on_end,
    .on_close = on_close,
};

static void on_accept(struct sluice_listener *listener, struct sluice_stream *stream, void *user)
{
    struct chat_member *member = malloc(sizeof *member);

    (void)listener;
    if (member == NULL) {
        sluice_stream_abort(stream, -ENOMEM);
        return;
    }
    *member = (struct chat_member){.chat = user, .stream = stream};
    join(member->chat, member);
    sluice_stream_set_events(stream, &chat_events, member);
}

const struct sluice_listener_events chat_service = {
    .on_accept = on_accept,
};

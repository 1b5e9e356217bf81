/* The layer that docs/writing-a-layer.md shows: that it works, and that the document shows the one that works. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/rot13_layer.h"
#include "tests/support/stacks.h"

/* The whole file, with a NUL behind it. Free it. */
static char *read_text(const char *path)
{
    FILE *file = fopen(path, "r");
    char *text;
    long len;

    cr_assert(file, "%s", path);
    cr_assert_eq(fseek(file, 0, SEEK_END), 0);
    len = ftell(file);
    cr_assert_gt(len, 0);
    rewind(file);
    text = calloc(1, (size_t)len + 1);
    cr_assert(text);
    cr_assert_eq(fread(text, 1, (size_t)len, file), (size_t)len);
    fclose(file);
    return text;
}

Test(writing_a_layer, the_document_shows_the_file)
{
    char *document = read_text(SOURCE_ROOT "/docs/writing-a-layer.md");
    char *code = read_text(SOURCE_ROOT "/tests/support/rot13_layer.c");
    char *shown = strstr(document, "```c\n");
    char *end;

    cr_assert(shown, "there is a block of code");
    shown += strlen("```c\n");
    end = strstr(shown, "```\n");
    cr_assert(end, "it ends");
    *end = '\0';
    cr_assert(strcmp(shown, code) == 0, "copy tests/support/rot13_layer.c into docs/writing-a-layer.md");
    cr_assert_null(strstr(end + 1, "```c\n"), "there is one");
    free(document);
    free(code);
}

static void open_pair(struct world *world, struct record *left, struct record *right)
{
    world_open(world, NULL);
    world_pair(world, left, right, 100);
}

static void close_both(struct world *world, struct record *left, struct record *right)
{
    right->when_end = close_when_end;
    sluice_stream_close(left->stream);
    world_until_closed(world, left, right);
    assert_closed(left, 0, 0);
    assert_closed(right, 0, 0);
    record_finish(left);
    record_finish(right);
    world_close_empty(world);
}

Test(writing_a_layer, what_goes_through_one_is_turned, .timeout = 10)
{
    struct world world;
    struct record left;
    struct record right;

    open_pair(&world, &left, &right);
    cr_assert_eq(rot13_stream(left.stream, &record_events, &left, &left.stream), 0);
    cr_assert_str_eq(sluice_stream_kind(left.stream), "rot13");
    send_now(&left, "Hello, Sluice!", 14);
    send_now(&right, "Uryyb, AZ az @[`{ 09", 20);
    world_settle(&world);
    cr_assert(has_heard(&right, "Uryyb, Fyhvpr!", 14));
    cr_assert(has_heard(&left, "Hello, NM nm @[`{ 09", 20));
    close_both(&world, &left, &right);
}

Test(writing_a_layer, what_goes_through_two_is_as_it_was, .timeout = 10)
{
    enum {
        LEN = 1000 * 1000
    };
    uint8_t *data = pattern(LEN, 13);
    struct world world;
    struct record left;
    struct record right;

    open_pair(&world, &left, &right);
    cr_assert_eq(rot13_stream(left.stream, &record_events, &left, &left.stream), 0);
    cr_assert_eq(rot13_stream(right.stream, &record_events, &right, &right.stream), 0);
    send_all(&left, data, LEN, 30000);
    world_turns_until(&world, right.len == LEN, MANY_TURNS);
    cr_assert(has_heard(&right, data, LEN));
    close_both(&world, &left, &right);
    free(data);
}

Test(writing_a_layer, it_refuses_to_stand_on_what_is_ending, .timeout = 10)
{
    struct world world;
    struct record left;
    struct record right;
    struct sluice_stream *layer = NULL;

    open_pair(&world, &left, &right);
    sluice_stream_finish(left.stream);
    cr_assert_eq(rot13_stream(left.stream, &record_events, &left, &layer), -EPIPE);
    cr_assert_null(layer);
    close_both(&world, &left, &right);
}

static void accept_right(struct sluice_listener *listener, struct sluice_stream *stream, void *user)
{
    struct record *right = user;

    right->stream = stream;
    sluice_stream_set_events(stream, &record_events, right);
    sluice_listener_close(listener);
}

/* As the document uses one. */
Test(writing_a_layer, it_may_stand_on_a_connection_that_is_being_made, .timeout = 20)
{
    static const struct sluice_listener_events listening = {.on_accept = accept_right};
    char address[SLUICE_ADDRESS_MAX];
    struct sluice_listener *listener;
    struct sluice_stream *below;
    struct world world;
    struct record left;
    struct record right;

    world_open(&world, NULL);
    record_init(&left, &world);
    record_init(&right, &world);
    cr_assert_eq(sluice_listen(world.engine, "127.0.0.1:0", NULL, &listening, &right, &listener), 0);
    cr_assert_eq(sluice_listener_address(listener, address, sizeof address), 0);
    cr_assert_eq(sluice_connect(world.engine, address, NULL, NULL, &below), 0);
    cr_assert_eq(rot13_stream(below, &record_events, &left, &left.stream), 0);
    cr_assert_eq(sluice_stream_send(left.stream, "uryyb", 5), SLUICE_ROOM);
    world_turns_until(&world, right.len == 5, MANY_TURNS);
    cr_assert(has_heard(&right, "hello", 5));
    cr_assert_eq(left.opens, 1);
    close_both(&world, &left, &right);
}

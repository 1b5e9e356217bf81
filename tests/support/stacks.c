/* Stacks of streams: see stacks.h. */
#include "tests/support/stacks.h"

#include <errno.h>
#include <stdio.h>

#include "tests/support/glass_layer.h"
#include "tests/support/random.h"
#include "tests/support/rot13_layer.h"
#include "tests/support/shuffle_layer.h"

static const struct stack stacks[] = {
    {.name = "a pair", .layers = ""},
    {.name = "glass over a pair", .layers = "g"},
    {.name = "frame over a pair", .layers = "f"},
    {.name = "shuffle over a pair", .layers = "s"},
    {.name = "rot13 over shuffle", .layers = "sr"},
    {.name = "frame over shuffle", .layers = "sf"},
    {.name = "shuffle over frame", .layers = "fs"},
    {.name = "frame over shuffle over frame", .layers = "fsf"},
};

static int put_layer(char layer, struct record *record, uint64_t *seed, struct sluice_stream **stream)
{
    static const struct sluice_frame_options long_messages = {.length = SLUICE_FRAME_U32_BE};

    switch (layer) {
    case 'f':
        return sluice_frame_stream(record->stream, &long_messages, &record_events, record, stream);
    case 'g':
        return glass_stream(record->stream, &record_events, record, stream);
    case 'r':
        return rot13_stream(record->stream, &record_events, record, stream);
    case 's':
        return shuffle_stream(record->stream, random_next(seed), &record_events, record, stream);
    default:
        return -EINVAL;
    }
}

void put_layers(const char *layers, struct record *record, uint64_t *seed)
{
    for (; *layers; layers++)
        cr_assert_eq(put_layer(*layers, record, seed, &record->stream), 0);
}

void stack_open_narrow(const struct stack *stack, struct world *world, struct record *left, struct record *right,
                       size_t capacity)
{
    uint64_t seed = stack->seed;
    unsigned expected = *stack->layers ? 1 : 0;

    world_pair(world, left, right, capacity);
    put_layers(stack->layers, left, &seed);
    put_layers(stack->layers, right, &seed);
    world_turns_until(world, left->opens == expected && right->opens == expected, MANY_TURNS);
    memset(left->told, 0, sizeof left->told);
    memset(right->told, 0, sizeof right->told);
}

void stack_open(const struct stack *stack, struct world *world, struct record *left, struct record *right)
{
    stack_open_narrow(stack, world, left, right, 0);
}

void tell_on_each_stack(void (*story)(const struct stack *stack))
{
    uint64_t seed = random_seed();

    for (size_t i = 0; i < sizeof stacks / sizeof *stacks; i++) {
        struct stack stack = stacks[i];

        stack.seed = seed + i;
        fprintf(stderr, "on %s\n", stack.name);
        story(&stack);
    }
}

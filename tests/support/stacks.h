/*
 * Stacks of streams to tell the same story on: a pair in memory, with the same layers on both of its ends.
 *
 * A story is written once and told on every stack:
 *
 *     STORY(echo, comes_back)
 *     {
 *         struct world world; ...
 *         stack_open(stack, &world, &left, &right);
 */
#ifndef SUPPORT_STACKS_H
#define SUPPORT_STACKS_H

#include "tests/support/world.h"

struct stack {
    const char *name;
    const char *layers; /* from the bottom up: f(rame), g(lass), r(ot13), s(huffle) */
    uint64_t seed;      /* of its shuffling; another one for each telling */
};

/* Makes a pair in `world`, both of whose ends carry the stack's layers, and waits until the uppermost are open. */
void stack_open(const struct stack *stack, struct world *world, struct record *left, struct record *right);
/* The same, with so many bytes between the ends. */
void stack_open_narrow(const struct stack *stack, struct world *world, struct record *left, struct record *right,
                       size_t capacity);

/* Puts layers on the stream of the record, which hears the uppermost. */
void put_layers(const char *layers, struct record *record, uint64_t *seed);

/* Tells the story on every stack, and prints on which. */
void tell_on_each_stack(void (*story)(const struct stack *stack));

#define STORY(suite, name)                                                                                             \
    static void suite##_##name##_story(const struct stack *stack);                                                     \
    Test(suite, name, .timeout = 60)                                                                                   \
    {                                                                                                                  \
        tell_on_each_stack(suite##_##name##_story);                                                                    \
    }                                                                                                                  \
    static void suite##_##name##_story(const struct stack *stack)

#endif

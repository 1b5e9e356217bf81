/* Operations and their identities: see operation.h. */
#include "engine/operation.h"

#include <stdlib.h>

enum {
    SLOTS_MAX = 1 << 29, /* what an operation's `slot` can number */
    NO_SLOT = SLOTS_MAX,
    FIRST_CAPACITY = 64,
};

void operations_init(struct operations *operations)
{
    *operations = (struct operations){.first_free = NO_SLOT};
}

void operations_finish(struct operations *operations)
{
    for (uint32_t i = 0; i < operations->count; i++)
        assert(!operations_at(operations, i));
    free(operations->slots);
    operations_init(operations);
}

static void free_slot(struct operations *operations, uint32_t slot)
{
    operations->slots[slot].next_free = (uintptr_t)operations->first_free << 1 | 1;
    operations->first_free = slot;
}

static int add_slot(struct operations *operations)
{
    if (operations->count == operations->capacity) {
        uint32_t capacity = operations->capacity ? 2 * operations->capacity : FIRST_CAPACITY;
        union operation_slot *slots =
            capacity > SLOTS_MAX ? NULL : reallocarray(operations->slots, capacity, sizeof *slots);

        if (!slots)
            return -ENOMEM;
        operations->slots = slots;
        operations->capacity = capacity;
    }
    free_slot(operations, operations->count++);
    return 0;
}

int operation_init(struct operation *operation, struct operations *operations,
                   void (*complete)(struct operation *, const struct io_uring_cqe *))
{
    union operation_slot *slot;

    if (operations->first_free == NO_SLOT) {
        int error = add_slot(operations);

        if (error)
            return error;
    }
    *operation = (struct operation){.complete = complete, .slot = operations->first_free & (SLOTS_MAX - 1)};
    slot = &operations->slots[operation->slot];
    assert(!operations_at(operations, operation->slot));
    operations->first_free = (uint32_t)(slot->next_free >> 1);
    slot->operation = operation;
    return 0;
}

void operation_finish(struct operation *operation, struct operations *operations)
{
    assert(!operation->is_armed);
    assert(operations_at(operations, operation->slot) == operation);
    free_slot(operations, operation->slot);
}

void operations_cancel_all(struct operations *operations)
{
    for (uint32_t i = 0; i < operations->count; i++) {
        struct operation *operation = operations_at(operations, i);

        if (operation && operation->is_armed) {
            struct io_uring_cqe completion = {.res = -ECANCELED};

            completion.user_data = operation_identity(operation);
            operations_dispatch(operations, &completion);
        }
    }
}

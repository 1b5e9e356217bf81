/* Operations and their identities: see operation.h. */
#include "engine/operation.h"

#include <stdlib.h>

enum {
    NO_SLOT = -1,
    FIRST_CAPACITY = 64,
};

void operations_init(struct operations *operations)
{
    *operations = (struct operations){.first_free = (uint32_t)NO_SLOT};
}

void operations_finish(struct operations *operations)
{
    for (uint32_t i = 0; i < operations->count; i++)
        assert(operations->slots[i].operation == NULL);
    free(operations->slots);
    operations_init(operations);
}

static int add_slot(struct operations *operations)
{
    if (operations->count == operations->capacity) {
        uint32_t capacity = operations->capacity ? 2 * operations->capacity : FIRST_CAPACITY;
        struct operation_slot *slots = reallocarray(operations->slots, capacity, sizeof *slots);

        if (!slots)
            return -ENOMEM;
        operations->slots = slots;
        operations->capacity = capacity;
    }
    operations->slots[operations->count] = (struct operation_slot){.next_free = operations->first_free};
    operations->first_free = operations->count++;
    return 0;
}

int operation_init(struct operation *operation, struct operations *operations,
                   void (*complete)(struct operation *, const struct io_uring_cqe *))
{
    struct operation_slot *slot;

    if (operations->first_free == (uint32_t)NO_SLOT) {
        int error = add_slot(operations);

        if (error)
            return error;
    }
    *operation = (struct operation){.complete = complete, .slot = operations->first_free};
    slot = &operations->slots[operation->slot];
    assert(!slot->operation);
    operations->first_free = slot->next_free;
    slot->operation = operation;
    return 0;
}

void operation_finish(struct operation *operation, struct operations *operations)
{
    struct operation_slot *slot = &operations->slots[operation->slot];

    assert(!operation->is_armed);
    assert(slot->operation == operation);
    slot->operation = NULL;
    slot->next_free = operations->first_free;
    operations->first_free = operation->slot;
}

void operations_cancel_all(struct operations *operations)
{
    for (uint32_t i = 0; i < operations->count; i++) {
        struct operation *operation = operations->slots[i].operation;

        if (operation && operation->is_armed) {
            struct io_uring_cqe completion = {.res = -ECANCELED};

            completion.user_data = operation_identity(operation, operations);
            operations_dispatch(operations, &completion);
        }
    }
}

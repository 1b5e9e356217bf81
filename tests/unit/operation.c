/* Operations and their identities: a completion finds the arming that it belongs to, or nothing. */
#include "engine/operation.h"

#include <criterion/criterion.h>

#include "engine/list.h"
#include "tests/support/random.h"

enum {
    MANY = 1000,
    STEPS = 20000,
};

struct request {
    struct operation operation;
    unsigned completions;
    int32_t result;
    struct operations *arm_again_in; /* NULL: it does not */
    uint64_t identity;               /* of the present arming */
};

static void arm(struct request *request, struct operations *operations)
{
    struct io_uring_sqe entry = {0};

    operation_arm(&request->operation, operations, &entry);
    cr_assert_eq(entry.user_data, operation_identity(&request->operation));
    request->identity = entry.user_data;
}

static void complete_request(struct operation *operation, const struct io_uring_cqe *completion)
{
    struct request *request = container_of(operation, struct request, operation);

    request->completions++;
    request->result = completion->res;
    if (request->arm_again_in)
        arm(request, request->arm_again_in);
}

static bool complete(struct operations *operations, uint64_t identity, int32_t result, uint32_t flags)
{
    struct io_uring_cqe completion = {.user_data = identity, .res = result, .flags = flags};

    return operations_dispatch(operations, &completion);
}

static void init(struct request *request, struct operations *operations)
{
    *request = (struct request){.completions = 0};
    cr_assert_eq(operation_init(&request->operation, operations, complete_request), 0);
}

Test(operations, complete_once)
{
    struct operations operations;
    struct request request;

    operations_init(&operations);
    init(&request, &operations);
    arm(&request, &operations);
    cr_assert(request.operation.is_armed);
    cr_assert(complete(&operations, request.identity, 42, 0));
    cr_assert_eq(request.result, 42);
    cr_assert_not(request.operation.is_armed);
    cr_assert_not(complete(&operations, request.identity, 43, 0));
    cr_assert_eq(request.completions, 1);
    operation_finish(&request.operation, &operations);
    operations_finish(&operations);
}

Test(operations, stay_armed_while_more_is_to_come)
{
    struct operations operations;
    struct request request;

    operations_init(&operations);
    init(&request, &operations);
    arm(&request, &operations);
    for (int i = 0; i < 10; i++) {
        cr_assert(complete(&operations, request.identity, i, IORING_CQE_F_MORE));
        cr_assert(request.operation.is_armed);
    }
    cr_assert(complete(&operations, request.identity, 0, 0));
    cr_assert_not(request.operation.is_armed);
    cr_assert_eq(request.completions, 11);
    operation_finish(&request.operation, &operations);
    operations_finish(&operations);
}

Test(operations, do_not_hear_completions_of_an_earlier_arming)
{
    struct operations operations;
    struct request request;
    uint64_t earlier;

    operations_init(&operations);
    init(&request, &operations);
    arm(&request, &operations);
    earlier = request.identity;
    complete(&operations, earlier, 0, 0);
    arm(&request, &operations);
    cr_assert_neq(request.identity, earlier);
    cr_assert_not(complete(&operations, earlier, -1, 0));
    cr_assert(request.operation.is_armed);
    cr_assert(complete(&operations, request.identity, 1, 0));
    cr_assert_eq(request.result, 1);
    operation_finish(&request.operation, &operations);
    operations_finish(&operations);
}

Test(operations, do_not_hear_completions_of_an_earlier_owner_of_their_slot)
{
    struct operations operations;
    struct request first;
    struct request second;

    operations_init(&operations);
    init(&first, &operations);
    arm(&first, &operations);
    complete(&operations, first.identity, 0, 0);
    operation_finish(&first.operation, &operations);
    cr_assert_not(complete(&operations, first.identity, 0, 0));

    init(&second, &operations);
    cr_assert_eq(second.operation.slot, first.operation.slot);
    cr_assert_not(complete(&operations, first.identity, 0, 0));
    arm(&second, &operations);
    cr_assert_not(complete(&operations, first.identity, 0, 0));
    cr_assert_eq(second.completions, 0);
    complete(&operations, second.identity, 0, 0);
    operation_finish(&second.operation, &operations);
    operations_finish(&operations);
}

Test(operations, ignore_identities_that_never_were)
{
    static const uint64_t never[] = {1, UINT32_MAX, UINT64_C(1) << 32, UINT64_C(7) << 32 | 3, UINT64_MAX};
    struct operations operations;
    struct request request;

    operations_init(&operations);
    init(&request, &operations);
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        cr_assert_not(complete(&operations, never[i], 0, 0));
    cr_assert_eq(request.completions, 0);
    operation_finish(&request.operation, &operations);
    operations_finish(&operations);
}

Test(operations, are_never_called_what_the_ring_calls_its_own)
{
    struct operations operations;
    struct request request;

    operations_init(&operations);
    init(&request, &operations);
    /* Also where the generations begin anew. */
    operations.generation = INT32_MAX - 3;
    for (int i = 0; i < 10; i++) {
        uint64_t before = request.identity;

        arm(&request, &operations);
        cr_assert_eq(request.identity & RING_CANCEL, 0);
        cr_assert_neq(request.identity, before);
        complete(&operations, request.identity, 0, 0);
    }
    operation_finish(&request.operation, &operations);
    operations_finish(&operations);
}

Test(operations, may_be_armed_again_as_they_complete)
{
    struct operations operations;
    struct request request;

    operations_init(&operations);
    init(&request, &operations);
    request.arm_again_in = &operations;
    arm(&request, &operations);
    for (unsigned i = 1; i <= 5; i++) {
        cr_assert(complete(&operations, request.identity, 0, 0));
        cr_assert(request.operation.is_armed);
        cr_assert_eq(request.completions, i);
    }
    request.arm_again_in = NULL;
    complete(&operations, request.identity, 0, 0);
    operation_finish(&request.operation, &operations);
    operations_finish(&operations);
}

Test(operations, are_all_cancelled_when_the_ring_is_gone)
{
    struct operations operations;
    struct request requests[MANY];

    operations_init(&operations);
    for (int i = 0; i < MANY; i++) {
        init(&requests[i], &operations);
        if (i % 3 > 0)
            arm(&requests[i], &operations);
    }
    operations_cancel_all(&operations);
    for (int i = 0; i < MANY; i++) {
        cr_assert_eq(requests[i].completions, i % 3 > 0 ? 1 : 0);
        cr_assert(i % 3 == 0 || requests[i].result == -ECANCELED);
        cr_assert_not(requests[i].operation.is_armed);
        operation_finish(&requests[i].operation, &operations);
    }
    operations_finish(&operations);
}

/* Slots come and go; completions of all ages arrive; only those of the present arming are heard. */
Test(operations, at_random_hear_exactly_what_is_theirs, .timeout = 60)
{
    static uint64_t past[STEPS];
    static struct request requests[64];
    static bool is_there[64];
    uint64_t random = random_seed();
    size_t past_count = 0;
    struct operations operations;

    operations_init(&operations);
    for (int step = 0; step < STEPS; step++) {
        size_t index = random_below(&random, 64);
        struct request *request = &requests[index];
        bool is_armed = is_there[index] && request->operation.is_armed;

        switch (random_below(&random, 3)) {
        case 0:
            if (!is_there[index])
                init(request, &operations);
            else if (!is_armed)
                operation_finish(&request->operation, &operations);
            is_there[index] = is_there[index] ? is_armed : true;
            break;
        case 1:
            if (is_armed) {
                cr_assert(complete(&operations, request->identity, 0, 0));
                past[past_count++] = request->identity;
            } else if (is_there[index]) {
                arm(request, &operations);
            }
            break;
        default:
            if (past_count > 0)
                cr_assert_not(complete(&operations, past[random_below(&random, past_count)], 0, 0));
        }
    }
    operations_cancel_all(&operations);
    for (size_t i = 0; i < 64; i++)
        if (is_there[i])
            operation_finish(&requests[i].operation, &operations);
    operations_finish(&operations);
}

/* Quiet sends: see quiet.h. */
#include "engine/quiet.h"

void quiet_settle(struct quiet_sends *quiet, struct operations *operations)
{
    uint32_t count = quiet->count;

    quiet->are_awaited = false;
    quiet->hold_leases = false;
    for (uint32_t i = 0; i < count; i++) {
        struct io_uring_cqe completion = {.user_data = quiet->sends[i].identity, .res = (int32_t)quiet->sends[i].len};

        operations_dispatch(operations, &completion); /* finds none that was answered */
    }
    assert(quiet->count == count); /* completions submit no sends */
    quiet->count = 0;
}

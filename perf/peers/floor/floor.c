/*
 * The floor: raw liburing by hand, in every role, with every kernel feature that pays for streams on loopback. It is
 * what Sluice is measured against: nothing here is general, and nothing is done that no role needs.
 *
 * One ring (single issuer, deferred task work, registered descriptor), direct descriptors, multishot accept and receive
 * into one ring of shared buffers, and one system call a turn. What a turn received for a connection goes out in one
 * send from the buffers it arrived in, which is tried inside the submitting call and is not answered if it takes
 * everything ("quiet"). Where it does not, the rest waits in the kernel for room and then goes as far as there is any
 * (to have the kernel wait until all is taken moves it in small pieces: a third of the rate of a stream). Its source is
 * not read beyond a limit (and beyond what a multishot receive still brings until it is cancelled).
 *
 * In role messages that is a trick which no rival may use, as answers that differ from the questions cannot: no call
 * and no copy is made for a message. Whole messages that lie side by side go back as they lie.
 *
 * What it leaves out: whatever a library is for. No callbacks, timers or statistics, no other thread, no other way if
 * the kernel lacks one, no limit of all memory; what it cannot have or handle (no descriptors left), it dies of. It
 * forwards a reset as an end. Nor does it splice, which the ring does on helper threads, or send without a copy, which
 * loopback makes anyway.
 */
#include "perf/peers/floor/buffers.h"
#include "perf/peers/floor/connection.h"
#include "perf/peers/floor/input.h"
#include "perf/peers/floor/listener.h"
#include "perf/peers/floor/output.h"
#include "perf/peers/floor/request.h"

#include <errno.h>
#include <sys/resource.h>

enum {
    RING_ENTRIES = 256,
    COMPLETION_ENTRIES = 4096,
    REAP_MAX = 128,
};

struct peer_options options;
struct server server;

/* -- The turn ------------------------------------------------------------------------------------------------ */

static void take(const struct io_uring_cqe *completion)
{
    unsigned slot = (unsigned)completion->user_data;

    switch ((enum kind)(completion->user_data >> 32)) {
    case KIND_ACCEPT:
        take_accept(completion);
        break;
    case KIND_RECEIVE:
        take_receive(slot, completion);
        break;
    case KIND_QUIET:
        take_quiet(slot, completion->res);
        break;
    case KIND_SPREAD:
        take_spread(slot, completion->res);
        break;
    case KIND_WAITING:
        if (options.role == PEER_SOURCE)
            source_sent(slot, completion->res);
        else
            take_waiting(slot, completion->res);
        break;
    case KIND_SOURCE:
        source_sent(slot, completion->res);
        break;
    case KIND_CONNECT:
        take_connect(slot, completion->res);
        break;
    case KIND_SHUTDOWN:
        take_shutdown(slot);
        break;
    case KIND_IGNORED: /* a cancellation: what was cancelled says how it went */
        break;
    }
}

static void reap(void)
{
    struct io_uring_cqe *completions[REAP_MAX];
    unsigned count;

    while (io_uring_cq_ready(&server.ring) > 0) {
        count = io_uring_peek_batch_cqe(&server.ring, completions, REAP_MAX);
        for (unsigned i = 0; i < count; i++)
            take(completions[i]);
        io_uring_cq_advance(&server.ring, count);
    }
}

static bool kernel_says(unsigned flags)
{
    return IO_URING_READ_ONCE(*server.ring.sq.kflags) & flags;
}

/* Submits, and waits for a completion unless there is work left; by watching memory if it never sleeps. */
static void enter(void)
{
    bool submits = io_uring_sq_ready(&server.ring) > 0;
    int result = 0;

    io_uring_buf_ring_advance(server.buffers, (int)server.returned);
    server.returned = 0;
    if (!options.busy_polls && !server.is_hurried)
        result = io_uring_submit_and_wait(&server.ring, 1);
    else if (submits || server.is_hurried || kernel_says(IORING_SQ_TASKRUN))
        result = io_uring_submit_and_get_events(&server.ring);
    server.is_hurried = false;
    if (result < 0 && result != -EINTR)
        peer_die("the ring", result);
    if (io_uring_sq_ready(&server.ring) > 0)
        submit_requests();
}

/* All that quiet sends have to say is heard before the next are made: a connection's bytes stay in order. */
static void turn(void)
{
    enter();
    reap();
    if (kernel_says(IORING_SQ_TASKRUN) && !options.busy_polls) /* a wait for one returns with few */
        io_uring_get_events(&server.ring);
    reap();
    while (kernel_says(IORING_SQ_CQ_OVERFLOW)) {
        io_uring_get_events(&server.ring);
        reap();
    }
    output_settle();
    output_flush();
    feed_starved();
}

/* -- The program --------------------------------------------------------------------------------------------- */

/* As many slots as we may have descriptors; when forwarding, the upper half of them is not for who is accepted. */
static void set_up_slots(void)
{
    struct rlimit limit = {.rlim_cur = SLOT_COUNT};
    unsigned count = SLOT_COUNT;
    int error;

    getrlimit(RLIMIT_NOFILE, &limit);
    if (options.role != PEER_FORWARD && limit.rlim_cur < count)
        count = (unsigned)limit.rlim_cur;
    while (count > limit.rlim_cur)
        count /= 2; /* stays a power of two: half of it is a bit */
    error = io_uring_register_files_sparse(&server.ring, count);
    if (!error && options.role == PEER_FORWARD) {
        server.upstream = count / 2;
        error = io_uring_register_file_alloc_range(&server.ring, 0, server.upstream);
    }
    if (error)
        peer_die("direct descriptors", error);
}

static void set_up_ring(void)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
                 IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
        .cq_entries = COMPLETION_ENTRIES,
    };
    int error = io_uring_queue_init_params(RING_ENTRIES, &server.ring, &params);

    if (error)
        peer_die("ring", error);
    io_uring_register_ring_fd(&server.ring);
}

int main(int argc, char **argv)
{
    peer_read_arguments(argc, argv, &options);
    set_up_ring();
    set_up_slots();
    buffers_set_up();
    source_fill();
    server.listener = peer_listen(&options);
    peer_set_nodelay(&options, server.listener);
    arm_accept();
    peer_announce(&options);
    for (;;)
        turn();
}

/*
 * Trials of what a fresh ring can do, each made for real, on sockets of their own. (Why a ring is refused: refusal.c.)
 */
#include "uring/probe.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/un.h>
#include <unistd.h>

#include "uring/ring.h"

enum {
    TRIAL_ENTRIES = 8,
    TRIAL_GROUP = 0,
    TRIAL_BUFFERS = 8, /* more than all trials together take */
    TRIAL_BUFFER_SIZE = 16,
    ANSWERS_MAX = 8,         /* no trial hears more of one request */
    SIGNALS_MAX = 8,         /* that may disturb us while we wait */
    PATIENCE_NS = 100000000, /* a trial takes microseconds; longer means that it failed */
};

static const uint8_t opcodes_required[] = {
    IORING_OP_POLL_ADD, IORING_OP_ACCEPT, IORING_OP_CONNECT, IORING_OP_SEND,         IORING_OP_SENDMSG,
    IORING_OP_RECV,     IORING_OP_READ,   IORING_OP_WRITEV,  IORING_OP_ASYNC_CANCEL,
};

/* Shared with the kernel, so it begins a page. */
struct trial_memory {
    struct io_uring_buf ring[TRIAL_BUFFERS];
    uint8_t data[TRIAL_BUFFERS][TRIAL_BUFFER_SIZE];
};

struct trial {
    struct io_uring *uring;
    struct trial_memory *memory;
    int sockets[2];
    bool is_busy; /* True exactly while a request may have completions to come. */
};

/* -- One request at a time ----------------------------------------------------------------------------------- */

static struct io_uring_sqe *begin_request(struct trial *trial)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(trial->uring);

    assert(!trial->is_busy);
    if (!sqe)
        abort(); /* the ring is fresh: there is room */
    memset(sqe, 0, sizeof *sqe);
    trial->is_busy = true;
    return sqe;
}

/* Submits and waits for a completion. False if none came in time. */
static bool wait_for_completion(struct io_uring *uring, struct io_uring_cqe **cqe)
{
    struct __kernel_timespec patience = {.tv_nsec = PATIENCE_NS};
    int result = 0;

    *cqe = NULL;
    for (int i = 0; i < SIGNALS_MAX && !*cqe && result != -ETIME; i++)
        result = io_uring_submit_and_wait_timeout(uring, cqe, 1, &patience, NULL);
    return *cqe;
}

static bool get_answer(struct trial *trial, struct io_uring_cqe *answer)
{
    struct io_uring_cqe *cqe;

    if (!wait_for_completion(trial->uring, &cqe))
        return false;
    memcpy(answer, cqe, sizeof *answer);
    io_uring_cqe_seen(trial->uring, cqe);
    trial->is_busy = answer->flags & IORING_CQE_F_MORE;
    return true;
}

/* Cancels the request if it goes on, and hears the rest of it. */
static int end_request(struct trial *trial)
{
    struct io_uring_sync_cancel_reg everything = {
        .flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL,
        .timeout = {.tv_nsec = PATIENCE_NS},
    };
    struct io_uring_cqe ignored;

    if (trial->is_busy && io_uring_register_sync_cancel(trial->uring, &everything) == -EINVAL)
        return -EOPNOTSUPP; /* Linux 6.0 */
    for (int i = 0; i < ANSWERS_MAX && trial->is_busy; i++)
        get_answer(trial, &ignored);
    return trial->is_busy ? -EOPNOTSUPP : 0; /* such a kernel is of no use */
}

/* -- The trials ---------------------------------------------------------------------------------------------- */

static int check_opcodes(struct io_uring *uring)
{
    union {
        struct io_uring_probe probe;
        uint8_t room[sizeof(struct io_uring_probe) + UINT8_MAX * sizeof(struct io_uring_probe_op)];
    } answer;
    int result;

    memset(&answer, 0, sizeof answer);
    result = io_uring_register_probe(uring, &answer.probe, UINT8_MAX);
    if (result < 0)
        return result;
    for (size_t i = 0; i < sizeof opcodes_required; i++)
        if (!io_uring_opcode_supported(&answer.probe, opcodes_required[i]))
            return -EOPNOTSUPP;
    return 0;
}

/* A TCP connection to ourselves. False if it cannot be had. */
static bool connect_over_loopback(int sockets[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    sockets[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockets[0] = -1;
    if (bind(listener, (struct sockaddr *)&address, len) == 0 && listen(listener, 1) == 0 &&
        getsockname(listener, (struct sockaddr *)&address, &len) == 0 &&
        connect(sockets[1], (struct sockaddr *)&address, len) == 0)
        // cppcheck-suppress nullPointer
        sockets[0] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    close(listener);
    if (sockets[0] < 0)
        close(sockets[1]);
    return sockets[0] >= 0;
}

/*
 * A multishot receive that is woken for bytes and a reset at once may take the bytes, and wait for ever: the reset was
 * an event of the past. Kernels learnt to look twice (6.18 does). Only with DEFER_TASKRUN the receive surely does not
 * look between the two, and the trial tells. True if it takes the byte that is on its way and hears the reset with it.
 */
static bool hears_reset(struct trial *trial)
{
    struct io_uring_cqe answer;

    if (!get_answer(trial, &answer) || answer.res != 1 || !(answer.flags & IORING_CQE_F_BUFFER) ||
        !(answer.flags & IORING_CQE_F_MORE))
        return false;
    /* What would be wrong comes never, so there is no use in waiting. */
    return io_uring_cq_ready(trial->uring) > 0 && get_answer(trial, &answer) && answer.res == -ECONNRESET;
}

static bool try_multishot_receive(struct trial *trial)
{
    const struct linger reset = {.l_onoff = 1};
    int sockets[2];
    bool is_started;
    bool hears_all;

    if (!connect_over_loopback(sockets))
        return false;
    ring_prep_receive(begin_request(trial), sockets[0], TRIAL_GROUP, true);
    is_started = io_uring_submit(trial->uring) == 1 && send(sockets[1], "x", 1, MSG_NOSIGNAL) == 1;
    setsockopt(sockets[1], SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(sockets[1]);
    hears_all = is_started && hears_reset(trial);
    close(sockets[0]);
    return hears_all;
}

/* On these sockets it cannot succeed, but a kernel that knows the request and its flag says so in another way. */
static bool try_zero_copy(struct trial *trial)
{
    struct io_uring_cqe answer;

    ring_prep_send(begin_request(trial), trial->sockets[0], "x", 1, RING_SEND_ZERO_COPY);
    return get_answer(trial, &answer) && answer.res != -EINVAL;
}

/* A send that is taken has no answer, and one that is refused has. */
static bool try_quiet_send(struct trial *trial)
{
    const uint32_t flags = RING_SEND_INLINE | RING_SEND_QUIET;
    struct io_uring_cqe answer;

    ring_prep_send(begin_request(trial), trial->sockets[0], "x", 1, flags);
    if (io_uring_submit(trial->uring) != 1 || io_uring_cq_ready(trial->uring) > 0)
        return false;
    trial->is_busy = false;
    shutdown(trial->sockets[0], SHUT_WR);
    ring_prep_send(begin_request(trial), trial->sockets[0], "x", 1, flags);
    return get_answer(trial, &answer) && answer.res == -EPIPE;
}

static bool connect_to(int client, int listener)
{
    struct ring_address address = {.len = sizeof address.storage};

    return getsockname(listener, &address.any, &address.len) == 0 && connect(client, &address.any, address.len) == 0;
}

static bool accept_again_and_again(struct trial *trial, int listener, int client)
{
    struct io_uring_cqe answer;

    if (!connect_to(client, listener))
        return false;
    ring_prep_accept(begin_request(trial), listener, true);
    if (!get_answer(trial, &answer) || answer.res < 0)
        return false;
    close(answer.res);
    return answer.flags & IORING_CQE_F_MORE;
}

/* A Unix socket that is bound to no name gets an abstract one from the kernel. */
static bool try_multishot_accept(struct trial *trial)
{
    const struct sockaddr unnamed = {.sa_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is_offered = false;

    if (listener >= 0 && client >= 0 && bind(listener, &unnamed, sizeof unnamed.sa_family) == 0 &&
        listen(listener, 1) == 0)
        is_offered = accept_again_and_again(trial, listener, client);
    if (client >= 0)
        close(client);
    if (listener >= 0)
        close(listener);
    return is_offered;
}

static const struct {
    bool (*is_offered)(struct trial *trial);
    uint32_t feature;
} trials[] = {
    {try_multishot_receive, RING_MULTISHOT_RECEIVE},
    {try_multishot_accept, RING_MULTISHOT_ACCEPT},
    {try_zero_copy, RING_ZERO_COPY},
    {try_quiet_send, RING_QUIET_SEND}, /* last: it shuts a socket */
};

static int64_t run_trials(struct trial *trial)
{
    int64_t features = 0;

    for (size_t i = 0; i < sizeof trials / sizeof *trials; i++) {
        int result;

        if (trials[i].is_offered(trial))
            features |= trials[i].feature;
        result = end_request(trial);
        if (result < 0)
            return result;
    }
    return features;
}

/* -- What they need ------------------------------------------------------------------------------------------ */

static void fill_buffers(struct trial_memory *memory)
{
    struct io_uring_buf_ring *ring = (struct io_uring_buf_ring *)memory->ring;

    for (int id = 0; id < TRIAL_BUFFERS; id++)
        io_uring_buf_ring_add(ring, memory->data[id], TRIAL_BUFFER_SIZE, (uint16_t)id,
                              io_uring_buf_ring_mask(TRIAL_BUFFERS), id);
    io_uring_buf_ring_advance(ring, TRIAL_BUFFERS);
}

/* Without buffer rings (5.19) the engine cannot receive. */
static int64_t run_with_buffers(struct trial *trial)
{
    struct io_uring_buf_reg registration = {
        .ring_addr = (uint64_t)(uintptr_t)trial->memory->ring,
        .ring_entries = TRIAL_BUFFERS,
        .bgid = TRIAL_GROUP,
    };
    int64_t result = io_uring_register_buf_ring(trial->uring, &registration, 0);

    if (result < 0)
        return result == -EINVAL ? -EOPNOTSUPP : result;
    fill_buffers(trial->memory);
    result = run_trials(trial);
    io_uring_unregister_buf_ring(trial->uring, TRIAL_GROUP);
    return result;
}

static int64_t run_with_memory(struct trial *trial)
{
    void *memory = mmap(NULL, sizeof *trial->memory, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int64_t result;

    if (memory == MAP_FAILED)
        return -ENOMEM;
    trial->memory = memory;
    result = run_with_buffers(trial);
    munmap(memory, sizeof *trial->memory);
    return result;
}

static int64_t run_on(struct io_uring *uring)
{
    struct trial trial = {.uring = uring};
    int64_t result = check_opcodes(uring);

    if (result < 0)
        return result;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, trial.sockets) < 0)
        return -errno;
    result = run_with_memory(&trial);
    close(trial.sockets[0]);
    close(trial.sockets[1]);
    return result;
}

int64_t probe_run(struct io_uring *uring)
{
    struct io_uring own;
    int64_t result;

    if (uring->flags & IORING_SETUP_DEFER_TASKRUN ||
        io_uring_queue_init(TRIAL_ENTRIES, &own, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN) < 0)
        return run_on(uring);
    result = run_on(&own);
    io_uring_queue_exit(&own);
    return result;
}

/*
 * The floor of an echo server: liburing by hand, with the kernel features that Sluice uses, and nothing else.
 *
 * It answers each receive with one send of the same buffer, and trusts that a send takes everything: fast, and wrong
 * for anybody who needs backpressure, half-close or an orderly end. It prints its port, then on SIGTERM the CPU time
 * that it used and the answers that it gave.
 */
#include <arpa/inet.h>
#include <liburing.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    RING_ENTRIES = 256,
    COMPLETION_ENTRIES = 4096,
    BUFFER_COUNT = 512,
    BUFFER_SIZE = 16384,
    BATCH = 128,
    SENT_MAX = 4 * RING_ENTRIES,
};

enum kind {
    KIND_ACCEPT,
    KIND_RECEIVE,
    KIND_SEND
};

struct server {
    struct io_uring ring;
    struct io_uring_buf_ring *buffers;
    uint8_t *memory;
    int listener;
    uint64_t answers;
    unsigned sent[SENT_MAX]; /* buffers of the sends in this submission: nothing is heard of those that succeed */
    unsigned sent_count;
};

static volatile sig_atomic_t is_stopping;

static void stop(int signal)
{
    (void)signal;
    is_stopping = 1;
}

static void die(const char *what, int error)
{
    fprintf(stderr, "echo_floor: %s: %s\n", what, strerror(error < 0 ? -error : error));
    exit(1);
}

static uint64_t identity(enum kind kind, int fd)
{
    return (uint64_t)kind << 48 | (uint64_t)fd;
}

static void give_back(struct server *server, unsigned buffer)
{
    io_uring_buf_ring_add(server->buffers, server->memory + (size_t)buffer * BUFFER_SIZE, BUFFER_SIZE,
                          (unsigned short)buffer, BUFFER_COUNT - 1, 0);
    io_uring_buf_ring_advance(server->buffers, 1);
}

/* Sends are tried by the call that submits them. Waits if `wait_for` is not 0. */
static void submit(struct server *server, unsigned wait_for)
{
    struct __kernel_timespec timeout = {.tv_sec = 1};
    struct io_uring_cqe *completion;

    if (wait_for > 0)
        io_uring_submit_and_wait_timeout(&server->ring, &completion, wait_for, &timeout, NULL);
    else
        io_uring_submit(&server->ring);
    for (unsigned i = 0; i < server->sent_count; i++)
        give_back(server, server->sent[i]);
    server->sent_count = 0;
}

static struct io_uring_sqe *get_entry(struct server *server)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&server->ring);

    if (!entry) {
        submit(server, 0);
        entry = io_uring_get_sqe(&server->ring);
    }
    return entry;
}

static void arm_accept(struct server *server)
{
    struct io_uring_sqe *entry = get_entry(server);

    io_uring_prep_multishot_accept(entry, server->listener, NULL, NULL, SOCK_CLOEXEC);
    entry->user_data = identity(KIND_ACCEPT, 0);
}

static void arm_receive(struct server *server, int fd)
{
    struct io_uring_sqe *entry = get_entry(server);

    io_uring_prep_recv_multishot(entry, fd, NULL, 0, 0);
    entry->flags |= IOSQE_BUFFER_SELECT;
    entry->buf_group = 0;
    entry->user_data = identity(KIND_RECEIVE, fd);
}

static void answer(struct server *server, int fd, unsigned buffer, int len)
{
    struct io_uring_sqe *entry = get_entry(server);

    io_uring_prep_send(entry, fd, server->memory + (size_t)buffer * BUFFER_SIZE, (size_t)len,
                       MSG_NOSIGNAL | MSG_WAITALL | MSG_DONTWAIT);
    entry->flags |= IOSQE_CQE_SKIP_SUCCESS;
    entry->user_data = identity(KIND_SEND, fd);
    server->sent[server->sent_count++] = buffer;
    server->answers++;
}

static void take_receive(struct server *server, int fd, const struct io_uring_cqe *completion)
{
    if (completion->res > 0)
        answer(server, fd, completion->flags >> IORING_CQE_BUFFER_SHIFT, completion->res);
    else if (completion->res != -ENOBUFS)
        close(fd);
    if (!(completion->flags & IORING_CQE_F_MORE) && (completion->res > 0 || completion->res == -ENOBUFS))
        arm_receive(server, fd);
}

static void take(struct server *server, const struct io_uring_cqe *completion)
{
    int fd = (int)completion->user_data;
    int one = 1;

    switch ((enum kind)(completion->user_data >> 48)) {
    case KIND_ACCEPT:
        if (completion->res >= 0) {
            setsockopt(completion->res, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            arm_receive(server, completion->res);
        }
        if (!(completion->flags & IORING_CQE_F_MORE))
            arm_accept(server);
        break;
    case KIND_RECEIVE:
        take_receive(server, fd, completion);
        break;
    case KIND_SEND: /* refused: the receive will hear why */
        break;
    }
}

static void set_up_ring(struct server *server)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
                 IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
        .cq_entries = COMPLETION_ENTRIES,
    };
    struct io_uring_buf_reg registration = {.ring_entries = BUFFER_COUNT};
    size_t ring_size = BUFFER_COUNT * sizeof(struct io_uring_buf);
    size_t size = (size_t)BUFFER_COUNT * BUFFER_SIZE;
    int error = io_uring_queue_init_params(RING_ENTRIES, &server->ring, &params);

    if (error)
        die("ring", error);
    io_uring_register_ring_fd(&server->ring);
    server->buffers = mmap(NULL, ring_size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
    server->memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
    registration.ring_addr = (uint64_t)(uintptr_t)server->buffers;
    error = io_uring_register_buf_ring(&server->ring, &registration, 0);
    if (error)
        die("buffers", error);
    io_uring_buf_ring_init(server->buffers);
    for (unsigned i = 0; i < BUFFER_COUNT; i++)
        give_back(server, i);
}

static void listen_anywhere(struct server *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;

    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (server->listener < 0 || bind(server->listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(server->listener, 4096) < 0)
        die("listen", errno);
    getsockname(server->listener, (struct sockaddr *)&address, &len);
    printf("listening on 127.0.0.1:%u\n", ntohs(address.sin_port));
    fflush(stdout);
}

/* One turn: submit and wait in one system call, then look at everything that came. */
static void turn(struct server *server)
{
    struct io_uring_cqe *completions[BATCH];
    unsigned count;

    submit(server, 1);
    if (IO_URING_READ_ONCE(*server->ring.sq.kflags) & IORING_SQ_TASKRUN)
        io_uring_get_events(&server->ring);
    do {
        count = io_uring_peek_batch_cqe(&server->ring, completions, BATCH);
        for (unsigned i = 0; i < count; i++)
            take(server, completions[i]);
        io_uring_cq_advance(&server->ring, count);
    } while (count == BATCH);
}

int main(void)
{
    static struct server server;
    struct sigaction action = {.sa_handler = stop};
    struct rusage usage;

    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    set_up_ring(&server);
    listen_anywhere(&server);
    arm_accept(&server);
    while (!is_stopping)
        turn(&server);
    getrusage(RUSAGE_SELF, &usage);
    printf("cpu_us %lld answers %llu\n",
           (long long)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 + usage.ru_utime.tv_usec +
               usage.ru_stime.tv_usec,
           (unsigned long long)server.answers);
    return 0;
}

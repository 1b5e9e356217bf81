/* The kernel in memory: see kernel.h. The linker puts its functions in the place of liburing's (meson.build). */
#include "perf/budget/kernel.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <liburing.h>
#include <sluice/options.h>

enum {
    ENTRIES = 1024, /* of each queue, however many are asked for */
    RECEIVES_MAX = 256,
};

static struct {
    struct io_uring_sqe entries[ENTRIES];
    unsigned submit_head;
    unsigned submit_tail;
    unsigned submit_flags;
    struct io_uring_cqe completions[ENTRIES];
    unsigned complete_head;
    unsigned complete_tail;

    struct io_uring_buf_ring *buffers;
    unsigned buffer_mask;
    uint16_t buffer_head;

    uint64_t receives[RECEIVES_MAX]; /* the user_data of those that are armed */
    uint32_t receive_count;
    uint32_t next_receive;

    const void *bytes;
    size_t len;
    uint32_t count;
    uint64_t taken;
    uint64_t now_ns;
} kernel;

static void must(int is_so, const char *what)
{
    if (is_so)
        return;
    fprintf(stderr, "budget: %s\n", what);
    abort();
}

/* -- What the peer does -------------------------------------------------------------------------------------- */

void kernel_bring(const void *bytes, size_t len, uint32_t count)
{
    kernel.bytes = bytes;
    kernel.len = len;
    kernel.count = count;
}

uint64_t kernel_taken(void)
{
    uint64_t taken = kernel.taken;

    kernel.taken = 0;
    return taken;
}

int kernel_socket(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    must(bind(listener, (struct sockaddr *)&address, len) == 0 && listen(listener, 1) == 0 &&
             getsockname(listener, (struct sockaddr *)&address, &len) == 0 &&
             connect(fd, (struct sockaddr *)&address, len) == 0,
         "no connection over loopback can be had");
    /* The other end stays open as long as the program runs. */
    // cppcheck-suppress nullPointer
    must(accept4(listener, NULL, NULL, SOCK_CLOEXEC) >= 0, "no connection over loopback can be accepted");
    close(listener);
    return fd;
}

/* -- What the kernel does ------------------------------------------------------------------------------------ */

static void complete(uint64_t user_data, int32_t result, uint32_t flags)
{
    must(kernel.complete_tail - kernel.complete_head < ENTRIES, "the completion queue overflows");
    kernel.completions[kernel.complete_tail++ % ENTRIES] =
        (struct io_uring_cqe){.user_data = user_data, .res = result, .flags = flags};
}

static void take_receive(const struct io_uring_sqe *entry)
{
    must(entry->ioprio & IORING_RECV_MULTISHOT, "a receive is not multishot");
    must(kernel.receive_count < RECEIVES_MAX, "too many sockets are read");
    kernel.receives[kernel.receive_count++] = entry->user_data;
}

static void take_send(const struct io_uring_sqe *entry, size_t len)
{
    kernel.taken += len;
    if (!(entry->flags & IOSQE_CQE_SKIP_SUCCESS))
        complete(entry->user_data, (int32_t)len, 0);
}

static size_t vector_len(const struct msghdr *message)
{
    size_t len = 0;

    for (size_t i = 0; i < message->msg_iovlen; i++)
        len += message->msg_iov[i].iov_len;
    return len;
}

static void take_cancel(const struct io_uring_sqe *entry)
{
    for (uint32_t i = 0; i < kernel.receive_count; i++) {
        if (kernel.receives[i] == entry->addr) {
            kernel.receives[i] = kernel.receives[--kernel.receive_count];
            complete(entry->addr, -ECANCELED, 0);
            complete(entry->user_data, 0, 0);
            return;
        }
    }
    complete(entry->user_data, -ENOENT, 0);
}

static void take_entry(const struct io_uring_sqe *entry)
{
    switch (entry->opcode) {
    case IORING_OP_POLL_ADD: /* of what wakes the engine: nobody does */
        break;
    case IORING_OP_RECV:
        take_receive(entry);
        break;
    case IORING_OP_SEND:
        take_send(entry, entry->len);
        break;
    case IORING_OP_SENDMSG:
        take_send(entry, vector_len((const struct msghdr *)(uintptr_t)entry->addr));
        break;
    case IORING_OP_ASYNC_CANCEL:
        take_cancel(entry);
        break;
    default:
        must(0, "a request comes that the kernel in memory does not know");
    }
}

static void bring_one(void)
{
    const struct io_uring_buf *buffer = &kernel.buffers->bufs[kernel.buffer_head & kernel.buffer_mask];
    uint64_t receive = kernel.receives[kernel.next_receive++ % kernel.receive_count];

    must(kernel.buffer_head++ != kernel.buffers->tail, "no buffer is left for what arrives");
    must(kernel.len <= buffer->len, "more arrives than a buffer holds");
    memcpy((void *)(uintptr_t)buffer->addr, kernel.bytes, kernel.len);
    complete(receive, (int32_t)kernel.len,
             (uint32_t)buffer->bid << IORING_CQE_BUFFER_SHIFT | IORING_CQE_F_BUFFER | IORING_CQE_F_MORE);
}

/* -- In the place of liburing, and of the clock -------------------------------------------------------------- */

int64_t __wrap_probe_run(struct io_uring *uring);
int __wrap_io_uring_queue_init_params(unsigned entries, struct io_uring *uring, struct io_uring_params *params);
void __wrap_io_uring_queue_exit(struct io_uring *uring);
int __wrap_io_uring_ring_dontfork(struct io_uring *uring);
int __wrap_io_uring_register_ring_fd(struct io_uring *uring);
int __wrap_io_uring_register_buf_ring(struct io_uring *uring, struct io_uring_buf_reg *registration, unsigned flags);
int __wrap_io_uring_unregister_buf_ring(struct io_uring *uring, int group);
int __wrap_io_uring_register_sync_cancel(struct io_uring *uring, struct io_uring_sync_cancel_reg *registration);
int __wrap_io_uring_enter2(unsigned fd, unsigned submit, unsigned wait, unsigned flags, sigset_t *argument,
                           size_t size);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);

/* The library's own trials: what the newest kernels can do and pays here. */
int64_t __wrap_probe_run(struct io_uring *uring)
{
    (void)uring;
    return SLUICE_FEATURE_MULTISHOT_ACCEPT | SLUICE_FEATURE_MULTISHOT_RECEIVE | SLUICE_FEATURE_QUIET_SEND;
}

int __wrap_io_uring_queue_init_params(unsigned entries, struct io_uring *uring, struct io_uring_params *params)
{
    (void)entries;
    *uring = (struct io_uring){
        .sq.khead = &kernel.submit_head,
        .sq.ktail = &kernel.submit_tail,
        .sq.kflags = &kernel.submit_flags,
        .sq.sqes = kernel.entries,
        .sq.ring_mask = ENTRIES - 1,
        .sq.ring_entries = ENTRIES,
        .cq.khead = &kernel.complete_head,
        .cq.ktail = &kernel.complete_tail,
        .cq.kflags = &kernel.submit_flags,
        .cq.cqes = kernel.completions,
        .cq.ring_mask = ENTRIES - 1,
        .cq.ring_entries = ENTRIES,
        .flags = params->flags,
        .features = UINT32_MAX,
        .ring_fd = -1,
        .enter_ring_fd = -1,
    };
    memset(&kernel, 0, sizeof kernel);
    return 0;
}

void __wrap_io_uring_queue_exit(struct io_uring *uring)
{
    (void)uring;
}

int __wrap_io_uring_ring_dontfork(struct io_uring *uring)
{
    (void)uring;
    return 0;
}

int __wrap_io_uring_register_ring_fd(struct io_uring *uring)
{
    (void)uring;
    return 1;
}

int __wrap_io_uring_register_buf_ring(struct io_uring *uring, struct io_uring_buf_reg *registration, unsigned flags)
{
    (void)uring;
    (void)flags;
    kernel.buffers = (struct io_uring_buf_ring *)(uintptr_t)registration->ring_addr;
    kernel.buffer_mask = registration->ring_entries - 1;
    return 0;
}

int __wrap_io_uring_unregister_buf_ring(struct io_uring *uring, int group)
{
    (void)uring;
    (void)group;
    return 0;
}

int __wrap_io_uring_register_sync_cancel(struct io_uring *uring, struct io_uring_sync_cancel_reg *registration)
{
    (void)uring;
    (void)registration;
    return -ENOENT;
}

int __wrap_io_uring_enter2(unsigned fd, unsigned submit, unsigned wait, unsigned flags, sigset_t *argument, size_t size)
{
    (void)fd;
    (void)flags;
    (void)argument;
    (void)size;
    must(submit == kernel.submit_tail - kernel.submit_head, "not everything is submitted");
    while (kernel.submit_head != kernel.submit_tail)
        take_entry(&kernel.entries[kernel.submit_head++ % ENTRIES]);
    for (uint32_t i = 0; wait > 0 && i < kernel.count; i++)
        bring_one();
    must(wait == 0 || kernel.complete_head != kernel.complete_tail, "the engine waits for nothing");
    return (int)submit;
}

/* A turn takes no time. */
int __wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
    (void)clock;
    *now = (struct timespec){.tv_sec = 1000};
    return 0;
}

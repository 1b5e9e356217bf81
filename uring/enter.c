/* The one place that enters the kernel's ring. */
#include "uring/enter.h"

#include <sched.h>

#include "uring/compat.h"
#include "uring/sigpipe.h"

enum {
    SUBMIT_ATTEMPTS = 16, /* a millisecond apart */
};

/* -- System calls -------------------------------------------------------------------------------------------- */

static int enter_unguarded(struct linux_ring *self, uint32_t submit, uint32_t completions, uint32_t flags,
                           const struct __kernel_timespec *timeout)
{
    struct io_uring_getevents_arg argument = {.ts = (uint64_t)(uintptr_t)timeout};

    self->ring.enters++;
    flags |= self->enter_flags | IORING_ENTER_EXT_ARG;
    return io_uring_enter2((unsigned)self->uring.enter_ring_fd, submit, completions, flags, (sigset_t *)&argument,
                           sizeof argument);
}

/*
 * Returns how many entries the kernel took, or -errno.
 *
 * A write to a pipe that nobody reads raises SIGPIPE in the thread that makes it: in ours, while we are in here. With
 * DEFER_TASKRUN that is true of a write that had to wait, too; without it, only ignoring SIGPIPE is sure to help.
 */
static int enter_kernel(struct linux_ring *self, uint32_t submit, uint32_t completions, uint32_t flags,
                        const struct __kernel_timespec *timeout)
{
    struct sigpipe_guard guard;
    int result;

    if (self->pipes == 0)
        return enter_unguarded(self, submit, completions, flags, timeout);
    sigpipe_block(&guard);
    result = enter_unguarded(self, submit, completions, flags, timeout);
    sigpipe_unblock(&guard);
    return result;
}

/* The time is up, a signal came, or there is no room or memory at the moment. */
static bool is_ordinary(int result)
{
    return result >= 0 || result == -ETIME || result == -EINTR || result == -EAGAIN || result == -EBUSY;
}

static uint32_t queue_flags(const struct linux_ring *self)
{
    return IO_URING_READ_ONCE(*self->uring.sq.kflags);
}

/* Completions wait in the kernel for us to come and run them. */
static bool has_kernel_work(struct linux_ring *self)
{
    uint32_t flags = queue_flags(self);

    if (flags & IORING_SQ_CQ_OVERFLOW)
        self->ring.overflows++;
    return flags & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN);
}

/* -- Submitting ---------------------------------------------------------------------------------------------- */

/*
 * Shows the kernel the entries that were filled, and returns how many it has not taken. liburing does so only inside
 * functions that wait again after a signal.
 */
static uint32_t publish_entries(struct linux_ring *self)
{
    struct io_uring_sq *sq = &self->uring.sq;

    sq->sqe_head = sq->sqe_tail;
    io_uring_smp_store_release(sq->ktail, sq->sqe_tail); /* release: the kernel's thread, if any, sees them filled */
    return io_uring_sq_ready(&self->uring);
}

/*
 * Submits, then waits. In the ordinary case that is one system call. Entries are left over only if the kernel has no
 * memory for them; our caller relies on their having been taken, so then try again for a while.
 */
static int submit_and_wait(struct linux_ring *self, uint32_t completions, const struct __kernel_timespec *timeout)
{
    for (int attempt = 0; attempt < SUBMIT_ATTEMPTS; attempt++) {
        int result = enter_kernel(self, publish_entries(self), completions, 0, timeout);

        if (!is_ordinary(result))
            return result;
        if (io_uring_sq_ready(&self->uring) == 0)
            return 0;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return -ENOMEM;
}

/*
 * With SQPOLL: waits until the kernel's thread has taken the entries, so that what they point to may go, as after any
 * submission. It ends: the thread either takes them, or says that it sleeps; and if it is dead, entering fails.
 */
static int hand_over(struct linux_ring *self)
{
    int result = 0;

    publish_entries(self);
    io_uring_smp_mb(); /* the tail is stored before we look whether the thread sleeps */
    while (is_ordinary(result) && io_uring_sq_ready(&self->uring) > 0) {
        if (queue_flags(self) & IORING_SQ_NEED_WAKEUP)
            result = enter_kernel(self, 0, 0, IORING_ENTER_SQ_WAKEUP, NULL);
        sched_yield();
    }
    return is_ordinary(result) ? 0 : result;
}

static bool has_thread(const struct linux_ring *self)
{
    return self->uring.flags & IORING_SETUP_SQPOLL;
}

int enter_submit(struct linux_ring *self)
{
    int result = has_thread(self) ? hand_over(self) : 0;

    if (result < 0)
        return result;
    if (!has_kernel_work(self) && io_uring_sq_ready(&self->uring) == 0) {
        compat_relax(); /* whoever comes for nothing will look again */
        return 0;
    }
    return submit_and_wait(self, 0, NULL);
}

int enter_collect(struct linux_ring *self)
{
    int result = has_kernel_work(self) ? enter_kernel(self, 0, 0, 0, NULL) : 0;

    return is_ordinary(result) ? 0 : result;
}

/* -- Waiting ------------------------------------------------------------------------------------------------- */

static int sleep_until(struct linux_ring *self, uint32_t completions, uint64_t now_ns, uint64_t deadline_ns)
{
    const bool is_endless = deadline_ns > INT64_MAX; /* the kernel cannot count so far */
    const uint64_t left_ns = deadline_ns - now_ns;
    const struct __kernel_timespec timeout = {
        .tv_sec = (long long)(left_ns / 1000000000),
        .tv_nsec = (long long)(left_ns % 1000000000),
    };
    int result = has_thread(self) ? hand_over(self) : 0;

    if (result == 0)
        result = submit_and_wait(self, completions, is_endless ? NULL : &timeout);
    if (result == 0)
        result = enter_collect(self); /* the wait ended with one or a few: take the others with them */
    return result;
}

int enter_wait(struct linux_ring *self, uint32_t completions, uint64_t deadline_ns)
{
    /* Who waits for ever needs no clock, which takes a tenth of the time of a small message. */
    const uint64_t now_ns = deadline_ns != UINT64_MAX ? linux_clock_ns() : 0;

    if (now_ns >= deadline_ns)
        return enter_submit(self);
    return sleep_until(self, completions, now_ns, deadline_ns);
}

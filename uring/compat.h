/*
 * Names that the oldest liburing we build with (2.3) has not, and what differs between processors: the #ifdefs of
 * uring/.
 */
#ifndef URING_COMPAT_H
#define URING_COMPAT_H

#include <stdint.h>

#include <liburing.h>

/* Linux 6.2: a zero-copy send's last completion tells whether the kernel had to copy after all. */
#ifndef IORING_SEND_ZC_REPORT_USAGE
#define IORING_SEND_ZC_REPORT_USAGE (1U << 3)
#endif
#ifndef IORING_NOTIF_USAGE_ZC_COPIED
#define IORING_NOTIF_USAGE_ZC_COPIED (1U << 31)
#endif

/* Linux 6.10: a receive fills as many provided buffers as it has bytes for. */
#ifndef IORING_RECVSEND_BUNDLE
#define IORING_RECVSEND_BUNDLE (1U << 4)
#endif
#ifndef IORING_FEAT_RECVSEND_BUNDLE
#define IORING_FEAT_RECVSEND_BUNDLE (1U << 14)
#endif

/* Linux 6.15: a thread that waits in the ring is not counted as waiting for a disk. */
#ifndef IORING_FEAT_NO_IOWAIT
#define IORING_FEAT_NO_IOWAIT (1U << 17)
#endif
#ifndef IORING_ENTER_NO_IOWAIT
#define IORING_ENTER_NO_IOWAIT (1U << 7)
#endif

/* Linux 6.9: IORING_REGISTER_NAPI and its argument, under names of our own because theirs is an enumerator. */
#define COMPAT_REGISTER_NAPI 27

struct compat_napi {
    uint32_t busy_poll_us;
    uint8_t prefers_busy_poll;
    uint8_t padding[3];
    uint64_t reserved;
};

/* Tells the processor that this is a loop that waits. */
static inline void compat_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield" ::: "memory");
#endif
}

#endif

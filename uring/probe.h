/* What this kernel can do, found by trying, and why it may refuse. */
#ifndef URING_PROBE_H
#define URING_PROBE_H

#include <stddef.h>
#include <stdint.h>

#include <liburing.h>

/*
 * Tries the features that a fresh ring can be asked for: on sockets of its own, with a buffer group that it removes
 * again; on another ring if this one lets completions run at any time, which would hide mistakes of the kernel. Returns
 * enum ring_feature bits, or -EOPNOTSUPP if something is missing that the engine cannot do without (Linux 6.1), or
 * another -errno if the trial itself could not be made. Leaves no request in flight.
 */
int64_t probe_run(struct io_uring *uring);

/* One line: the likely reason why a ring could not be opened with `error` (-errno), and the remedy. [any thread] */
void probe_explain(int error, char *text, size_t text_size);

#endif

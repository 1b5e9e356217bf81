/*
 * Probes: the places at which perf, bpftrace and SystemTap can look on while a program runs (USDT, provider "sluice").
 *
 * A probe is one instruction that does nothing, and a note in the library of where it is and where its arguments lie at
 * that moment. Only a tool that attaches makes it a trap. So the arguments are what is at hand, and no call here stands
 * behind a condition of its own. What each one tells: docs/profiling.md. Without <sys/sdt.h> there are none.
 */
#ifndef ENGINE_PROBES_H
#define ENGINE_PROBES_H

#include <stddef.h>
#include <stdint.h>

#include <sluice/stream.h>

#ifdef SLUICE_PROBES
/*
 * Left to choose, clang puts an argument into memory, where GCC takes it from where it is: a register, a constant, or
 * the member that it was to be read from.
 */
#ifdef __clang__
#define STAP_SDT_ARG_CONSTRAINT nr
#endif
#include <sys/sdt.h>
/*
 * The compiler judges an asm statement by the length of its text, and would no longer inline what holds a probe:
 * "inline" says that it is as short as can be. Undone below.
 */
#define __volatile__ __volatile__ inline
#define PROBES_BUILT_IN           1
#define PROBE_1(name, a)          STAP_PROBE1(sluice, name, a)
#define PROBE_2(name, a, b)       STAP_PROBE2(sluice, name, a, b)
#define PROBE_3(name, a, b, c)    STAP_PROBE3(sluice, name, a, b, c)
#define PROBE_4(name, a, b, c, d) STAP_PROBE4(sluice, name, a, b, c, d)
#else
#define PROBES_BUILT_IN           0
#define PROBE_1(name, a)          ((void)(a))
#define PROBE_2(name, a, b)       ((void)(a), (void)(b))
#define PROBE_3(name, a, b, c)    ((void)(a), (void)(b), (void)(c))
#define PROBE_4(name, a, b, c, d) ((void)(a), (void)(b), (void)(c), (void)(d))
#endif

/* A send was accepted: its bytes, prefix included, and what the queue holds with them. */
static inline void probe_send(const struct sluice_stream *stream, size_t len, size_t queued)
{
    PROBE_3(send, stream, len, queued);
}

/* A stream moves its queue down: to the kernel, the stream below, or its other end. */
static inline void probe_flush(const struct sluice_stream *stream, size_t queued)
{
    PROBE_2(flush, stream, queued);
}

/* The ring is about to be entered, with so many new requests; with none it only asks for completions. */
static inline void probe_submit(uint32_t requests)
{
    PROBE_1(submit, requests);
}

/* The kernel has answered a request. What a quiet send did is not answered. */
static inline void probe_completion(uint64_t user_data, int32_t result)
{
    PROBE_2(completion, user_data, result);
}

/* A user, or a layer, is about to be told that there is room again. */
static inline void probe_drain(const struct sluice_stream *stream)
{
    PROBE_1(drain, stream);
}

/* A stream has ended, and its user is about to hear why. */
static inline void probe_close(const struct sluice_stream *stream, const struct sluice_close *why)
{
    PROBE_4(close, stream, why->error, (int)why->side, why->unsent);
}

/* A turn has ended, in which so many completions came. */
static inline void probe_turn(uint32_t completions)
{
    PROBE_1(turn, completions);
}

#ifdef SLUICE_PROBES
#undef __volatile__
#endif

#endif

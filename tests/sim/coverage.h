/* What runs have reached: a count for each thing that a story can meet. */
#ifndef SIM_COVERAGE_H
#define SIM_COVERAGE_H

#include <stdint.h>
#include <stdio.h>

/* Name in the program, name in the report. */
#define COVERAGE_LIST(X)                                                                                               \
    X(SHORT_SEND, "sends that were taken in part")                                                                     \
    X(SEND_FULL, "sends that found no room")                                                                           \
    X(SEND_WAITS, "sends that waited for room")                                                                        \
    X(SEND_RESET, "sends that met a reset")                                                                            \
    X(SEND_PIPE, "sends that met a reader who left")                                                                   \
    X(SEND_TIMED_OUT, "sends to a lost peer")                                                                          \
    X(SEND_INTERRUPTED, "sends that were interrupted")                                                                 \
    X(PATIENT_SEND, "writes that a worker did")                                                                        \
    X(QUIET_SEND, "sends whose success was not told")                                                                  \
    X(ZERO_COPY, "zero-copy sends")                                                                                    \
    X(ZERO_COPY_COPIED, "zero-copy notifications that say copied")                                                     \
    X(ZERO_COPY_LATE, "zero-copy notifications that came late")                                                        \
    X(ZERO_COPY_REFUSED, "zero-copy sends without a notification")                                                     \
    X(SHORT_RECEIVE, "receives of less than there was")                                                                \
    X(BUNDLED_RECEIVE, "receives into several buffers at once")                                                        \
    X(RECEIVE_RESET, "receives that met a reset")                                                                      \
    X(RECEIVE_TIMED_OUT, "receives from a lost peer")                                                                  \
    X(RECEIVE_END, "receives of the end")                                                                              \
    X(RECEIVE_DEAF, "resets that only a send heard of")                                                                \
    X(NO_BUFFER, "receives without a buffer")                                                                          \
    X(RING_WITHOUT_BUFFERS, "…when really none was left")                                                              \
    X(MULTISHOT_ENDED, "multishot requests that ended with a result")                                                  \
    X(ACCEPT_ERROR, "accepts that failed")                                                                             \
    X(CONNECT_ERROR, "connects that failed")                                                                           \
    X(CONNECT_REFUSED, "connects to nobody")                                                                           \
    X(CONNECT_WAITS, "connects to a full backlog")                                                                     \
    X(CANCEL_WON, "cancels that won")                                                                                  \
    X(CANCEL_LOST, "cancels that lost")                                                                                \
    X(CANCEL_MISSED, "cancels that missed")                                                                            \
    X(CANCEL_TOO_LATE, "cancels of what had ended")                                                                    \
    X(LATE, "results that came late")                                                                                  \
    X(OVERFLOW, "completions that overflowed")                                                                         \
    X(QUEUE_FULL, "submission queues that were full")                                                                  \
    X(INTERRUPT, "waits that a signal ended")                                                                          \
    X(WAIT_TIMED_OUT, "waits that ran out of time")                                                                    \
    X(WOKEN, "waits that another thread ended")                                                                        \
    X(NO_DESCRIPTOR, "sockets that could not be opened")                                                               \
    X(NO_MEMORY, "allocations that failed")                                                                            \
    X(PLAIN_SLOW_READER, "peers that read a byte at a time")                                                           \
    X(PLAIN_SLOW_WRITER, "peers that wrote a byte at a time")                                                          \
    X(PLAIN_STALLS, "peers that stopped reading for a while")                                                          \
    X(PLAIN_RESETS, "peers that reset")                                                                                \
    X(PLAIN_CLOSES, "peers that closed on us")                                                                         \
    X(PLAIN_FINISHES, "peers that half-closed")                                                                        \
    X(PLAIN_LOST, "peers that vanished")                                                                               \
    X(PLAIN_TALKS_ON, "peers that sent while we closed")                                                               \
    X(OPENED, "told on_open")                                                                                          \
    X(HEARD, "told on_data")                                                                                           \
    X(DRAINED, "told on_drain")                                                                                        \
    X(ENDED, "told on_end")                                                                                            \
    X(CLOSED_WELL, "told on_close without a cause")                                                                    \
    X(CLOSED_RESET, "…a reset")                                                                                        \
    X(CLOSED_PIPE, "…a broken pipe")                                                                                   \
    X(CLOSED_TIMED_OUT, "…a timeout")                                                                                  \
    X(CLOSED_CANCELLED, "…cancelled")                                                                                  \
    X(CLOSED_ABORTED, "…our abort")                                                                                    \
    X(CLOSED_NO_MEMORY, "…no memory")                                                                                  \
    X(CLOSED_OTHER, "…another cause")                                                                                  \
    X(CLOSED_UNSENT, "…with unsent bytes")                                                                             \
    X(ANSWER_ROOM, "sends answered with room")                                                                         \
    X(ANSWER_FULL, "sends answered with full")                                                                         \
    X(ANSWER_LIMIT, "sends over the limit")                                                                            \
    X(ANSWER_CLOSED, "sends refused for an ending stream")                                                             \
    X(ANSWER_NO_MEMORY, "sends without memory")                                                                        \
    X(PAUSED, "pauses")                                                                                                \
    X(RESUMED, "resumes")                                                                                              \
    X(FINISHED, "finishes")                                                                                            \
    X(CLOSED, "closes")                                                                                                \
    X(ABORTED, "aborts")                                                                                               \
    X(ABORTED_FROM_AFAR, "aborts by another thread")                                                                   \
    X(POSTED, "sends by another thread")                                                                               \
    X(POST_REFUSED, "…that were refused")                                                                              \
    X(LOOKED_FROM_AFAR, "looks at a status by another thread")                                                         \
    X(KEPT, "views kept")                                                                                              \
    X(WAITED_FOR_DRAIN, "users who did nothing until the drain")                                                       \
    X(LOOKED_UP, "names looked up")                                                                                    \
    X(STORY_SILENT, "users who hear only data and the end of it all")                                                  \
    X(STORY_SOCKETS, "connections over sockets")                                                                       \
    X(STORY_PAIR, "connections over pairs")                                                                            \
    X(STORY_PAIR_ACROSS, "connections over pairs between two engines")                                                 \
    X(STORY_PIPES, "connections over pipes")                                                                           \
    X(STORY_PLAIN, "connections to plain peers")                                                                       \
    X(STORY_LAYERED, "users on one layer")                                                                             \
    X(STORY_STACKED, "users on two layers")                                                                            \
    X(STORY_PILED, "users on three layers or more")                                                                    \
    X(STORY_CUT_SHORT, "engines destroyed in the middle")                                                              \
    X(STORY_TWO_ENGINES, "stories on two engines")

enum coverage {
#define COVERAGE_NUMBER(number, name) COVER_##number,
    COVERAGE_LIST(COVERAGE_NUMBER)
#undef COVERAGE_NUMBER
    COVERAGE_COUNT,
};

/* Of all runs of this program. */
extern uint64_t coverage[COVERAGE_COUNT];

static inline void cover(enum coverage what)
{
    coverage[what]++;
}

/* Writes how much was reached: the share, what never was, and with `in_full` every count. */
void coverage_report(FILE *file, int in_full);

#endif

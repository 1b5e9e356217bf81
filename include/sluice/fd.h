/* Streams over descriptors that exist already: pipes, terminals, files, standard input and output, sockets. */
#ifndef SLUICE_FD_H
#define SLUICE_FD_H

#include <sluice/engine.h>
#include <sluice/stream.h>

SLUICE_BEGIN

/*
 * Makes one stream that reads from `read_fd` and writes to `write_fd`; they may be the same, and either may be -1
 * (nothing arrives: on_end at once; our direction is closed from the start). The stream owns them from a successful
 * return on and closes them; duplicate those that you want to keep. A connected stream socket given as both becomes a
 * socket stream in full (half-close, linger, reset). Files are read and written from their current position; reading
 * ends at the end of the file. Of anything but a socket, sluice_stream_close() flushes and closes without waiting for
 * the other side's end. A write to a pipe without reader fails with -EPIPE and raises no SIGPIPE.
 *
 * `events` may be NULL until sluice_stream_set_events(). Returns 0, -EBADF, -EINVAL (a datagram or listening socket, a
 * directory, both -1), -ENOMEM, or -ESHUTDOWN (the engine is being destroyed); on failure the descriptors are still the
 * caller's.
 */
SLUICE_API int sluice_fd_stream(struct sluice_engine *engine, int read_fd, int write_fd,
                                const struct sluice_stream_events *events, void *user, struct sluice_stream **stream);

SLUICE_END

#endif

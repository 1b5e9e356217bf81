/*
 * Streams over descriptors that exist already: pipes, terminals, files, devices, and sockets that came from elsewhere.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "tests/support/net_end.h"
#include "tests/support/net_pattern.h"
#include "tests/support/peer.h"

TestSuite(fd, .timeout = 60);

enum {
    KIB = 1024,
    MUCH = 3 * 1000 * 1000, /* more than a pipe holds, and no multiple of it */
    PIECE = 5000,
};

struct pipe {
    int read_fd;
    int write_fd;
};

static struct pipe open_pipe(int flags)
{
    int ends[2];

    cr_assert_eq(pipe2(ends, O_CLOEXEC | flags), 0);
    return (struct pipe){.read_fd = ends[0], .write_fd = ends[1]};
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

/* -- The other end, with plain calls ------------------------------------------------------------------------- */

/* Reads what there is of the pattern, without waiting. Returns the bytes, 0 at the end, -1 if nothing is there. */
static ssize_t read_pattern(int fd, uint64_t offset)
{
    static uint8_t data[64 * KIB];
    struct pollfd watch = {.fd = fd, .events = POLLIN};
    ssize_t count = -1;

    if (poll(&watch, 1, 0) > 0)
        count = read(fd, data, sizeof data);
    if (count > 0)
        cr_assert(pattern_matches(data, 0, offset, (size_t)count), "wrong bytes at %llu", (unsigned long long)offset);
    return count;
}

/* Writes more of the pattern up to `until`, as much as fits without waiting. Returns the new offset. */
static uint64_t write_pattern(int fd, uint64_t offset, uint64_t until)
{
    uint8_t data[PIECE];
    struct pollfd watch = {.fd = fd, .events = POLLOUT};

    while (offset < until && poll(&watch, 1, 0) > 0) {
        size_t len = until - offset < 4096 ? (size_t)(until - offset) : 4096; /* no more than POLLOUT promises */
        ssize_t count;

        pattern_fill(data, 0, offset, len);
        count = write(fd, data, len);
        cr_assert_gt(count, 0);
        offset += (uint64_t)count;
    }
    return offset;
}

/* -- Pipes --------------------------------------------------------------------------------------------------- */

/* The stream reads one pipe to its end; we write to it in bursts. */
static void read_pipe(int flags)
{
    struct pipe pipe;
    struct end end;
    struct net net;
    uint64_t written = 0;

    net_open(&net, NULL);
    pipe = open_pipe(flags);
    end_open_fd(&end, &net, pipe.read_fd, -1, &end_silent);
    cr_assert_str_eq(sluice_stream_kind(end.stream), "fd");
    cr_assert_eq(sluice_stream_write_status(end.stream), SLUICE_WRITE_CLOSED);
    cr_assert_eq(end_send(&end, 1), -EPIPE);
    net_until(&net, (written = write_pattern(pipe.write_fd, written, MUCH)) == MUCH);
    close(pipe.write_fd);
    net_until(&net, end.closes);
    cr_assert_eq(end.received, MUCH);
    cr_assert_eq(end.ends, 1);
    cr_assert_eq(end.why.error, 0);
    cr_assert_eq(end.why.side, SLUICE_REMOTE);
    cr_assert_not(is_open(pipe.read_fd), "the stream closes what it was given");
    net_close(&net);
}

Test(fd, reads_a_pipe_to_its_end)
{
    read_pipe(0);
    read_pipe(O_NONBLOCK);
}

/* The stream writes one pipe; we read it slowly, and find the end behind the last byte. */
static void write_pipe(int flags, enum end_then then)
{
    struct pipe pipe;
    struct end end;
    struct net net;
    uint64_t seen = 0;
    ssize_t count = -1;

    net_open(&net, NULL);
    pipe = open_pipe(flags);
    end_open_fd(&end, &net, -1, pipe.write_fd, &end_silent);
    end_pour(&end, MUCH, PIECE, then);
    cr_assert_eq(end.fulls, 1);
    net_start_waiting(&net);
    while (count != 0) {
        net_wait_turn(&net, __FILE__, __LINE__, "the end of the pipe");
        count = read_pattern(pipe.read_fd, seen);
        seen += count > 0 ? (uint64_t)count : 0;
    }
    cr_assert_eq(seen, MUCH);
    net_until(&net, end.closes);
    cr_assert_eq(end.why.error, 0);
    cr_assert_eq(end.why.unsent, 0);
    cr_assert_gt(end.drains, 1);
    cr_assert_not(is_open(pipe.write_fd), "the stream closes what it was given");
    close(pipe.read_fd);
    net_close(&net);
}

Test(fd, writes_a_pipe_in_order_and_then_ends_it)
{
    write_pipe(0, END_FINISH);
    write_pipe(0, END_CLOSE);
    write_pipe(O_NONBLOCK, END_FINISH);
    write_pipe(O_NONBLOCK, END_CLOSE);
}

/* Without a descriptor to read from, nothing arrives: that is told at once. */
Test(fd, ends_at_once_without_a_descriptor_to_read)
{
    struct pipe pipe;
    struct end end;
    struct net net;

    net_open(&net, NULL);
    pipe = open_pipe(0);
    end_open_fd(&end, &net, -1, pipe.write_fd, &end_silent);
    cr_assert_eq(end.ends, 0, "a callback from inside a call");
    net_until(&net, end.ends);
    cr_assert_eq(end.closes, 0);
    cr_assert_eq(end_send(&end, 100), SLUICE_ROOM);
    net_until(&net, read_pattern(pipe.read_fd, 0) == 100);
    end_finish(&end);
    net_until(&net, end.closes);
    cr_assert_eq(end.why.error, 0);
    close(pipe.read_fd);
    net_close(&net);
}

/* Two pipes make one stream, as standard input and output do. Each direction ends by itself. */
Test(fd, joins_two_pipes_and_ends_each_by_itself)
{
    struct pipe up;
    struct pipe down;
    struct end end;
    struct net net;
    uint64_t written = 0;

    net_open(&net, NULL);
    up = open_pipe(0);
    down = open_pipe(0);
    end_open_fd(&end, &net, up.read_fd, down.write_fd, &end_silent);
    cr_assert_eq(end_send(&end, 1000), SLUICE_ROOM);
    end_finish(&end);
    net_until(&net, read_pattern(down.read_fd, 0) == 1000);
    net_until(&net, read_pattern(down.read_fd, 1000) == 0);
    cr_assert_eq(end.closes, 0);
    cr_assert_not(is_open(down.write_fd));
    net_until(&net, (written = write_pattern(up.write_fd, written, 100 * KIB)) == 100 * KIB);
    net_until(&net, end.received == 100 * KIB);
    close(up.write_fd);
    net_until(&net, end.closes);
    cr_assert_eq(end.why.error, 0);
    close(down.read_fd);
    net_close(&net);
}

Test(fd, echoes_between_two_pipes)
{
    struct pipe up;
    struct pipe down;
    struct end end;
    struct net net;
    uint64_t written = 0;
    uint64_t seen = 0;
    ssize_t count = -1;

    net_open(&net, NULL);
    up = open_pipe(0);
    down = open_pipe(0);
    end_open_fd(&end, &net, up.read_fd, down.write_fd, &end_echo);
    net_start_waiting(&net);
    while (count != 0) {
        net_wait_turn(&net, __FILE__, __LINE__, "the end of the echo");
        written = write_pattern(up.write_fd, written, MUCH);
        if (written == MUCH && up.write_fd >= 0) {
            close(up.write_fd);
            up.write_fd = -1;
        }
        count = read_pattern(down.read_fd, seen);
        seen += count > 0 ? (uint64_t)count : 0;
    }
    cr_assert_eq(seen, MUCH);
    net_until(&net, end.closes);
    cr_assert_eq(end.why.error, 0);
    close(down.read_fd);
    net_close(&net);
}

static void pause_self(struct end *end, const struct sluice_view *view)
{
    (void)view;
    cr_assert_eq(sluice_stream_pause(end->stream), 0);
}

Test(fd, pauses_a_pipe_and_its_writer_with_it)
{
    static const struct end_plan plan = {.on_data = pause_self};
    struct pipe pipe;
    struct end end;
    struct net net;
    uint64_t written = 0;
    uint64_t before;

    net_open(&net, NULL);
    pipe = open_pipe(0);
    end_open_fd(&end, &net, pipe.read_fd, -1, &plan);
    written = write_pattern(pipe.write_fd, 0, MUCH);
    net_until(&net, end.received > 0);
    before = end.received;
    for (int i = 0; i < 50; i++) {
        net_turns(&net, 1);
        written = write_pattern(pipe.write_fd, written, MUCH);
    }
    cr_assert_eq(end.received, before);
    cr_assert_lt(written, MUCH, "who does not read holds up the writer");
    net_start_waiting(&net);
    while (end.received < MUCH) {
        sluice_stream_resume(end.stream);
        net_wait_turn(&net, __FILE__, __LINE__, "all of it");
        written = write_pattern(pipe.write_fd, written, MUCH);
    }
    sluice_stream_resume(end.stream);
    close(pipe.write_fd);
    net_until(&net, end.closes);
    cr_assert_eq(end.why.error, 0);
    net_close(&net);
}

/* -- Pipes that break ---------------------------------------------------------------------------------------- */

/* Under the default action of SIGPIPE, which would end this program. */
static void write_to_nobody(int flags)
{
    struct pipe pipe;
    struct end end;
    struct net net;

    signal(SIGPIPE, SIG_DFL);
    net_open(&net, NULL);
    pipe = open_pipe(flags);
    end_open_fd(&end, &net, -1, pipe.write_fd, &end_silent);
    close(pipe.read_fd);
    cr_assert_eq(end_send(&end, 1000), SLUICE_ROOM);
    net_until(&net, end.closes);
    cr_assert_eq(end.why.error, -EPIPE);
    cr_assert_eq(end.why.side, SLUICE_REMOTE);
    cr_assert_eq(end.why.unsent, 1000);
    net_close(&net);
}

Test(fd, breaks_without_a_signal_when_nobody_reads)
{
    write_to_nobody(0);
    write_to_nobody(O_NONBLOCK);
}

Test(fd, breaks_without_a_signal_when_the_reader_leaves_in_the_middle)
{
    struct pipe pipe;
    struct end end;
    struct net net;
    uint64_t seen = 0;
    ssize_t count;

    signal(SIGPIPE, SIG_DFL);
    net_open(&net, NULL);
    pipe = open_pipe(0);
    end_open_fd(&end, &net, -1, pipe.write_fd, &end_silent);
    end_pour(&end, MUCH, PIECE, END_FINISH);
    net_start_waiting(&net);
    while (seen < MUCH / 3) {
        net_wait_turn(&net, __FILE__, __LINE__, "a third of it");
        count = read_pattern(pipe.read_fd, seen);
        seen += count > 0 ? (uint64_t)count : 0;
    }
    close(pipe.read_fd);
    net_until(&net, end.closes);
    cr_assert_eq(end.why.error, -EPIPE);
    cr_assert_gt(end.why.unsent, 0);
    cr_assert_leq(end.accepted - end.why.unsent, seen + 1024 * KIB, "what the kernel took is what a pipe holds");
    net_close(&net);
}

/* What arrived before is told all the same. */
Test(fd, breaks_in_one_direction_and_tells_what_came_in_the_other)
{
    struct pipe up;
    struct pipe down;
    struct end end;
    struct net net;

    signal(SIGPIPE, SIG_DFL);
    net_open(&net, NULL);
    up = open_pipe(0);
    down = open_pipe(0);
    end_open_fd(&end, &net, up.read_fd, down.write_fd, &end_silent);
    cr_assert_eq(write_pattern(up.write_fd, 0, 3000), 3000);
    close(up.write_fd);
    close(down.read_fd);
    cr_assert_eq(end_send(&end, 1000), SLUICE_ROOM);
    net_until(&net, end.closes);
    cr_assert_eq(end.received, 3000);
    cr_assert_eq(end.why.error, -EPIPE);
    cr_assert_eq(end.why.unsent, 1000);
    net_close(&net);
}

/* -- Leaving ------------------------------------------------------------------------------------------------- */

/* Nobody ends the pipes at the other side: a stream over descriptors does not wait for that. */
static void leave_pipes(void (*leave)(struct end *end), int error, uint64_t unsent, size_t len)
{
    struct pipe up;
    struct pipe down;
    struct end end;
    struct net net;

    net_open(&net, NULL);
    up = open_pipe(0);
    down = open_pipe(0);
    end_open_fd(&end, &net, up.read_fd, down.write_fd, &end_silent);
    net_turns(&net, 3); /* now a read waits in the kernel */
    if (len > 0)
        cr_assert_geq(end_send(&end, len), 0);
    leave(&end);
    net_until(&net, end.closes);
    cr_assert_eq(end.why.error, error, "%s", strerror(-end.why.error));
    cr_assert_eq(end.why.side, SLUICE_LOCAL);
    cr_assert_eq(end.why.unsent, unsent);
    cr_assert_eq(end.ends, 0);
    cr_assert_not(is_open(up.read_fd));
    cr_assert_not(is_open(down.write_fd));
    if (len > unsent)
        cr_assert_eq(read_pattern(down.read_fd, 0), (ssize_t)(len - unsent));
    cr_assert_eq(read_pattern(down.read_fd, 0), 0);
    close(up.write_fd);
    close(down.read_fd);
    net_close(&net);
}

static void abort_end(struct end *end)
{
    end_abort(end, -EINTR);
}

Test(fd, closes_without_waiting_for_the_other_side)
{
    leave_pipes(end_close, 0, 0, 0);
    leave_pipes(end_close, 0, 0, 5000);
}

Test(fd, aborts_and_counts_what_was_not_written)
{
    leave_pipes(abort_end, -EINTR, 0, 0);
    leave_pipes(abort_end, -EINTR, 5000, 5000);
}

/* A write that waits for room, which nobody makes. */
static void leave_full_pipe(int flags, void (*leave)(struct end *end), int error)
{
    struct sluice_engine_options options = net_options();
    struct pipe pipe;
    struct end end;
    struct net net;

    options.linger_ns = 50 * 1000 * 1000;
    net_open(&net, &options);
    pipe = open_pipe(flags);
    end_open_fd(&end, &net, -1, pipe.write_fd, &end_silent);
    cr_assert_eq(end_send(&end, 1024 * KIB), SLUICE_FULL);
    cr_assert_eq(sluice_stream_queued(end.stream), 1024 * KIB);
    net_until(&net, sluice_stream_queued(end.stream) < 1024 * KIB || end.ends);
    net_turns(&net, 5);
    leave(&end);
    net_until(&net, end.closes);
    cr_assert_eq(end.why.error, error, "%s", strerror(-end.why.error));
    cr_assert_gt(end.why.unsent, 0);
    cr_assert_not(is_open(pipe.write_fd));
    close(pipe.read_fd);
    net_close(&net);
}

Test(fd, leaves_a_pipe_that_nobody_reads)
{
    leave_full_pipe(0, abort_end, -EINTR);
    leave_full_pipe(0, end_close, -ETIMEDOUT);
    leave_full_pipe(O_NONBLOCK, abort_end, -EINTR);
    leave_full_pipe(O_NONBLOCK, end_close, -ETIMEDOUT);
}

/* Nobody reads for many turns: the kernel is asked once and says when there is room, not asked again in each turn. */
static void wait_for_room(int write_fd, int read_fd)
{
    struct sluice_stats before;
    struct end end;
    struct net net;

    net_open(&net, NULL);
    net.fds_before -= 1; /* the stream's to close */
    end_open_fd(&end, &net, -1, write_fd, &end_silent);
    cr_assert_eq(end_send(&end, 1024 * KIB), SLUICE_FULL);
    net_turns(&net, 50);
    before = net_stats(&net);
    net_turns(&net, 200);
    cr_assert_leq(net_stats(&net).submissions - before.submissions, 2, "%llu submissions",
                  (unsigned long long)(net_stats(&net).submissions - before.submissions));
    end_abort(&end, 0);
    net_until(&net, end.closes);
    net_close(&net);
    close(read_fd);
}

Test(fd, waits_for_room_without_asking_again_and_again)
{
    struct pipe pipe = open_pipe(0);
    struct pipe unblocking = open_pipe(O_NONBLOCK);

    wait_for_room(pipe.write_fd, pipe.read_fd);
    wait_for_room(unblocking.write_fd, unblocking.read_fd);
}

Test(fd, is_given_up_with_its_engine)
{
    struct pipe up;
    struct pipe down;
    struct end end;
    struct net net;

    net_open(&net, NULL);
    up = open_pipe(0);
    down = open_pipe(0);
    end_open_fd(&end, &net, up.read_fd, down.write_fd, &end_silent);
    cr_assert_eq(end_send(&end, 1024 * KIB), SLUICE_FULL);
    net_turns(&net, 3);
    close(up.write_fd);
    close(down.read_fd);
    net.is_unsettled = true;
    net_close(&net);
    cr_assert_eq(end.closes, 1);
}

/* -- Who owns them ------------------------------------------------------------------------------------------- */

Test(fd, that_cannot_be_a_stream_stays_the_callers)
{
    struct sluice_stream *stream = NULL;
    int listener;
    int datagrams;
    int folder;
    int closed;
    struct pipe pipe;
    struct net net;
    char address[SLUICE_ADDRESS_MAX];

    net_open(&net, NULL);
    listener = peer_listen(PEER_TCP4, 1, address);
    datagrams = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    folder = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    pipe = open_pipe(0);
    closed = dup(folder);
    close(closed);
    cr_assert_eq(sluice_fd_stream(net.engine, -1, -1, NULL, NULL, &stream), -EINVAL);
    cr_assert_eq(sluice_fd_stream(net.engine, listener, listener, NULL, NULL, &stream), -EINVAL);
    cr_assert_eq(sluice_fd_stream(net.engine, datagrams, datagrams, NULL, NULL, &stream), -EINVAL);
    cr_assert_eq(sluice_fd_stream(net.engine, folder, -1, NULL, NULL, &stream), -EINVAL);
    cr_assert_eq(sluice_fd_stream(net.engine, closed, -1, NULL, NULL, &stream), -EBADF);
    cr_assert_eq(sluice_fd_stream(net.engine, pipe.read_fd, closed, NULL, NULL, &stream), -EBADF);
    cr_assert_eq(sluice_fd_stream(net.engine, pipe.read_fd, folder, NULL, NULL, &stream), -EINVAL);
    cr_assert_null(stream);
    cr_assert(is_open(listener) && is_open(datagrams) && is_open(folder));
    cr_assert(is_open(pipe.read_fd) && is_open(pipe.write_fd));
    close(listener);
    close(datagrams);
    close(folder);
    close(pipe.read_fd);
    close(pipe.write_fd);
    net_close(&net);
}

/* A copy is another descriptor of the same pipe: the stream ends only its own. */
Test(fd, leaves_copies_of_its_descriptors_alone)
{
    struct pipe pipe;
    struct end end;
    struct net net;
    int copy;

    net_open(&net, NULL);
    pipe = open_pipe(0);
    copy = fcntl(pipe.write_fd, F_DUPFD_CLOEXEC, 0);
    end_open_fd(&end, &net, -1, pipe.write_fd, &end_silent);
    cr_assert_eq(end_send(&end, 10), SLUICE_ROOM);
    end_close(&end);
    net_until(&net, end.closes);
    cr_assert(is_open(copy));
    cr_assert_eq(write_pattern(copy, 10, 20), 20);
    cr_assert_eq(read_pattern(pipe.read_fd, 0), 20);
    close(copy);
    close(pipe.read_fd);
    net_close(&net);
}

/* As `sluice cat` does with what it was started with; also one that is not our last. */
Test(fd, reads_a_copy_of_what_we_were_started_with)
{
    struct pipe pipe;
    struct end end;
    struct net net;

    net_open(&net, NULL);
    pipe = open_pipe(0);
    cr_assert_eq(dup2(pipe.read_fd, STDIN_FILENO), STDIN_FILENO);
    close(pipe.read_fd);
    end_open_fd(&end, &net, fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0), -1, &end_silent);
    cr_assert_eq(write_pattern(pipe.write_fd, 0, 100), 100);
    net_until(&net, end.received == 100);
    end_close(&end);
    net_until(&net, end.closes);
    cr_assert(is_open(STDIN_FILENO));
    cr_assert_eq(write_pattern(pipe.write_fd, 100, 200), 200);
    cr_assert_eq(read_pattern(STDIN_FILENO, 100), 100, "what comes later is for the next reader");
    close(pipe.write_fd);
    net_close(&net);
}

/* -- Files --------------------------------------------------------------------------------------------------- */

static int open_file(void)
{
    char path[] = "/tmp/sluice-test-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);

    cr_assert_geq(fd, 0);
    unlink(path);
    return fd;
}

Test(fd, writes_a_file_from_where_it_stands_and_reads_it_to_its_end)
{
    struct end end;
    struct net net;
    int file;
    int copy;

    net_open(&net, NULL);
    file = open_file();
    cr_assert_eq(write(file, "head", 4), 4);
    copy = fcntl(file, F_DUPFD_CLOEXEC, 0);
    end_open_fd(&end, &net, -1, copy, &end_silent);
    end_pour(&end, MUCH, PIECE, END_CLOSE);
    net_until(&net, end.closes);
    cr_assert_eq(end.why.error, 0);
    cr_assert_eq(lseek(file, 0, SEEK_END), MUCH + 4);
    cr_assert_eq(lseek(file, 4, SEEK_SET), 4);
    end_open_fd(&end, &net, file, -1, &end_silent);
    net_until(&net, end.closes);
    cr_assert_eq(end.received, MUCH);
    cr_assert_eq(end.ends, 1);
    cr_assert_eq(end.why.error, 0);
    net_close(&net);
}

Test(fd, ends_at_once_on_an_empty_file)
{
    struct end end;
    struct net net;

    net_open(&net, NULL);
    end_open_fd(&end, &net, open_file(), -1, &end_silent);
    net_until(&net, end.closes);
    cr_assert_eq(end.received, 0);
    cr_assert_eq(end.ends, 1);
    cr_assert_eq(end.why.error, 0);
    net_close(&net);
}

Test(fd, fails_with_the_error_of_the_descriptor)
{
    struct end end;
    struct net net;

    net_open(&net, NULL);
    end_open_fd(&end, &net, -1, open("/dev/full", O_WRONLY | O_CLOEXEC), &end_silent);
    cr_assert_eq(end_send(&end, 1000), SLUICE_ROOM);
    net_until(&net, end.closes);
    cr_assert_eq(end.why.error, -ENOSPC);
    cr_assert_eq(end.why.unsent, 1000);
    /* One that is not open for this. */
    end_open_fd(&end, &net, open("/dev/null", O_WRONLY | O_CLOEXEC), -1, &end_silent);
    net_until(&net, end.closes);
    cr_assert_eq(end.why.error, -EBADF);
    end_open_fd(&end, &net, -1, open("/dev/null", O_RDONLY | O_CLOEXEC), &end_silent);
    cr_assert_eq(end_send(&end, 1000), SLUICE_ROOM);
    net_until(&net, end.closes);
    cr_assert_eq(end.why.error, -EBADF);
    net_close(&net);
}

Test(fd, reads_and_writes_devices)
{
    struct end end;
    struct net net;

    net_open(&net, NULL);
    end_open_fd(&end, &net, open("/dev/null", O_RDONLY | O_CLOEXEC), -1, &end_silent);
    net_until(&net, end.closes);
    cr_assert_eq(end.received, 0);
    cr_assert_eq(end.why.error, 0);
    end_open_fd(&end, &net, -1, open("/dev/null", O_WRONLY | O_CLOEXEC), &end_silent);
    end_pour(&end, MUCH, PIECE, END_CLOSE);
    net_until(&net, end.closes);
    cr_assert_eq(end.why.error, 0);
    cr_assert_eq(end.accepted, MUCH);
    net_close(&net);
}

/* It never ends by itself: its stream takes turns with others, and closes when it is told to. */
Test(fd, of_an_endless_device_starves_nobody)
{
    struct pipe pipe;
    struct end endless;
    struct end other;
    struct net net;

    net_open(&net, NULL);
    end_open_fd(&endless, &net, open("/dev/zero", O_RDONLY | O_CLOEXEC), -1, &end_silent);
    endless.is_unpatterned = true;
    pipe = open_pipe(0);
    end_open_fd(&other, &net, pipe.read_fd, -1, &end_silent);
    net_until(&net, endless.received > 1024 * KIB);
    cr_assert_eq(write_pattern(pipe.write_fd, 0, 100), 100);
    net_until(&net, other.received == 100);
    end_close(&endless);
    net_until(&net, endless.closes);
    cr_assert_eq(endless.why.error, 0);
    close(pipe.write_fd);
    net_until(&net, other.closes);
    net_close(&net);
}

/* -- Terminals ----------------------------------------------------------------------------------------------- */

/* A terminal that passes on every byte as it is. */
static void open_raw_terminal(int *ours, int *theirs)
{
    struct termios settings;

    cr_assert_eq(openpty(ours, theirs, NULL, NULL, NULL), 0);
    cr_assert_eq(tcgetattr(*theirs, &settings), 0);
    cfmakeraw(&settings);
    cr_assert_eq(tcsetattr(*theirs, TCSANOW, &settings), 0);
}

Test(fd, waits_for_a_terminal_without_asking_again_and_again)
{
    int ours;
    int theirs;

    open_raw_terminal(&ours, &theirs);
    wait_for_room(theirs, ours);
    open_raw_terminal(&ours, &theirs);
    cr_assert_eq(fcntl(theirs, F_SETFL, O_RDWR | O_NONBLOCK), 0);
    wait_for_room(theirs, ours);
}

static void talk_over_a_terminal(int flags)
{
    struct end end;
    struct net net;
    uint64_t written = 0;
    uint64_t seen = 0;
    int ours;
    int theirs;

    net_open(&net, NULL);
    open_raw_terminal(&ours, &theirs);
    cr_assert_eq(fcntl(theirs, F_SETFL, O_RDWR | flags), 0);
    end_open_fd(&end, &net, theirs, theirs, &end_silent);
    end_pour(&end, 100 * KIB, PIECE, END_STAY);
    net_start_waiting(&net);
    while (seen < 100 * KIB || end.received < 100 * KIB) {
        ssize_t count = read_pattern(ours, seen);

        seen += count > 0 ? (uint64_t)count : 0;
        if (written < 100 * KIB && end.received == written)
            written = write_pattern(ours, written, written + KIB);
        net_wait_turn(&net, __FILE__, __LINE__, "both ways");
    }
    end_close(&end);
    net_until(&net, end.closes);
    cr_assert_eq(end.why.error, 0);
    close(ours);
    net_close(&net);
}

/* Nobody reads what is written to the terminal until the engine has had its turns: it must not wait for them. */
Test(fd, talks_over_a_terminal)
{
    talk_over_a_terminal(0);
}

/* As whoever used it before us may have left it. */
Test(fd, talks_over_a_terminal_that_does_not_block)
{
    talk_over_a_terminal(O_NONBLOCK);
}

Test(fd, hears_that_a_terminal_was_hung_up)
{
    struct end end;
    struct net net;
    int ours;
    int theirs;

    net_open(&net, NULL);
    open_raw_terminal(&ours, &theirs);
    end_open_fd(&end, &net, theirs, theirs, &end_silent);
    net_turns(&net, 5);
    close(ours);
    net_until(&net, end.closes || end.ends);
    if (!end.closes)
        end_close(&end);
    net_until(&net, end.closes);
    cr_assert_not(is_open(theirs));
    net_close(&net);
}

/* The controlling side reads an error, not an end, when the last user of the terminal has gone. */
Test(fd, of_a_terminals_other_side_hears_that_its_users_have_gone)
{
    struct end end;
    struct net net;
    int ours;
    int theirs;

    net_open(&net, NULL);
    open_raw_terminal(&ours, &theirs);
    end_open_fd(&end, &net, ours, ours, &end_silent);
    cr_assert_eq(write_pattern(theirs, 0, 500), 500);
    net_until(&net, end.received == 500);
    close(theirs);
    net_until(&net, end.closes);
    cr_assert_eq(end.why.error, -EIO);
    cr_assert_eq(end.why.side, SLUICE_REMOTE);
    net_close(&net);
}

/* -- Sockets that came from elsewhere ------------------------------------------------------------------------ */

/* Half-close, linger and reset as on sockets that we made ourselves. */
static void adopt(int domain, const char *kind)
{
    struct peer_thread echo = {0};
    struct end end;
    struct net net;
    int ends[2];

    net_open(&net, NULL);
    if (domain == AF_UNIX) {
        cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    } else {
        char address[SLUICE_ADDRESS_MAX];
        int listener = peer_listen(PEER_TCP4, 1, address);

        ends[0] = peer_connect(address);
        ends[1] = peer_accept(listener);
        close(listener);
    }
    echo.fd = ends[1];
    peer_thread_start(&echo, peer_run_echo);
    end_open_fd(&end, &net, ends[0], ends[0], &end_silent);
    cr_assert_str_eq(sluice_stream_kind(end.stream), kind);
    end_pour(&end, MUCH, PIECE, END_FINISH);
    net_until(&net, end.closes);
    peer_thread_join(&echo);
    cr_assert_eq(end.received, MUCH);
    cr_assert_eq(end.ends, 1);
    cr_assert_eq(end.why.error, 0);
    cr_assert_eq(echo.received.bytes, MUCH);
    cr_assert_not(is_open(ends[0]));
    net_close(&net);
}

Test(fd, that_is_a_connected_socket_is_a_socket_stream_in_full)
{
    adopt(AF_UNIX, "unix");
    adopt(AF_INET, "tcp");
}

Test(fd, that_is_a_socket_resets_its_peer_when_aborted)
{
    struct peer_received received;
    char address[SLUICE_ADDRESS_MAX];
    struct end end;
    struct net net;
    int listener;
    int peer;

    net_open(&net, NULL);
    listener = peer_listen(PEER_TCP4, 1, address);
    peer = peer_connect(address);
    end_open_fd(&end, &net, peer_accept(listener), -1, &end_silent);
    end_abort(&end, 0);
    net_until(&net, end.closes);
    cr_assert_eq(end.why.error, -ECONNABORTED);
    close(peer);
    {
        int accepted;

        peer = peer_connect(address);
        accepted = peer_accept(listener);
        end_open_fd(&end, &net, accepted, accepted, &end_silent);
    }
    end_abort(&end, 0);
    net_until(&net, end.closes);
    received = peer_receive(peer, 0, 0, 1, 1);
    cr_assert_eq(received.error, -ECONNRESET);
    close(peer);
    close(listener);
    net_close(&net);
}

/* Given for one direction only, a socket is a descriptor like any other. */
Test(fd, that_is_a_socket_can_be_given_for_one_direction)
{
    struct end reader;
    struct end writer;
    struct net net;
    int ends[2];

    signal(SIGPIPE, SIG_DFL);
    net_open(&net, NULL);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    end_open_fd(&reader, &net, ends[0], -1, &end_silent);
    end_open_fd(&writer, &net, -1, ends[1], &end_silent);
    end_pour(&writer, MUCH, PIECE, END_CLOSE);
    net_until(&net, writer.closes && reader.closes);
    cr_assert_eq(writer.why.error, 0);
    cr_assert_eq(reader.why.error, 0);
    cr_assert_eq(reader.received, MUCH);
    net_close(&net);
}

/*
 * The peer written with asio, on its epoll reactor and, built again, on its io_uring backend.
 *
 * What asio's documentation recommends to those in a hurry is used: a concurrency hint without locks, handlers whose
 * memory belongs to their connection, sockets with the context's own executor instead of any_io_executor, error codes
 * instead of exceptions, async_write_some instead of async_write (which writes no more than 64 KiB at a time), and an
 * async_wait before the first byte, so that an idle connection owns no buffer. With epoll, nonblocking calls are tried
 * before an asynchronous operation is started: that spares a trip through the scheduler and an epoll_wait for each.
 * With io_uring everything is an asynchronous operation: those of a turn enter the kernel together.
 *
 * This file is the program, and the server that accepts. What becomes of a connection, roles.h says; the roles are
 * sessions (session.h), made of readers and writers (flow.h, message_reader.h and output.h are such).
 */
#include "perf/peers/asio/end.h"
#include "perf/peers/asio/handler.h"
#include "perf/peers/asio/roles.h"
#include "perf/peers/asio/session.h"
#include "perf/peers/peer.h"

#include <asio.hpp>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <malloc.h>
#include <utility>
#include <vector>

namespace
{

using Acceptor = asio::basic_socket_acceptor<Protocol, Executor>;
using Timer =
    asio::basic_waitable_timer<std::chrono::steady_clock, asio::wait_traits<std::chrono::steady_clock>, Executor>;

enum : std::size_t {
    SINK_SIZE = 256 << 10,
    /* A source writes about so much at once: what waits anyway is gathered. */
    SOURCE_SIZE = 512 << 10,
    ACCEPTS_MAX = 64,
    MEMORY_KEPT = 16 << 20,
};

/* Accepts connections and gives each its role. */
class Server : public Session
{
  public:
    Server(asio::io_context &context, const peer_options &its_options)
        : session(*this), options(its_options), acceptor(context), next(context), pause(context),
          sent(std::max<std::size_t>(SOURCE_SIZE / its_options.size, 1) * its_options.size, 's'), sunk(SINK_SIZE)
    {
        acceptor.assign(Protocol(options.listen.any.sa_family, 0), peer_listen(&options));
        peer_set_nodelay(&options, acceptor.native_handle()); /* who is accepted inherits it */
        acceptor.native_non_blocking(tries_first);
        acceptor.non_blocking(tries_first);
        accept();
    }

    Session &session; /* as Handler wants it */

  private:
    void accept()
    {
        acceptor.async_accept(next, Handler<Server, &Server::on_accepted>(*this, memory));
    }

    void on_accepted(const asio::error_code &error, std::size_t)
    {
        asio::error_code next_error = error;

        if (!error)
            serve();
        for (std::size_t calls = 0; tries_first && !next_error && calls < ACCEPTS_MAX; calls++) {
            acceptor.accept(next, next_error);
            if (!next_error)
                serve();
        }
        if (!next_error || next_error == asio::error::would_block)
            accept();
        else
            accept_later();
    }

    /* No descriptor is left, say: the next try shall not be at once. */
    void accept_later()
    {
        pause.expires_after(std::chrono::milliseconds(10));
        pause.async_wait(Handler<Server, &Server::on_paused>(*this, memory));
    }

    void on_paused(const asio::error_code &, std::size_t)
    {
        accept();
    }

    void serve()
    {
        if (tries_first)
            next.non_blocking(true, ignored);
        switch (options.role) {
        case PEER_ECHO:
            serve_echo(std::move(next));
            break;
        case PEER_MESSAGES:
            serve_messages(std::move(next), options.size);
            break;
        case PEER_FANOUT:
            serve_fanout(std::move(next), options.size, audience);
            break;
        case PEER_SOURCE:
            serve_source(std::move(next), sent);
            break;
        case PEER_SINK:
            serve_sink(std::move(next), sunk);
            break;
        case PEER_FORWARD:
            serve_forward(std::move(next), options.upstream);
            break;
        }
    }

    void close_sockets() override
    {
        acceptor.close(ignored);
    }

    const peer_options &options;
    Acceptor acceptor;
    Socket next;
    Timer pause;
    HandlerMemory memory;
    std::vector<char> sent; /* by sources */
    std::vector<char> sunk;
    Audience audience;
    asio::error_code ignored;
};

} // namespace

int main(int argc, char **argv)
{
    peer_options options;

    peer_read_arguments(argc, argv, &options);
    mallopt(M_TRIM_THRESHOLD, MEMORY_KEPT); /* the next connection's buffer is not asked of the kernel again */
    mallopt(M_MMAP_THRESHOLD, MEMORY_KEPT);
    try {
        asio::io_context context(ASIO_CONCURRENCY_HINT_UNSAFE);

        new Server(context, options);
        peer_announce(&options);
        if (options.busy_polls)
            for (;;)
                context.poll();
        context.run();
    } catch (const asio::system_error &error) {
        peer_die("asio", error.code().value());
    } catch (...) {
        peer_die("memory", ENOMEM);
    }
}

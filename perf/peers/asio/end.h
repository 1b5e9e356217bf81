/* One end of a connection: a socket as all roles use it, and what it takes to read and write at the same time. */
#ifndef PERF_ASIO_END_H
#define PERF_ASIO_END_H

#include "perf/peers/asio/handler.h"

#include <asio.hpp>
#include <cstddef>
#include <utility>

/* True exactly when nonblocking calls are tried before asynchronous operations: see server.cc. */
#ifdef ASIO_HAS_IO_URING_AS_DEFAULT
constexpr bool tries_first = false;
#else
constexpr bool tries_first = true;
#endif

enum : std::size_t {
    /* Calls in a row that one connection gets before the others have theirs. */
    TURN_MAX = 16,
};

using Protocol = asio::generic::stream_protocol;
using Executor = asio::io_context::executor_type;
using Socket = asio::basic_stream_socket<Protocol, Executor>;

/* A socket with room for one operation in each direction. */
struct End {
    explicit End(Socket its_socket) : socket(std::move(its_socket))
    {
    }

    void close()
    {
        asio::error_code ignored;

        socket.close(ignored);
    }

    /* The next close() says that the stream broke. */
    void abort()
    {
        asio::error_code ignored;

        socket.set_option(asio::socket_base::linger(true, 0), ignored);
    }

    Socket socket;
    HandlerMemory read_memory;
    HandlerMemory write_memory;
};

#endif

/* The writing half of a role. */
#ifndef PERF_ASIO_WRITER_H
#define PERF_ASIO_WRITER_H

#include "perf/peers/asio/end.h"
#include "perf/peers/asio/handler.h"
#include "perf/peers/asio/session.h"

#include <asio.hpp>
#include <cstddef>

/* Writes as long as the role has bytes (waiting, empty if there are none), and tells it what left. */
template <typename Role> class Writer
{
  public:
    Writer(Session &its_session, End &its_end) : session(its_session), end(its_end)
    {
    }

    /* For the first time: this may fail, so it takes a handler. */
    void start_writing()
    {
        end.socket.async_wait(Socket::wait_write, Handler<Writer, &Writer::on_writable>(*this, end.write_memory));
    }

    void write_on()
    {
        if (is_writing)
            return;
        is_writing = true;
        if (!tries_first || try_writing())
            start_write();
    }

    Session &session;

  protected:
    End &end;
    bool is_writing = false; /* a write is under way, or one of our callers looks for the next */

  private:
    Role &role()
    {
        return static_cast<Role &>(*this);
    }

    void on_writable(const asio::error_code &error, std::size_t)
    {
        if (error)
            session.fail();
        else
            write_on();
    }

    /* False if the connection broke. */
    bool try_writing()
    {
        for (std::size_t calls = 0; calls < TURN_MAX; calls++) {
            asio::error_code error;
            asio::const_buffer bytes = role().waiting();
            std::size_t count;

            if (bytes.size() == 0)
                break;
            count = end.socket.write_some(bytes, error);
            if (error == asio::error::would_block)
                break;
            if (error) {
                session.fail();
                return false;
            }
            role().left(count);
            if (session.is_closed())
                return false;
            if (count < bytes.size())
                break;
        }
        return true;
    }

    void start_write()
    {
        asio::const_buffer bytes = role().waiting();

        is_writing = bytes.size() > 0;
        if (is_writing)
            end.socket.async_write_some(bytes, Handler<Writer, &Writer::on_written>(*this, end.write_memory));
    }

    void on_written(const asio::error_code &error, std::size_t count)
    {
        if (error) {
            session.fail();
            return;
        }
        role().left(count);
        is_writing = false;
        if (!session.is_closed())
            write_on();
    }
};

#endif

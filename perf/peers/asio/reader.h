/* The reading half of a role. */
#ifndef PERF_ASIO_READER_H
#define PERF_ASIO_READER_H

#include "perf/peers/asio/end.h"
#include "perf/peers/asio/handler.h"
#include "perf/peers/asio/session.h"

#include <asio.hpp>
#include <cstddef>

enum : std::size_t {
    /* What a role reads into, if it has no reason for another size. */
    BUFFER_SIZE = 64 << 10,
};

/*
 * Reads as long as the role has space. The role says where to (space, empty to pause), and hears what arrived and that
 * no more comes (arrived, ended).
 */
template <typename Role> class Reader
{
  public:
    Reader(Session &its_session, End &its_end) : session(its_session), end(its_end)
    {
    }

    /* For the first time: no buffer is needed before there is something to read. */
    void start_reading()
    {
        is_reading = true;
        end.socket.async_wait(Socket::wait_read, Handler<Reader, &Reader::on_readable>(*this, end.read_memory));
    }

    void resume_reading()
    {
        if (!is_reading)
            read_on(tries_first);
    }

    /* True exactly when asio may write into the space that the role gave. */
    bool is_space_lent() const
    {
        return lent;
    }

    Session &session;

  private:
    Role &role()
    {
        return static_cast<Role &>(*this);
    }

    void on_readable(const asio::error_code &error, std::size_t)
    {
        if (error)
            session.fail();
        else
            read_on(tries_first);
    }

    void on_read(const asio::error_code &error, std::size_t count)
    {
        lent = false;
        take(error, count);
        if (!session.is_closed() && !has_ended)
            read_on(tries_first && count == asked);
    }

    void take(const asio::error_code &error, std::size_t count)
    {
        if (!error) {
            role().arrived(count);
        } else if (error == asio::error::eof) {
            has_ended = true;
            role().ended();
        } else {
            session.fail();
        }
    }

    /* A read that filled its space suggests that more waits: that is tried first. */
    void read_on(bool more_waits)
    {
        is_reading = true;
        for (std::size_t calls = 0; more_waits && calls < TURN_MAX; calls++) {
            asio::error_code error;
            asio::mutable_buffer space = role().space();
            std::size_t count;

            if (space.size() == 0)
                break;
            count = end.socket.read_some(space, error);
            if (error == asio::error::would_block)
                break;
            take(error, count);
            if (session.is_closed() || has_ended)
                return;
            more_waits = count == space.size();
        }
        start_read();
    }

    void start_read()
    {
        asio::mutable_buffer space = role().space();

        asked = space.size();
        is_reading = asked > 0;
        lent = is_reading;
        if (lent)
            end.socket.async_read_some(space, Handler<Reader, &Reader::on_read>(*this, end.read_memory));
    }

    End &end;
    std::size_t asked = 0;
    bool is_reading = false; /* a read is under way, or one of our callers starts the next */
    bool lent = false;
    bool has_ended = false;
};

#endif

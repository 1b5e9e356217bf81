/* The reading half of a role that knows messages, all of one size. */
#ifndef PERF_ASIO_MESSAGE_READER_H
#define PERF_ASIO_MESSAGE_READER_H

#include "perf/peers/asio/end.h"
#include "perf/peers/asio/reader.h"
#include "perf/peers/asio/session.h"

#include <asio.hpp>
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>

/* Reads messages; the role takes them, several at once where several are there. */
template <typename Role> class MessageReader : public Reader<MessageReader<Role>>
{
  public:
    MessageReader(Session &its_session, End &its_end, std::size_t message_size)
        : Reader<MessageReader<Role>>(its_session, its_end), size(message_size),
          capacity(std::max<std::size_t>(message_size, BUFFER_SIZE))
    {
    }

    asio::mutable_buffer space()
    {
        if (static_cast<Role &>(*this).is_full())
            return asio::mutable_buffer();
        if (!bytes)
            bytes.reset(new char[capacity]);
        return asio::buffer(bytes.get() + filled, capacity - filled);
    }

    void arrived(std::size_t count)
    {
        std::size_t whole;

        filled += count;
        whole = filled / size * size;
        if (whole == 0)
            return;
        static_cast<Role &>(*this).take_messages(bytes.get(), whole);
        filled -= whole;
        if (filled > 0)
            std::memmove(bytes.get(), bytes.get() + whole, filled);
    }

    void ended()
    {
        static_cast<Role &>(*this).messages_ended();
    }

  protected:
    const std::size_t size;

  private:
    const std::size_t capacity;
    std::unique_ptr<char[]> bytes;
    std::size_t filled = 0;
};

#endif

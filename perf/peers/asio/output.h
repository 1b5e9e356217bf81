/* An output: bytes that are handed over, gathered while a write is under way. */
#ifndef PERF_ASIO_OUTPUT_H
#define PERF_ASIO_OUTPUT_H

#include "perf/peers/asio/end.h"
#include "perf/peers/asio/session.h"
#include "perf/peers/asio/writer.h"

#include <asio.hpp>
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <utility>

/* Bytes that grow at the end; memory once had is kept. std::vector takes several times as long to append to. */
class Bytes
{
  public:
    void append(const char *data, std::size_t count)
    {
        if (count > capacity - filled)
            grow(filled + count);
        std::memcpy(bytes.get() + filled, data, count);
        filled += count;
    }

    void clear()
    {
        filled = 0;
    }

    const char *data() const
    {
        return bytes.get();
    }

    std::size_t size() const
    {
        return filled;
    }

  private:
    void grow(std::size_t needed)
    {
        std::size_t wanted = std::max(needed, 2 * capacity);
        std::unique_ptr<char[]> wider(new char[wanted]);

        if (filled > 0)
            std::memcpy(wider.get(), bytes.get(), filled);
        bytes = std::move(wider);
        capacity = wanted;
    }

    std::unique_ptr<char[]> bytes;
    std::size_t filled = 0;
    std::size_t capacity = 0;
};

class Output : public Writer<Output>
{
  public:
    using Writer<Output>::Writer;

    void gather(const char *bytes, std::size_t count)
    {
        gathered.append(bytes, count);
    }

    /* The same as gather and write_on, without the copy if the socket takes the bytes. */
    void write(const char *bytes, std::size_t count)
    {
        std::size_t taken = 0;

        if (tries_first && queued() == 0 && !is_writing) {
            asio::error_code error;

            taken = end.socket.write_some(asio::buffer(bytes, count), error);
            if (error && error != asio::error::would_block) {
                session.fail();
                return;
            }
        }
        if (taken < count) {
            gather(bytes + taken, count - taken);
            write_on();
        }
    }

    std::size_t queued() const
    {
        return gathered.size() + leaving.size() - gone;
    }

    asio::const_buffer waiting()
    {
        if (gone == leaving.size()) {
            std::swap(leaving, gathered);
            gathered.clear();
            gone = 0;
        }
        return asio::buffer(leaving.data() + gone, leaving.size() - gone);
    }

    void left(std::size_t count)
    {
        gone += count;
        session.output_left();
    }

  private:
    Bytes leaving;
    Bytes gathered;
    std::size_t gone = 0; /* of those that are leaving */
};

#endif

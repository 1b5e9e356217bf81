/* The roles of streams one way: the source, which only writes, and the sink, which only reads. */
#include "perf/peers/asio/end.h"
#include "perf/peers/asio/reader.h"
#include "perf/peers/asio/roles.h"
#include "perf/peers/asio/session.h"
#include "perf/peers/asio/writer.h"

#include <asio.hpp>
#include <cstddef>
#include <utility>
#include <vector>

namespace
{

class Source : public Session, public Writer<Source>
{
  public:
    Source(Socket socket, const std::vector<char> &its_bytes)
        : Writer<Source>(*this, end), end(std::move(socket)), bytes(its_bytes)
    {
        start_writing();
    }

    asio::const_buffer waiting() const
    {
        return asio::buffer(bytes.data() + gone, bytes.size() - gone);
    }

    void left(std::size_t count)
    {
        gone = (gone + count) % bytes.size();
    }

  private:
    void close_sockets() override
    {
        end.close();
    }

    End end;
    const std::vector<char> &bytes;
    std::size_t gone = 0;
};

class Sink : public Session, public Reader<Sink>
{
  public:
    Sink(Socket socket, std::vector<char> &its_bytes)
        : Reader<Sink>(*this, end), end(std::move(socket)), bytes(its_bytes)
    {
        start_reading();
    }

    asio::mutable_buffer space()
    {
        return asio::buffer(bytes);
    }

    void arrived(std::size_t)
    {
    }

    void ended()
    {
        close();
    }

  private:
    void close_sockets() override
    {
        end.close();
    }

    End end;
    std::vector<char> &bytes; /* those of all: nobody looks at what is in it */
};

} // namespace

void serve_source(Socket &&socket, const std::vector<char> &bytes)
{
    new Source(std::move(socket), bytes);
}

void serve_sink(Socket &&socket, std::vector<char> &bytes)
{
    new Sink(std::move(socket), bytes);
}

/* The roles that send back what comes: as it comes, or message by message. */
#include "perf/peers/asio/end.h"
#include "perf/peers/asio/flow.h"
#include "perf/peers/asio/message_reader.h"
#include "perf/peers/asio/output.h"
#include "perf/peers/asio/reader.h"
#include "perf/peers/asio/roles.h"
#include "perf/peers/asio/session.h"

#include <cstddef>
#include <utility>

namespace
{

enum : std::size_t {
    /* Of answers that are not taken: then no more questions are read. */
    ANSWERS_MAX = 256 << 10,
};

class Echo : public Session
{
  public:
    explicit Echo(Socket socket) : end(std::move(socket)), flow(*this, end, end, BUFFER_SIZE)
    {
        flow.start_reading();
    }

  private:
    void close_sockets() override
    {
        end.close();
    }

    End end;
    Flow flow;
};

/* Answers each message; the answers to messages that came together leave together. */
class Messages : public Session, public MessageReader<Messages>
{
  public:
    Messages(Socket socket, std::size_t message_size)
        : MessageReader<Messages>(*this, end, message_size), end(std::move(socket)), output(*this, end)
    {
        start_reading();
    }

    bool is_full() const
    {
        return output.queued() > ANSWERS_MAX;
    }

    void take_messages(const char *messages, std::size_t count)
    {
        for (std::size_t at = 0; at < count; at += size)
            output.gather(messages + at, size);
        output.write_on();
    }

    void messages_ended()
    {
        has_ended = true;
        output_left();
    }

    void output_left() override
    {
        if (has_ended && output.queued() == 0)
            close();
        else
            resume_reading();
    }

  private:
    void close_sockets() override
    {
        end.close();
    }

    End end;
    Output output;
    bool has_ended = false;
};

} // namespace

void serve_echo(Socket &&socket)
{
    new Echo(std::move(socket));
}

void serve_messages(Socket &&socket, std::size_t message_size)
{
    new Messages(std::move(socket), message_size);
}

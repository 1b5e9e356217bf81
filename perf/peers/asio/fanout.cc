/* The role that passes on to all others what one of them sends. */
#include "perf/peers/asio/end.h"
#include "perf/peers/asio/message_reader.h"
#include "perf/peers/asio/output.h"
#include "perf/peers/asio/roles.h"
#include "perf/peers/asio/session.h"
#include "perf/peers/peer.h"

#include <algorithm>
#include <cstddef>
#include <utility>

/* Passes each message on to the others. Who does not take them misses some: whole ones. */
class Fanout : public Session, public MessageReader<Fanout>
{
  public:
    Fanout(Socket socket, std::size_t message_size, Audience &its_audience)
        : MessageReader<Fanout>(*this, end, message_size), end(std::move(socket)), output(*this, end),
          audience(its_audience), place(its_audience.size())
    {
        audience.push_back(this);
        start_reading();
    }

    bool is_full() const
    {
        return false;
    }

    /* From the last to the first: of a receiver that is lost the place is taken by one who has been served. */
    void take_messages(const char *messages, std::size_t count)
    {
        for (std::size_t i = audience.size(); i-- > 0;)
            if (audience[i] != this)
                audience[i]->receive(messages, count);
    }

    void messages_ended()
    {
        close();
    }

  private:
    void receive(const char *messages, std::size_t count)
    {
        std::size_t room = PEER_QUEUE_MAX - std::min<std::size_t>(output.queued(), PEER_QUEUE_MAX);
        std::size_t fitting = std::min(count, room / size * size);

        if (fitting > 0)
            output.write(messages, fitting);
    }

    void close_sockets() override
    {
        audience[place] = audience.back();
        audience[place]->place = place;
        audience.pop_back();
        end.close();
    }

    End end;
    Output output;
    Audience &audience;
    std::size_t place;
};

void serve_fanout(Socket &&socket, std::size_t message_size, Audience &audience)
{
    new Fanout(std::move(socket), message_size, audience);
}

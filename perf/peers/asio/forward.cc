/* The role that joins each connection with one to somewhere else. */
#include "perf/peers/asio/end.h"
#include "perf/peers/asio/flow.h"
#include "perf/peers/asio/handler.h"
#include "perf/peers/asio/roles.h"
#include "perf/peers/asio/session.h"
#include "perf/peers/peer.h"

#include <asio.hpp>
#include <cstddef>
#include <utility>

namespace
{

enum : std::size_t {
    FORWARD_SIZE = PEER_FORWARD_MAX / 2, /* of each of two */
};

class Forward : public Session
{
  public:
    Forward(Socket socket, const peer_address &to)
        : session(*this), client(std::move(socket)), upstream(Socket(client.socket.get_executor())),
          up(*this, client, upstream, FORWARD_SIZE), down(*this, upstream, client, FORWARD_SIZE)
    {
        upstream.socket.async_connect(Protocol::endpoint(&to.any, to.len),
                                      Handler<Forward, &Forward::on_connected>(*this, upstream.write_memory));
    }

    void on_connected(const asio::error_code &error, std::size_t)
    {
        asio::error_code ignored; /* Unix sockets know no such option */

        if (error) {
            fail();
            return;
        }
        upstream.socket.set_option(asio::ip::tcp::no_delay(true), ignored);
        up.start_reading();
        down.start_reading();
    }

    /* Both shall hear that the stream broke, not that it ended. */
    void fail() override
    {
        client.abort();
        upstream.abort();
        close();
    }

    void flow_ended(Flow &flow) override
    {
        asio::error_code ignored; /* who has gone already is told so by a read */
        End &to = &flow == &up ? upstream : client;

        to.socket.shutdown(Socket::shutdown_send, ignored);
        if (++flows_ended == 2)
            close();
    }

    Session &session; /* as Handler wants it */

  private:
    void close_sockets() override
    {
        client.close();
        upstream.close();
    }

    End client;
    End upstream;
    Flow up;
    Flow down;
    unsigned flows_ended = 0;
};

} // namespace

void serve_forward(Socket &&socket, const peer_address &upstream)
{
    new Forward(std::move(socket), upstream);
}

/*
 * The peer written with asio, on its epoll reactor and, built again, on its io_uring backend.
 *
 * What asio's documentation recommends to those in a hurry is used: a concurrency hint without locks, handlers whose
 * memory belongs to their connection, sockets with the context's own executor instead of any_io_executor, error codes
 * instead of exceptions, async_write_some instead of async_write (which writes no more than 64 KiB at a time), and an
 * async_wait before the first byte, so that an idle connection owns no buffer. With epoll, nonblocking calls are tried
 * before an asynchronous operation is started: that spares a trip through the scheduler and an epoll_wait for each.
 * With io_uring everything is an asynchronous operation: those of a turn enter the kernel together.
 */
#include "perf/peers/peer.h"

#include <asio.hpp>
#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <malloc.h>
#include <memory>
#include <utility>
#include <vector>

namespace
{

#ifdef ASIO_HAS_IO_URING_AS_DEFAULT
constexpr bool tries_first = false;
#else
constexpr bool tries_first = true;
#endif

using Protocol = asio::generic::stream_protocol;
using Executor = asio::io_context::executor_type;
using Socket = asio::basic_stream_socket<Protocol, Executor>;
using Acceptor = asio::basic_socket_acceptor<Protocol, Executor>;
using Timer =
    asio::basic_waitable_timer<std::chrono::steady_clock, asio::wait_traits<std::chrono::steady_clock>, Executor>;

enum : std::size_t {
    BUFFER_SIZE = 64 << 10,
    FORWARD_SIZE = PEER_FORWARD_MAX / 2, /* of each of two */
    SINK_SIZE = 256 << 10,
    /* A source writes about so much at once: what waits anyway is gathered. */
    SOURCE_SIZE = 512 << 10,
    /* Of answers that are not taken: then no more questions are read. */
    ANSWERS_MAX = 256 << 10,
    /* Calls in a row that one connection gets before the others have theirs. */
    TURN_MAX = 16,
    ACCEPTS_MAX = 64,
    MEMORY_KEPT = 16 << 20,
};

/* -- Handlers, whose memory is their connection's -------------------------------------------------------------- */

/* Room for one operation: an operation of a kind is started only when the one before has ended. */
class HandlerMemory
{
  public:
    HandlerMemory() = default;
    HandlerMemory(const HandlerMemory &) = delete;
    HandlerMemory &operator=(const HandlerMemory &) = delete;

    void *allocate(std::size_t size)
    {
        if (is_used || size > sizeof storage)
            return ::operator new(size);
        is_used = true;
        return storage;
    }

    void deallocate(void *pointer)
    {
        if (pointer == storage)
            is_used = false;
        else
            ::operator delete(pointer);
    }

  private:
    alignas(std::max_align_t) unsigned char storage[320];
    bool is_used = false;
};

template <typename T> struct HandlerAllocator {
    using value_type = T;

    explicit HandlerAllocator(HandlerMemory &its_memory) : memory(&its_memory)
    {
    }

    template <typename U> HandlerAllocator(const HandlerAllocator<U> &other) noexcept : memory(other.memory)
    {
    }

    T *allocate(std::size_t count)
    {
        return static_cast<T *>(memory->allocate(count * sizeof(T)));
    }

    void deallocate(T *pointer, std::size_t)
    {
        memory->deallocate(pointer);
    }

    bool operator==(const HandlerAllocator &other) const noexcept
    {
        return memory == other.memory;
    }

    bool operator!=(const HandlerAllocator &other) const noexcept
    {
        return memory != other.memory;
    }

    HandlerMemory *memory;
};

class Flow;

/* What lives until nothing is under way for it: a connection, or the two of a forwarding. */
class Session
{
  public:
    Session() = default;
    Session(const Session &) = delete;
    Session &operator=(const Session &) = delete;

    void guard()
    {
        guards++;
    }

    void unguard()
    {
        if (--guards == 0)
            delete this;
    }

    bool is_closed() const
    {
        return closed;
    }

    /*
     * Cancels what is under way. The session goes with the last handler: who closes is called by one, or closes somebody
     * who is being read.
     */
    void close()
    {
        if (closed)
            return;
        closed = true;
        close_sockets();
        guards--;
        assert(guards > 0);
    }

    /* A connection broke; its session has nobody to tell, unless it says otherwise. */
    virtual void fail()
    {
        close();
    }

    /* Everything that came has gone out again, and no more comes. */
    virtual void flow_ended(Flow &)
    {
        close();
    }

    /* An output has written some of what was waiting. */
    virtual void output_left()
    {
    }

  protected:
    virtual ~Session() = default;
    virtual void close_sockets() = 0;

  private:
    unsigned guards = 1; /* by being open, and by each operation that is under way */
    bool closed = false;
};

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

/* Calls `method` of `part` and then lets go of the part's session, which was guarded when the operation started. */
template <typename Part, void (Part::*method)(const asio::error_code &, std::size_t)> struct Handler {
    using allocator_type = HandlerAllocator<void *>;

    Handler(Part &its_part, HandlerMemory &its_memory) : part(&its_part), memory(&its_memory)
    {
        part->session.guard();
    }

    allocator_type get_allocator() const noexcept
    {
        return allocator_type(*memory);
    }

    void operator()(const asio::error_code &error, std::size_t count = 0)
    {
        Session &session = part->session;

        if (!session.is_closed())
            (part->*method)(error, count);
        session.unguard();
    }

    Part *part;
    HandlerMemory *memory;
};

/* -- Reading and writing --------------------------------------------------------------------------------------- */

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

/* -- Flow: bytes from one end to another, or back to the same -------------------------------------------------- */

/* Two buffers in turns: one is written while the other is filled. */
class Flow : public Reader<Flow>, public Writer<Flow>
{
  public:
    Flow(Session &its_session, End &from, End &to, std::size_t buffer_size)
        : Reader<Flow>(its_session, from), Writer<Flow>(its_session, to), session(its_session),
          segment_size(buffer_size)
    {
    }

    asio::mutable_buffer space()
    {
        if (filling == draining && segments[filling].filled > 0)
            filling = 1 - filling;

        Segment &segment = segments[filling];

        if (!segment.bytes)
            segment.bytes.reset(new char[segment_size]);
        return asio::buffer(segment.bytes.get() + segment.filled, segment_size - segment.filled);
    }

    void arrived(std::size_t count)
    {
        segments[filling].filled += count;
        write_on();
    }

    void ended()
    {
        has_ended = true;
        if (waiting().size() == 0)
            session.flow_ended(*this);
    }

    asio::const_buffer waiting()
    {
        Segment &segment = segments[draining];

        return asio::buffer(segment.bytes.get() + segment.drained, segment.filled - segment.drained);
    }

    void left(std::size_t count)
    {
        Segment &segment = segments[draining];

        segment.drained += count;
        if (segment.drained < segment.filled)
            return;
        if (filling != draining || !is_space_lent())
            segment.filled = segment.drained = 0;
        draining = filling;
        if (!has_ended)
            resume_reading();
        else if (waiting().size() == 0)
            session.flow_ended(*this);
    }

  private:
    struct Segment {
        std::unique_ptr<char[]> bytes;
        std::size_t drained = 0;
        std::size_t filled = 0;
    };

    Session &session;
    const std::size_t segment_size;
    std::array<Segment, 2> segments;
    unsigned filling = 0;  /* where reads go: the other is then empty, or is being written */
    unsigned draining = 0; /* where writes come from */
    bool has_ended = false;
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

/* -- Output: bytes that are handed over, gathered while a write is under way ----------------------------------- */

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

/* -- Messages of a fixed size ---------------------------------------------------------------------------------- */

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

class Fanout;

/* Those who receive what one of them sends, in no order. */
using Audience = std::vector<Fanout *>;

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

/* -- Streams one way ------------------------------------------------------------------------------------------- */

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

/* -- The server ------------------------------------------------------------------------------------------------ */

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

    /* The session owns itself from now on. */
    void serve()
    {
        if (tries_first)
            next.non_blocking(true, ignored);
        switch (options.role) {
        case PEER_ECHO:
            new Echo(std::move(next));
            break;
        case PEER_MESSAGES:
            new Messages(std::move(next), options.size);
            break;
        case PEER_FANOUT:
            new Fanout(std::move(next), options.size, audience);
            break;
        case PEER_SOURCE:
            new Source(std::move(next), sent);
            break;
        case PEER_SINK:
            new Sink(std::move(next), sunk);
            break;
        case PEER_FORWARD:
            new Forward(std::move(next), options.upstream);
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

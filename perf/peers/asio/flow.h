/* A flow: bytes from one end to another, or back to the same. */
#ifndef PERF_ASIO_FLOW_H
#define PERF_ASIO_FLOW_H

#include "perf/peers/asio/end.h"
#include "perf/peers/asio/reader.h"
#include "perf/peers/asio/session.h"
#include "perf/peers/asio/writer.h"

#include <asio.hpp>
#include <array>
#include <cstddef>
#include <memory>

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

#endif

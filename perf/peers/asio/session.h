/* What the connections of every role are: objects that live as long as something is under way for them. */
#ifndef PERF_ASIO_SESSION_H
#define PERF_ASIO_SESSION_H

#include <cassert>

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
     * Cancels what is under way. The session goes with the last handler: who closes is called by one, or closes
     * somebody who is being read.
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

#endif

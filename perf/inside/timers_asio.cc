/* A million steady_timers of asio. One that is stopped or moved still has its handler called, with an error. */
#include <asio.hpp>
#include <chrono>
#include <vector>

#include "perf/inside/inside.h"

namespace
{

asio::io_context context(1);
std::vector<asio::steady_timer> timers;

void create()
{
    timers.reserve(INSIDE_TIMERS);
    for (std::size_t i = 0; i < INSIDE_TIMERS; i++)
        timers.emplace_back(context);
}

/* To set when one expires cancels who waits for it: restarting is the same call. */
void start(std::size_t index, std::uint64_t delay_ns)
{
    timers[index].expires_after(std::chrono::nanoseconds(delay_ns));
    timers[index].async_wait([index](const asio::error_code &error) {
        if (!error)
            inside_fired(index);
    });
}

void stop(std::size_t index)
{
    timers[index].cancel();
}

/* A context whose work has run out has to be restarted. */
void turn()
{
    context.restart();
    context.poll();
}

/* Returns when nobody waits for a timer. */
void run()
{
    context.restart();
    context.run();
}

} // namespace

int main()
{
    static const inside_timers_library library = {create, start, stop, start, turn, run, nullptr};

    return inside_timers_main(&library);
}

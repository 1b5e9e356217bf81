/*
 * Posts to a context of asio: asio::post. Its handlers bring their own memory, one piece a slot, so that nothing is
 * allocated by one thread and freed by another.
 */
#include <asio.hpp>
#include <cstddef>

#include "perf/inside/inside.h"

namespace
{

struct alignas(64) memory {
    std::byte bytes[256];
};

asio::io_context context(1);
memory memories[INSIDE_POST_WINDOW];

/* Gives the one piece of memory of a slot: asio frees a handler's memory before it calls the handler. */
template <typename T> struct slot_allocator {
    using value_type = T;

    explicit slot_allocator(unsigned slot) : slot(slot)
    {
    }

    template <typename U> slot_allocator(const slot_allocator<U> &other) : slot(other.slot)
    {
    }

    T *allocate(std::size_t count)
    {
        static_assert(sizeof(T) <= sizeof(memory) && alignof(T) <= alignof(memory));
        if (count != 1)
            inside_die("asio allocates several", 12);
        return reinterpret_cast<T *>(memories[slot].bytes);
    }

    void deallocate(T *, std::size_t)
    {
    }

    template <typename U> bool operator==(const slot_allocator<U> &other) const
    {
        return slot == other.slot;
    }

    template <typename U> bool operator!=(const slot_allocator<U> &other) const
    {
        return slot != other.slot;
    }

    unsigned slot;
};

struct handler {
    using allocator_type = slot_allocator<handler>;

    allocator_type get_allocator() const
    {
        return allocator_type(slot);
    }

    void operator()() const
    {
        inside_delivered(slot);
    }

    unsigned slot;
};

void create()
{
}

void run()
{
    auto guard = asio::make_work_guard(context);

    if (inside_busy_polls)
        while (!context.stopped())
            context.poll();
    else
        context.run();
}

void stop()
{
    context.stop();
}

void post(unsigned slot)
{
    asio::post(context, handler{slot});
}

} // namespace

int main(int argc, char **argv)
{
    static const inside_post_library library = {create, run, stop, post};

    return inside_post_main(argc, argv, &library);
}

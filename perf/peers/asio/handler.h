/* What asio calls when an operation has ended: a method of a part of a session. Its memory is the connection's. */
#ifndef PERF_ASIO_HANDLER_H
#define PERF_ASIO_HANDLER_H

#include "perf/peers/asio/session.h"

#include <asio.hpp>
#include <cstddef>

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

#endif

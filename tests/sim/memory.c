/* Memory in a run: see memory.h. */
#include "tests/sim/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The linker's names: ours for what the program calls, theirs for what it would have called. */
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t number, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_reallocarray(void *memory, size_t number, size_t size);
void __wrap_free(void *memory);
extern void *__real_malloc(size_t size) __attribute__((weak));
extern void *__real_calloc(size_t number, size_t size) __attribute__((weak));
extern void *__real_realloc(void *memory, size_t size) __attribute__((weak));
extern void *__real_reallocarray(void *memory, size_t number, size_t size) __attribute__((weak));
extern void __real_free(void *memory) __attribute__((weak));

/* One run at a time is watched. */
static struct sim *watched;
static uint64_t allocations;
static int64_t live;

void memory_watch(struct sim *sim)
{
    watched = sim;
    allocations = 0;
    live = 0;
}

uint64_t memory_allocations(void)
{
    return allocations;
}

int64_t memory_live(void)
{
    return live;
}

/* Counts an allocation. Returns true if it is to fail. */
static bool fails(void)
{
    const struct torture *torture;
    bool is_chosen;

    allocations++;
    if (!watched)
        return false;
    torture = &watched->torture;
    is_chosen = torture->allocation == allocations ||
                (torture->allocation && torture->is_lasting && torture->allocation < allocations);
    if (!is_chosen && !sim_chance(watched, FAULT_NO_MEMORY))
        return false;
    cover(COVER_NO_MEMORY);
    return true;
}

static void *count(void *memory)
{
    live += memory != NULL;
    return memory;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : count(__real_malloc(size));
}

void *__wrap_calloc(size_t number, size_t size)
{
    return fails() ? NULL : count(__real_calloc(number, size));
}

void *__wrap_realloc(void *memory, size_t size)
{
    void *moved = fails() ? NULL : __real_realloc(memory, size);

    live += moved && !memory;
    return moved;
}

void *__wrap_reallocarray(void *memory, size_t number, size_t size)
{
    void *moved = fails() ? NULL : __real_reallocarray(memory, number, size);

    live += moved && !memory;
    return moved;
}

void __wrap_free(void *memory)
{
    live -= memory != NULL;
    __real_free(memory);
}

/* -- The simulator's own ------------------------------------------------------------------------------------- */

void *memory_get(size_t size)
{
    void *memory = __real_calloc ? __real_calloc(1, size) : calloc(1, size);

    if (!memory) {
        fprintf(stderr, "the simulator itself is out of memory\n");
        exit(2);
    }
    return memory;
}

void *memory_resize(void *memory, size_t old_size, size_t size)
{
    void *larger = memory_get(size);

    if (memory)
        memcpy(larger, memory, old_size);
    memory_put(memory);
    return larger;
}

void memory_put(void *memory)
{
    if (__real_free)
        __real_free(memory);
    else
        free(memory);
}

/* Signals. What is global here is what a signal handler needs. */
#include "tools/interrupt.h"

#include <assert.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

static _Atomic(struct sluice_engine *) stopped_engine;
static atomic_bool has_come;

static_assert(ATOMIC_POINTER_LOCK_FREE == 2, "a signal handler may use lock-free atomics only");
static_assert(ATOMIC_BOOL_LOCK_FREE == 2, "a signal handler may use lock-free atomics only");

static void on_signal(int number)
{
    struct sluice_engine *engine = atomic_load(&stopped_engine);

    (void)number;
    atomic_store(&has_come, true);
    if (engine != NULL)
        sluice_engine_stop(engine);
}

/* SA_RESETHAND makes the second signal do what it does by default: end the process. */
static void set_handler(void (*handler)(int number))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART | (int)SA_RESETHAND};

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

void interrupt_stops(struct sluice_engine *engine)
{
    assert(atomic_load(&stopped_engine) == NULL);
    atomic_store(&has_come, false);
    atomic_store(&stopped_engine, engine);
    set_handler(on_signal);
}

void interrupt_turns_to(struct sluice_engine *engine)
{
    atomic_store(&stopped_engine, engine);
    if (engine != NULL && atomic_load(&has_come))
        sluice_engine_stop(engine);
}

void interrupt_release(void)
{
    set_handler(SIG_DFL);
    atomic_store(&stopped_engine, NULL);
}

bool interrupt_came(void)
{
    return atomic_load(&has_come);
}

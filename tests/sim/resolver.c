/* A simulated resolver: every name has addresses, some of them of this machine, and the answer takes its time. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "tests/sim/kernel.h"
#include "tests/sim/memory.h"

enum {
    DELAY_NS = 5000000,
    ADDRESSES_FEW = 4,   /* all of them are tried */
    ADDRESSES_MANY = 20, /* more than anybody tries */
    NOBODYS_PORT = 1,
};

/* One block, as freeaddrinfo() expects. */
static struct addrinfo *make_address(bool is_ipv6, uint16_t port)
{
    struct answer {
        struct addrinfo info;
        union {
            struct sockaddr any;
            struct sockaddr_in ipv4;
            struct sockaddr_in6 ipv6;
        } address;
    } *answer = memory_get(sizeof *answer);

    answer->info.ai_family = is_ipv6 ? AF_INET6 : AF_INET;
    answer->info.ai_addr = &answer->address.any;
    answer->info.ai_addrlen = is_ipv6 ? sizeof answer->address.ipv6 : sizeof answer->address.ipv4;
    answer->address.any.sa_family = (sa_family_t)answer->info.ai_family;
    if (is_ipv6)
        answer->address.ipv6.sin6_port = htons(port);
    else
        answer->address.ipv4.sin_port = htons(port);
    return &answer->info;
}

/* Of either family, in any order. The first leads to whoever is meant; the others do, or to nobody. */
static struct addrinfo *make_list(struct sim *sim, uint16_t port)
{
    bool may_fail = sim->odds[FAULT_CONNECT_ERROR] != 0;
    uint64_t count = sim_below(sim, may_fail ? ADDRESSES_MANY : ADDRESSES_FEW);
    struct addrinfo *list = make_address(sim_below(sim, 2), may_fail && sim_below(sim, 2) ? NOBODYS_PORT : port);

    for (struct addrinfo *last = list; count > 0; count--, last = last->ai_next)
        last->ai_next = make_address(sim_below(sim, 2), sim_below(sim, 2) ? port : NOBODYS_PORT);
    return list;
}

static void answer(struct sim_ring *ring, uint32_t index)
{
    struct ring_lookup *lookup = ring->lookups[index];

    ring->lookups[index] = NULL;
    ring->sim->operations++;
    cover(COVER_LOOKED_UP);
    lookup->error = sim_chance(ring->sim, FAULT_CONNECT_ERROR) ? -EHOSTUNREACH : 0;
    lookup->addresses = lookup->error ? NULL : make_list(ring->sim, (uint16_t)strtoul(lookup->port, NULL, 10));
    sim_trace(ring->sim, "  looked up %s: %d", lookup->host, lookup->error);
    lookup->done(lookup);
}

int resolver_start(struct sim_ring *ring, struct ring_lookup *lookup)
{
    struct sim *sim = ring->sim;
    uint32_t index = 0;

    while (index < LOOKUPS_MAX && ring->lookups[index])
        index++;
    if (index == LOOKUPS_MAX || sim_torture(sim, "a look-up", 1))
        return -EAGAIN;
    ring->lookups[index] = lookup;
    ring->lookups_at_ns[index] = sim->now_ns + 1 + sim_below(sim, DELAY_NS);
    return 0;
}

void resolver_answer(struct sim_ring *ring, bool everything)
{
    for (uint32_t i = 0; i < LOOKUPS_MAX; i++)
        if (ring->lookups[i] && (everything || ring->lookups_at_ns[i] <= ring->sim->now_ns))
            answer(ring, i);
}

uint64_t resolver_next_event(const struct sim_ring *ring)
{
    uint64_t next_ns = UINT64_MAX;

    for (uint32_t i = 0; i < LOOKUPS_MAX; i++)
        if (ring->lookups[i] && ring->lookups_at_ns[i] < next_ns)
            next_ns = ring->lookups_at_ns[i];
    return next_ns;
}

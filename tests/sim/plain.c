/* Peers that are not ours: see plain.h. */
#include "tests/sim/plain.h"

#include "tests/sim/network.h"

enum {
    PLAIN_WRITE = 50, /* bytes */
    STEP_NS = 1500000,
    STALL_NS = 30000000,
    TALKS_ON_MAX = 2000, /* bytes that it still sends while we close */
};

void plain_init(struct plain *plain, struct sim *sim, struct user *user)
{
    *plain = (struct plain){.sim = sim, .user = user, .fd = -1, .listener = -1};
    plain->pattern = sim_below(sim, 1000000);
    plain->to_send = sim_below(sim, 3) ? random_size(&sim->random, 50000) : 0;
    plain->is_rude = sim_below(sim, 4) == 0;
    plain->reads_slowly = sim_below(sim, 6) == 0;
    plain->writes_slowly = sim_below(sim, 6) == 0;
    plain->stalls = sim_below(sim, 6) == 0;
    plain->talks_on = sim_below(sim, 3) == 0;
    if (sim->is_scripted)
        *plain = (struct plain){.sim = sim, .user = user, .fd = -1, .listener = -1, .pattern = plain->pattern};
    if (sim->limits.bytes && plain->to_send > sim->limits.bytes)
        plain->to_send = sim->limits.bytes;
}

static void leave(struct plain *plain, bool reset)
{
    sim_trace(plain->sim, "plain peer %s", reset ? "resets" : "closes");
    if (plain->was_rude)
        cover(reset ? COVER_PLAIN_RESETS : COVER_PLAIN_CLOSES);
    network_close(plain->sim->network, plain->fd, reset);
    plain->fd = -1;
}

static void read_some(struct plain *plain)
{
    struct network *network = plain->sim->network;
    bool has_ended;
    int64_t len = network_readable(network, plain->fd, &has_ended);
    uint8_t data[4096];

    if (len < 0) {
        leave(plain, false);
        return;
    }
    if (len > 0) {
        if (plain->reads_slowly)
            cover(COVER_PLAIN_SLOW_READER);
        len = plain->reads_slowly ? 1 : 1 + (int64_t)sim_below(plain->sim, len < 4096 ? (uint64_t)len : 4096);
        network_read(network, plain->fd, data, (size_t)len);
        for (int64_t i = 0; i < len; i++)
            if (!plain->user->layers[0] && data[i] != user_byte(plain->user->pattern, plain->heard + (uint64_t)i))
                sim_violated(plain->sim, "the plain peer of %s reads a wrong byte", plain->user->name);
        plain->heard += (uint64_t)len;
        plain->user->taken_ns = plain->sim->now_ns;
        return;
    }
    if (has_ended) {
        plain->has_heard_end = true;
        if (plain->has_finished)
            leave(plain, false);
    }
}

static void write_some(struct plain *plain)
{
    struct network *network = plain->sim->network;
    int64_t room = plain->to_send && !plain->has_finished ? network_writable(network, plain->fd) : 0;
    uint8_t data[1024];
    size_t len;

    if (room <= 0)
        return;
    len = random_size(&plain->sim->random, room < 1024 ? (size_t)room : 1024);
    if (plain->writes_slowly) {
        cover(COVER_PLAIN_SLOW_WRITER);
        len = 1;
    }
    if (len > plain->to_send)
        len = plain->to_send;
    for (size_t i = 0; i < len; i++)
        data[i] = user_byte(plain->pattern, plain->sent + i);
    network_write(network, plain->fd, data, len);
    plain->sent += len;
    plain->to_send -= len;
}

/* From now on nothing is heard of it, and it hears nothing. */
static void vanish(struct plain *plain)
{
    cover(COVER_PLAIN_LOST);
    sim_trace(plain->sim, "plain peer vanishes");
    plain->was_rude = true;
    plain->is_lost = true;
    plain->user->taken_ns = 0;
    network_lose(plain->sim->network, plain->fd);
}

static void finish(struct plain *plain)
{
    cover(COVER_PLAIN_FINISHES);
    sim_trace(plain->sim, "plain peer finishes");
    plain->has_finished = true;
    network_shutdown_write(plain->sim->network, plain->fd);
}

void plain_do(struct plain *plain, enum plain_act what)
{
    if (plain->fd < 0)
        return;
    switch (what) {
    case PLAIN_WRITES:
        plain->to_send += PLAIN_WRITE;
        write_some(plain);
        break;
    case PLAIN_READS:
        plain->reads_on = true;
        break;
    case PLAIN_FINISHES:
        if (!plain->has_finished)
            finish(plain);
        break;
    case PLAIN_CLOSES:
    case PLAIN_RESETS:
        plain->was_rude = true;
        leave(plain, what == PLAIN_RESETS);
        break;
    }
}

static void act(struct plain *plain)
{
    struct sim *sim = plain->sim;
    uint64_t what = sim_below(sim, 64);

    if (sim_chance(sim, FAULT_PEER_LOST)) {
        vanish(plain);
        return;
    }
    if (plain->is_rude && what < 2) {
        plain->was_rude = true;
        leave(plain, what == 0);
    } else if (what == 3 && !plain->has_finished) {
        finish(plain);
    } else if (what == 4 && plain->stalls) {
        cover(COVER_PLAIN_STALLS);
        plain->next_ns += STALL_NS;
    } else if (what < 30) {
        write_some(plain);
    } else {
        read_some(plain);
    }
}

void plain_step(struct plain *plain)
{
    struct sim *sim = plain->sim;

    if (plain->next_ns > sim->now_ns)
        return;
    plain->next_ns = sim->now_ns + 1 + sim_below(sim, sim->is_quiet ? STEP_NS / 50 : STEP_NS);
    if (plain->fd < 0 && plain->listener >= 0) {
        int fd = network_accept(sim->network, plain->listener);

        if (fd >= 0)
            plain->fd = fd;
        return;
    }
    if (plain->fd < 0 || plain->is_lost)
        return;
    if (!sim->is_quiet) {
        if (!sim->is_scripted)
            act(plain);
        else if (plain->reads_on)
            read_some(plain);
        return;
    }
    if (plain->to_send > 0 && plain->talks_on && !plain->has_finished &&
        network_writable(sim->network, plain->fd) >= 0) {
        cover(COVER_PLAIN_TALKS_ON);
        write_some(plain);
    } else if (!plain->has_finished) {
        finish(plain);
    }
    for (int i = 0; i < 16 && plain->fd >= 0; i++)
        read_some(plain);
}

void plain_wind_up(struct plain *plain)
{
    plain->reads_slowly = false;
    plain->writes_slowly = false;
    plain->is_rude = false;
    if (!plain->talks_on || plain->to_send > TALKS_ON_MAX)
        plain->to_send = plain->talks_on ? TALKS_ON_MAX : 0;
}

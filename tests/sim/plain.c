/* Peers that are not ours: see plain.h. */
#include "tests/sim/plain.h"

#include "tests/sim/network.h"

enum {
    STEP_NS = 1500000,
};

void plain_init(struct plain *plain, struct sim *sim, struct user *user)
{
    *plain = (struct plain){.sim = sim, .user = user, .fd = -1, .listener = -1};
    plain->pattern = sim_below(sim, 1000000);
    plain->to_send = sim_below(sim, 3) ? random_size(&sim->random, 50000) : 0;
    plain->is_rude = sim_below(sim, 4) == 0;
    plain->reads_slowly = sim_below(sim, 6) == 0;
}

static void leave(struct plain *plain, bool reset)
{
    sim_trace(plain->sim, "plain peer %s", reset ? "resets" : "closes");
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
        len = plain->reads_slowly ? 1 : 1 + (int64_t)sim_below(plain->sim, len < 4096 ? (uint64_t)len : 4096);
        network_read(network, plain->fd, data, (size_t)len);
        for (int64_t i = 0; i < len; i++)
            if (!plain->user->layers[0] && data[i] != user_byte(plain->user->pattern, plain->heard + (uint64_t)i))
                sim_violated(plain->sim, "the plain peer of %s reads a wrong byte", plain->user->name);
        plain->heard += (uint64_t)len;
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
    if (len > plain->to_send)
        len = plain->to_send;
    for (size_t i = 0; i < len; i++)
        data[i] = user_byte(plain->pattern, plain->sent + i);
    network_write(network, plain->fd, data, len);
    plain->sent += len;
    plain->to_send -= len;
}

static void act(struct plain *plain)
{
    struct sim *sim = plain->sim;
    uint64_t what = sim_below(sim, 64);

    if (plain->is_rude && what < 2) {
        plain->was_rude = true;
        leave(plain, what == 0);
    } else if (what == 3 && !plain->has_finished) {
        plain->has_finished = true;
        sim_trace(sim, "plain peer finishes");
        network_shutdown_write(sim->network, plain->fd);
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
    if (plain->fd < 0)
        return;
    if (!sim->is_quiet) {
        act(plain);
        return;
    }
    if (!plain->has_finished) {
        plain->has_finished = true;
        network_shutdown_write(sim->network, plain->fd);
    }
    for (int i = 0; i < 16 && plain->fd >= 0; i++)
        read_some(plain);
}

void plain_wind_up(struct plain *plain)
{
    plain->reads_slowly = false;
    plain->is_rude = false;
    plain->to_send = 0;
}
